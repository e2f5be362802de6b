"""Closed-loop success and smoothness of every way to execute chunks, when inference takes control steps.

Episode i of every run has the same seed for the environment and for the noise, so that runs can be compared episode by
episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.run_options import OWN_HORIZON, RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.results import Episode, summarise, write_report
from qgf_ros.reports.numbers import mean_and_error, plain
from qgf_ros.reports.statistics import compare_paired
from qgf_sim.rollouts.evaluate import EvaluationPlan, evaluate

#: Execution and seam of each mode by its name.
MODES = {
    "synchronous": ("synchronous", "switch"),
    "switch": ("asynchronous", "switch"),
    "linear": ("asynchronous", "linear"),
    "ensemble": ("asynchronous", "ensemble"),
    "rtc": ("asynchronous", "rtc"),
}


@dataclass(frozen=True)
class Study:
    """What to compare.

    Attributes:
        bundle: Folder of the bundle.
        task: Single-task number.
        delays: Inference delays [control steps]; synchronous execution without any is always there, as the reference.
        weights: Guidance weights.
        execution_horizon: Actions after which asynchronous execution asks for the next chunk; synchronous execution has
            the bundle's own.
        episodes, seed: Episodes per run, and the first of their seeds.
        workers: Processes.
        batch_size: Episodes that share an inference.
        settings: What ties the record to the command and the machine.
        as_recommended: Whether the recommended weight, if it is among them, comes with the settings that it was found with.
    """

    bundle: Path
    task: int
    delays: tuple[int, ...]
    weights: tuple[float, ...]
    execution_horizon: int = 1
    episodes: int = 50
    seed: int = 20_000
    workers: int = 1
    batch_size: int = 8
    settings: Mapping[str, Any] = field(default_factory=dict)
    as_recommended: bool = False

    def check(self) -> None:
        """Raise SimulationError or GuidanceError, saying what is allowed, unless every run can be carried out."""
        manifest = load_manifest(self.bundle)
        if not self.delays or min(self.delays) < 1 or max(self.delays) >= manifest.horizon:
            raise SimulationError(
                f"delays {self.delays} were given; each must be 1 to {manifest.horizon - 1}, below the bundle's horizon"
            )
        for mode, delay in self.runs():
            self.plan(mode, delay).check(manifest)

    def runs(self) -> list[tuple[str, int]]:
        """Return every mode with its delay, in the order of the record."""
        return [("synchronous", 0), *((mode, delay) for delay in dict.fromkeys(self.delays) for mode in MODES)]

    def plan(self, mode: str, delay: int) -> EvaluationPlan:
        """Return the evaluation of one mode at one delay."""
        execution, seam = MODES[mode]
        return EvaluationPlan(
            *(self.bundle, self.task, self.weights, self.episodes),
            options=RunOptions(
                seed=self.seed,
                execution_horizon=self.execution_horizon if execution == "asynchronous" else OWN_HORIZON,
                execution=execution,
                seam=seam,
            ),
            delay=delay,
            batch_size=self.batch_size,
            workers=self.workers,
            as_recommended=self.as_recommended,
        )

    @property
    def total(self) -> int:
        """How many episodes there are."""
        return len(self.runs()) * len(self.weights) * self.episodes


def compare(
    study: Study, path: Path, progress: Callable[[str, int], None] = lambda mode, delay: None
) -> dict[str, Any]:
    """Carry out a study, and write what is done after every mode and delay.

    Args:
        study: What to compare.
        path: Where the record goes, JSON.
        progress: Called with mode and delay after each episode.

    Returns:
        The settings and, as ``runs``, a record per delay, mode and weight: `summarise` with the 95 % interval of the
        jerk, and ``versus``, the paired difference in success from synchronous execution at the same delay.

    Raises:
        SimulationError, GuidanceError: The study cannot be carried out.
    """
    study.check()
    runs: list[dict[str, Any]] = []
    report: dict[str, Any] = {}
    synchronous: dict[float, list[Episode]] = {}
    for mode, delay in study.runs():

        def advance(episode: Episode, mode: str = mode, delay: int = delay) -> None:
            progress(mode, delay)

        results = evaluate(study.plan(mode, delay), advance)
        if mode == "synchronous":
            synchronous = results
        for weight, episodes in results.items():
            record = {"mode": mode, "delay": delay, **summarise(weight, study.task, episodes)}
            record["jerk"] = mean_and_error(np.array([episode.jerk for episode in episodes]))
            record["versus"] = None if mode == "synchronous" else _paired(synchronous[weight], episodes)
            runs.append(record)
        report = plain({**study.settings, "runs": runs})
        write_report(path, report)
    return report


def _paired(first: list[Episode], second: list[Episode]) -> dict[str, Any]:
    paired = compare_paired([episode.success for episode in first], [episode.success for episode in second])
    return {"difference": paired.difference, "ci95": paired.ci95, "p_value": paired.p_value}
