"""Outcomes of closed-loop episodes, and the JSON record that every way of running them writes.

Imports neither MuJoCo nor ROS, so that a process which only counts episodes starts at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ActionField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.run_options import RECOMMENDED, RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.files.destination import write_text
from qgf_ros.reports.numbers import readable
from qgf_ros.reports.statistics import percentiles, wilson_interval


@dataclass(frozen=True)
class Episode:
    """One finished episode.

    Attributes:
        guidance_weight: 1/beta it ran with.
        seed: Of the environment and of the noise.
        success: Whether the task was solved.
        length: Control steps.
        latencies: Of each inference [ms]; in a batch, of the whole batch.
        values: Q of the action at each inference, nan where no critic ran.
        commands: float64 [length, A] in the units of the action contract, nan for a step whose command was not heard;
            empty unless recorded.
        jerk: See `commanded_jerk`; nan where it was not measured.
        waited: Control steps that the robot stood still, because no chunk was ready or an observation was incomplete.
        distances: By how much guidance moved an action of each inference, largest component [normalised].
    """

    guidance_weight: float
    seed: int
    success: bool
    length: int
    latencies: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    commands: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)), compare=False)
    jerk: float = float("nan")
    waited: int = 0
    distances: tuple[float, ...] = ()

    @property
    def mean_value(self) -> float:
        """Mean Q over the episode, nan where no critic ran."""
        finite = [value for value in self.values if np.isfinite(value)]
        return float(np.mean(finite)) if finite else float("nan")

    @property
    def median_latency(self) -> float:
        """Median latency of an inference [ms], nan where there was none."""
        return percentiles(self.latencies, (50.0,))[0]


def commanded_jerk(commands: NDArray[np.float64], fields: Sequence[ActionField]) -> float:
    """Return the jerk of the motion that was commanded, as one number [normalised actions per control step^3].

    The root mean square, over steps and components, of the third difference of the commanded place in units of the
    action's scale. The place is the command itself, or the sum of all commands so far where commands are displacements.

    Args:
        commands: float64 [T, A], one per control step; nan for fewer than four.
        fields: The action contract.
    """
    if len(commands) < 4:
        return float("nan")
    normalised = commands / np.array([field.scale for field in fields])
    displaces = np.array([field.hold is not None for field in fields])
    place = np.where(displaces, normalised.cumsum(axis=0), normalised)
    return float(np.sqrt(np.square(np.diff(place, 3, axis=0)).mean()))


def critic_for_task(manifest: Manifest, task: int) -> str:
    """Return the critic a bundle has for a task; that of a goal-conditioned bundle is for all of them.

    Raises:
        SimulationError: It has none.
    """
    if manifest.goal is not None and task not in tasks_of(manifest):
        raise SimulationError(f"task {task} was given; {manifest.name} is for the goals of tasks 1 to 5")
    for name, card in manifest.critics.items():
        if manifest.goal is not None or card.task_id == task:
            return name
    known = ", ".join(f"{name} (task {card.task_id})" for name, card in manifest.critics.items())
    raise SimulationError(f"bundle {manifest.name} has no critic for task {task}; it has {known}")


def tasks_of(manifest: Manifest) -> tuple[int, ...]:
    """Return the single-task numbers that a bundle has critics for; a goal-conditioned one has its critic for all."""
    known = range(1, 6) if manifest.goal is not None else [card.task_id for card in manifest.critics.values()]
    return tuple(task for task in known if task is not None)


def summarise(weight: float, task: int, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return the JSON record of one run, the same for `qgf demo` and `qgf evaluate`.

    Args:
        weight: Guidance weight of the run.
        task: Single-task number.
        episodes: At least one.
    """
    successes = sum(episode.success for episode in episodes)
    p50, p99 = percentiles([latency for episode in episodes for latency in episode.latencies])
    return {
        "guidance_weight": weight,
        "task": task,
        "episodes": len(episodes),
        "successes": successes,
        "success_rate": successes / len(episodes),
        "ci95": list(wilson_interval(successes, len(episodes))),
        "mean_length": sum(episode.length for episode in episodes) / len(episodes),
        "latency_ms": {"p50": _number(p50), "p99": _number(p99)},
        "jerk": _number(float(np.mean([episode.jerk for episode in episodes]))),
        "waited": sum(episode.waited for episode in episodes) / sum(episode.length for episode in episodes),
        "first_seed": min(episode.seed for episode in episodes),
        "last_seed": max(episode.seed for episode in episodes),
        "outcomes": {
            "seed": [episode.seed for episode in episodes],
            "success": [episode.success for episode in episodes],
            "length": [episode.length for episode in episodes],
        },
    }


def _number(value: float) -> float | None:
    """Return a value that JSON can hold."""
    return value if np.isfinite(value) else None


def summaries(task: int, results: Mapping[float, Sequence[Episode]]) -> list[dict[str, Any]]:
    """Return one JSON record per guidance weight that has episodes."""
    return [summarise(weight, task, episodes) for weight, episodes in results.items() if episodes]


def default_weights(manifest: Manifest, task: int, options: RunOptions) -> tuple[float, ...]:
    """Return 0 and the weight recommended for the critic of a task, unless they are the same.

    Args:
        manifest: Of the bundle.
        task: Single-task number.
        options: Of the run; an empty critic is the task's own.

    Raises:
        GuidanceError: The weight was found with other options.
        SimulationError: There is no critic for the task.
    """
    critic = options.critic or critic_for_task(manifest, task)
    weight = replace(options, guidance_weight=RECOMMENDED, critic=critic).resolve(manifest).guidance_weight
    return (0.0, weight) if weight else (0.0,)


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON, in one move.

    Raises:
        SimulationError: The file cannot be written.
    """
    write_text(path, readable(json.dumps(report, indent=2, allow_nan=False)) + "\n", "--json", SimulationError)
