"""One control tick without ROS: observation in, command out.

The node, the in-process rollout and the benchmark all tick this object, so that a command is the same bits wherever
it is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.chunking import ChunkSchedule
from qgf_ros.control.observation import Observation
from qgf_ros.control.safety import SafetyEnvelope
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.shaping import QGF, Guidance


@dataclass(frozen=True)
class Settings:
    """What may change while the robot runs; a change takes effect at the next tick.

    Attributes:
        guidance_weight: 1/beta, >= 0; 0 is plain behaviour cloning.
        critic: Name of the critic that guides.
        num_samples: Candidates N of which the best is kept.
        execution_horizon: Actions executed of each chunk.
        seed: Seed of the noise.
        guidance: Gradient estimator and its options.
    """

    guidance_weight: float
    critic: str
    num_samples: int = 1
    execution_horizon: int = 1
    seed: int = 0
    guidance: Guidance = QGF

    def check(self, manifest: Manifest) -> None:
        """Raise GuidanceError, saying what is allowed, unless a bundle can run these settings."""
        if not (np.isfinite(self.guidance_weight) and self.guidance_weight >= 0.0):
            raise GuidanceError(f"guidance_weight {self.guidance_weight} was given; it must be finite and at least 0")
        if self.critic not in manifest.critics:
            raise GuidanceError(
                f"critic {self.critic!r} was given; bundle {manifest.name} has {', '.join(manifest.critics)}"
            )
        if self.num_samples < 1:
            raise GuidanceError(f"num_samples {self.num_samples} was given; it must be at least 1")
        if not 1 <= self.execution_horizon <= manifest.horizon:
            raise GuidanceError(
                f"execution_horizon {self.execution_horizon} was given; it must be 1 to {manifest.horizon}, the bundle's horizon"
            )
        if self.seed < 0:
            raise GuidanceError(f"seed {self.seed} was given; it must be at least 0")
        self.guidance.check(manifest.denoising_steps, manifest.action_size)

    def figures(self) -> dict[str, str | int | float]:
        """Return what telemetry and diagnostics say of the settings."""
        return {
            "guidance_weight": self.guidance_weight,
            "critic": self.critic,
            "num_samples": self.num_samples,
            "execution_horizon": self.execution_horizon,
            "seed": self.seed,
            "estimator": self.guidance.estimator,
        }


@dataclass(frozen=True)
class Chunk:
    """One inferred action chunk.

    Attributes:
        actions: float32 [H, A], in [-1, 1].
        unguided: What the same noise becomes without guidance, float32 [H, A], in [-1, 1].
        telemetry: Numbers about the inference, by name (see `runtime.policy`).
    """

    actions: NDArray[np.float32]
    unguided: NDArray[np.float32]
    telemetry: Mapping[str, float]


class ChunkPolicy(Protocol):
    """What a controller needs of a policy; `runtime.policy.Policy` is one."""

    manifest: Manifest

    def act(
        self,
        observations: NDArray[np.float32],
        noise: NDArray[np.float32],
        critic: str,
        guidance_weight: float,
        guidance: Guidance,
    ) -> list[Chunk]:
        """Return a chunk for each of B observations [B, S] and their noise [B, N, C]."""
        ...


@dataclass(frozen=True)
class Command:
    """The answer to one observation.

    Attributes:
        values: float64 [A], in the units of the action contract.
        action: The normalised action behind it, float32 [A].
        stamp: Stamp of the observation it answers [ns].
        inferred: Whether this tick ran inference, rather than going on with a chunk.
        telemetry: Of the chunk it belongs to.
    """

    values: NDArray[np.float64]
    action: NDArray[np.float32]
    stamp: int
    inferred: bool
    telemetry: Mapping[str, float] = field(default_factory=dict)


class Controller:
    """Chunk schedule, noise, policy and safety envelope, ticked by one caller at a time.

    Args:
        policy: The loaded bundle.
        settings: Initial settings.

    Raises:
        GuidanceError: The bundle cannot run the settings.
    """

    def __init__(self, policy: ChunkPolicy, settings: Settings) -> None:
        manifest = policy.manifest
        settings.check(manifest)
        self.policy = policy
        self.settings = settings
        self.safety = SafetyEnvelope(manifest.action, 1.0 / manifest.control_rate)
        self._schedule = ChunkSchedule(1.0 / manifest.control_rate)
        self._random = np.random.default_rng(settings.seed)
        self._telemetry: Mapping[str, float] = {}

    def apply(self, settings: Settings, *, reseed: bool = False) -> None:
        """Use other settings from the next tick on and drop the chunk under way.

        Args:
            settings: The new settings.
            reseed: Restart the noise from `settings.seed`, as at the start of an episode.

        Raises:
            GuidanceError: The bundle cannot run them; the old ones stay.
        """
        settings.check(self.policy.manifest)
        self.settings = settings
        self._schedule.clear()
        if reseed:
            self.reset(settings.seed)

    def reset(self, seed: int | None = None) -> None:
        """Drop the chunk and the previous command; with a seed, restart the noise from it."""
        self._schedule.clear()
        self.safety.clear()
        if seed is not None:
            self._random = np.random.default_rng(seed)

    def hold(self) -> NDArray[np.float64] | None:
        """Drop the chunk and return the command that keeps the robot still, float64 [A]; see `SafetyEnvelope.hold`."""
        self._schedule.clear()
        return self.safety.hold()

    def needs_chunk(self, stamp: int) -> bool:
        """Whether answering the observation stamped `stamp` [ns] takes an inference."""
        return self._schedule.action(stamp, self.settings.execution_horizon) is None

    def draw_noise(self) -> NDArray[np.float32]:
        """Draw the noise of the next chunk, float32 [N, C]."""
        size = (self.settings.num_samples, self.policy.manifest.chunk_size)
        return self._random.standard_normal(size, dtype=np.float32)

    def begin(self, stamp: int, chunk: Chunk) -> None:
        """Start a chunk that answers the observation stamped `stamp` [ns]."""
        self._schedule.start(stamp, chunk.actions)
        self._telemetry = chunk.telemetry

    def command(self, stamp: int, inferred: bool) -> Command:
        """Return the command due at `stamp` [ns].

        Raises:
            GuidanceError: No chunk covers the stamp.
            SafetyError: The action is not finite.
        """
        action = self._schedule.action(stamp, self.settings.execution_horizon)
        if action is None:
            raise GuidanceError(f"no action chunk covers stamp {stamp}; infer one first")
        try:
            values = self.safety.command(action)
        except Exception:
            self._schedule.clear()
            raise
        return Command(values, action, stamp, inferred, self._telemetry)

    def tick(self, observation: Observation) -> Command:
        """Answer one observation, with an inference if the chunk under way does not cover it.

        Raises:
            GuidanceError: Inference failed.
            SafetyError: The action is not finite; the chunk is dropped.
        """
        inferred = self.needs_chunk(observation.stamp)
        if inferred:
            settings = self.settings
            (chunk,) = self.policy.act(
                observation.vector[None],
                self.draw_noise()[None],
                settings.critic,
                settings.guidance_weight,
                settings.guidance,
            )
            self.begin(observation.stamp, chunk)
        return self.command(observation.stamp, inferred)
