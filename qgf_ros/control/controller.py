"""One control tick without ROS: observation in, command out.

The node, the in-process rollout and the benchmark all tick this object, so that a command is the same bits wherever
it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.chunking import ChunkSchedule
from qgf_ros.control.measured import MeasuredValues
from qgf_ros.control.observation import Observation
from qgf_ros.control.safety import SafetyEnvelope
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.shaping import QGF, Guidance

#: Random numbers skipped at once when the noise is restarted further on.
_SKIPPED_AT_ONCE = 1 << 20


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
        max_guidance_deviation: Largest distance of a guided action from the unguided one of the same noise, per component
            [normalised action units].
        guidance_weight_slew: Fastest change of the weight in use [1/s].
    """

    guidance_weight: float
    critic: str
    num_samples: int = 1
    execution_horizon: int = 1
    seed: int = 0
    guidance: Guidance = QGF
    max_guidance_deviation: float = math.inf
    guidance_weight_slew: float = math.inf

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
        for name in ("max_guidance_deviation", "guidance_weight_slew"):
            if not getattr(self, name) > 0.0:
                raise GuidanceError(
                    f"{name} {getattr(self, name)} was given; it must be above 0, infinity for no limit"
                )
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
        self._period = 1.0 / manifest.control_rate
        self.safety = SafetyEnvelope(manifest.action, self._period)
        self._measured = MeasuredValues(manifest)
        self._schedule = ChunkSchedule(self._period)
        self._weight = settings.guidance_weight
        #: Guidance weight [1] behind the chunk under way.
        self.guidance_weight = self._weight
        self._telemetry: Mapping[str, float] = {}
        self.seek_noise(settings.seed)

    def apply(self, settings: Settings, *, reseed: bool = False) -> None:
        """Use other settings from the next tick on and drop the chunk under way.

        The limits go on from the last command: what changes is what is wanted, not where the robot is.

        Args:
            settings: The new settings.
            reseed: Restart the noise from `settings.seed`.

        Raises:
            GuidanceError: The bundle cannot run them; the old ones stay.
        """
        settings.check(self.policy.manifest)
        self.settings = settings
        self.drop_chunk()
        if reseed:
            self.seek_noise(settings.seed)

    def drop_chunk(self) -> None:
        """Drop the chunk under way; the next tick infers a new one."""
        self._schedule.clear()

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode, with the robot somewhere else: forget chunk and last command; with a seed, restart the noise."""
        self.drop_chunk()
        self.safety.clear()
        if seed is not None:
            self.seek_noise(seed)

    def seek_noise(self, seed: int, drawn: int = 0) -> None:
        """Restart the noise from a seed and skip the first `drawn` numbers; `noise_drawn` says how many have been drawn."""
        self._random = np.random.default_rng(seed)
        for start in range(0, drawn, _SKIPPED_AT_ONCE):
            self._random.standard_normal(min(_SKIPPED_AT_ONCE, drawn - start), dtype=np.float32)
        self.noise_drawn = drawn

    def hold(self) -> NDArray[np.float64] | None:
        """Drop the chunk and return the command that keeps the robot still, float64 [A]; see `SafetyEnvelope.hold`."""
        self.drop_chunk()
        return self.safety.hold()

    def needs_chunk(self, stamp: int) -> bool:
        """Whether answering the observation stamped `stamp` [ns] takes an inference."""
        return self._schedule.action(stamp, self.settings.execution_horizon) is None

    def draw_noise(self) -> NDArray[np.float32]:
        """Draw the noise of the next chunk, float32 [N, C]."""
        size = (self.settings.num_samples, self.policy.manifest.chunk_size)
        self.noise_drawn += size[0] * size[1]
        return self._random.standard_normal(size, dtype=np.float32)

    def begin(self, stamp: int, chunk: Chunk) -> None:
        """Start a chunk that answers the observation stamped `stamp` [ns]."""
        actions = chunk.actions
        if self.settings.max_guidance_deviation < math.inf:
            actions = self.safety.limit_guidance(actions, chunk.unguided, self.settings.max_guidance_deviation)
        self._schedule.start(stamp, actions)
        self._telemetry = chunk.telemetry

    def prepare(self, observation: Observation) -> bool:
        """Infer a chunk if the one under way does not cover the observation; return whether it took one.

        Raises:
            GuidanceError: Inference failed.
        """
        settings = self.settings
        step = settings.guidance_weight_slew * self._period
        self._weight = min(max(settings.guidance_weight, self._weight - step), self._weight + step)
        if not self.needs_chunk(observation.stamp):
            return False
        weight = self._weight
        (chunk,) = self.policy.act(
            observation.vector[None], self.draw_noise()[None], settings.critic, weight, settings.guidance
        )
        self.begin(observation.stamp, chunk)
        self.guidance_weight = weight
        return True

    def command(self, observation: Observation, inferred: bool) -> Command:
        """Return the command that answers an observation.

        Raises:
            GuidanceError: No chunk covers its stamp.
            SafetyError: The action must not be sent; the chunk is dropped.
        """
        action = self._schedule.action(observation.stamp, self.settings.execution_horizon)
        if action is None:
            raise GuidanceError(f"no action chunk covers stamp {observation.stamp}; infer one first")
        try:
            values = self.safety.command(action, self._measured(observation.vector))
        except Exception:
            self.drop_chunk()
            raise
        return Command(values, action, observation.stamp, inferred, self._telemetry)

    def tick(self, observation: Observation) -> Command:
        """Answer one observation, with an inference if the chunk under way does not cover it.

        Raises:
            GuidanceError: Inference failed.
            SafetyError: The action must not be sent; the chunk is dropped.
        """
        return self.command(observation, self.prepare(observation))
