"""Closed-loop success of every guidance method on one bundle, each at the weight that was best for it.

The weight of a method and a task is chosen on one range of seeds and reported on another; episode i of every method has
the same seed for the environment and for the noise, so that methods can be compared episode by episode. The table is
written after every method, and the same command goes on where it was ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.results import Episode, summarise, write_report
from qgf_ros.evaluation.tuning import Protocol, choose
from qgf_ros.reports.numbers import plain
from qgf_ros.reports.statistics import compare_paired, wilson_interval
from qgf_sim.rollouts.evaluate import EvaluationPlan, evaluate

#: Weights tried for methods that guide while denoising: the published sweep, 0.004 to 0.12, and a decade around it.
WEIGHTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
#: Step sizes tried for ``grad_step``.
STEP_SIZES = (0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class Method:
    """One method of the comparison.

    Attributes:
        name: In the table and on the command line.
        weights: Guidance weights to choose from; with a single one there is nothing to choose.
        num_samples: Candidates N of which the best is kept.
        estimator: Gradient estimator.
    """

    name: str
    weights: tuple[float, ...]
    num_samples: int = 1
    estimator: str = "qgf"


#: Every method by its name; best-of-N at weight 0 is BFN.
METHODS = {
    method.name: method
    for method in (
        Method("bc", (0.0,)),
        Method("bfn4", (0.0,), num_samples=4),
        Method("bfn16", (0.0,), num_samples=16),
        Method("qgf", WEIGHTS),
        Method("qgf_bfn4", WEIGHTS, num_samples=4),
        Method("qgf_jacobian", WEIGHTS, estimator="qgf_jacobian"),
        Method("qgf_chain", WEIGHTS, estimator="qgf_chain"),
        Method("noisy", WEIGHTS, estimator="noisy"),
        Method("bptt", WEIGHTS, estimator="bptt"),
        Method("grad_step", STEP_SIZES, estimator="grad_step"),
    )
}


def methods_named(words: str) -> tuple[Method, ...]:
    """Return the methods of a list of names separated by commas; all of them for an empty one.

    Raises:
        SimulationError: There is no method of a name.
    """
    names = [name.strip() for name in words.split(",") if name.strip()] or list(METHODS)
    for name in names:
        if name not in METHODS:
            raise SimulationError(f"method {name!r} was given; expected some of {', '.join(METHODS)}")
    return tuple(METHODS[name] for name in dict.fromkeys(names))


@dataclass(frozen=True)
class MethodComparison:
    """What to compare.

    Attributes:
        bundle: Folder of the bundle.
        tasks: Single-task numbers.
        methods: In the order of the table.
        choosing_episodes, choosing_seed: Episodes per weight to choose on, and the first of their seeds.
        episodes, seed: Episodes per method and task to report, and the first of their seeds.
        workers: Processes.
        batch_size: Episodes that share an inference.
        origin: What ties the table to the command and the machine.
    """

    bundle: Path
    tasks: tuple[int, ...]
    methods: tuple[Method, ...] = tuple(METHODS.values())
    choosing_episodes: int = 40
    choosing_seed: int = 10_000
    episodes: int = 100
    seed: int = 20_000
    workers: int = 1
    batch_size: int = 8
    origin: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise SimulationError or GuidanceError, saying what is allowed, unless every run can be carried out."""
        Protocol((), self.choosing_episodes, self.choosing_seed, self.episodes, self.seed)
        if not self.tasks:
            raise SimulationError("no task was given; give at least one, such as --tasks 2")
        manifest = load_manifest(self.bundle)
        for task in self.tasks:
            for method in self.methods:
                self.plan(task, method, method.weights, self.choosing_episodes, self.choosing_seed).check(manifest)
                self.plan(task, method, method.weights, self.episodes, self.seed).check(manifest)

    def settings(self) -> dict[str, Any]:
        """Return what every record of one table shares; must be equal for a table to be continued."""
        shared = ("choosing_episodes", "choosing_seed", "episodes", "seed", "batch_size")
        files = {name: record.sha256 for name, record in load_manifest(self.bundle).files.items()}
        return {**{name: getattr(self, name) for name in shared}, "files": files}

    def plan(self, task: int, method: Method, weights: tuple[float, ...], episodes: int, seed: int) -> EvaluationPlan:
        """Return the evaluation of one method on one task."""
        return EvaluationPlan(
            self.bundle,
            task,
            weights,
            episodes,
            RunOptions(seed=seed, num_samples=method.num_samples, estimator=method.estimator),
            batch_size=self.batch_size,
            workers=self.workers,
        )

    def episodes_of(self, method: Method) -> int:
        """Return how many episodes a method takes per task."""
        return self.episodes + (self.choosing_episodes * len(method.weights) if len(method.weights) > 1 else 0)


def compare(
    comparison: MethodComparison,
    path: Path,
    progress: Callable[[Method, int, int], None] = lambda method, task, count: None,
) -> dict[str, Any]:
    """Run what the table lacks, and write it after every method.

    Args:
        comparison: What to compare.
        path: The table, JSON; continued where it is there.
        progress: Called with the method, the task and the number of episodes that are done.

    Returns:
        ``{"settings", "records", "methods"}``: a record per method and task, and `pool` of them.

    Raises:
        SimulationError: The comparison cannot be carried out, or the table there is of other settings.
    """
    comparison.check()
    settings = comparison.settings()
    kept = _read(path, settings)
    report: dict[str, Any] = {}
    for task in comparison.tasks:
        for method in comparison.methods:
            key = (task, method.name)
            if key in kept and kept[key]["weights"] == list(method.weights):
                progress(method, task, comparison.episodes_of(method))
            else:
                # Rounded as it will be read again.
                kept[key] = plain(_run(comparison, task, method, partial(progress, method, task, 1)))
            records = sorted(kept.values(), key=lambda record: (record["task"], [*METHODS].index(record["method"])))
            report = {**comparison.origin, "settings": settings, "methods": pool(records), "records": records}
            write_report(path, plain(report))
    return report


def _read(path: Path, settings: Mapping[str, Any]) -> dict[tuple[int, str], dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        same = table["settings"] == plain(settings)
        records = {(record["task"], record["method"]): record for record in table["records"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SimulationError(f"{path} is not a table of this analysis; remove it or choose another --out") from error
    if not same:
        raise SimulationError(f"{path} holds results of other settings; remove it or choose another --out")
    return records


def _run(comparison: MethodComparison, task: int, method: Method, progress: Callable[[], None]) -> dict[str, Any]:
    def run(weights: tuple[float, ...], episodes: int, seed: int) -> dict[float, list[Episode]]:
        plan = comparison.plan(task, method, weights, episodes, seed)
        results: dict[float, list[Episode]] = evaluate(plan, lambda episode: progress())
        return results

    choosing: list[dict[str, Any]] = []
    best = method.weights[0]
    if len(method.weights) > 1:
        results = run(method.weights, comparison.choosing_episodes, comparison.choosing_seed)
        choosing = [summarise(weight, task, results[weight]) for weight in method.weights]
        best = choose(choosing)
    episodes = run((best,), comparison.episodes, comparison.seed)[best]
    values = [episode.mean_value for episode in episodes]
    return {
        "method": method.name,
        "estimator": method.estimator,
        "num_samples": method.num_samples,
        "task": task,
        "weights": list(method.weights),
        "weight": best,
        "mean_q": float(np.mean(values)),
        "choosing": choosing,
        "reporting": summarise(best, task, episodes),
    }


def pool(records: Sequence[Mapping[str, Any]], reference: str = "qgf") -> list[dict[str, Any]]:
    """Return each method over all of its tasks.

    Args:
        records: From `compare`.
        reference: Method that the others are compared with, on the tasks that both have run.

    Returns:
        Per method: successes, episodes, rate, 95 % Wilson interval, weights by task, and ``versus``, the paired
        difference in success from the reference (see `compare_paired`).
    """
    outcomes = {
        (record["method"], record["task"]): list(record["reporting"]["outcomes"]["success"]) for record in records
    }
    pooled = []
    for name in dict.fromkeys(record["method"] for record in records):
        mine = [record for record in records if record["method"] == name]
        successes = sum(record["reporting"]["successes"] for record in mine)
        episodes = sum(record["reporting"]["episodes"] for record in mine)
        shared = [record["task"] for record in mine if (reference, record["task"]) in outcomes]
        versus = None
        if shared and name != reference:
            first = [success for task in shared for success in outcomes[reference, task]]
            second = [success for task in shared for success in outcomes[name, task]]
            paired = compare_paired(first, second)
            versus = {
                "reference": reference,
                "difference": paired.difference,
                "ci95": paired.ci95,
                "p_value": paired.p_value,
            }
        pooled.append(
            {
                "method": name,
                "tasks": [record["task"] for record in mine],
                "weights": [record["weight"] for record in mine],
                "rates": [record["reporting"]["success_rate"] for record in mine],
                "successes": successes,
                "episodes": episodes,
                "success_rate": successes / episodes,
                "ci95": wilson_interval(successes, episodes),
                "mean_length": sum(
                    record["reporting"]["mean_length"] * record["reporting"]["episodes"] for record in mine
                )
                / episodes,
                "versus": versus,
            }
        )
    return sorted(pooled, key=lambda row: [*METHODS].index(row["method"]))
