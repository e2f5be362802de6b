"""The ladder that slow inference leads down, and back up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.control.run_options import RunOptions
from qgf_ros.loop.degradation import MOST_PATIENCE, RECOVERY, Degradation, Fallback

PERIOD, HORIZON, MISSES = 0.05, 4, 3
LATE, IN_TIME = 1.0, 0.01

asked_settings = st.builds(
    RunOptions,
    guidance_weight=st.sampled_from([0.0, 0.5]) | st.floats(0.0, 100.0),
    critic=st.just("near"),
    num_samples=st.integers(1, 64),
    execution_horizon=st.integers(1, HORIZON),
    guidance_weight_slew=st.sampled_from([math.inf, 0.1]),
)
durations = st.floats(0.0, 1.0) | st.sampled_from([math.inf, math.nan, 0.05, 0.2])


def make(deadline: float | None = None) -> Degradation:
    return Degradation(PERIOD, HORIZON, deadline=deadline, misses=MISSES)


def fail(ladder: Degradation, asked: RunOptions, times: int = MISSES) -> None:
    for _ in range(times):
        ladder.note(LATE, asked)


def keep_up(ladder: Degradation, asked: RunOptions) -> int:
    """Let inference be in time until the next fallback up, and return how many inferences that took."""
    before, count = ladder.fallback, 0
    while ladder.fallback is before:
        ladder.note(IN_TIME, asked)
        count += 1
    return count


@given(st.lists(st.tuples(durations, asked_settings), max_size=80))
def test_never_more_samples_or_guidance_than_asked_for(history: list[tuple[float, RunOptions]]) -> None:
    ladder = make()
    for seconds, asked in history:
        ladder.note(seconds, asked)
        used = ladder.settings(asked)
        assert used.num_samples in (1, asked.num_samples)
        assert used.guidance_weight in (0.0, asked.guidance_weight)
        assert (used == asked) or ladder.fallback is not Fallback.AS_ASKED
        assert (used.critic, used.seed, used.execution_horizon) == (asked.critic, asked.seed, asked.execution_horizon)


@given(st.lists(st.tuples(durations, asked_settings), max_size=80), asked_settings)
def test_enough_late_inferences_lead_to_the_hold_from_anywhere(
    history: list[tuple[float, RunOptions]], asked: RunOptions
) -> None:
    ladder = make()
    for seconds, earlier in history:
        ladder.note(seconds, earlier)
    fail(ladder, asked, MISSES * 3)
    assert ladder.fallback is Fallback.HOLD
    fail(ladder, asked)
    assert ladder.fallback is Fallback.HOLD


@given(st.lists(st.tuples(durations, asked_settings), max_size=80), asked_settings)
def test_enough_inferences_in_time_lead_back_to_what_is_asked_from_anywhere(
    history: list[tuple[float, RunOptions]], asked: RunOptions
) -> None:
    ladder = make()
    for seconds, earlier in history:
        ladder.note(seconds, earlier)
    for _ in range(3 * RECOVERY * MOST_PATIENCE):
        ladder.note(0.0, asked)
    assert ladder.fallback is Fallback.AS_ASKED
    assert ladder.settings(asked) == asked


@given(st.integers(0, 3 * MISSES), asked_settings, asked_settings)
def test_a_live_change_keeps_the_rung(late: int, first: RunOptions, second: RunOptions) -> None:
    ladder = make()
    fail(ladder, first, late)
    fallback = ladder.fallback
    ladder.settings(second)
    assert ladder.fallback is fallback
    ladder.note(IN_TIME, second)
    assert ladder.fallback is fallback
    if fallback >= Fallback.PLAIN_BC:
        assert ladder.settings(second).guidance_weight == 0.0
        assert ladder.settings(second).num_samples == 1


@pytest.mark.parametrize(
    ("samples", "weight", "fallbacks"),
    [
        (16, 0.5, [Fallback.ONE_SAMPLE, Fallback.PLAIN_BC, Fallback.HOLD]),
        (1, 0.5, [Fallback.PLAIN_BC, Fallback.HOLD]),
        (16, 0.0, [Fallback.ONE_SAMPLE, Fallback.HOLD]),
        (1, 0.0, [Fallback.HOLD]),
    ],
)
def test_rungs_that_would_change_nothing_are_skipped_on_both_ways(
    samples: int, weight: float, fallbacks: list[Fallback]
) -> None:
    ladder, asked = make(), RunOptions(weight, "near", samples, execution_horizon=1)
    down = []
    for _ in fallbacks:
        fail(ladder, asked)
        down.append(ladder.fallback)
    assert down == fallbacks
    up = [ladder.fallback for _ in fallbacks if keep_up(ladder, asked)]
    assert up == [*reversed(fallbacks[:-1]), Fallback.AS_ASKED]


def test_late_inferences_lead_down_only_in_a_row() -> None:
    ladder, asked = make(), RunOptions(0.5, "near", 4, execution_horizon=1)
    for _ in range(50):
        fail(ladder, asked, MISSES - 1)
        ladder.note(IN_TIME, asked)
    assert ladder.fallback is Fallback.AS_ASKED
    assert ladder.late == 50 * (MISSES - 1)


def test_attempts_to_go_up_become_rarer_while_they_fail_and_are_forgiven() -> None:
    ladder, asked = make(), RunOptions(0.5, "near", 4, execution_horizon=1)
    fail(ladder, asked)
    stretches = []
    for _ in range(6):
        stretches.append(keep_up(ladder, asked))
        fail(ladder, asked)
    assert stretches == [RECOVERY * factor for factor in (1, 2, 4, 8, 8, 8)]
    keep_up(ladder, asked)
    for _ in range(RECOVERY * MOST_PATIENCE):
        ladder.note(IN_TIME, asked)
    fail(ladder, asked)
    assert keep_up(ladder, asked) == RECOVERY


def test_plain_behaviour_cloning_begins_at_once_whatever_the_slew() -> None:
    ladder, asked = make(), RunOptions(0.5, "near", execution_horizon=1, guidance_weight_slew=0.1)
    fail(ladder, asked)
    assert ladder.settings(asked) == RunOptions(0.0, "near", execution_horizon=1, guidance_weight_slew=math.inf)


def test_the_deadline_is_as_long_as_a_chunk_lasts_unless_it_is_given() -> None:
    asked = RunOptions(0.5, "near", execution_horizon=2)
    assert make().deadline(asked) == 2 * PERIOD
    assert make().deadline(RunOptions(0.5, "near", execution_horizon=2, execution="asynchronous")) == HORIZON * PERIOD
    ladder = make(0.02)
    assert [ladder.note(seconds, asked) for seconds in (0.02, 0.0201, math.nan)] == [False, True, True]
    assert not make(math.inf).note(math.inf, asked)
