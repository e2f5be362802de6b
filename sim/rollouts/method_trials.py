"""Carries out a comparison of methods as trials: what is chosen, what is reported, the record of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qgf_ros.control.run_options import RunOptions
from qgf_ros.evaluation.bundle_families import TrainedBundle
from qgf_ros.evaluation.halving import Found, Outcome, Search, Steps, halving, rung_sizes
from qgf_ros.evaluation.lockstep import Searcher, in_lockstep
from qgf_ros.evaluation.trials import Execute, Trial, Trials, TrialStore
from qgf_ros.evaluation.tuning import Protocol, summarise
from qgf_sim.rollouts.methods import Method, MethodComparison


@dataclass(frozen=True)
class ChosenSetting:
    """What a method was given, and what came of it.

    Attributes:
        search: How it was chosen; None where there was nothing to choose.
        best: The chosen one.
        reporting: Outcomes on the held-out seeds: of the chosen one, and of those that led before.
    """

    search: Search | None
    best: RunOptions
    reporting: Found


def choose_and_report(configurations: Sequence[RunOptions], protocol: Protocol, *, early: bool) -> Steps[ChosenSetting]:
    """Choose among configurations by successive halving, then report on the held-out seeds.

    Args:
        configurations: At least one; with one there is nothing to choose.
        protocol: On which seeds.
        early: Whether to report whatever led after a rung, too: it would have been chosen on that many episodes.
    """
    search = None
    reported = list(configurations)
    if len(configurations) > 1:
        search = yield from halving(configurations, protocol.choosing_seeds)
        leaders = [rung.leader for rung in search.rungs] if early else []
        reported = list(dict.fromkeys([search.best, *leaders]))
    found = yield reported, protocol.reporting_seeds
    return ChosenSetting(search, reported[0], found)


def run_bundle(
    comparison: MethodComparison,
    bundle: TrainedBundle,
    store: TrialStore,
    execute: Execute,
    *,
    progress: Callable[[Trial, Sequence[Outcome]], None] = lambda trial, outcomes: None,
    finished: Callable[[Mapping[str, Any]], None] = lambda record: None,
) -> list[dict[str, Any]]:
    """Run every method on every task of a bundle, all of them at once.

    Args:
        comparison: What to compare; `check` has passed it.
        bundle: One of its bundles.
        store: Where its finished trials are kept.
        execute: What runs them.
        progress: Called with each trial that ran.
        finished: Called with each record as soon as it is there.

    Returns:
        A record per task and method, in this order.

    Raises:
        SimulationError: An episode cannot be run.
    """
    searchers = {
        (task, method.name): Searcher(
            choose_and_report(
                comparison.options_of(bundle, task, method), comparison.protocol, early=comparison.early_choices
            ),
            Trials(bundle.path, (task,), comparison.batch_size, 2 * comparison.batch_size, store, execute),
        )
        for task in comparison.tasks_of(bundle)
        for method in comparison.methods_of(bundle)
    }
    methods = {method.name: method for method in comparison.methods_of(bundle)}
    records: dict[tuple[int, str], dict[str, Any]] = {}

    def keep(key: tuple[int, str], setting: ChosenSetting) -> None:
        records[key] = record_of(bundle, key[0], methods[key[1]], setting, comparison.choosing_episodes)
        finished(records[key])

    in_lockstep(searchers, execute, progress=progress, finished=keep)
    return [records[key] for key in searchers]


def open_store(path: Path, bundle: TrainedBundle) -> TrialStore:
    """Return where the trials of a bundle are kept; bundles share the file, and so does `qgf tune`."""
    return TrialStore(path, bundle.manifest, "processes")


def record_of(
    bundle: TrainedBundle, task: int, method: Method, setting: ChosenSetting, choosing_episodes: int
) -> dict[str, Any]:
    """Return the JSON record of one method on one bundle and task."""
    early = []
    if setting.search is not None:
        early = [_early(setting, setting.search, size) for size in rung_sizes(choosing_episodes)]
    return {
        "family": bundle.family,
        "training_seed": bundle.training_seed,
        "fingerprint": bundle.fingerprint,
        "task": task,
        "method": method.name,
        "estimator": method.estimator,
        "num_samples": method.num_samples,
        "weights": sorted(method.weights),
        "weight": setting.best.guidance_weight,
        "choosing": [_counted(*run) for run in setting.search.outcomes.items()] if setting.search else [],
        "early": early,
        "reporting": {
            **_counted(setting.best, setting.reporting[setting.best]),
            "outcomes": {name: _each(setting, setting.best, name) for name in ("success", "length")},
        },
    }


def _early(setting: ChosenSetting, search: Search, size: int) -> dict[str, Any]:
    """Return which setting led when those still there had had `size` episodes, and what it does on the held-out seeds.

    A search that ended before has nothing more to say: its choice stays. The outcomes of the final choice are not repeated.
    """
    leader = [rung for rung in search.rungs if rung.episodes <= size][-1].leader
    other = leader != setting.best and leader in setting.reporting
    return {
        "choosing_episodes": size,
        "episodes_spent": sum(min(len(found), size) for found in search.outcomes.values()),
        "weight": leader.guidance_weight,
        "success": _each(setting, leader, "success") if other else None,
    }


def _each(setting: ChosenSetting, options: RunOptions, name: str) -> list[Any]:
    return [getattr(outcome, name) for outcome in setting.reporting[options]]


def _counted(options: RunOptions, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    summary = summarise(options, outcomes)
    return {key: value for key, value in summary.items() if key not in ("outcomes", "settings", "guidance_distance")}
