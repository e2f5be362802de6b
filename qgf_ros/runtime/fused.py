"""The fast path: a whole tick of Algorithm 1 in one run of one ONNX graph.

The graphs are composed from the weights of the bundle's primitives (`runtime.composition`), and proven before they are
used (`runtime.proof`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.layers import Layers
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import critic_file
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.protocols import Array, Rows
from qgf_ros.guidance.sampler import Sample
from qgf_ros.guidance.shaping import Guidance
from qgf_ros.runtime.binding import BoundSession, device_of
from qgf_ros.runtime.composition import guided_flow, laid_out_flow, plain_flow
from qgf_ros.runtime.passes import centred
from qgf_ros.runtime.precision import Precision
from qgf_ros.runtime.session import CPU, open_session
from qgf_ros.runtime.weights import UnknownFormError, read_critic, read_velocity

_log = logging.getLogger(__name__)

#: Denoising steps T with which graphs for any T are proven.
_PROOF_STEPS = 3


class Guided(NamedTuple):
    """Guided samples of R rows, and what became of the same noise without guidance.

    Attributes:
        sample: As `guidance.sampler` returns it; rows of weight 0 are plain behaviour cloning.
        unguided: Unguided actions [R, C], in [-1, 1].
        q: Values of every member [E, G] at the guided rows' actions.
    """

    sample: Sample
    unguided: Array
    q: Array


class FusedSampler:
    """Samples from a bundle's policy over composed graphs, on the CPU.

    Args:
        files: The bundle's files by path, as `read_bundle` returns them.
        manifest: Its manifest.
        threads: Threads per operator; they spin within a tick and sleep between ticks.
        precision: Of the weights.

    Attributes:
        provider: What runs the graphs.
        time: For T denoising steps, what the time adds to the velocity's first layer at each and the step size, as inputs
            of the graphs, and 1 - t [T, 1, 1].
        proof_steps: T with which they are held to the primitives.
        capturing: Whether a GPU may capture a graph for shapes that are new; their first run then takes longer.

    Raises:
        UnknownFormError: The velocity field is not of the form that can be composed. A critic that is not is left out,
            with a warning.
        BundleError: ONNX Runtime cannot load a composed graph.
    """

    provider: str = CPU
    proof_steps: int = _PROOF_STEPS
    capturing: bool = True

    def __init__(
        self, files: Mapping[str, bytes], manifest: Manifest, threads: int, precision: Precision = "fp32"
    ) -> None:
        self.precision = precision
        self._threads = threads
        velocity = read_velocity(files["velocity.onnx"])
        self._sizes = manifest.feature_size, manifest.chunk_size
        self._layers = centred(velocity.layers)
        self._embed, self._time_weight = velocity.embed, self._layers[0].weight[sum(self._sizes) :]
        self.time = lru_cache(maxsize=8)(self._time_contribution)
        self._plain = self._open("plain flow", None, "")
        self._critics = {}
        for name, card in manifest.critics.items():
            try:
                members = [centred(member) for member in read_critic(files[critic_file(name)])]
                self._critics[name] = self._open(f"guided flow of {name}", members, card.aggregation)
            except UnknownFormError as error:
                _log.warning("critic %s runs over the reference path: %s", name, error)

    def _open(self, name: str, critic: Sequence[Layers] | None, aggregation: str) -> Any:
        """Compose and load the graph of a critic, or the plain one."""
        if critic is None:
            model = plain_flow(self._layers, *self._sizes, self.precision)
        else:
            model = guided_flow(self._layers, critic, aggregation, *self._sizes, self.precision)
        return open_session(model, name, (CPU,), self._threads, spin=True)

    def has(self, critic: str) -> bool:
        """Return whether a critic was composed."""
        return critic in self._critics

    def drop(self, critic: str) -> None:
        """Leave a critic to the reference path."""
        del self._critics[critic]

    def given(self, observations: Array) -> FusedTick:
        """Return the fast path given float32 observations [R, S]."""
        return FusedTick(self, observations)

    def run_plain(self, feeds: dict[str, Array], steps: int) -> Array:
        """Return the plain actions [R, C], before the clip, of all inputs of the plain graph for T steps."""
        (a,) = self._plain.run(("action",), feeds)
        return np.asarray(a)

    def run_guided(
        self,
        critic: str,
        s: Array,
        noise: Array,
        weight: Array,
        rows: NDArray[np.intp],
        common: dict[str, Array],
        steps: int,
    ) -> tuple[Array, Array, Array, Array]:
        """Return the guided actions of some rows [G, C], the plain ones of all [R, C], and norm and Q of the former.

        Args:
            critic: Name of a critic that was composed.
            s: float32 observations [R, S].
            noise: float32 starting points [R, C].
            weight: Guidance weights times schedule [T, R, 1].
            rows: The guided ones [G].
            common: The other inputs of the graph.
            steps: Euler steps T.
        """
        count = len(rows)
        feeds = {
            "s": np.concatenate([s[rows], s]),
            "noise": np.concatenate([noise[rows], noise]),
            "split": np.array([count, len(noise)]),
            "weight": weight[:, rows],
            **common,
        }
        a, total, q = self._critics[critic].run(("action", "norm", "q"), feeds)
        return a[:count], a[count:], total, q

    def _time_contribution(self, steps: int) -> tuple[dict[str, Array], Array]:
        """Return what the time adds to the velocity's first layer at each step, the step size, and 1 - t [T, 1, 1]."""
        t = np.array([k / steps for k in range(steps)], dtype=np.float32)
        part = self._embed(t) @ self._time_weight
        time = {"time": part[:, None], "dt": np.array(1.0 / steps, dtype=np.float32)}
        return time, (1.0 - t)[:, None, None]


class DeviceSampler(FusedSampler):
    """Samples from a bundle's policy over composed graphs on a GPU, in float32.

    The graphs are laid out for one T each, and run over fixed buffers of the device. Every row is guided; rows of weight 0
    become those of `plain` afterwards.

    Args:
        files, manifest, threads: See `FusedSampler`.
        providers: Execution providers that have started, the one that is meant first.
        capture: Whether the provider captures each graph, to replay it at every later run.

    Raises:
        As `FusedSampler`.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        manifest: Manifest,
        threads: int,
        providers: Sequence[str],
        *,
        capture: bool = True,
    ) -> None:
        self.provider = providers[0]
        self.proof_steps = manifest.denoising_steps
        self._providers = tuple(providers)
        self._capture = capture
        self._ensemble = {name: card.ensemble_size for name, card in manifest.critics.items()}
        super().__init__(files, manifest, threads)

    def _open(self, name: str, critic: Sequence[Layers] | None, aggregation: str) -> Any:
        """Return what loads the graph of a T, and load that of the bundle."""

        @lru_cache(maxsize=8)
        def laid_out(steps: int) -> BoundSession:
            model = laid_out_flow(self._layers, critic, aggregation, *self._sizes, steps)
            session = open_session(model, name, self._providers, self._threads, capture=self._capture)
            return BoundSession(session, device_of(self.provider))

        laid_out(self.proof_steps)
        return laid_out

    def run_plain(self, feeds: dict[str, Array], steps: int) -> Array:
        (a,) = self._plain(steps)(feeds, {"action": feeds["noise"].shape}, capture=self.capturing)
        return np.asarray(a)

    def run_guided(
        self,
        critic: str,
        s: Array,
        noise: Array,
        weight: Array,
        rows: NDArray[np.intp],
        common: dict[str, Array],
        steps: int,
    ) -> tuple[Array, Array, Array, Array]:
        count, size = noise.shape
        feeds = {"s": s, "noise": noise, "weight": weight, **common}
        shapes = {"action": (2 * count, size), "norm": (count, 1), "q": (count, self._ensemble[critic])}
        a, total, q = self._critics[critic](steps)(feeds, shapes, capture=self.capturing)
        return a[:count][rows], a[count:], total[rows], q[rows]


class FusedTick:
    """The fast path given observations, whose part of each first layer the graphs compute once a run.

    Rows of weight 0 are the very rows of `plain`: the critic never sees them.

    Args:
        sampler: Whose graphs run.
        observations: float32 [R, S].
    """

    def __init__(self, sampler: FusedSampler, observations: Array) -> None:
        self._sampler = sampler
        self._s = observations

    def rows(self, rows: Rows) -> FusedTick:
        """Return the fast path given some of the observations."""
        return FusedTick(self._sampler, self._s[rows])

    def plain(self, noise: Array, steps: int) -> Sample:
        """Integrate the unguided flow.

        Args:
            noise: float32 starting points [R, C].
            steps: Euler steps T.

        Raises:
            GuidanceError: A velocity is not finite.
        """
        feeds = {"s": self._s, "noise": noise, **self._sampler.time(steps)[0]}
        a = self._sampler.run_plain(feeds, steps)
        return _finished(a, np.zeros(len(a), dtype=np.float32))

    def guided(self, critic: str, noise: Array, weight: Array, steps: int, guidance: Guidance) -> Guided:
        """Integrate the guided flow of `guidance.sampler`, its estimator being ``qgf``, and the unguided one beside it.

        Args:
            critic: Name of a critic that was composed.
            noise: float32 starting points [R, C].
            weight: float32 guidance weights [R], finite, at least 0 and not all 0.
            steps: Euler steps T.
            guidance: Its options.

        Raises:
            GuidanceError: A gradient of the critic or a velocity is not finite.
        """
        time, remaining = self._sampler.time(steps)
        factors, options = _options(guidance, steps, noise.shape[1])
        common = {"remaining": remaining, **time, **options}
        rows = np.flatnonzero(weight)
        a, plain, total, q = self._sampler.run_guided(
            critic, self._s, noise, factors * weight[:, None], rows, common, steps
        )
        if not np.isfinite(total).all():
            raise GuidanceError("the critic's gradient is not finite; check the observation and the critic")
        norm = np.zeros(len(noise), dtype=np.float32)
        norm[rows] = total[:, 0] / steps
        guided = plain.copy()
        guided[rows] = a
        return Guided(_finished(guided, norm), np.clip(plain, -1.0, 1.0), q.T)


@lru_cache(maxsize=32)
def _options(guidance: Guidance, steps: int, chunk_size: int) -> tuple[Array, dict[str, Array]]:
    """Return the schedule's factors [T, 1, 1] and the inputs of the other options."""
    factors = np.array([guidance.factor(k, steps) for k in range(steps)], dtype=np.float32)
    mask = np.resize(np.array(guidance.mask or (1.0,), dtype=np.float32), chunk_size)
    limits = {"max_norm": guidance.max_gradient_norm, "disagreement": guidance.disagreement_scale}
    scalars = {name: np.array(value, dtype=np.float32) for name, value in limits.items()}
    return factors[:, None, None], {"mask": mask, **scalars}


def _finished(a: Array, norm: Array) -> Sample:
    if not np.isfinite(a).all():
        raise GuidanceError("the velocity field gave a value that is not finite; check the observation and the bundle")
    action = np.clip(a, -1.0, 1.0)
    return Sample(action, norm, (action != a).mean(axis=1, dtype=np.float32))
