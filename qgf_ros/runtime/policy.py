"""A loaded bundle: observations and noise in, action chunks and telemetry out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.own_graphs import own_estimators
from qgf_ros.bundle.store import read_bundle
from qgf_ros.control.inference import Chunk
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.conditioning import Critic, VelocityField
from qgf_ros.guidance.prefix import Prefix
from qgf_ros.guidance.protocols import ActionValue, Array, Flow, Rows
from qgf_ros.guidance.sampler import Sample, best_candidate, sample
from qgf_ros.guidance.shaping import QGF, Guidance
from qgf_ros.runtime.encoders import Encode, Features, Images, check_images, dark, load_encoders
from qgf_ros.runtime.fast_path import load_fast_path
from qgf_ros.runtime.models import OnnxCritic, OnnxVelocityField
from qgf_ros.runtime.session import CPU, choose_providers

if TYPE_CHECKING:
    from qgf_ros.runtime.fused import FusedSampler
    from qgf_ros.runtime.precision import Precision

_log = logging.getLogger(__name__)


class Policy:
    """A bundle ready to run.

    Args:
        manifest: The contract.
        velocity: The velocity field.
        critics: Critics by name.
        fused: The fast path over the same networks, for as many critics as it has.
        provider: The execution provider of the primitives.
        encoders: By critic, the policy's under None; none for a bundle without cameras.
    """

    def __init__(
        self,
        manifest: Manifest,
        velocity: VelocityField,
        critics: dict[str, Critic],
        fused: FusedSampler | None = None,
        provider: str = CPU,
        encoders: Mapping[str | None, Encode] | None = None,
    ) -> None:
        self.manifest = manifest
        self._velocity = velocity
        self._critics = critics
        self._fused = fused
        self._provider = provider
        self.encoders = encoders or {}

    @classmethod
    def load(
        cls,
        bundle: Path,
        *,
        providers: Sequence[str] = (CPU,),
        threads: int = 1,
        fused: bool = True,
        precision: Precision = "fp32",
    ) -> Policy:
        """Check and load a bundle with all its critics.

        Args:
            bundle: Folder of the bundle.
            providers: ONNX Runtime execution providers in order of preference.
            threads: Threads per operator.
            fused: Whether to take the fast path where there is one: for the estimator ``qgf``, with the package onnx.
                Otherwise every step goes over the bundle's primitives, the reference path.
            precision: Of the weights on the fast path of the CPU, whether or not the bundle has evidence of it (see
                `runtime.precision`); everything else is float32.

        Raises:
            BundleError: The bundle is missing or damaged, or ONNX Runtime cannot load it.
        """
        manifest, files = read_bundle(bundle)
        velocity = OnnxVelocityField(files, choose_providers(providers), threads)
        started = velocity.providers
        critics: dict[str, Critic] = {
            name: OnnxCritic(files, name, card.aggregation, started, threads) for name, card in manifest.critics.items()
        }
        fast = load_fast_path(files, manifest, velocity, critics, threads, precision, started) if fused else None
        if precision not in ("fp32", fast and fast.precision):
            where = "its primitives" if fast is None else fast.provider
            _log.warning("precision %s was given, but the policy runs over %s, in fp32", precision, where)
        return cls(manifest, velocity, critics, fast, started[0], load_encoders(manifest, files, started, threads))

    def has_fast_path(self, critic: str) -> bool:
        """Return whether a critic guides over the fast path, where the estimator is ``qgf``."""
        return self._fused is not None and self._fused.has(critic)

    def backend(self, critic: str, estimator: str) -> str:
        """Return what infers a guided chunk: "fused" and the precision, or "primitives fp32", and where, if not on the CPU."""
        backend, provider = "primitives fp32", self._provider
        if self._fused is not None and estimator == QGF.estimator and self._fused.has(critic):
            backend, provider = f"fused {self._fused.precision}", self._fused.provider
        return backend if provider == CPU else f"{backend} on {provider}"

    def warm_up(self, num_samples: int = 1) -> None:
        """Run every graph once, so that the first tick is as fast as the others, whatever its estimator.

        A GPU captures what is run here; from then on, what was not is run without capturing it.
        """
        observation = np.zeros((1, self.manifest.observation_size), dtype=np.float32)
        noise = np.zeros((1, num_samples, self.manifest.chunk_size), dtype=np.float32)
        images, features = dark(self.manifest), np.zeros((1, self.manifest.feature_size), dtype=np.float32)
        if self._fused is not None:
            self._fused.capturing = True
        for name in self._critics:
            self.act(observation, noise, name, 1.0, images=images)
            self.act(observation, noise, name, 0.0, images=images)
            for estimator in ("noisy", *own_estimators(self.manifest)):  # never on the fast path
                self.act(observation, noise, name, 1.0, Guidance(estimator=estimator), images=images)
        start = noise[0, :1]
        self._plain(features, start)
        self._velocity.given(features).vjp(start, np.zeros(1, dtype=np.float32), start)
        if self._fused is not None:
            self._fused.capturing = False

    def act(
        self,
        observations: NDArray[np.float32],
        noise: NDArray[np.float32],
        critic: str,
        guidance_weight: float | NDArray[np.float32],
        guidance: Guidance = QGF,
        prefix: Prefix | None = None,
        images: Images | None = None,
    ) -> list[Chunk]:
        """Infer one action chunk for each observation.

        Beside every guided candidate its unguided twin of the same noise runs in the same batch, to measure how far
        guidance moved the action. A critic that fails leaves the plain BC action, and says so in the telemetry.

        Args:
            observations: float32 [B, S].
            noise: float32 [B, N, C], standard normal; of the N candidates the one with the highest Q is kept.
            critic: Name of the critic.
            guidance_weight: 1/beta, one for all or one per observation [B]; at 0 with N = 1 no critic runs.
            guidance: Gradient estimator and its options.
            prefix: Actions that the chunks have to agree with, target and weight float32 [B, C]; with one, every step
                goes over the bundle's primitives.
            images: What each camera of the bundle sees, uint8 [B, h, w, 3], RGB; each encoder runs once on them.

        Returns:
            B chunks. Telemetry: ``q`` of the action (NaN if no critic ran), ``gradient_norm``, ``clip_fraction``,
            ``guidance_distance`` (largest component of guided minus unguided action, normalised), ``critic_failed``
            (0 or 1) and ``latency_ms`` of the whole batch; with cameras ``encode_ms`` of it and ``encoder_runs``.

        Raises:
            GuidanceError: Shapes, dtypes or weights are wrong, the critic is unknown, or encoder or velocity field fail.
        """
        start = time.perf_counter()
        weight = self._check(observations, noise, critic, guidance_weight, prefix)
        check_images(self.manifest, images, len(noise))
        seen = Features(self.encoders, observations, images) if self.encoders else None
        given, failed = observations if seen is None else seen.policy, False
        try:
            result, unguided, q = self._infer(given, seen, noise, critic, weight, guidance, prefix)
        except Exception as error:  # whatever a critic does, the policy goes on without it
            if not weight.any() and noise.shape[1] == 1:
                raise
            _log.error("critic %s failed (%s); plain BC goes on", critic, error)
            failed = True
            result = self._plain(given, noise[:, 0], prefix=prefix)
            unguided, q = result.action, np.full(len(noise), np.nan, dtype=np.float32)
        latency = (time.perf_counter() - start) * 1e3
        encoding = {} if seen is None else {"encode_ms": seen.seconds * 1e3, "encoder_runs": float(seen.runs)}
        shape = (self.manifest.horizon, self.manifest.action_size)
        distance = np.abs(result.action - unguided).max(axis=1)
        return [
            Chunk(
                result.action[i].reshape(shape),
                unguided[i].reshape(shape),
                {
                    "q": float(q[i]),
                    "gradient_norm": float(result.gradient_norm[i]),
                    "clip_fraction": float(result.clip_fraction[i]),
                    "guidance_distance": float(distance[i]),
                    "critic_failed": float(failed),
                    "latency_ms": latency,
                    **encoding,
                },
            )
            for i in range(len(noise))
        ]

    def _check(
        self, observations: Array, noise: Array, critic: str, weight: float | Array, prefix: Prefix | None
    ) -> NDArray[np.float32]:
        manifest = self.manifest
        batch = len(observations)
        if observations.shape != (batch, manifest.observation_size):
            raise GuidanceError(
                f"observations {observations.shape} were given, expected (B, {manifest.observation_size})"
            )
        if noise.ndim != 3 or noise.shape[0] != batch or noise.shape[1] < 1 or noise.shape[2] != manifest.chunk_size:
            raise GuidanceError(f"noise {noise.shape} was given, expected ({batch}, N, {manifest.chunk_size})")
        for name, value in (("observations", observations), ("noise", noise)):
            if value.dtype != np.float32:
                raise GuidanceError(f"{name} of {value.dtype} were given, expected float32; convert them with astype")
        if prefix is not None and not (prefix.target.shape == prefix.weight.shape == (batch, manifest.chunk_size)):
            raise GuidanceError(
                f"a prefix of target {prefix.target.shape} and weight {prefix.weight.shape} was given, expected "
                f"({batch}, {manifest.chunk_size}) for both"
            )
        if critic not in self._critics:
            raise GuidanceError(f"critic {critic!r} was given; the bundle has {', '.join(self._critics)}")
        weights: NDArray[np.float32] = np.broadcast_to(np.asarray(weight, dtype=np.float32), (batch,))
        if not np.isfinite(weights).all() or (weights < 0.0).any():
            raise GuidanceError(f"guidance_weight {weight} was given; it must be finite and at least 0")
        return weights

    def _infer(
        self,
        given: Array,
        seen: Features | None,
        noise: Array,
        name: str,
        weight: Array,
        guidance: Guidance,
        prefix: Prefix | None,
    ) -> tuple[Sample, Array, Array]:
        """Return the kept candidates [B, C], their unguided twins [B, C] and their Q [B]."""
        batch, candidates, size = noise.shape
        critic = self._critics[name]
        # The observation of each candidate; for one each, nothing need be copied.
        rows: Rows = slice(None) if candidates == 1 else np.repeat(np.arange(batch), candidates)
        start, weights = noise.reshape(-1, size), weight[rows]
        tied = None if prefix is None else prefix.rows(rows)
        q = np.full(len(start), np.nan, dtype=np.float32)
        judged = np.ones(len(start), dtype=bool) if candidates > 1 else weights > 0.0
        asked = judged
        told = given if seen is None or not judged.any() else seen.of(name)
        value: ActionValue | None = None  # bound where it is asked: the fast path answers for a guided chunk by itself
        if not weights.any():
            result = self._plain(given, start, rows, tied)
            unguided = result.action
        elif tied is None and guidance.estimator == QGF.estimator and self._fused is not None and self._fused.has(name):
            tick = self._fused.given(given).rows(rows)
            result, unguided, values = tick.guided(name, start, weights, self.manifest.denoising_steps, guidance)
            q[weights > 0.0] = critic.aggregate(values)
            asked = judged & (weights == 0.0)
        else:
            flow, value = self._velocity.given(given).rows(rows), critic.given(told).rows(rows)
            result, unguided = self._guided(flow, value, start, weights, guidance, tied)
        if asked.any():
            value = critic.given(told).rows(rows) if value is None else value
            q[asked] = critic.aggregate(value.rows(np.flatnonzero(asked))(result.action[asked]))
        if not np.isfinite(q[judged]).all():
            raise GuidanceError("the critic's value is not finite; check the observation and the critic")
        best = best_candidate(q.reshape(batch, candidates)) if candidates > 1 else np.zeros(batch, dtype=np.int64)
        kept = np.arange(batch) * candidates + best
        return (
            Sample(result.action[kept], result.gradient_norm[kept], result.clip_fraction[kept]),
            unguided[kept],
            q[kept],
        )

    def _plain(
        self, observations: Array, noise: Array, rows: Rows = slice(None), prefix: Prefix | None = None
    ) -> Sample:
        """Return unguided samples of noises [R, C], given R rows of observations, or features, [B, S]."""
        steps = self.manifest.denoising_steps
        if self._fused is not None and prefix is None:
            return self._fused.given(observations).rows(rows).plain(noise, steps)
        flow = self._velocity.given(observations).rows(rows)
        return sample(flow, None, noise, steps=steps, prefix=prefix)

    def _guided(
        self, flow: Flow, value: ActionValue, noise: Array, weight: Array, guidance: Guidance, prefix: Prefix | None
    ) -> tuple[Sample, Array]:
        """Return guided samples over the primitives, and the unguided actions [R, C] of the same noise."""
        guided, count = np.flatnonzero(weight), len(noise)
        rows = np.concatenate([np.arange(count), guided])  # behind all of them, the guided ones' unguided twins
        result = sample(
            flow.rows(rows),
            value.rows(rows),
            noise[rows],
            np.concatenate([weight, np.zeros_like(weight[guided])]),
            steps=self.manifest.denoising_steps,
            guidance=guidance,
            prefix=None if prefix is None else prefix.rows(rows),
        )
        unguided = result.action[:count].copy()
        unguided[guided] = result.action[count:]
        return Sample(result.action[:count], result.gradient_norm[:count], result.clip_fraction[:count]), unguided
