"""Actors that are no velocity field, stacked over K tasks as `networks` has them, and the flow that each is in a bundle.

A bundle's flow goes from noise to action in T equal steps, a <- a + v / T. A sampler that maps a to another action at
each of its steps is such a flow, too: with v = T (next - a). As in the published code, neither has a LayerNorm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from qgf_ros.learning.algorithms.networks import StackedMLP, filled
from qgf_ros.learning.algorithms.sampling import deterministic_step, diffusion_schedule

#: Learnt features of the diffusion step.
STEP_FEATURES = 64
#: Standard deviation of their initial frequencies.
_STEP_SPREAD = 0.2


class OneStepNetwork(nn.Module):
    """An action mu(s, z) of noise z in one step, for each of K tasks.

    Args:
        tasks: K.
        observation_size: Length of s.
        chunk_size: Length of a flattened action chunk, and of z.
        hidden: Hidden layer sizes.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        tasks: int,
        observation_size: int,
        chunk_size: int,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self._sizes = observation_size, chunk_size, tuple(hidden)
        inputs = observation_size + chunk_size
        self.mlp = StackedMLP(tasks, inputs, hidden, chunk_size, norm_last=False, norm=False, generator=generator)

    def forward(self, s: Tensor, z: Tensor) -> Tensor:
        """Map s [N, S] and z [N, C] to actions [K, N, C], which may lie outside of [-1, 1]."""
        actions: Tensor = self.mlp(torch.cat([s, z], dim=-1))
        return actions

    def member(self, task: int) -> OneStepNetwork:
        """Return the actor of one task, counted from 0, sharing nothing with these."""
        return filled(OneStepNetwork(1, *self._sizes), self, slice(task, task + 1))


class OneStepFlow(nn.Module):
    """The flow of one step that ends where an actor says: v = mu(s, a) - a.

    Args:
        actor: Of one task.
    """

    def __init__(self, actor: OneStepNetwork) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, s: Tensor, a: Tensor, t: Tensor) -> Tensor:
        """Map s [N, S] and a [N, C] to the velocity [N, C], whatever t [N] is."""
        velocity: Tensor = self.actor(s, a)[0] - a
        return velocity


class NoiseNetwork(nn.Module):
    """The noise eps(s, a, k) in an action of a diffusion model, for each of K tasks.

    The step becomes cosines and sines of learnt frequencies, and those go through an MLP of its own. Hidden layers have
    the activation Mish.

    Args:
        tasks: K.
        observation_size: Length of s.
        chunk_size: Length of a flattened action chunk a.
        hidden: Layer sizes: of the hidden layers, and of the layers that a step goes through, the last without activation.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        tasks: int,
        observation_size: int,
        chunk_size: int,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self._sizes = observation_size, chunk_size, tuple(hidden)
        self.frequencies = nn.Parameter(torch.randn(tasks, 1, STEP_FEATURES // 2, generator=generator) * _STEP_SPREAD)
        self.step_mlp = _mish_mlp(tasks, STEP_FEATURES, hidden[:-1], hidden[-1], generator)
        self.mlp = _mish_mlp(tasks, observation_size + chunk_size + hidden[-1], hidden, chunk_size, generator)

    def features(self, k: Tensor) -> Tensor:
        """Return what steps k [N] are to the prediction [K, N, F]."""
        angles = 2.0 * math.pi * k[:, None] * self.frequencies
        features: Tensor = self.step_mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))
        return features

    def forward(self, s: Tensor, a: Tensor, k: Tensor) -> Tensor:
        """Map s [N, S], a [N, C], the same for all tasks, or [K, N, C], and k [N] to noises [K, N, C]."""
        tasks = self.mlp.members
        x = torch.cat([s.expand(tasks, -1, -1), a.expand(tasks, -1, -1), self.features(k)], dim=-1)
        noise: Tensor = self.mlp(x)
        return noise

    def member(self, task: int) -> NoiseNetwork:
        """Return the predictor of one task, counted from 0, sharing nothing with these."""
        return filled(NoiseNetwork(1, *self._sizes), self, slice(task, task + 1))


class DiffusionFlow(nn.Module):
    """The flow that goes through a diffusion model's deterministic steps: at t = i/T, v = T (a_{k-1} - a_k) for k = T - i.

    Args:
        predictor: Of one task.
        steps: T.
    """

    def __init__(self, predictor: NoiseNetwork, steps: int) -> None:
        super().__init__()
        self.predictor, self.steps, self.schedule = predictor, steps, diffusion_schedule(steps)

    def forward(self, s: Tensor, a: Tensor, t: Tensor) -> Tensor:
        """Map s [N, S], a [N, C] and t [N], of 0, 1/T, ..., to velocities [N, C]; those of t = 1 are those of 1 - 1/T."""
        k = (self.steps - (t * self.steps + 0.5).long()).clamp(min=1)
        predicted = self.predictor(s, a, k.to(a))[0]
        signal = torch.tensor(self.schedule.signal, dtype=a.dtype, device=a.device)
        step = deterministic_step(a, predicted, signal[k - 1][:, None], signal[k][:, None])
        return self.steps * (step - a)


def _mish_mlp(
    tasks: int, inputs: int, hidden: Sequence[int], outputs: int, generator: torch.Generator | None
) -> StackedMLP:
    return StackedMLP(
        tasks, inputs, hidden, outputs, norm_last=False, norm=False, activation=functional.mish, generator=generator
    )
