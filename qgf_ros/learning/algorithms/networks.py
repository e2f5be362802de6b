"""The networks: MLPs as in the published code, stacked so that many of them train as one.

Every hidden layer is Dense -> LayerNorm -> GELU (tanh form); in the velocity field the last hidden layer has no
LayerNorm. Independent members (ensemble members, critics of different tasks) share one tensor per layer with a
leading member axis, so that a single batched product runs them all; members never exchange a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from qgf_ros.bundle.layers import LAYER_NORM_EPS

EMBEDDING_SIZE = 16
EMBEDDING_PERIOD = 10000.0
#: GELU(x) = x sigmoid(_LINEAR x + _CUBIC x^3), in its tanh form.
_LINEAR = 2.0 * math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715 * _LINEAR

Network = TypeVar("Network", bound=nn.Module)


def embedding_frequencies() -> Tensor:
    """Return the frequencies exp(-ln(10000) i / 8), i = 0..7, rounded once from float64 to float32 [8].

    The angles reach 10000 rad, where the last bit of a frequency moves a cosine by 1e-4: every backend must use these
    same numbers.
    """
    half = EMBEDDING_SIZE // 2
    return torch.tensor([math.exp(-math.log(EMBEDDING_PERIOD) * i / half) for i in range(half)], dtype=torch.float32)


def time_embedding(t: Tensor) -> Tensor:
    """Return the sinusoidal embedding of the flow time: cosines, then sines, of t * 10000.

    Args:
        t: [N], in [0, 1].

    Returns:
        [N, 16].
    """
    angles = t[:, None] * EMBEDDING_PERIOD * embedding_frequencies().to(t)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class _Gelu(torch.autograd.Function):
    """x p with p = sigmoid(u), u = x (_LINEAR + _CUBIC x^2): the same as x (1 + tanh(u / 2)) / 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        p = torch.addcmul(x.new_full((), _LINEAR), x, x, value=_CUBIC).mul_(x).sigmoid_()
        ctx.save_for_backward(x, p)
        return x * p

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, p = ctx.saved_tensors
        slope = torch.addcmul(x.new_full((), _LINEAR), x, x, value=3.0 * _CUBIC).mul_(x)  # x du/dx
        slope.addcmul_(slope, p, value=-1.0)
        return torch.addcmul(p, p, slope).mul_(gradient)


def gelu(x: Tensor) -> Tensor:
    """Return GELU in its tanh form; on a CPU in half the time of torch's, whose tanh is slow."""
    result: Tensor = _Gelu.apply(x)  # type: ignore[no-untyped-call]
    return result


def _layer_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalise the rows of [M, N, O], then scale and shift [M, 1, O]."""
    size = x.shape[-1:]
    if len(scale) == 1:  # torch has a kernel for that
        return functional.layer_norm(x, size, scale.view(size), shift.view(size), LAYER_NORM_EPS)
    # Without ones and zeros, torch's kernel takes twice as long.
    x = functional.layer_norm(x, size, x.new_ones(size), x.new_zeros(size), LAYER_NORM_EPS)
    return torch.addcmul(shift, x, scale)


def _dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x W + b for [M, N, I], [M, I, O] and [M, 1, O]."""
    if weight.shape[-1] == 1:  # where a batched product takes four times as long
        return (x * weight.mT).sum(-1, keepdim=True) + bias
    return torch.baddbmm(bias, x, weight)


def _time(t: Tensor, sinusoidal: bool) -> Tensor:
    return time_embedding(t) if sinusoidal else t[:, None]


def _beside(s: Tensor, a: Tensor, *more: Tensor) -> Tensor:
    """Return s [N, S], a [N, C] or [K, N, C], and more [N, F], joined along the last axis; shared unless a is not."""
    return torch.cat([part.expand(*a.shape[:-1], -1) if a.dim() == 3 else part for part in (s, a, *more)], dim=-1)


class StackedMLP(nn.Module):
    """`members` independent MLPs of the same shape.

    Args:
        members: Number of networks M.
        inputs: Input size.
        hidden: Hidden layer sizes.
        outputs: Output size.
        norm_last: Whether the last hidden layer has a LayerNorm.
        norm: Whether any has one.
        activation: Of the hidden layers.
        generator: Source of the initial weights (Glorot uniform; biases are zero).
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        norm_last: bool,
        norm: bool = True,
        activation: Callable[[Tensor], Tensor] = gelu,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = (inputs, *hidden, outputs)
        self.members, self.activation = members, activation
        self.normed = len(hidden) - (not norm_last) if norm else 0
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.scales = nn.ParameterList()
        self.shifts = nn.ParameterList()
        for layer, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:])):
            bound = math.sqrt(6.0 / (fan_in + fan_out))
            weight = torch.rand(members, fan_in, fan_out, generator=generator) * (2.0 * bound) - bound
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, fan_out)))
            if layer < self.normed:
                self.scales.append(nn.Parameter(torch.ones(members, 1, fan_out)))
                self.shifts.append(nn.Parameter(torch.zeros(members, 1, fan_out)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs], shared by all members, or [M, N, inputs] to [M, N, outputs]."""
        x = x.expand(self.members, *x.shape[-2:])
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = _dense(x, weight, bias)
            if layer < self.normed:
                x = _layer_norm(x, self.scales[layer], self.shifts[layer])
            if layer < last:
                x = self.activation(x)
        return x


def filled(network: Network, stack: nn.Module, members: slice) -> Network:
    """Return a network that has the tensors of some members of a stack, and shares nothing with it."""
    network.load_state_dict({name: value[members] for name, value in stack.state_dict().items()})
    return network


class VelocityNetwork(nn.Module):
    """A velocity field v(s, a, t).

    Args:
        observation_size: Length of s.
        chunk_size: Length of a flattened action chunk a.
        hidden: Hidden layer sizes.
        generator: Source of the initial weights.
        norm: Whether hidden layers have a LayerNorm.
        sinusoidal: Whether t is embedded, or one raw number.
    """

    def __init__(
        self,
        observation_size: int,
        chunk_size: int,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
        *,
        norm: bool = True,
        sinusoidal: bool = True,
    ) -> None:
        super().__init__()
        self.sinusoidal = sinusoidal
        inputs = observation_size + chunk_size + (EMBEDDING_SIZE if sinusoidal else 1)
        self.mlp = StackedMLP(1, inputs, hidden, chunk_size, norm_last=False, norm=norm, generator=generator)

    def forward(self, s: Tensor, a: Tensor, t: Tensor) -> Tensor:
        """Map s [N, S], a [N, C], t [N] to the velocity [N, C]."""
        velocity: Tensor = self.mlp(torch.cat([s, a, _time(t, self.sinusoidal)], dim=-1))[0]
        return velocity


class VelocityStack(nn.Module):
    """A velocity field for each of several tasks, trained side by side.

    Args:
        tasks: Number of tasks K.
        observation_size, chunk_size, hidden, generator, norm, sinusoidal: As for `VelocityNetwork`, of each.
    """

    def __init__(
        self,
        tasks: int,
        observation_size: int,
        chunk_size: int,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
        *,
        norm: bool = True,
        sinusoidal: bool = True,
    ) -> None:
        super().__init__()
        self.sinusoidal = sinusoidal
        self._sizes, self._norm = (observation_size, chunk_size, tuple(hidden)), norm
        inputs = observation_size + chunk_size + (EMBEDDING_SIZE if sinusoidal else 1)
        self.mlp = StackedMLP(tasks, inputs, hidden, chunk_size, norm_last=False, norm=norm, generator=generator)

    def forward(self, s: Tensor, a: Tensor, t: Tensor) -> Tensor:
        """Map s [N, S], a [N, C], the same for all tasks, or [K, N, C], and t [N] to the velocities [K, N, C]."""
        velocity: Tensor = self.mlp(_beside(s, a, _time(t, self.sinusoidal)))
        return velocity

    def member(self, task: int) -> VelocityNetwork:
        """Return the velocity field of one task, counted from 0, sharing nothing with this."""
        alone = VelocityNetwork(*self._sizes, norm=self._norm, sinusoidal=self.sinusoidal)
        return filled(alone, self, slice(task, task + 1))


class CriticNetwork(nn.Module):
    """Q(s, a) for several tasks, an ensemble each.

    Args:
        tasks: Number of tasks K.
        ensemble: Ensemble size E.
        observation_size: Length of s.
        chunk_size: Length of a.
        hidden: Hidden layer sizes.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        tasks: int,
        ensemble: int,
        observation_size: int,
        chunk_size: int,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.tasks, self.ensemble = tasks, ensemble
        self._shape = observation_size, chunk_size, hidden
        self.mlp = StackedMLP(
            tasks * ensemble, observation_size + chunk_size, hidden, 1, norm_last=True, generator=generator
        )

    def first_members(self, count: int) -> CriticNetwork:
        """Return the critics with the first `count` members of each ensemble, sharing nothing with these."""
        fewer = CriticNetwork(self.tasks, count, *self._shape)
        every = {name: value.unflatten(0, (self.tasks, self.ensemble)) for name, value in self.state_dict().items()}
        fewer.load_state_dict({name: value[:, :count].flatten(0, 1) for name, value in every.items()})
        return fewer

    def task(self, number: int) -> CriticNetwork:
        """Return the critic of one task, counted from 0, sharing nothing with these."""
        alone, first = CriticNetwork(1, self.ensemble, *self._shape), number * self.ensemble
        return filled(alone, self, slice(first, first + self.ensemble))

    def forward(self, s: Tensor, a: Tensor) -> Tensor:
        """Map s [N, S] and a [N, C], the same for all tasks, or [K, N, C] to the values [K, E, N]."""
        x = _beside(s, a)
        if x.dim() == 3:
            x = x[:, None].expand(-1, self.ensemble, -1, -1).flatten(0, 1)
        q: Tensor = self.mlp(x)
        return q.view(self.tasks, self.ensemble, -1)


class ValueNetwork(nn.Module):
    """V(s) for several tasks.

    Args:
        tasks: Number of tasks K.
        observation_size: Length of s.
        hidden: Hidden layer sizes.
        generator: Source of the initial weights.
    """

    def __init__(
        self, tasks: int, observation_size: int, hidden: Sequence[int], generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.mlp = StackedMLP(tasks, observation_size, hidden, 1, norm_last=True, generator=generator)

    def forward(self, s: Tensor) -> Tensor:
        """Map s [N, S] to the values [K, N]."""
        value: Tensor = self.mlp(s)[..., 0]
        return value
