"""The peer in JAX: the whole sampler as one jitted function."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from qgf_ros.analysis.compute import Case
from qgf_ros.benchmark.latency import Act, Float
from qgf_ros.benchmark.peers import PeerNetworks, make_sampler, map_arrays
from qgf_ros.bundle.layers import LAYER_NORM_EPS
from qgf_ros.bundle.manifest import Manifest


class Jitted:
    """`jax.numpy`.

    Args:
        jax: The module.
    """

    def __init__(self, jax: Any) -> None:
        self._jax, self._np = jax, jax.numpy

    def dense(self, x: Any, weight: Any, bias: Any) -> Any:
        """See `Ops`."""
        return x @ weight + bias

    def layer_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        """See `Ops`."""
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        return centred * self._jax.lax.rsqrt(variance + LAYER_NORM_EPS) * scale + shift

    def gelu(self, x: Any) -> Any:
        """See `Ops`."""
        return self._jax.nn.gelu(x, approximate=True)

    def join(self, arrays: list[Any]) -> Any:
        """See `Ops`."""
        return self._np.concatenate(arrays, axis=1)

    def smallest(self, arrays: list[Any]) -> Any:
        """See `Ops`."""
        return self._np.stack(arrays).min(axis=0)

    def rows(self, x: Any, count: int) -> Any:
        """See `Ops`."""
        return self._np.broadcast_to(x, (count, x.shape[1]))

    def clip(self, x: Any) -> Any:
        """See `Ops`."""
        return self._np.clip(x, -1.0, 1.0)

    def gradient(self, function: Callable[[Any], Any], x: Any) -> Any:
        """See `Ops`."""
        return self._jax.grad(lambda leaf: function(leaf).sum())(x)


def jax_peer(networks: PeerNetworks, case: Case, weight: float, manifest: Manifest, critic: str, threads: int) -> Act:
    """Return a jitted sampler in JAX; it is compiled at the first call.

    Args:
        networks: Weights.
        case, weight, manifest, critic: See `make_sampler`.
        threads: Threads of XLA; the first sampler of a process sets it for all.
    """
    # XLA's thread pools have as many threads as this variable says when its first client is made.
    os.environ["NPROC"] = str(threads)
    import jax

    sample = jax.jit(make_sampler(Jitted(jax), case, weight, manifest, critic))
    arrays = map_arrays(jax.numpy.asarray, networks)

    def act(observation: Float, noise: Float) -> Float:
        return np.asarray(sample(arrays, observation, noise))

    return act
