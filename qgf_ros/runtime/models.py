"""The protocols of `guidance`, fulfilled by a bundle's ONNX primitives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from qgf_ros.bundle.store import critic_file
from qgf_ros.guidance.protocols import Array
from qgf_ros.runtime.session import open_session


class OnnxVelocityField:
    """A bundle's velocity field.

    Args:
        files: The bundle's files by path, as `load_bundle` returns them.
        providers: From `choose_providers`.
        threads: Threads per operator.

    Attributes:
        providers: Those of them that have started.
    """

    def __init__(self, files: Mapping[str, bytes], providers: Sequence[str], threads: int) -> None:
        self._forward = open_session(files["velocity.onnx"], "velocity.onnx", providers, threads)
        started = self._forward.get_providers()
        self.providers = [provider for provider in providers if provider in started]
        vjp = files["velocity_vjp.onnx"]
        self._open_vjp = partial(open_session, vjp, "velocity_vjp.onnx", self.providers, threads)
        self._vjp: Any = None

    def __call__(self, s: Array, a: Array, t: Array) -> Array:
        """See `VelocityField`; float32."""
        (v,) = self._forward.run(("v",), {"s": s, "a": a, "t": t})
        return np.asarray(v)

    def vjp(self, s: Array, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
        """See `VelocityField`; float32. The graph is loaded at the first call, that of the warm-up."""
        if self._vjp is None:
            self._vjp = self._open_vjp()
        v, product = self._vjp.run(("v", "u_dv_da"), {"s": s, "a": a, "t": t, "u": u})
        return v, product


class OnnxCritic:
    """One critic of a bundle.

    Args:
        files: The bundle's files by path, as `load_bundle` returns them.
        name: Name of the critic.
        aggregation: "min" or "mean", as in the manifest.
        providers: From `choose_providers`.
        threads: Threads per operator.
    """

    def __init__(
        self, files: Mapping[str, bytes], name: str, aggregation: str, providers: Sequence[str], threads: int
    ) -> None:
        path = critic_file(name)
        self._session = open_session(files[path], path, providers, threads)
        self._aggregate = np.min if aggregation == "min" else np.mean

    def __call__(self, s: Array, a: Array) -> Array:
        """See `Critic`; float32."""
        (q,) = self._session.run(("q",), {"s": s, "a": a})
        return np.asarray(q)

    def value_and_grad(self, s: Array, a: Array) -> tuple[Array, Array]:
        """See `Critic`; float32."""
        q, gradient = self._session.run(("q", "dq_da"), {"s": s, "a": a})
        return q, gradient

    def aggregate(self, q: Array) -> Array:
        """See `Critic`."""
        return np.asarray(self._aggregate(q, axis=0))
