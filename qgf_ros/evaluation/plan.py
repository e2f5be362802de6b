"""What every way of running seeded episodes is asked for: of one task, at several guidance weights.

Imports neither MuJoCo nor ROS, as `qgf_ros.evaluation.results`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.run_options import BC, ROWS, RunOptions
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
        guidance_weights: One run each.
        episodes: Episodes per run.
        options: How they act, but for the weight; the seed is that of the first episode, for environment and noise, and an
            empty critic is the task's own.
        record: Whether to keep the commands.
    """

    bundle: Path
    task: int
    guidance_weights: tuple[float, ...]
    episodes: int
    options: RunOptions = BC
    record: bool = False

    @property
    def seeds(self) -> range:
        """Of the episodes of every run."""
        return range(self.options.seed, self.options.seed + self.episodes)

    def options_at(self, manifest: Manifest, weight: float) -> RunOptions:
        """Return the options of the run at one weight, resolved for the bundle.

        Raises:
            GuidanceError: The bundle cannot run them.
            SimulationError: The bundle has no critic for the task.
        """
        critic = self.options.critic or critic_for_task(manifest, self.task)
        return replace(self.options, guidance_weight=weight, critic=critic).resolve(manifest)

    def check(self, manifest: Manifest) -> None:
        """Raise SimulationError or GuidanceError, saying what is allowed, unless the plan can be carried out."""
        environment_of(manifest)
        if self.episodes < 1:
            raise SimulationError(f"episodes {self.episodes} was given; it must be at least 1")
        if not self.guidance_weights:
            raise SimulationError("no guidance weight was given; give at least one, such as 0,0.1")
        if len(set(self.guidance_weights)) != len(self.guidance_weights):
            raise SimulationError(f"guidance weights {self.guidance_weights} were given; each must be there once")
        for weight in self.guidance_weights:
            # A number, and none that stands for another: results are found by it.
            ROWS["guidance_weight"].check("guidance_weight", weight, float)
            self.options_at(manifest, weight)
