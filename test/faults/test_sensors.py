"""Sensors that fail, on a running node: it holds, says why, and goes on by itself when they are sound again."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

from robot import SECOND, SENSOR_FAULTS, Fault, Robot, changed, dies, freezes, shifted
from sensor_msgs.msg import Imu, Range

from qgf_ros.bundle.demonstrations import demonstrations_of
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.store import load_manifest
from qgf_ros.nodes.messages import to_time


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


class DrivingRobot(Robot):
    """An arm on a base that knows where it is by odometry, which way it looks by an inertial unit, how high by a range finder."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self._odometry = pytest.importorskip("nav_msgs.msg", reason="nav_msgs is not installed").Odometry
        super().__init__(bundle, folder)
        kinds = {"odom": self._odometry, "imu": Imu, "height": Range}
        publishers = {topic: self.node.create_publisher(kind, topic, 10) for topic, kind in kinds.items()}
        with self._changed:
            self._publishers = {"joint_states": self._publishers["joint_states"], **publishers}

    def sound_message(self, topic: str, stamp: int) -> Any:
        if (
            topic not in BASE + TURN + HEIGHT
        ):  # that of the arm, and, until the others are there, what a robot has beside it
            return super().sound_message(topic, stamp)
        if topic == "height":
            message: Any = Range(range=0.2, min_range=0.1, max_range=4.0)
            message.header.frame_id = "sonar"
        elif topic == "imu":
            message = Imu()
            message.orientation.z = 0.02 * math.sin(stamp % (10 * SECOND) / SECOND)
            message.orientation.w = math.sqrt(1.0 - message.orientation.z**2)
            message.header.frame_id = "imu"
        else:
            message = self._odometry(child_frame_id="base")
            message.header.frame_id = "odom"
            message.pose.pose.position.x = 0.3 * math.sin(stamp % (10 * SECOND) / SECOND)
        message.header.stamp = to_time(stamp)
        return message


BASE, TURN, HEIGHT = ("odom",), ("imu",), ("height",)
#: How a unit says that it measures no orientation (sensor_msgs/Imu); what the message holds in its place is none.
NO_ORIENTATION = changed(orientation_covariance=[-1.0, *[0.0] * 8], orientation__z=0.0, orientation__w=1.0)
DRIVING_FAULTS = {
    "odometry dies": Fault(BASE, dies, "field base: topic odom is stale"),
    "odometry freezes": Fault(BASE, freezes, "field base: topic odom is stale"),
    "odometry of a clock 10 s ahead": Fault(BASE, shifted(10.0), "topic odom is stamped"),
    "odometry sends NaN": Fault(
        BASE, changed(pose__pose__position__x=math.nan), "field base: topic odom holds a value that is not finite"
    ),
    "odometry comes in another frame": Fault(
        BASE, changed(header__frame_id="map"), "field base: topic odom has frame_id 'map', expected odom"
    ),
    "odometry of another base": Fault(
        BASE, changed(child_frame_id="trailer"), "field base: topic odom has child_frame_id 'trailer', expected base"
    ),
    "an inertial unit measures no orientation": Fault(
        TURN, NO_ORIENTATION, "field yaw: topic imu holds a value that is not finite"
    ),
    "an inertial unit sends no rotation": Fault(
        TURN, changed(orientation__w=0.0), "field yaw: topic imu gives a quaternion of length"
    ),
    "a range finder sees nothing": Fault(
        HEIGHT, changed(range=math.inf), "field height: topic height gives a range of inf m, and its sensor can tell"
    ),
}


@pytest.fixture(scope="module", params=["timer", pytest.param("observation", marks=pytest.mark.slow)])
def driving(request: pytest.FixtureRequest, make_robot: Callable[..., DrivingRobot]) -> DrivingRobot:
    """Such a robot with a policy node, one for all of these faults and a trigger."""
    pytest.importorskip("nav_msgs", reason="nav_msgs is not installed")
    arm = {"topic": "joint_states", "message_type": "sensor_msgs/msg/JointState", "joints": ("shoulder", "elbow")}
    odometry = {"topic": "odom", "message_type": "nav_msgs/msg/Odometry", "frame_id": "odom", "child_frame_id": "base"}
    turn = {"topic": "imu", "message_type": "sensor_msgs/msg/Imu", "frame_id": "imu"}
    height = {"topic": "height", "message_type": "sensor_msgs/msg/Range", "frame_id": "sonar"}
    observation = (
        ObservationField(name="angle", extraction="joint_position", size=2, unit="rad", **arm),
        ObservationField(name="base", extraction="position", components=(0,), size=1, unit="m", **odometry),
        ObservationField(name="yaw", extraction="yaw", size=1, unit="rad", **turn),
        ObservationField(name="height", extraction="range", size=1, unit="m", **height),
    )
    corners = np.array([[0.0, -0.25, -0.4, -0.1, 0.1], [0.2, 0.25, 0.4, 0.1, 0.3]], dtype=np.float32)
    known = demonstrations_of(observation, corners, "made-up.npz")
    robot = make_robot(DrivingRobot, {"observation": observation, "demonstrations": known})
    assert load_manifest(robot.bundle).observation == observation
    robot.start(trigger=request.param)
    return robot


@pytest.mark.parametrize("name", DRIVING_FAULTS)
def test_a_fault_of_odometry_or_range_is_a_hold_that_names_it_and_ends_by_itself(
    driving: DrivingRobot, name: str, on_page: Callable[..., None]
) -> None:
    fault = DRIVING_FAULTS[name]
    driving.is_commanded()
    driving.judge.wrong.clear()
    with driving.suffering(fault) as since:
        seconds = driving.is_safe(fault.reason, since)
    driving.is_commanded()
    on_page(seconds, row=name, column=f"safe after, `{driving.trigger}`")
    waits = driving.max_age if name in ("odometry dies", "odometry freezes") else 0.0
    assert seconds < waits + 2 * driving.period + driving.load(since, since + seconds)
    assert driving.judge.wrong == []
