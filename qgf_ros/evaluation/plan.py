"""What every way of running seeded episodes is asked for: of one task, at several guidance weights.

Imports neither MuJoCo nor ROS, as `qgf_ros.evaluation.results`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.run_options import BC, RECOMMENDED, ROWS, RunOptions, without_idle, words
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.results import critic_for_task


def environment_of(manifest: Manifest) -> str:
    """Return the environment a bundle is for; raises SimulationError where it names none."""
    if manifest.environment is None:
        raise SimulationError(f"bundle {manifest.name} names no simulated environment; it can only be run on its robot")
    return manifest.environment


_Plan = TypeVar("_Plan", bound="EpisodePlan")


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
        as_recommended: Whether the recommended weight, if it is among them, comes with the settings that it was found with.
    """

    bundle: Path
    task: int
    guidance_weights: tuple[float, ...]
    episodes: int
    options: RunOptions = BC
    record: bool = False
    as_recommended: bool = False

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
        card = manifest.critics.get(critic)
        if self.as_recommended and card is not None and weight == card.recommended_weight:
            weight = RECOMMENDED
        return replace(self.options, guidance_weight=weight, critic=critic).resolve(manifest)

    def settings_at(self, manifest: Manifest, weight: float) -> dict[str, Any]:
        """Return those of the options at one weight that another run may have otherwise, by name: mostly none."""
        options = self.options_at(manifest, weight)
        found = without_idle(manifest.critics[options.critic].recommended_settings) if self.as_recommended else {}
        return {name: getattr(options, name) for name in found}

    def beside_plain(self: _Plan, manifest: Manifest) -> tuple[_Plan, ...]:
        """Return this plan, and before it one of plain behaviour cloning where that is not in it.

        Results are found by their weight, and the best of several candidates may be what is recommended at weight 0.
        """
        alone = self.guidance_weights == (0.0,) and self.settings_at(manifest, 0.0)
        return (replace(self, as_recommended=False), self) if alone else (self,)

    def announcement(self, manifest: Manifest) -> str:
        """Return a sentence of what comes with the recommended weight, "" where nothing does."""
        weight = self.guidance_weights[-1]
        settings = self.settings_at(manifest, weight)
        return f"task {self.task}: weight {weight:g} is recommended with {words(settings)}" if settings else ""

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


def with_settings(runs: Sequence[Mapping[str, Any]], plan: EpisodePlan, manifest: Manifest) -> list[dict[str, Any]]:
    """Return the records of the runs of a plan, with what not all of them were run with under ``settings``."""
    settings = [plan.settings_at(manifest, run["guidance_weight"]) for run in runs]
    return [{**run, **({"settings": own} if own else {})} for run, own in zip(runs, settings)]
