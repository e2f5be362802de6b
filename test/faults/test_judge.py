"""The judge of the fault tests finds what is wrong, and nothing else."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="commands are ROS messages")

from robot import LOAD, Judge, Robot
from sensor_msgs.msg import JointState

from qgf_ros.bundle.fields import ActionField
from qgf_ros.nodes.messages import to_time


@pytest.fixture
def judge() -> Judge:
    """Of two components within 0.1 that may change by 0.05 each control period; stamps 1 to 9 were sent."""
    fields = [ActionField(name=name, unit="m", scale=0.1, lower=-0.1, upper=0.1, max_rate=1.0) for name in ("dx", "dy")]
    judge = Judge(fields, period=0.05)
    for stamp in range(1, 10):
        judge.sent(stamp)
    return judge


def command(stamp: int, *values: float, names: tuple[str, ...] = ("dx", "dy")) -> JointState:
    message = JointState(name=list(names), position=list(values))
    message.header.stamp = to_time(stamp)
    return message


def test_sound_commands_and_holds_are_not_wrong(judge: Judge) -> None:
    for message in (command(1, 0.1, 0.1), command(2, 0.05, 0.06), command(2, 0.0, 0.0), command(5, -0.1, 0.1)):
        judge.check(message)
    assert judge.wrong == []


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (command(2, math.nan, 0.1), "not finite"),
        (command(2, 0.1, 0.1, names=("dx", "dz")), "expected one value for each of"),
        (command(2, 0.1), "expected one value for each of"),
        (command(2, 0.1, 0.11), "outside the limits"),
        (command(2, 0.1, 0.04), "is a larger step than"),
        (command(10, 0.1, 0.1), "no sound observation was"),
    ],
)
def test_a_wrong_command_is_found(judge: Judge, message: JointState, complaint: str) -> None:
    judge.check(command(1, 0.1, 0.1))
    judge.check(message)
    assert len(judge.wrong) == 1
    assert complaint in judge.wrong[0]


def published_at(*times: float) -> Any:
    """What `Robot` keeps of its sets, at 20 Hz, and of a node whose heart stops for 30 s."""
    return SimpleNamespace(published=list(times), rate=20.0, heartbeats=[0.1 * i for i in range(100)] + [40.0])


def test_a_node_that_hangs_is_no_busy_machine() -> None:
    robot = published_at(*(0.05 * i for i in range(1000)))
    assert Robot.load(robot, since=9.5) == pytest.approx(LOAD + 0.05)
    assert Robot.kept_waiting(robot, since=9.5) == pytest.approx(0.0, abs=1e-6)


def test_a_machine_is_as_busy_as_it_kept_the_robot_from_publishing() -> None:
    robot = published_at(0.0, 5.0, 5.05, 5.25, 7.05, 7.1)
    assert Robot.load(robot, since=5.02) == pytest.approx(LOAD + 1.8)
    assert Robot.kept_waiting(robot, since=5.02) == pytest.approx(0.15 + 1.75)
