"""Many searches at once: each round runs what all of them ask for next, so that every core has work."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from qgf_ros.control.run_options import RunOptions
from qgf_ros.evaluation.halving import Outcome, Result, Steps
from qgf_ros.evaluation.trials import Execute, Trial, Trials

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Searcher(Generic[Result]):
    """Work that asks for episodes, and where its trials are made and kept.

    Attributes:
        steps: What it asks for, see `halving.Steps`.
        trials: Of its bundle and task.
    """

    steps: Steps[Result]
    trials: Trials


def in_lockstep(
    searchers: Mapping[Key, Searcher[Result]],
    execute: Execute,
    *,
    progress: Callable[[Trial, Sequence[Outcome]], None] = lambda trial, outcomes: None,
    finished: Callable[[Key, Result], None] = lambda key, result: None,
) -> dict[Key, Result]:
    """Carry out several searches, a request of each at a time.

    No trial runs twice, whether one search asks for it again or two ask for the same. Which trials there are depends on the
    searches alone, so the outcome is that of one search after the other.

    Args:
        searchers: By any key. They may share a store.
        execute: What runs trials.
        progress: Called with each trial that ran, once it is kept.
        finished: Called with each result, as soon as it is known.

    Returns:
        The result of each, in the order of the searchers.
    """
    results: dict[Key, Result] = {}
    wanted: dict[Key, tuple[Sequence[RunOptions], range]] = {}

    def go_on(key: Key, step: Callable[[], tuple[Sequence[RunOptions], range]]) -> None:
        try:
            wanted[key] = step()
        except StopIteration as end:
            wanted.pop(key, None)
            results[key] = end.value
            finished(key, end.value)

    for key, searcher in searchers.items():
        go_on(key, searcher.steps.__next__)
    while wanted:
        missing = {
            trial: searchers[key].trials.store
            for key, request in wanted.items()
            for trial in searchers[key].trials.trials(*request)
            if searchers[key].trials.store.find(trial) is None
        }
        for trial, outcomes in execute(tuple(missing)) if missing else ():
            missing[trial].add(trial, outcomes)
            progress(trial, outcomes)
        for key, request in list(wanted.items()):
            found = searchers[key].trials(*request)  # all of it is there
            go_on(key, partial(searchers[key].steps.send, found))
    return {key: results[key] for key in searchers}
