"""Sensors that fail, on a running node: it holds, says why, and goes on by itself when they are sound again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

from robot import SENSOR_FAULTS, Fault, Robot, shifted


@pytest.fixture(scope="module", params=["timer", pytest.param("observation", marks=pytest.mark.slow)])
def running(request: pytest.FixtureRequest, make_robot: Callable[..., Robot]) -> Robot:
    """A robot with a policy node, one for all tests of a trigger: each fault must be recovered from."""
    robot = make_robot()
    robot.start(trigger=request.param)
    return robot


@pytest.fixture
def robot(running: Robot) -> Iterator[Robot]:
    running.is_commanded()
    running.judge.wrong.clear()
    yield running
    assert running.judge.wrong == []


@pytest.mark.parametrize("name", SENSOR_FAULTS)
def test_a_sensor_fault_is_a_hold_within_its_max_age_and_ends_by_itself(
    robot: Robot, name: str, on_page: Callable[..., None]
) -> None:
    fault = SENSOR_FAULTS[name]
    with robot.suffering(fault) as since:
        seconds = robot.is_safe(fault.reason, since)
    robot.is_commanded()
    on_page(seconds, row=name, column=f"safe after, `{robot.trigger}`")
    # A reading may be used until it is max_age old; the check comes with the next tick, at most a period later.
    assert seconds < robot.max_age + 2 * robot.period + robot.load(since, since + seconds)


def test_a_sensor_at_ten_times_the_rate_commands_no_faster(robot: Robot) -> None:
    """A displacement per observation would move the robot ten times as fast."""
    robot.rate *= 10.0
    try:
        heard = len(robot.commands)
        robot.until(lambda: len(robot.commands) >= heard + 40)
        stamps = [command.stamp for command in robot.commands[heard + 10 : heard + 40]]
    finally:
        robot.rate /= 10.0
    robot.is_commanded()
    assert (stamps[-1] - stamps[0]) * 1e-9 > 0.8 * 29 * robot.period


def test_one_stamp_from_the_future_locks_nothing(robot: Robot) -> None:
    """Had the reading of next hour stayed the newest, the sound ones after it would be ignored for an hour."""
    fault = Fault(("joint_states",), shifted(3600.0), "joint_states is stamped")
    with robot.suffering(fault):
        robot.goes_on(2)
    robot.is_commanded()


def test_old_stamps_among_new_ones_change_nothing(robot: Robot) -> None:
    """A message that was overtaken by its successor is no news, and no sign of age."""

    def late(message: Any, last: Any) -> list[Any]:
        return [message, *shifted(-0.5)(copy.deepcopy(message), last)]

    fault = Fault(("joint_states",), late, "")
    with robot.suffering(fault):
        robot.is_commanded(10)
        robot.hears("commanding", level=0)
