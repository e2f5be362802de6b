"""The judge of the fault tests finds what is wrong, and nothing else."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy", reason="commands are ROS messages")

from robot import Judge
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
