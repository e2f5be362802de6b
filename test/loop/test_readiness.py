"""The robot is ready while each state that its driver tells was heard and says so; otherwise one sentence says why not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.control.robot_contract import DriverState
from qgf_ros.loop.readiness import DriverReadiness

SECOND = 1_000_000_000
RUNNING = DriverState(topic="/program_running", ready=(True,))
SPEED = DriverState(topic="/speed", message_type="std_msgs/msg/Float64", at_least=10.0, max_age=0.5)
MODE = DriverState(topic="/mode", message_type="ur_dashboard_msgs/msg/RobotMode", field="mode", ready=(7, 8))


def test_what_was_never_heard_is_named_with_what_is_expected() -> None:
    readiness = DriverReadiness([RUNNING, MODE])
    assert readiness.reason(0) == (
        "driver state /program_running: nothing received yet, expected True; start the driver, or see who publishes it"
    )
    readiness.hear(0, True, 0)
    assert str(readiness.reason(0)).startswith("driver state /mode mode: nothing received yet, expected 7 or 8")
    readiness.hear(1, 7, 0)
    assert readiness.reason(0) is None


@pytest.mark.parametrize(
    ("state", "value", "said"),
    [
        (RUNNING, False, "driver state /program_running is False, expected True; "),
        (MODE, 5, "driver state /mode mode is 5, expected 7 or 8; "),
        (SPEED, 9.99, "driver state /speed is 9.99, expected at least 10; "),
        (SPEED, math.nan, "driver state /speed is nan, expected at least 10; "),
        (SPEED, "fast", "driver state /speed is fast, expected at least 10; "),
        (RUNNING, np.ones(2), "driver state /program_running is [1. 1.], expected True; "),
    ],
)
def test_a_value_at_which_the_robot_is_not_ready_is_named_with_topic_and_what_is_expected(
    state: DriverState, value: Any, said: str
) -> None:
    readiness = DriverReadiness([state])
    readiness.hear(0, value, 0)
    assert str(readiness.reason(0)).startswith(said)


def test_what_is_told_when_it_changes_never_grows_old_and_what_is_told_again_and_again_does() -> None:
    readiness = DriverReadiness([RUNNING, SPEED])
    readiness.hear(0, True, 0)
    readiness.hear(1, 100.0, 1000 * SECOND)
    assert readiness.reason(1000 * SECOND + SECOND // 2) is None
    assert readiness.reason(1001 * SECOND) == (
        "driver state /speed is stale, 1.00 s old, at most 0.5 s allowed; see its driver"
    )
    assert "is stale" in str(readiness.reason(990 * SECOND))  # a clock that fell back


def test_what_is_forgotten_has_to_be_heard_again() -> None:
    readiness = DriverReadiness([RUNNING])
    readiness.hear(0, True, 0)
    readiness.forget(0)
    assert "nothing received yet" in str(readiness.reason(0))


heard = st.one_of(st.booleans(), st.integers(-1, 12), st.floats(-200.0, 200.0), st.just(math.nan))


@given(st.lists(st.tuples(st.integers(0, 2), heard, st.integers(0, SECOND))))
def test_ready_is_exactly_when_the_last_value_of_each_is_accepted_and_a_change_of_that_is_told(
    messages: list[tuple[int, Any, int]],
) -> None:
    states = [RUNNING, SPEED, MODE]
    readiness = DriverReadiness(states)
    last: dict[int, tuple[Any, int]] = {}
    now = 0
    for index, value, later in messages:
        now += later
        before = last.get(index)
        changed = before is None or states[index].accepts(before[0]) != states[index].accepts(value)
        assert readiness.hear(index, value, now) is changed
        last[index] = value, now
        fresh = 1 not in last or now - last[1][1] <= SECOND // 2
        ready = len(last) == 3 and fresh and all(states[k].accepts(last[k][0]) for k in last)
        assert (readiness.reason(now) is None) is ready
