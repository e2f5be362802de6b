"""What every way of running seeded episodes is asked for: of one task, at several guidance weights.

Imports neither MuJoCo nor ROS, as `qgf_ros.evaluation.results`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.options import GuidanceOptions
from qgf_ros.control.settings import Settings
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.results import critic_for_task


def environment_of(manifest: Manifest) -> str:
    """Return the environment a bundle is for; raises SimulationError where it names none."""
    if manifest.environment is None:
        raise SimulationError(f"bundle {manifest.name} names no simulated environment; it can only be run on its robot")
    return manifest.environment


@dataclass(frozen=True)
class EpisodePlan:
    """What to run.

    Attributes:
        bundle: Folder of the bundle.
        task: Single-task number.
        weights: Guidance weights, one run each.
        episodes: Episodes per run.
        seed: Seed of the first episode.
        record: Whether to keep the commands.
        num_samples: Candidates N of which the best is kept.
        options: Gradient estimator and its options.
    """

    bundle: Path
    task: int
    weights: tuple[float, ...]
    episodes: int
    seed: int = 0
    record: bool = False
    num_samples: int = 1
    options: GuidanceOptions = field(default_factory=GuidanceOptions)

    def settings(self, manifest: Manifest, weight: float) -> Settings:
        """Return the controller settings of the run at one weight, checked against the bundle.

        Raises:
            GuidanceError: The bundle cannot run them.
            SimulationError: The bundle has no critic for the task.
        """
        settings = Settings(
            weight,
            critic_for_task(manifest, self.task),
            self.num_samples,
            manifest.execution_horizon,
            self.seed,
            self.options.resolve(manifest),
        )
        settings.check(manifest)
        return settings

    def check(self, manifest: Manifest) -> None:
        """Raise SimulationError or GuidanceError, saying what is allowed, unless the plan can be carried out."""
        environment_of(manifest)
        if self.episodes < 1:
            raise SimulationError(f"episodes {self.episodes} was given; it must be at least 1")
        if not self.weights:
            raise SimulationError("no guidance weight was given; give at least one, such as 0,0.1")
        if len(set(self.weights)) != len(self.weights):
            raise SimulationError(f"weights {self.weights} were given; each must be there once")
        for weight in self.weights:
            self.settings(manifest, weight)
