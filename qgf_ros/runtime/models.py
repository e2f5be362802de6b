"""The protocols of `guidance`, fulfilled by a bundle's ONNX primitives.

A primitive takes the observation at every run, so that given observations are kept as a run reads them, and nothing is
copied between runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
import onnxruntime

from qgf_ros.bundle.aggregation import aggregate
from qgf_ros.bundle.own_graphs import own_file
from qgf_ros.bundle.store import critic_file
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.names import CLASSIFIER_FREE, ROBUST
from qgf_ros.guidance.protocols import Array, Rows
from qgf_ros.runtime.session import open_session


class OnnxVelocityField:
    """A bundle's velocity field.

    Args:
        files: The bundle's files by path, as `read_bundle` returns them.
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
        self._vjp = cache(partial(open_session, vjp, "velocity_vjp.onnx", self.providers, threads))

    def given(self, observations: Array) -> OnnxFlow:
        """See `VelocityField`; float32."""
        return OnnxFlow(self._forward, self._vjp, observations)


class OnnxFlow:
    """A bundle's velocity field given observations.

    Args:
        forward: Session of ``velocity.onnx``.
        vjp: Returns the session of ``velocity_vjp.onnx``, which is loaded at the first product, that of the warm-up.
        observations: float32 [N, S].
    """

    def __init__(
        self,
        forward: onnxruntime.InferenceSession,
        vjp: Callable[[], onnxruntime.InferenceSession],
        observations: Array,
    ) -> None:
        self._forward, self._vjp = forward, vjp
        self._s = np.ascontiguousarray(observations)

    def __call__(self, a: Array, t: Array) -> Array:
        """See `Flow`; float32."""
        (v,) = self._forward.run(("v",), {"s": self._s, "a": a, "t": t})
        return np.asarray(v)

    def vjp(self, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
        """See `Flow`; float32."""
        v, product = self._vjp().run(("v", "u_dv_da"), {"s": self._s, "a": a, "t": t, "u": u})
        return v, product

    def rows(self, rows: Rows) -> OnnxFlow:
        """See `Flow`."""
        return OnnxFlow(self._forward, self._vjp, self._s[rows])


class OnnxCritic:
    """One critic of a bundle.

    Args:
        files: The bundle's files by path, as `read_bundle` returns them.
        name: Name of the critic.
        aggregation: As in the manifest.
        providers: From `choose_providers`.
        threads: Threads per operator.
    """

    def __init__(
        self, files: Mapping[str, bytes], name: str, aggregation: str, providers: Sequence[str], threads: int
    ) -> None:
        path = critic_file(name)
        self._session = open_session(files[path], path, providers, threads)
        self._own = {
            estimator: open_session(files[own], own, providers, threads)
            for estimator in (ROBUST, CLASSIFIER_FREE)
            if (own := own_file(name, estimator)) in files
        }
        self._aggregation = aggregation

    def given(self, observations: Array) -> OnnxActionValue:
        """See `Critic`; float32."""
        return OnnxActionValue(self._session, observations, self._own)

    def aggregate(self, q: Array) -> Array:
        """See `Critic`."""
        return aggregate(q, self._aggregation)


class OnnxActionValue:
    """A critic of a bundle given observations.

    Args:
        session: Of its primitive.
        observations: float32 [N, S].
        own: Sessions of the graphs that it has beside it, by the estimator that needs each.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        observations: Array,
        own: Mapping[str, onnxruntime.InferenceSession],
    ) -> None:
        self._session, self._own = session, own
        self._s = np.ascontiguousarray(observations)

    def __call__(self, a: Array) -> Array:
        """See `ActionValue`; float32."""
        (q,) = self._session.run(("q",), {"s": self._s, "a": a})
        return np.asarray(q)

    def value_and_grad(self, a: Array) -> tuple[Array, Array]:
        """See `ActionValue`; float32."""
        q, gradient = self._session.run(("q", "dq_da"), {"s": self._s, "a": a})
        return q, gradient

    def noised_value_and_grad(self, a: Array, t: Array) -> tuple[Array, Array]:
        """See `NoisedActionValue`; float32. Raises GuidanceError where the bundle has no such graph."""
        q, gradient = self._graph(ROBUST).run(("q", "dq_da"), {"s": self._s, "a": a, "t": t})
        return q, gradient

    def filtered_velocity(self, a: Array, t: Array) -> Array:
        """See `FilteringActionValue`; float32. Raises GuidanceError where the bundle has no such graph."""
        (v,) = self._graph(CLASSIFIER_FREE).run(("v",), {"s": self._s, "a": a, "t": t})
        return np.asarray(v)

    def rows(self, rows: Rows) -> OnnxActionValue:
        """See `ActionValue`."""
        return OnnxActionValue(self._session, self._s[rows], self._own)

    def _graph(self, estimator: str) -> onnxruntime.InferenceSession:
        if estimator not in self._own:
            raise GuidanceError(f"estimator {estimator} was given; the bundle has no graph for it, choose another one")
        return self._own[estimator]
