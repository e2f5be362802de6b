"""Who is timed when, on what, and what becomes of the times."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import numpy as np
import pytest

from qgf_ros.benchmark.latency import Schedule, Times, draw_inputs, ratio, take_turns
from qgf_ros.errors import GuidanceError


class Recorder:
    """A backend that writes down its name, its input and whether garbage was collected."""

    def __init__(self, name: str, log: list[tuple[str, int, bool]]) -> None:
        self.name, self.log = name, log

    def __call__(self, observation: Any, noise: Any) -> Any:
        self.log.append((self.name, int(observation[0]), gc.isenabled()))
        return noise


def numbered_inputs(count: int) -> list[tuple[Any, Any]]:
    return [(np.array([i]), np.zeros(1)) for i in range(count)]


def run(names: str, schedule: Schedule, inputs: int = 16) -> tuple[list[tuple[str, int, bool]], list[Times]]:
    log: list[tuple[str, int, bool]] = []
    return log, take_turns([(Recorder(name, log), numbered_inputs(inputs)) for name in names], schedule)


def test_every_contender_has_one_turn_in_every_round() -> None:
    log, times = run("abc", Schedule(rounds=20, ticks=4))
    turns = [log[i : i + 5] for i in range(0, len(log), 5)]  # one call that is not timed, then four
    assert all(len({name for name, _, _ in turn}) == 1 for turn in turns)
    order = [turn[0][0] for turn in turns]
    assert all(sorted(order[i : i + 3]) == ["a", "b", "c"] for i in range(0, 60, 3))
    for one in times:
        assert [len(turn) for turn in one.rounds] == [4] * 20
        assert min(min(turn) for turn in one.rounds) > 0.0
        assert one.processor >= 0.0


def test_no_contender_always_follows_the_same_one() -> None:
    log, _ = run("abc", Schedule(rounds=60, ticks=1))
    order = [name for name, _, _ in log[::2]]
    followers = Counter(zip(order, order[1:]))
    assert all(followers[a, b] >= 10 for a in "abc" for b in "abc" if a != b)


def test_all_contenders_see_the_same_inputs_in_the_same_rounds() -> None:
    log, _ = run("ab", Schedule(rounds=6, ticks=3), inputs=5)
    seen = {name: [number for other, number, _ in log if other == name] for name in "ab"}
    assert seen["a"] == seen["b"]
    # Six rounds of one call more than is timed, through five inputs in turn.
    assert seen["a"] == [i % 5 for first in range(0, 18, 3) for i in (first, first, first + 1, first + 2)]


def test_no_garbage_is_collected_while_timing_and_it_is_afterwards() -> None:
    log, _ = run("a", Schedule(rounds=2, ticks=2))
    assert not any(enabled for _, _, enabled in log)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_garbage_collection_comes_back_after_a_failure() -> None:
    def fail(observation: Any, noise: Any) -> Any:
        raise GuidanceError("broken")

    with pytest.raises(GuidanceError, match="broken"):
        take_turns([(fail, numbered_inputs(1))], Schedule())
    assert gc.isenabled()


def test_the_order_depends_on_the_seed_alone() -> None:
    orders = [[name for name, _, _ in run("abc", Schedule(rounds=8, ticks=1, seed=seed))[0]] for seed in (3, 3, 4)]
    assert orders[0] == orders[1] != orders[2]


def test_summary_by_hand() -> None:
    times = Times(rounds=[[0.001, 0.003], [0.002, 0.002]], processor=0.012)
    summary = times.summary()
    assert summary == pytest.approx(
        {
            "p50": 2.0,
            "p90": 2.7,  # 0.7 of the way from the third to the fourth of 1, 2, 2, 3
            "p99": 2.97,
            "max": 3.0,
            "jitter": np.sqrt(0.5),
            "throughput": 500.0,
            "cores": 1.5,
        }
    )


def test_ratio_is_that_of_the_medians() -> None:
    assert ratio(Times([[1.0, 9.0, 2.0]]), Times([[4.0], [4.0, 100.0]])) == pytest.approx(0.5)
    assert np.isnan(ratio(Times([[1.0]]), Times([[0.0]])))


def test_inputs_are_standard_normal_float32_and_reproducible() -> None:
    inputs = draw_inputs(Schedule(inputs=200, seed=5), 7, 3, 4)
    observations = np.concatenate([observation for observation, _ in inputs])
    assert observations.shape == (200, 7)
    assert inputs[0][1].shape == (3, 4)
    assert {array.dtype for pair in inputs for array in pair} == {np.dtype(np.float32)}
    assert abs(observations.mean()) < 0.1
    assert observations.std() == pytest.approx(1.0, abs=0.1)
    again = draw_inputs(Schedule(inputs=200, seed=5), 7, 3, 4)
    assert all(np.array_equal(a, b) for pairs in zip(inputs, again) for a, b in zip(*pairs))


@pytest.mark.parametrize("name", ["rounds", "ticks", "inputs"])
def test_a_schedule_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(GuidanceError, match=f"{name} 0 was given"):
        Schedule(**{name: 0})
