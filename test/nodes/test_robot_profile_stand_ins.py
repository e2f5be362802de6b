"""Robots with a profile: the contract of the template drives a stand-in that speaks its driver's topics at their rates.

The stand-in knows nothing of the profile. What it says and takes is written down here a second time, from the drivers.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from spinning import SpinningThread  # noqa: E402
from std_msgs.msg import Bool, Float64, Float64MultiArray  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from qgf_ros.bundle.fields import ActionField, Measurement, ObservationField  # noqa: E402
from qgf_ros.bundle.manifest import CriticCard, Manifest  # noqa: E402
from qgf_ros.control.extraction import JointReading, PoseReading, Reading  # noqa: E402
from qgf_ros.control.limit_overrides import manifest_with_limits  # noqa: E402
from qgf_ros.control.profiles.profile_template import profile_limits, profile_template  # noqa: E402
from qgf_ros.control.profiles.robot_profile import read_profile  # noqa: E402
from qgf_ros.control.robot_contract import read_robot_contract  # noqa: E402
from qgf_ros.nodes.contract_check import Listener, judge  # noqa: E402
from qgf_ros.nodes.messages import MESSAGE_CLASSES, from_time, to_message  # noqa: E402
from qgf_ros.nodes.policy_node import PolicyNode  # noqa: E402
from qgf_sim.processes import reserve_domain  # noqa: E402

DOMAIN = reserve_domain()
TIMEOUT = 60.0
PERIOD, REACH, RATE = 0.05, 0.3, 0.5  # [s], [rad], [rad/s]
UR = ["shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint", "wrist_1_joint", "wrist_2_joint", "wrist_3_joint"]
FRANKA = [f"fr3_joint{k}" for k in range(1, 8)]
SO = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
JOINT_STATE, POSE = "sensor_msgs/msg/JointState", "geometry_msgs/msg/PoseStamped"


@dataclass(frozen=True)
class Driver:
    """What a driver says and takes.

    Attributes:
        robot: Name of its profile.
        controller: The one that is active.
        topic, kind: What it listens to.
        joints: Its `joints` parameter.
        start: Where all joints stand [rad].
        states: Topic of the joint states.
        pose: Topic of the tool's pose, or "".
        rate: How often it publishes [Hz].
    """

    robot: str
    controller: str
    topic: str
    kind: type
    joints: list[str]
    start: list[float]
    states: str
    pose: str
    rate: float


DRIVERS = [
    Driver(
        "ur5e",
        "scaled_joint_trajectory_controller",
        "/scaled_joint_trajectory_controller/joint_trajectory",
        JointTrajectory,
        UR,
        [0.0, -1.5, 1.5, -1.5, -1.57, 0.0],
        "/joint_states",
        "/tcp_pose_broadcaster/pose",
        500.0,
    ),
    Driver(
        "ur5e",
        "forward_position_controller",
        "/forward_position_controller/commands",
        Float64MultiArray,
        UR,
        [0.0, -1.5, 1.5, -1.5, -1.57, 0.0],
        "/joint_states",
        "/tcp_pose_broadcaster/pose",
        500.0,
    ),
    Driver(
        "so101",
        "forward_controller",
        "/follower/forward_controller/commands",
        Float64MultiArray,
        SO,
        [0.0, -0.5, 0.5, 0.2, 0.0, 0.8],
        "/follower/joint_states",
        "",
        50.0,
    ),
    Driver(
        "so101",
        "arm_trajectory_controller",
        "/follower/arm_trajectory_controller/joint_trajectory",
        JointTrajectory,
        SO[:5],
        [0.0, -0.5, 0.5, 0.2, 0.0, 0.8],
        "/follower/joint_states",
        "",
        50.0,
    ),
    Driver(
        "fr3",
        "fr3_arm_controller",
        "/fr3_arm_controller/joint_trajectory",
        JointTrajectory,
        FRANKA,
        [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785],
        "/franka/joint_states",
        "/franka_robot_state_broadcaster/current_pose",
        1000.0,
    ),
]
#: What each robot's driver tells of, whatever its controller takes.
JOINTS = {"ur5e": UR, "so101": SO, "fr3": FRANKA}


def manifest_of(driver: Driver) -> Manifest:
    """A bundle for an arm of these joints that spells and orders them in a way of its own."""
    names = [name.removesuffix("_joint") for name in sorted(driver.joints)]
    start = dict(zip(JOINTS[driver.robot], driver.start))
    common = {"max_age": 2.0}
    fields = [
        ObservationField(
            name="arm",
            topic="joint_states",
            message_type=JOINT_STATE,
            extraction="joint_position",
            joints=tuple(names),
            size=len(names),
            unit="rad",
            **common,
        )
    ]
    if driver.pose:
        pose = {"topic": "tool", "message_type": POSE, "extraction": "position", "size": 3, "unit": "m"}
        fields.append(ObservationField(name="tool_position", **pose, **common))
    action = [
        ActionField(
            name=name,
            unit="rad",
            scale=REACH,
            offset=start[name if name in start else f"{name}_joint"],
            lower=-10.0,
            upper=10.0,
            hold=None,
            max_rate=RATE,
            measured=Measurement(field="arm", component=k),
        )
        for k, name in enumerate(names)
    ]
    return Manifest(
        name="reach",
        observation=tuple(fields),
        action=tuple(action),
        control_rate=1.0 / PERIOD,
        horizon=5,
        execution_horizon=3,
        critics={"task": CriticCard(task="task", discount=0.99, ensemble_size=2)},
    )


class Twin:
    """An arm's driver with one active controller: publishes at its rate, follows what it accepts, and counts what not."""

    def __init__(self, context: Context, driver: Driver) -> None:
        self.driver = driver
        self.node = Node("driver", context=context)
        self.names = JOINTS[driver.robot]
        self.position = np.array(driver.start)
        self.taken: list[Any] = []
        self.refused: list[str] = []
        self.shadows: list[Any] = []
        self.sayings: list[str] = []
        self.published = 0
        self._changed = threading.Condition()
        self._publishers = {driver.states: self.node.create_publisher(MESSAGE_CLASSES[JOINT_STATE], driver.states, 10)}
        if driver.pose:
            self._publishers[driver.pose] = self.node.create_publisher(MESSAGE_CLASSES[POSE], driver.pose, 10)
        #: Its controller tells this when it changes, and keeps it for who comes; the other 100 times a second, in percent.
        self.running: Any = None
        self.speed: Any = None
        if driver.robot == "ur5e":
            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self.running = self.node.create_publisher(Bool, "/io_and_status_controller/robot_program_running", latched)
            self.speed = self.node.create_publisher(Float64, "/speed_scaling_state_broadcaster/speed_scaling", 10)
        take = self._follow if driver.kind is JointTrajectory else self._set
        say = lambda array: self.sayings.append(array.status[0].message)  # noqa: E731
        for kind, topic, hear in (
            (driver.kind, driver.topic, take),
            (driver.kind, f"/policy_node/shadow{driver.topic}", self.shadows.append),
            (DiagnosticArray, "/diagnostics", say),
        ):
            self.node.create_subscription(kind, topic, self._note(hear), 10)
        self.node.create_timer(1.0 / driver.rate, self._publish)

    def _note(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        def note(message: Any) -> None:
            with self._changed:
                take(message)
                self._changed.notify_all()

        return note

    def wait(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition on what was heard."""
        with self._changed:
            met = self._changed.wait_for(condition, TIMEOUT)
            assert met, (self.sayings[-3:], self.refused[-3:], self.position)

    def _publish(self) -> None:
        now = self.node.get_clock().now().nanoseconds
        self.published += 1
        if self.speed is not None and self.published % 5 == 0:
            self.speed.publish(Float64(data=100.0))
        for topic, publisher in self._publishers.items():
            publisher.publish(to_message(self._reading(topic), now))

    def _reading(self, topic: str) -> Reading:
        if topic == self.driver.pose:
            return PoseReading(np.array([0.4, 0.0, 0.3]), np.array([1.0, 0.0, 0.0, 0.0]))
        order = np.argsort(self.names)  # in the order of the alphabet, as a broadcaster gives them
        names = tuple(self.names[k] for k in order)
        return JointReading(names, self.position[order], np.zeros(len(order)), np.zeros(len(order)))

    def _set(self, message: Float64MultiArray) -> None:
        """As forward_command_controller: as many values as joints, in their order."""
        if len(message.data) != len(self.driver.joints):
            self.refused.append(f"{len(message.data)} values")
            return
        self._move(self.driver.joints, np.array(message.data))

    def _follow(self, message: JointTrajectory) -> None:
        """As joint_trajectory_controller: what `validate_trajectory_msg` asks for; then to the first point."""
        times = [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in message.points]
        begin = from_time(message.header.stamp) or self.node.get_clock().now().nanoseconds
        if sorted(message.joint_names) != sorted(self.driver.joints):
            self.refused.append(f"joints {message.joint_names}")
        elif any(b <= a for a, b in itertools.pairwise(times)):
            self.refused.append(f"times {times}")
        elif any(message.points[-1].velocities):
            self.refused.append("does not end at rest")
        elif any(len(p.positions) != len(p.velocities) for p in message.points):
            self.refused.append("velocities are missing")
        elif begin * 1e-9 + times[-1] < self.node.get_clock().now().nanoseconds * 1e-9:
            pass  # came too late on a busy machine: the controller drops it, and takes the next
        else:
            self._move(list(message.joint_names), np.array(message.points[0].positions))

    def _move(self, joints: list[str], goal: np.ndarray[Any, Any]) -> None:
        self.taken.append(goal)
        self.position[[self.names.index(name) for name in joints]] = goal


@pytest.fixture(params=DRIVERS, ids=lambda driver: f"{driver.robot}-{driver.controller}")
def driver(request: pytest.FixtureRequest) -> Driver:
    return request.param


@pytest.fixture
def contract(driver: Driver, tmp_path: Path) -> tuple[Manifest, Path]:
    """The manifest within the robot's limits, and the file of its contract for the controller that is active."""
    profile = read_profile(driver.robot)
    (active,) = [output for output in profile.outputs if output.controller == driver.controller]
    manifest = manifest_of(driver)
    text = profile_template(manifest, profile)
    if driver.controller != profile.outputs[0].controller and driver.robot == "ur5e":
        assert f"#    topic: {driver.topic}" in text  # which a person would put in its place
        text = profile_template(manifest, profile.model_copy(update={"outputs": (active,)}))
    path = tmp_path / "robot.yaml"
    text = text.replace("max_age: 0.1 ", "max_age: 2.0 ").replace(
        '"max_age": 0.5', '"max_age": 2.0'
    )  # of a busy machine
    path.write_text(text, encoding="utf-8")
    return manifest_with_limits(manifest, profile_limits(manifest, profile)), path


@pytest.fixture
def running(
    driver: Driver,
    contract: tuple[Manifest, Path],
    policy: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    diagnostics_period: float,
) -> Iterator[tuple[Twin, PolicyNode]]:
    """The stand-in beside an active policy node that may not move it yet, each spinning in its thread."""
    for name in ("ROS_LOG_DIR", "ROS_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    policy.manifest, policy.action_value = contract[0], 0.0
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    values = {"bundle": "reach", "contract": str(contract[1]), "guidance_weight": 0.0}
    values |= {"inference_deadline": TIMEOUT, "watchdog_timeout": TIMEOUT}  # patient, on a busy machine
    twin = Twin(context, driver)
    node = PolicyNode(
        policy_loader=lambda *_: policy,
        context=context,
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
    )
    assert node.bring_up(), node.failure
    threads = [SpinningThread(context, spun) for spun in (twin.node, node)]
    yield twin, node
    for thread in threads:
        thread.close()
    node.destroy_node()
    twin.node.destroy_node()
    context.try_shutdown()


def test_a_robot_follows_the_contract_that_its_profile_makes(
    running: tuple[Twin, PolicyNode],
    driver: Driver,
    policy: Any,
    contract: tuple[Manifest, Path],
) -> None:
    twin, node = running
    twin.wait(lambda: twin.shadows)
    assert twin.taken == []
    node.set_parameters([Parameter("enable_motion", value=True)])
    if twin.running is not None:
        twin.wait(
            lambda: any("driver state /io_and_status_controller/robot_program_running" in one for one in twin.sayings)
        )
        assert twin.taken == []
        twin.running.publish(Bool(data=True))
    twin.wait(lambda: twin.taken)
    policy.action_value = 1.0  # every joint by as much
    places = [twin.names.index(name) for name in driver.joints]
    goal = np.array(driver.start)[places] + REACH
    twin.wait(lambda: np.allclose(twin.position[places], goal, atol=1e-3))
    assert twin.refused == []
    steps = np.abs(np.diff(np.array(twin.taken), axis=0))
    if driver.kind is Float64MultiArray:  # one that is dropped as too late makes a step of two
        assert steps.max() <= RATE * PERIOD + 1e-6
    assert len(twin.taken) >= REACH / (RATE * PERIOD)
    others = [k for k in range(len(twin.names)) if k not in places]
    np.testing.assert_array_equal(twin.position[others], np.array(driver.start)[others])


def test_the_contract_check_finds_every_field_at_the_rate_of_the_robot(
    running: tuple[Twin, PolicyNode],
    driver: Driver,
    contract: tuple[Manifest, Path],
) -> None:
    twin, _ = running
    twin.wait(lambda: twin.shadows)
    fields = read_robot_contract(contract[1]).apply(contract[0])
    context = Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN)
    complaints: dict[str, Any] = {}
    rates: list[float | None] = []
    fastest = driver.rate * 1.1
    try:
        listener = Listener(Node("check", context=context), fields)
        deadline = time.monotonic() + TIMEOUT
        # Discovery is over when each has been heard for a while; what a busy machine held back arrives all at once.
        while not complaints or any(complaints.values()) or any(rate is None or rate > fastest for rate in rates):
            if time.monotonic() > deadline:
                break
            for heard in listener.heard.values():
                heard.arrivals.clear()
                heard.ages.clear()
            before, began = twin.published, time.monotonic()
            end = listener.listen(1.0)
            spoken = (twin.published - before) / (time.monotonic() - began)
            complaints = {field.name: judge(field, listener.heard[field.topic], end) for field in fields}
            rates = [listener.heard[field.topic].rate for field in fields]
    finally:
        context.try_shutdown()
    assert complaints == {field.name: None for field in fields}
    assert spoken <= fastest
    assert all(rate is not None and rate <= fastest for rate in rates)
