"""A loaded bundle: observations and noise in, action chunks and telemetry out."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import critic_file, load_manifest
from qgf_ros.control.controller import Chunk
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.protocols import Array, Critic, VelocityField
from qgf_ros.guidance.sampler import Sample, best_candidate, sample
from qgf_ros.guidance.shaping import QGF, Guidance
from qgf_ros.runtime.models import OnnxCritic, OnnxVelocityField
from qgf_ros.runtime.session import CPU, choose_providers

_log = logging.getLogger(__name__)


class Policy:
    """A bundle ready to run.

    Args:
        manifest: The contract.
        velocity: The velocity field.
        critics: Critics by name.
    """

    def __init__(self, manifest: Manifest, velocity: VelocityField, critics: dict[str, Critic]) -> None:
        self.manifest = manifest
        self._velocity = velocity
        self._critics = critics

    @classmethod
    def load(cls, bundle: Path, *, providers: Sequence[str] = (CPU,), threads: int = 1) -> Policy:
        """Check and load a bundle with all its critics.

        Args:
            bundle: Folder of the bundle.
            providers: ONNX Runtime execution providers in order of preference.
            threads: Threads per operator.

        Raises:
            BundleError: The bundle is missing or damaged, or ONNX Runtime cannot load it.
        """
        manifest = load_manifest(bundle)
        chosen = choose_providers(providers)
        critics: dict[str, Critic] = {
            name: OnnxCritic(bundle / critic_file(name), card.aggregation, chosen, threads)
            for name, card in manifest.critics.items()
        }
        return cls(manifest, OnnxVelocityField(bundle, chosen, threads), critics)

    def warm_up(self, num_samples: int = 1) -> None:
        """Run every graph once, so that the first tick is as fast as the others, whatever its estimator."""
        observation = np.zeros((1, self.manifest.observation_size), dtype=np.float32)
        noise = np.zeros((1, num_samples, self.manifest.chunk_size), dtype=np.float32)
        for name in self._critics:
            self.act(observation, noise, name, 1.0)
        start = noise[0, :1]
        self._velocity.vjp(observation, start, np.zeros(1, dtype=np.float32), start)

    def act(
        self,
        observations: NDArray[np.float32],
        noise: NDArray[np.float32],
        critic: str,
        guidance_weight: float | NDArray[np.float32],
        guidance: Guidance = QGF,
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

        Returns:
            B chunks. Telemetry: ``q`` of the action (NaN if no critic ran), ``gradient_norm``, ``clip_fraction``,
            ``guidance_distance`` (largest component of guided minus unguided action, normalised), ``critic_failed``
            (0 or 1) and ``latency_ms`` of the whole batch.

        Raises:
            GuidanceError: Shapes or weights are wrong, the critic is unknown, or the velocity field fails.
        """
        start = time.perf_counter()
        weight = self._check(observations, noise, critic, guidance_weight)
        failed = False
        try:
            result, unguided, q = self._guided(observations, noise, self._critics[critic], weight, guidance)
        except Exception as error:  # whatever a critic does, the policy goes on without it
            if not weight.any() and noise.shape[1] == 1:
                raise
            _log.error("critic %s failed (%s); plain BC goes on", critic, error)
            failed = True
            result = sample(self._velocity, None, observations, noise[:, 0], steps=self.manifest.denoising_steps)
            unguided, q = result.action, np.full(len(noise), np.nan, dtype=np.float32)
        latency = (time.perf_counter() - start) * 1e3
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
                },
            )
            for i in range(len(noise))
        ]

    def _check(self, observations: Array, noise: Array, critic: str, weight: float | Array) -> NDArray[np.float32]:
        manifest = self.manifest
        batch = len(observations)
        if observations.shape != (batch, manifest.observation_size):
            raise GuidanceError(
                f"observations {observations.shape} were given, expected (B, {manifest.observation_size})"
            )
        if noise.ndim != 3 or noise.shape[0] != batch or noise.shape[1] < 1 or noise.shape[2] != manifest.chunk_size:
            raise GuidanceError(f"noise {noise.shape} was given, expected ({batch}, N, {manifest.chunk_size})")
        if critic not in self._critics:
            raise GuidanceError(f"critic {critic!r} was given; the bundle has {', '.join(self._critics)}")
        weights: NDArray[np.float32] = np.broadcast_to(np.asarray(weight, dtype=np.float32), (batch,))
        if not np.isfinite(weights).all() or (weights < 0.0).any():
            raise GuidanceError(f"guidance_weight {weight} was given; it must be finite and at least 0")
        return weights

    def _guided(
        self, observations: Array, noise: Array, critic: Critic, weight: Array, guidance: Guidance
    ) -> tuple[Sample, Array, Array]:
        """Return the kept candidates [B, C], their unguided twins [B, C] and their Q [B]."""
        batch, candidates, size = noise.shape
        s = np.repeat(observations, candidates, axis=0)
        start = noise.reshape(-1, size)
        weights = np.repeat(weight, candidates)
        rows = np.flatnonzero(weights)
        result = sample(
            self._velocity,
            critic,
            np.concatenate([s, s[rows]]),
            np.concatenate([start, start[rows]]),
            np.concatenate([weights, np.zeros_like(weights[rows])]),
            steps=self.manifest.denoising_steps,
            guidance=guidance,
        )
        count = len(start)
        unguided = result.action[:count].copy()
        unguided[rows] = result.action[count:]
        q = np.full(count, np.nan, dtype=np.float32)
        judged = np.arange(count) if candidates > 1 else rows
        if len(judged):
            q[judged] = critic.aggregate(critic(s[judged], result.action[judged]))
            if not np.isfinite(q[judged]).all():
                raise GuidanceError("the critic's value is not finite; check the observation and the critic")
        best = best_candidate(q.reshape(batch, candidates)) if candidates > 1 else np.zeros(batch, dtype=np.int64)
        kept = np.arange(batch) * candidates + best
        return (
            Sample(result.action[kept], result.gradient_norm[kept], result.clip_fraction[kept]),
            unguided[kept],
            q[kept],
        )
