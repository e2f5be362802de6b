"""The fast path: a whole tick of Algorithm 1 in one run of one ONNX graph.

The graphs are composed at load time from the weights of the bundle's primitives (`runtime.composition`) and then held
to the primitives on random inputs, so that a bundle of any other form goes on over the reference path.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import critic_file
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.protocols import Array, Critic, VelocityField
from qgf_ros.guidance.sampler import Sample, sample
from qgf_ros.guidance.shaping import QGF, Guidance
from qgf_ros.runtime.composition import centred, guided_flow, plain_flow
from qgf_ros.runtime.networks import UnknownFormError, read_critic, read_velocity
from qgf_ros.runtime.precision import Precision
from qgf_ros.runtime.session import CPU, open_session

_log = logging.getLogger(__name__)

#: Largest difference from the primitives, relative to 1 + their size, at which the graphs count as the same function.
TOLERANCE = 1e-3
_PROOF_ROWS, _PROOF_STEPS, _PROOF_WEIGHT = 6, 3, 0.1


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


def load_fused(
    files: Mapping[str, bytes],
    manifest: Manifest,
    velocity: VelocityField,
    critics: Mapping[str, Critic],
    threads: int,
    precision: Precision = "fp32",
) -> FusedSampler | None:
    """Return the fast path of a bundle, proven equal to its primitives; None, and a log line, if there is none.

    Args:
        files: The bundle's files by path.
        manifest: Its manifest.
        velocity, critics: Its primitives.
        threads: Threads per operator.
        precision: Of the weights. Whatever it is, the graphs are proven in float32.
    """
    try:
        fused = FusedSampler(files, manifest, threads)
        _prove(fused, manifest, velocity, critics)
        if precision != "fp32":
            proven, fused = fused, FusedSampler(files, manifest, threads, precision)
            for name in manifest.critics:
                if fused.has(name) and not proven.has(name):
                    fused.drop(name)
    except Exception as error:  # whatever a graph holds that is not expected here, the primitives run
        _log.warning("the policy runs over the reference path: %s", error)
        return None
    return fused


def _prove(fused: FusedSampler, manifest: Manifest, velocity: VelocityField, critics: Mapping[str, Critic]) -> None:
    """Hold what was composed to the primitives, on random inputs; drop critics that differ.

    Raises:
        UnknownFormError: The velocity field differs.
    """
    random = np.random.default_rng(0)
    s, noise = (
        random.standard_normal((_PROOF_ROWS, size), dtype=np.float32)
        for size in (manifest.observation_size, manifest.chunk_size)
    )
    weight = np.full(_PROOF_ROWS, _PROOF_WEIGHT, dtype=np.float32)
    plain = fused.plain(s, noise, _PROOF_STEPS).action
    if not _equal(plain, sample(velocity, None, s, noise, steps=_PROOF_STEPS).action):
        raise UnknownFormError("the composed velocity field differs from its primitive")
    for name in filter(fused.has, critics):
        try:
            expected = sample(velocity, critics[name], s, noise, weight, steps=_PROOF_STEPS)
            result = fused.guided(name, s, noise, weight, _PROOF_STEPS, QGF)
        except GuidanceError as error:  # of this critic alone
            _log.warning("critic %s runs over the reference path: %s", name, error)
            fused.drop(name)
            continue
        pairs = (
            (result.sample.action, expected.action),
            (result.sample.gradient_norm, expected.gradient_norm),
            (result.q, critics[name](s, expected.action)),
        )
        if not all(_equal(*pair) for pair in pairs):
            _log.warning("critic %s runs over the reference path: its composed graph differs from its primitive", name)
            fused.drop(name)


def _equal(value: Array, expected: Array) -> bool:
    return bool((np.abs(value - expected) <= TOLERANCE * (1.0 + np.abs(expected))).all())


class FusedSampler:
    """Samples from a bundle's policy over composed graphs, on the CPU.

    Rows of weight 0 are the very rows of `plain`: the critic never sees them.

    Args:
        files: The bundle's files by path, as `load_bundle` returns them.
        manifest: Its manifest.
        threads: Threads per operator; they spin within a tick and sleep between ticks.
        precision: Of the weights.

    Raises:
        UnknownFormError: The velocity field is not of the form that can be composed. A critic that is not is left out,
            with a warning.
        BundleError: ONNX Runtime cannot load a composed graph.
    """

    def __init__(
        self, files: Mapping[str, bytes], manifest: Manifest, threads: int, precision: Precision = "fp32"
    ) -> None:
        self.precision = precision
        velocity = read_velocity(files["velocity.onnx"])
        sizes = manifest.observation_size, manifest.chunk_size
        layers = centred(velocity.layers)
        self._embed, self._time_weight = velocity.embed, layers[0].weight[sum(sizes) :]
        self._time = lru_cache(maxsize=8)(self._time_contribution)
        self._plain = open_session(plain_flow(layers, *sizes, precision), "plain flow", (CPU,), threads, spin=True)
        self._critics = {}
        for name, card in manifest.critics.items():
            try:
                members = [centred(member) for member in read_critic(files[critic_file(name)])]
                model = guided_flow(layers, members, card.aggregation, *sizes, precision)
            except UnknownFormError as error:
                _log.warning("critic %s runs over the reference path: %s", name, error)
                continue
            self._critics[name] = open_session(model, f"guided flow of {name}", (CPU,), threads, spin=True)

    def has(self, critic: str) -> bool:
        """Return whether a critic was composed."""
        return critic in self._critics

    def drop(self, critic: str) -> None:
        """Leave a critic to the reference path."""
        del self._critics[critic]

    def plain(self, s: Array, noise: Array, steps: int) -> Sample:
        """Integrate the unguided flow.

        Args:
            s: float32 observations [R, S].
            noise: float32 starting points [R, C].
            steps: Euler steps T.

        Raises:
            GuidanceError: A velocity is not finite.
        """
        feeds = {"s": s, "noise": noise, **self._time(steps)[0]}
        (a,) = self._plain.run(("action",), feeds)
        return _finished(a, np.zeros(len(a), dtype=np.float32))

    def guided(self, critic: str, s: Array, noise: Array, weight: Array, steps: int, guidance: Guidance) -> Guided:
        """Integrate the guided flow of `guidance.sampler`, its estimator being ``qgf``, and the unguided one beside it.

        Args:
            critic: Name of a critic that was composed.
            s: float32 observations [R, S].
            noise: float32 starting points [R, C].
            weight: float32 guidance weights [R], finite, at least 0 and not all 0.
            steps: Euler steps T.
            guidance: Its options.

        Raises:
            GuidanceError: A gradient of the critic or a velocity is not finite.
        """
        rows = np.flatnonzero(weight)
        count = len(rows)
        time, remaining = self._time(steps)
        factors, options = _options(guidance, steps, noise.shape[1])
        feeds = {
            "s": np.concatenate([s[rows], s]),
            "noise": np.concatenate([noise[rows], noise]),
            "split": np.array([count, len(noise)]),
            "remaining": remaining,
            "weight": factors * weight[rows, None],
            **time,
            **options,
        }
        a, total, q = self._critics[critic].run(("action", "norm", "q"), feeds)
        if not np.isfinite(total).all():
            raise GuidanceError("the critic's gradient is not finite; check the observation and the critic")
        norm = np.zeros(len(noise), dtype=np.float32)
        norm[rows] = total[:, 0] / steps
        plain = a[count:]
        guided = plain.copy()
        guided[rows] = a[:count]
        return Guided(_finished(guided, norm), np.clip(plain, -1.0, 1.0), q.T)

    def _time_contribution(self, steps: int) -> tuple[dict[str, Array], Array]:
        """Return what the time adds to the velocity's first layer at each step, the step size, and 1 - t [T, 1, 1]."""
        t = np.array([k / steps for k in range(steps)], dtype=np.float32)
        part = self._embed(t) @ self._time_weight
        time = {"time": part[:, None], "dt": np.array(1.0 / steps, dtype=np.float32)}
        return time, (1.0 - t)[:, None, None]


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
