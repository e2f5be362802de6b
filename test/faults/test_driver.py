"""A driver that says that its robot is not ready, over DDS: protective stop, program ended, nothing said at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

from rclpy.qos import DurabilityPolicy, QoSProfile
from robot import Robot
from std_msgs.msg import Bool, Float64

RUNNING, SPEED = "/io_and_status_controller/robot_program_running", "/speed_scaling_state_broadcaster/speed_scaling"
CONTRACT = f"""
driver_state:
  - {{topic: {RUNNING}, ready: [true]}}
  - {{topic: {SPEED}, message_type: std_msgs/msg/Float64, at_least: 10.0, max_age: 0.5}}
"""


class DrivenRobot(Robot):
    """Its driver keeps for who comes whether its program runs, and tells its speed with each observation [%]."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.speed: float | None = 100.0
        self._speeds: object = None
        super().__init__(bundle, folder)
        self.contract = folder / "robot.yaml"
        self.contract.write_text(CONTRACT)
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.program = self.node.create_publisher(Bool, RUNNING, kept)
        self._speeds = self.node.create_publisher(Float64, SPEED, 10)

    def _publish(self) -> None:
        if self._speeds is not None and self.speed is not None:
            self._speeds.publish(Float64(data=self.speed))  # type: ignore[attr-defined]
        super()._publish()

    def stays(self, count: int) -> None:
        """See that no command comes while it goes on publishing."""
        heard = len(self.commands)
        self.goes_on(10)
        assert len(self.commands) == heard == count


@pytest.fixture(scope="module")
def running(make_robot: Callable[..., DrivenRobot]) -> DrivenRobot:
    robot = make_robot(DrivenRobot)
    robot.start(contract=str(robot.contract))
    robot.program.publish(Bool(data=True))
    return robot


@pytest.fixture
def robot(running: DrivenRobot) -> Iterator[DrivenRobot]:
    running.is_commanded()
    yield running
    assert running.judge.wrong == []


def test_a_robot_whose_driver_has_not_said_yet_that_it_is_ready_is_not_commanded(
    make_robot: Callable[..., DrivenRobot],
) -> None:
    robot = make_robot(DrivenRobot)
    robot.start(contract=str(robot.contract))
    robot.hears(f"holding: driver state {RUNNING}: nothing received yet, expected True")
    robot.stays(0)
    robot.program.publish(Bool(data=True))
    robot.is_commanded()
    robot.hears("commanding", level=0)
    assert robot.judge.wrong == []


def test_a_driver_that_says_that_its_robot_is_not_ready_is_a_hold_until_it_says_that_it_is(
    robot: DrivenRobot, on_page: Callable[..., None]
) -> None:
    since = time.monotonic()
    robot.program.publish(Bool(data=False))
    seconds = robot.is_safe(f"driver state {RUNNING} is False, expected True", since)
    on_page(seconds)
    robot.stays(len(robot.commands))
    robot.program.publish(Bool(data=True))
    robot.is_commanded()
    robot.hears("commanding", level=0)


def test_a_robot_that_is_slowed_down_too_far_or_of_whose_speed_nothing_is_said_is_held(
    robot: DrivenRobot, on_page: Callable[..., None]
) -> None:
    robot.speed = 5.0
    robot.is_safe(f"driver state {SPEED} is 5, expected at least 10", time.monotonic())
    robot.speed = 50.0
    robot.is_commanded()
    robot.speed, since = None, time.monotonic()
    seconds = robot.is_safe(f"driver state {SPEED} is stale", since)
    on_page(seconds)
    robot.speed = 50.0
    robot.is_commanded()
