"""When a step is due and with which command, without a clock or ROS."""

from __future__ import annotations

import numpy as np
import pytest

from qgf_sim.bridge.clock import SimulatedClock
from qgf_sim.bridge.pacing import LockstepPace, RealtimePace

PERIOD = 0.05
STEP = 50_000_000  # [ns]
UP = np.array([1.0, 0.0])
DOWN = np.array([-1.0, 0.0])


def test_lockstep_is_due_exactly_once_per_answer() -> None:
    pace = LockstepPace(2)
    pace.start(1000)
    pace.observed(1000)
    assert pace.due(0.0) is None
    assert pace.wait(0.0) == float("inf")
    assert pace.offer(1000, UP) == "accepted"
    assert pace.wait(0.0) == 0.0
    assert pace.due(0.0) is UP
    assert pace.due(0.0) is None


def test_lockstep_lets_the_first_answer_count() -> None:
    pace = LockstepPace(2)
    pace.start(1000)
    pace.observed(1000)
    pace.offer(1000, UP)
    assert pace.offer(1000, DOWN) == "duplicate"
    assert pace.due(0.0) is UP


def test_lockstep_tells_late_repeated_and_foreign_commands_apart() -> None:
    pace = LockstepPace(2)
    pace.start(1000)
    for stamp in (1000, 2000, 3000):
        pace.observed(stamp)
        if stamp < 3000:
            pace.offer(stamp, UP)
            pace.due(0.0)
    assert pace.offer(2000, DOWN) == "duplicate"
    assert pace.offer(1000, DOWN) == "late"
    assert pace.offer(999, DOWN) == "foreign"
    assert pace.offer(4000, DOWN) == "foreign"
    assert pace.due(0.0) is None
    assert pace.late_commands == 1


def test_lockstep_stands_still_at_once_where_a_message_dropped_out_and_counts_it() -> None:
    pace = LockstepPace(2)
    pace.start(1000)
    pace.observed(1000)
    assert pace.due(0.0) is None
    pace.observed(1000, complete=False)
    assert pace.wait(0.0) == 0.0
    command = pace.due(0.0)
    assert command is not None and command.tolist() == [0.0, 0.0]
    pace.observed(2000)
    assert pace.due(0.0) is None, "the next one is complete and is waited for"
    assert pace.held_steps == 1


@pytest.mark.parametrize("pace", [LockstepPace(2), RealtimePace(PERIOD, 0.25, 2)])
def test_an_episode_starts_without_the_commands_and_counts_of_the_one_before(pace: LockstepPace | RealtimePace) -> None:
    pace.start(1000)
    pace.observed(2000)
    pace.offer(1000, UP)
    pace.offer(2000, UP)
    assert pace.late_commands == 1
    pace.start(9000)
    assert pace.late_commands == 0
    assert pace.offer(2000, UP) == "foreign"
    command = pace.due(0.0)
    assert command is None or not command.any()


def realtime() -> RealtimePace:
    pace = RealtimePace(PERIOD, 0.1, 2)
    pace.start(0)
    pace.observed(0)
    assert pace.due(100.0) is None  # the first period begins now
    return pace


def test_real_time_steps_at_its_deadlines_and_does_not_drift() -> None:
    pace = realtime()
    assert pace.wait(100.0) == pytest.approx(PERIOD)
    assert pace.due(100.0 + PERIOD - 0.001) is None
    assert pace.due(100.0 + PERIOD + 0.004) is not None
    assert pace.wait(100.0 + PERIOD + 0.004) == pytest.approx(PERIOD - 0.004)


def test_real_time_does_not_catch_up_lost_time_in_a_burst() -> None:
    pace = realtime()
    assert pace.due(103.0) is not None
    assert pace.due(103.0) is None
    assert pace.wait(103.0) == pytest.approx(PERIOD)


def test_real_time_repeats_the_last_command_until_it_is_too_old_and_then_stops() -> None:
    pace = realtime()
    pace.offer(0, UP)
    used = []
    for i in range(1, 6):
        command = pace.due(100.0 + i * PERIOD + 1e-6)
        assert command is not None
        used.append(command[0])
        pace.observed(i * STEP)
    assert used == [1.0, 1.0, 1.0, 0.0, 0.0]  # answered, held at the ages 0.05 and 0.1, then too old
    assert pace.held_steps == 4


def test_real_time_counts_a_late_command_and_still_uses_it_when_it_is_the_newest() -> None:
    pace = realtime()
    pace.offer(0, UP)
    pace.due(100.0 + PERIOD)
    pace.observed(STEP)
    pace.due(100.0 + 2 * PERIOD)
    pace.observed(2 * STEP)
    assert pace.offer(STEP, DOWN) == "late"
    assert pace.offer(0, UP) == "late"
    assert pace.late_commands == 2
    command = pace.due(100.0 + 3 * PERIOD + 1e-6)
    assert command is not None
    assert command[0] == -1.0


def test_in_real_time_a_hold_of_the_same_stamp_replaces_the_command() -> None:
    pace = RealtimePace(PERIOD, 0.25, 2)
    pace.start(0)
    pace.observed(0)
    assert pace.due(100.0) is None
    pace.offer(0, UP)
    assert pace.offer(0, DOWN) == "duplicate"
    assert pace.due(100.0 + PERIOD + 1e-6) is DOWN


def test_real_time_goes_at_another_speed_from_the_next_step_on() -> None:
    pace = realtime()
    pace.period = PERIOD / 2
    assert pace.due(100.0 + PERIOD) is not None
    assert pace.wait(100.0 + PERIOD) == pytest.approx(PERIOD / 2)


def test_simulated_time_steps_exactly_and_jumps_ahead_at_a_reset() -> None:
    start = 1_700_000_000_123_456_789
    clock = SimulatedClock(start, PERIOD)
    for _ in range(1000):
        clock.step()
    assert clock.now == start + 1000 * STEP
    assert clock.reset() == start + 1000 * STEP + 1_000_000_000
