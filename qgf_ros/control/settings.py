"""What a controller may be told while the robot runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.chunking import SEAMS
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.shaping import GRAD_STEP, QGF, Guidance

#: Whether the robot waits for an inference, or goes on with the chunk under way meanwhile.
EXECUTIONS = ("synchronous", "asynchronous")
#: Settings that mean nothing unless another has a certain value, which is not its default.
_IDLE_UNLESS = {
    "ascent_steps": ("estimator", GRAD_STEP),
    "ascent_sign": ("estimator", GRAD_STEP),
    "blend_steps": ("seam", "linear"),
}


def without_idle(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without those that mean nothing beside the others.

    Args:
        settings: Value by name of the node's parameters; whatever is not there is at its default.
    """
    idle = [name for name, (other, value) in _IDLE_UNLESS.items() if settings.get(other) != value]
    return {name: value for name, value in settings.items() if name not in idle}


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
        execution: One of `EXECUTIONS`.
        seam: How a chunk goes over into the next; one of `control.chunking.SEAMS`.
        blend_steps: Length of the seam ``linear`` [control steps].
    """

    guidance_weight: float
    critic: str
    num_samples: int = 1
    execution_horizon: int = 1
    seed: int = 0
    guidance: Guidance = QGF
    max_guidance_deviation: float = math.inf
    guidance_weight_slew: float = math.inf
    execution: str = "synchronous"
    seam: str = "switch"
    blend_steps: int = 3

    @property
    def asynchronous(self) -> bool:
        """Whether inference runs beside execution."""
        return self.execution == "asynchronous"

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
        for name, choices in (("execution", EXECUTIONS), ("seam", SEAMS)):
            if getattr(self, name) not in choices:
                raise GuidanceError(f"{name} {getattr(self, name)!r} was given; it must be one of {', '.join(choices)}")
        if self.blend_steps < 1:
            raise GuidanceError(f"blend_steps {self.blend_steps} was given; it must be at least 1")
        if self.asynchronous and self.execution_horizon >= manifest.horizon:
            raise GuidanceError(
                f"execution_horizon {self.execution_horizon} was given with asynchronous execution; it must be below "
                f"{manifest.horizon}, the bundle's horizon, so that actions are left while the next chunk is inferred"
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
            "execution": self.execution,
            "seam": self.seam,
            "blend_steps": self.blend_steps,
        }
