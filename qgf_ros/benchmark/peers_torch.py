"""The peers in torch: eager with autograd, and compiled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from qgf_ros.analysis.compute import Case
from qgf_ros.benchmark.latency import Act, Float
from qgf_ros.benchmark.peers import PeerNetworks, make_sampler, map_arrays
from qgf_ros.bundle.layers import LAYER_NORM_EPS
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.learning import compilation


class Eager:
    """torch, one operation at a time."""

    def dense(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """See `Ops`."""
        return torch.addmm(bias, x, weight)

    def layer_norm(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """See `Ops`."""
        return functional.layer_norm(x, x.shape[-1:], scale, shift, LAYER_NORM_EPS)

    def gelu(self, x: Tensor) -> Tensor:
        """See `Ops`."""
        return functional.gelu(x, approximate="tanh")

    def join(self, arrays: list[Tensor]) -> Tensor:
        """See `Ops`."""
        return torch.cat(arrays, dim=1)

    def smallest(self, arrays: list[Tensor]) -> Tensor:
        """See `Ops`."""
        return torch.stack(arrays).min(dim=0).values

    def rows(self, x: Tensor, count: int) -> Tensor:
        """See `Ops`."""
        return x.expand(count, -1)

    def clip(self, x: Tensor) -> Tensor:
        """See `Ops`."""
        return x.clamp(-1.0, 1.0)

    def gradient(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """See `Ops`."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
        return gradient


class Compiled(Eager):
    """torch as its compiler wants it, which follows `torch.func` but not autograd."""

    def gradient(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """See `Ops`."""
        gradient: Tensor = torch.func.grad(lambda leaf: function(leaf).sum())(x)
        return gradient


def torch_peer(
    networks: PeerNetworks, case: Case, weight: float, manifest: Manifest, critic: str, threads: int, *, compiled: bool
) -> Act:
    """Return a sampler in torch.

    Args:
        networks: Weights.
        case, weight, manifest, critic: See `make_sampler`.
        threads: Threads per operator; torch has one number for the whole process.
        compiled: Whether to compile the whole sampler as one graph, at the first call.

    Raises:
        TrainingError: It is to be compiled, and there is no C++ compiler.
    """
    torch.set_num_threads(threads)
    sample = make_sampler(Compiled() if compiled else Eager(), case, weight, manifest, critic)
    if compiled:
        sample = compilation.compiled(sample, fullgraph=True, dynamic=False)
    tensors = map_arrays(torch.from_numpy, networks)

    def act(observation: Float, noise: Float) -> Float:
        with torch.no_grad():
            action: Float = sample(tensors, torch.from_numpy(observation), torch.from_numpy(noise)).numpy()
        return action

    return act
