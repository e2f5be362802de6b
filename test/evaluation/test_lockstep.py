"""Searches side by side: the results are those of one after the other, and no trial runs twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.halving import Found, Outcome, Search, Steps, carry_out, halve, halving
from qgf_ros.evaluation.lockstep import Searcher, in_lockstep
from qgf_ros.evaluation.trials import Trial, Trials, TrialStore

CONFIGURATIONS = tuple(RunOptions(weight, "task1") for weight in (0.01, 0.03, 0.1, 0.3, 1.0))


def solved(task: int | None, weight: float, seed: int, world: int) -> bool:
    return hash((task, weight, seed, world)) % 7 < 3 + (weight == 0.1)


class Worker:
    """Runs trials backwards, and may be interrupted after some."""

    def __init__(self, world: int = 0, most: int = 10**9) -> None:
        self.ran: list[Trial] = []
        self.rounds = 0
        self.world, self.most = world, most

    def __call__(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
        self.rounds += 1
        for trial in reversed(trials):
            if len(self.ran) == self.most:
                raise KeyboardInterrupt
            self.ran.append(trial)
            weight = trial.options.guidance_weight
            yield trial, [Outcome(s, solved(trial.task, weight, s, self.world), 10) for s in trial.seeds]


def searchers(bundle: Path, store: TrialStore, execute: Worker, tasks: Sequence[int]) -> dict[int, Searcher[Search]]:
    return {
        task: Searcher(halving(CONFIGURATIONS, range(32)), Trials(bundle, (task,), 4, 8, store, execute))
        for task in tasks
    }


@pytest.mark.parametrize("world", range(4))
def test_side_by_side_is_one_after_the_other(tiny_bundle: Path, tmp_path: Path, world: int) -> None:
    manifest = load_manifest(tiny_bundle)
    together = Worker(world)
    store = TrialStore(tmp_path / "a.jsonl", manifest, "processes")
    results = in_lockstep(searchers(tiny_bundle, store, together, (1, 2, 3)), together)
    assert list(results) == [1, 2, 3]
    apart = Worker(world)
    other = TrialStore(tmp_path / "b.jsonl", manifest, "processes")
    for task, result in results.items():
        run = Trials(tiny_bundle, (task,), 4, 8, other, apart)
        assert halve(CONFIGURATIONS, range(32), run) == result
    assert set(together.ran) == set(apart.ran)
    assert len(set(together.ran)) == len(together.ran)
    assert together.rounds <= max(len(result.rungs) for result in results.values())
    assert together.rounds < apart.rounds


@pytest.mark.parametrize("most", [0, 3, 12, 20])
def test_what_was_interrupted_goes_on(tiny_bundle: Path, tmp_path: Path, most: int) -> None:
    manifest = load_manifest(tiny_bundle)

    def go(name: str, execute: Worker) -> dict[int, Search]:
        store = TrialStore(tmp_path / name, manifest, "processes")
        return in_lockstep(searchers(tiny_bundle, store, execute, (1, 2)), execute)

    first, rest, whole = Worker(most=most), Worker(), Worker()
    with pytest.raises(KeyboardInterrupt):
        go("a.jsonl", first)
    assert go("a.jsonl", rest) == go("b.jsonl", whole)
    assert len(first.ran) == most
    assert not set(first.ran) & set(rest.ran)
    assert set(first.ran) | set(rest.ran) == set(whole.ran)


def test_two_that_ask_for_the_same_get_it_once_and_are_told_once(tiny_bundle: Path, tmp_path: Path) -> None:
    store = TrialStore(tmp_path / "a.jsonl", load_manifest(tiny_bundle), "processes")
    execute = Worker()
    counted: list[Trial] = []
    finished: list[str] = []
    both = {
        name: Searcher(halving(CONFIGURATIONS[:2], range(16)), Trials(tiny_bundle, (1,), 4, 8, store, execute))
        for name in ("one", "other")
    }
    results = in_lockstep(
        both,
        execute,
        progress=lambda trial, outcomes: counted.append(trial),
        finished=lambda name, result: finished.append(name),
    )
    assert results["one"] == results["other"]
    assert len(set(execute.ran)) == len(execute.ran)
    assert counted == execute.ran
    assert finished == ["one", "other"]
    again = Worker()
    both = {"one": Searcher(halving(CONFIGURATIONS[:2], range(16)), Trials(tiny_bundle, (1,), 4, 8, store, again))}
    assert in_lockstep(both, again)["one"] == results["one"]
    assert again.rounds == 0


def test_nothing_to_choose_from_is_refused_before_anything_runs(tiny_bundle: Path, tmp_path: Path) -> None:
    store = TrialStore(tmp_path / "a.jsonl", load_manifest(tiny_bundle), "processes")
    execute = Worker()
    work = {1: Searcher(halving((), range(8)), Trials(tiny_bundle, (1,), 4, 8, store, execute))}
    with pytest.raises(SimulationError, match="0 configurations"):
        in_lockstep(work, execute)
    assert in_lockstep({}, execute) == {}
    assert not execute.ran


@given(st.lists(st.integers(1, 5), max_size=5))
def test_whatever_some_work_asks_for_is_run_in_its_order(sizes: list[int]) -> None:
    asked: list[range] = []

    def work() -> Steps[int]:
        total = 0
        for size in sizes:
            found = yield CONFIGURATIONS[:1], range(size)
            total += len(found[CONFIGURATIONS[0]])
        return total

    def run(configurations: Sequence[RunOptions], seeds: range) -> Found:
        asked.append(seeds)
        return {configuration: [Outcome(seed, True, 1) for seed in seeds] for configuration in configurations}

    assert carry_out(work(), run) == sum(sizes)
    assert [len(seeds) for seeds in asked] == sizes
