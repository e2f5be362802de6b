"""What stand-ins for robot controllers receive over DDS: every output inside its limits, and nothing without motion."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml

rclpy = pytest.importorskip("rclpy", reason="publishing commands needs the ros extra or a ROS 2 installation")

from geometry_msgs.msg import PoseStamped, TwistStamped  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from spinning import SpinningThread  # noqa: E402
from std_msgs.msg import Float64MultiArray  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from qgf_ros.bundle.fields import ActionField, Measurement  # noqa: E402
from qgf_ros.control.command import Command  # noqa: E402
from qgf_ros.control.extraction import JointReading, PoseReading, WrenchReading  # noqa: E402
from qgf_ros.control.robot_contract import RobotContract  # noqa: E402
from qgf_ros.errors import ContractError  # noqa: E402
from qgf_ros.nodes.commander import Commander  # noqa: E402
from qgf_ros.nodes.messages import MESSAGE_CLASSES, from_time, to_message, to_time  # noqa: E402
from qgf_ros.nodes.policy_node import PolicyNode  # noqa: E402
from qgf_sim.processes import reserve_domain  # noqa: E402

DOMAIN = reserve_domain()
TIMEOUT = 60.0
PERIOD, STEP = 0.05, 50_000_000
LARGEST, BOX, RATE = 0.1, (-0.4, 0.4), 1.5  # displacement [m], workspace [m], change of a displacement [m/s]
OPEN, GRIP_RATE = 0.8, 4.0  # [rad], [rad/s]
CONTRACT = """
command:
  - {}
  - type: float64_multi_array
    topic: /forward_position_controller/commands
    fields: [dx, dy]
    integrate: measured
  - type: joint_trajectory
    topic: /arm_controller/joint_trajectory
    fields: {dx: slide_x, dy: slide_y}
    integrate: commanded
  - type: twist_stamped
    topic: /servo_node/delta_twist_cmds
    fields: {dx: linear.x, dy: linear.y}
    frame_id: base_link
  - type: float64_multi_array
    topic: gripper/commands
    fields: [grip]
  - type: pose_stamped
    topic: /cartesian_controller/target_frame
    fields: {dx: x, dy: y}
    fixed: {z: 0.3, roll: 3.141592653589793, pitch: 0.0, yaw: 4.71238898038469}
    frame_id: base
    integrate: measured
"""
STATE, FORWARD, TRAJECTORY, TWIST, GRIPPER, POSE = TOPICS = (
    "/command",
    "/forward_position_controller/commands",
    "/arm_controller/joint_trajectory",
    "/servo_node/delta_twist_cmds",
    "/gripper/commands",
    "/cartesian_controller/target_frame",
)
KINDS = dict(
    zip(TOPICS, (JointState, Float64MultiArray, JointTrajectory, TwistStamped, Float64MultiArray, PoseStamped))
)
SHADOWS = {
    STATE: "/policy_node/shadow_command",
    **{topic: f"/policy_node/shadow{topic}" for topic in TOPICS if topic != STATE},
}


def actions() -> tuple[ActionField, ...]:
    """Two displacements and the opening of a gripper, with limits of every sort."""
    relative = {"unit": "m", "scale": LARGEST, "lower": -LARGEST, "upper": LARGEST, "max_rate": RATE, "workspace": BOX}
    grip = {"unit": "rad", "scale": 1.0, "lower": 0.0, "upper": OPEN, "hold": None, "max_rate": GRIP_RATE}
    return (
        ActionField(name="dx", measured=Measurement(field="effector", component=0), **relative),
        ActionField(name="dy", measured=Measurement(field="effector", component=1), **relative, max_acceleration=60.0),
        ActionField(name="grip", measured=Measurement(field="angle", component=1), **grip),
    )


class Robot(Node):  # type: ignore[misc]
    """The robot's side: publishes what is measured, and is each of its controllers, and their shadows, at once."""

    def __init__(self, context: Context, fields: Any) -> None:
        super().__init__("robot", context=context, start_parameter_services=False)
        self.heard: dict[str, list[Any]] = {}
        for topic, kind in KINDS.items():
            for name in (topic, SHADOWS[topic]):
                self.create_subscription(kind, name, self.heard.setdefault(name, []).append, 100)
        self._publishers_of = {
            field.topic: self.create_publisher(MESSAGE_CLASSES[field.message_type], field.topic, 10) for field in fields
        }
        self._clock = self.create_publisher(Clock, "/clock", 10)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self)

    def await_(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, {topic: len(heard) for topic, heard in self.heard.items()}
            self._executor.spin_once(timeout_sec=0.05)

    def connect(self, node: PolicyNode) -> None:
        """Wait until all publishers and subscriptions of both sides have found each other."""
        own = [p for p in node.publishers if p.topic_name in self.heard]
        theirs = (*self._publishers_of.values(), self._clock)
        self.await_(lambda: all(p.get_subscription_count() for p in (*own, *theirs)))
        self._clock.publish(Clock(clock=to_time(1)))

        def began() -> bool:
            return bool(node.get_clock().now().nanoseconds)

        self.await_(began)

    def measure(self, stamp: int, place: Any, grip: float) -> None:
        readings = {
            "joint_states": JointReading(("shoulder", "elbow"), np.array([0.0, grip]), np.empty(0), np.empty(0)),
            "effector_pose": PoseReading(np.array([*place, 0.0]), np.array([0.0, 0.0, 0.0, 1.0])),
            "wrench": WrenchReading(np.zeros(3), np.zeros(3)),
        }
        self._clock.publish(Clock(clock=to_time(stamp)))
        for topic, reading in readings.items():
            self._publishers_of[topic].publish(to_message(reading, stamp))

    def answer(self, stamp: int, place: Any, grip: float, names: Any = TOPICS) -> list[Any]:
        """Publish a set, wait for one message on each topic, and return them."""
        before = [len(self.heard[name]) for name in names]
        self.measure(stamp, place, grip)
        self.await_(lambda: all(len(self.heard[name]) > count for name, count in zip(names, before)))
        return [self.heard[name][-1] for name in names]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_LOG_DIR", str(tmp_path_factory.mktemp("ros_log")))
        patch.setenv("ROS_HOME", str(tmp_path_factory.mktemp("ros_home")))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        context = Context()
        rclpy.init(context=context, domain_id=DOMAIN)
        yield context
        context.try_shutdown()


@pytest.fixture
def policy(manifest_factory: Any, policy_factory: Any) -> Any:
    return policy_factory(manifest_factory(action=actions(), execution_horizon=1))


@pytest.fixture
def robot(context: Context, policy: Any) -> Iterator[Robot]:
    robot = Robot(context, policy.manifest.observation)
    yield robot
    robot.destroy_node()


@pytest.fixture
def start(context: Context, policy: Any, tmp_path: Path) -> Iterator[Callable[..., PolicyNode]]:
    """Run an active policy node with the six outputs."""
    path = tmp_path / "robot.yaml"
    path.write_text(CONTRACT)
    threads: list[SpinningThread] = []
    nodes: list[PolicyNode] = []

    def run(**values: Any) -> PolicyNode:
        values = {"bundle": "fake", "trigger": "observation", "contract": str(path), "use_sim_time": True, **values}
        values["accept_unlimited"] = ["grip"]
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        node = PolicyNode(policy_loader=lambda *_: policy, context=context, parameter_overrides=overrides)
        nodes.append(node)
        assert node.bring_up(), node.failure
        threads.append(SpinningThread(context, node))
        return node

    yield run
    for thread in threads:
        thread.close()
    for node in nodes:
        node.destroy_node()


def check_trajectory(message: JointTrajectory, place: Any) -> np.ndarray[Any, Any]:
    """Check what joint_trajectory_controller checks, and the limits; return the positions [K, 2]."""
    assert list(message.joint_names) == ["slide_x", "slide_y"]
    times = [point.time_from_start.sec * 10**9 + point.time_from_start.nanosec for point in message.points]
    assert times == [STEP * (k + 1) for k in range(4)]
    points = np.array([point.positions for point in message.points])
    assert points.shape == (4, 2)
    rates = np.array([point.velocities for point in message.points])
    np.testing.assert_allclose(rates, np.vstack([np.diff(points, axis=0) / PERIOD, np.zeros(2)]), atol=1e-9)
    assert np.abs(points).max() <= BOX[1] + 1e-6
    assert np.abs(np.diff(np.vstack([place, points]), axis=0)).max() <= LARGEST + 1e-4
    return points


def check_pose(message: PoseStamped, place: Any) -> None:
    """Check that the tool is where the joints of the stand-in are sent, pointing down and turned by -90 degrees."""
    at, q = message.pose.position, message.pose.orientation
    np.testing.assert_allclose([at.x, at.y, at.z], [*place, 0.3], atol=1e-12)
    np.testing.assert_allclose(np.abs([q.x, q.y, q.z, q.w]), [np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0], atol=1e-12)
    assert message.header.frame_id == "base"


@pytest.mark.parametrize("chunks", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_controller_receives_commands_inside_the_limits_for_random_chunks(
    start: Callable[..., PolicyNode], robot: Robot, chunks: int
) -> None:
    robot.connect(start(enable_motion=True))
    place, grip, moved, widest = np.zeros(2), 0.4, np.zeros(2), np.zeros(2)
    for tick in range(1, chunks + 1):
        state, forward, trajectory, twist, gripper, pose = robot.answer(tick * STEP, place, grip)
        assert {from_time(m.header.stamp) for m in (state, trajectory, twist, pose)} == {tick * STEP}
        assert list(state.name) == ["dx", "dy", "grip"]
        step = np.array(state.position[:2])
        assert np.abs(step).max() <= LARGEST
        at_wall = np.abs(place + step) >= BOX[1] - 1e-6  # which goes before the rate
        assert (at_wall | (np.abs(step - moved) <= RATE * PERIOD + 1e-9)).all()
        # The forward controller: as many values as joints, each within the workspace and a displacement away.
        assert len(forward.data) == 2
        np.testing.assert_allclose(forward.data, np.clip(place + step, *BOX), atol=1e-6)
        points = check_trajectory(trajectory, place)
        np.testing.assert_allclose(points[0], forward.data, atol=1e-4)
        # MoveIt Servo: m/s in the frame that was named, and nothing about the other axes.
        assert twist.header.frame_id == "base_link"
        linear, angular = twist.twist.linear, twist.twist.angular
        np.testing.assert_allclose([linear.x, linear.y], step / PERIOD, rtol=1e-12)
        assert (linear.z, angular.x, angular.y, angular.z) == (0.0, 0.0, 0.0, 0.0)
        check_pose(pose, forward.data)
        assert list(gripper.data) == [state.position[2]]
        assert 0.0 <= gripper.data[0] <= OPEN
        assert abs(gripper.data[0] - grip) <= GRIP_RATE * PERIOD + 1e-6
        moved, place, grip = step, np.array(forward.data), gripper.data[0]
        widest = np.maximum(widest, np.abs(place))
    assert [len(robot.heard[topic]) for topic in TOPICS] == [chunks] * len(TOPICS)
    assert (widest > 0.3).all()  # the walls were met
    assert not any(robot.heard[shadow] for shadow in SHADOWS.values())


def test_a_hold_stops_every_controller_in_its_own_way(start: Callable[..., PolicyNode], robot: Robot) -> None:
    node = start(enable_motion=True)
    robot.connect(node)
    robot.answer(STEP, (0.1, 0.2), 0.4)
    _, forward, trajectory, _, gripper, _ = robot.answer(2 * STEP, (0.1, 0.2), 0.4)
    node.trigger_deactivate()
    robot.await_(lambda: all(len(robot.heard[topic]) == 3 for topic in TOPICS))
    state, held, ended, twist, gripped, pose = (robot.heard[topic][-1] for topic in TOPICS)
    check_pose(pose, forward.data)
    assert list(state.position) == [0.0, 0.0, gripper.data[0]]
    assert held.data == forward.data
    assert gripped.data == gripper.data
    assert (twist.twist.linear.x, twist.twist.linear.y) == (0.0, 0.0)
    assert from_time(twist.header.stamp) == 2 * STEP
    (point,) = ended.points
    assert point.positions == trajectory.points[0].positions
    assert list(point.velocities) == [0.0, 0.0]
    assert point.time_from_start.nanosec == STEP
    assert from_time(ended.header.stamp) == 0  # now, whenever that is


@pytest.mark.parametrize("values", [{"enable_motion": False}, {"enable_motion": True, "dry_run": True}])
def test_without_motion_no_controller_receives_anything(
    start: Callable[..., PolicyNode], robot: Robot, values: dict[str, Any]
) -> None:
    node = start(**values)
    robot.connect(node)
    shadows = [SHADOWS[topic] for topic in TOPICS]
    for tick in range(1, 51):
        state, forward, trajectory, twist, _, _ = robot.answer(tick * STEP, np.zeros(2), 0.4, shadows)
        np.testing.assert_allclose(forward.data, state.position[:2])
        assert (len(trajectory.points), twist.header.frame_id) == (4, "base_link")
    node.trigger_deactivate()
    robot.await_(lambda: all(len(robot.heard[shadow]) == 51 for shadow in shadows))
    assert not any(robot.heard[topic] for topic in TOPICS)
    advertised = [bool(node.count_publishers(topic)) for topic in TOPICS]
    assert advertised == [not values.get("dry_run", False)] * len(TOPICS)


class Pen(SimpleNamespace):
    """Stands in for a life-cycle publisher of a desk."""

    def __init__(self, desk: Desk, **values: Any) -> None:
        super().__init__(desk=desk, **values)

    @property
    def is_activated(self) -> bool:
        return self.desk.active


class Desk:
    """Stands in for the policy node: publishers that keep what they publish, and a clock."""

    def __init__(self, simulated: bool) -> None:
        self.now = 0
        self.simulated = simulated
        self.subscriptions = 0
        self.active = True
        self.said: list[str] = []
        self.sent: dict[str, list[Any]] = {}

    def create_lifecycle_publisher(self, kind: type, topic: str, depth: int) -> Any:
        box = self.sent.setdefault(topic, [])
        return Pen(
            self,
            publish=lambda message: box.append(copy.deepcopy(message)),  # which a publisher serialises at once
            topic=topic,
            wait_for_all_acked=lambda timeout: None,
            get_subscription_count=lambda: self.subscriptions,
        )

    def report(self, level: int, text: str) -> None:
        self.said.append(text)

    def destroy_lifecycle_publisher(self, publisher: Any) -> None:
        self.sent.pop(publisher.topic)

    def get_clock(self) -> Any:
        now = SimpleNamespace(nanoseconds=self.now)
        return SimpleNamespace(now=lambda: now, ros_time_is_active=self.simulated)


def seated(
    manifest: Any, simulated: bool = True, steady: Callable[[], int] = time.monotonic_ns
) -> tuple[Desk, Commander, Command]:
    """Return a commander at a desk that has sent a first command of 0.01 m, with three more to follow."""
    desk = Desk(simulated)
    contract = RobotContract.model_validate(yaml.safe_load(CONTRACT))
    commander = Commander(desk, "fake", contract.outputs(manifest), dry_run=False, steady=steady)
    commander.advertise()
    values = np.array([0.01, 0.01, 0.4])
    ahead = np.tile(values, (3, 1))
    first = Command(values, np.zeros(3, np.float32), 0, True, True, np.array([0.0, 0.0, 0.4]), ahead)
    commander.send_command(first, motion=True)
    return desk, commander, first


def positions(message: JointTrajectory) -> list[float]:
    return [point.positions[0] for point in message.points]


def test_a_command_sent_again_is_the_same_messages_again(policy: Any) -> None:
    desk, commander, first = seated(policy.manifest)
    commander.send_command(first, motion=True)
    topics = ["command", FORWARD, TRAJECTORY, TWIST, "gripper/commands", POSE]
    assert [(len(desk.sent[topic]), desk.sent[topic][0] == desk.sent[topic][1]) for topic in topics] == [
        (2, True)
    ] * len(topics)
    commander.send_command(replace(first, stamp=STEP, begins=False), motion=True)
    assert positions(desk.sent[TRAJECTORY][2]) == pytest.approx([0.02, 0.03, 0.04, 0.05])


def test_a_hold_in_between_does_not_change_the_command_that_is_sent_again(policy: Any) -> None:
    """Messages of commands are filled again and again; those of a hold are its own."""
    desk, commander, first = seated(policy.manifest)
    commander.send_hold(np.array([0.0, 0.0, 0.4]), 0, motion=True)
    commander.send_command(first, motion=True)
    for topic in ("command", FORWARD, TRAJECTORY, TWIST, "gripper/commands"):
        assert desk.sent[topic][2] == desk.sent[topic][0]


def test_a_command_that_could_not_be_made_leaves_nothing_half_filled_to_send_again(policy: Any) -> None:
    desk, commander, first = seated(policy.manifest)
    with pytest.raises(IndexError):
        commander.send_command(replace(first, values=np.array([0.05, 0.05, 0.1]), measured=np.zeros(0)), motion=True)
    commander.send_command(first, motion=True)
    assert [list(message.position) for message in desk.sent["command"]] == [pytest.approx([0.01, 0.01, 0.4])] * 2


def test_telemetry_is_watched_while_somebody_subscribes(policy: Any) -> None:
    desk, commander, _ = seated(policy.manifest)
    assert not commander.watched
    desk.subscriptions = 1
    assert commander.watched
    commander.destroy()
    assert not commander.watched


def test_on_the_way_to_rest_a_trajectory_ends_at_its_next_point_and_the_others_slow_down(policy: Any) -> None:
    desk, commander, first = seated(policy.manifest)
    assert positions(desk.sent[TRAJECTORY][0]) == pytest.approx([0.01, 0.02, 0.03, 0.04])
    desk.now = round(1.5 * STEP)
    slower = np.array([0.004, 0.004, 0.4])
    commander.send_command(
        replace(first, values=slower, begins=False, upcoming=first.upcoming[:0], braking=True), motion=True
    )
    desk.now = round(2.5 * STEP)
    commander.send_hold(np.array([0.0, 0.0, 0.4]), 0, motion=True)
    assert [positions(message) for message in desk.sent[TRAJECTORY][1:]] == [pytest.approx([0.02])] * 2
    assert [message.twist.linear.x for message in desk.sent[TWIST]] == pytest.approx([0.2, 0.08, 0.0])


@pytest.mark.parametrize("step", [0.0, 0.4, 5.0, -0.4, -3600.0])
@pytest.mark.parametrize("braking", [False, True])
def test_a_held_trajectory_ends_where_the_robot_is_however_the_clock_was_set(
    policy: Any, step: float, braking: bool
) -> None:
    elapsed = [10**12]
    desk, commander, first = seated(policy.manifest, simulated=False, steady=lambda: elapsed[0])
    elapsed[0] += round(1.5 * STEP)
    desk.now = round(1.5 * STEP + step * 1e9)
    still = np.array([0.0, 0.0, 0.4])
    if braking:
        commander.send_command(replace(first, upcoming=first.upcoming[:0], braking=True), motion=True)
    commander.send_hold(still, 0, motion=True)
    assert positions(desk.sent[TRAJECTORY][-1]) == pytest.approx([0.02])


def test_where_the_robot_may_have_been_moved_a_hold_is_no_velocity_and_no_position(policy: Any) -> None:
    desk, commander, _ = seated(policy.manifest)
    desk.now = 20 * STEP
    commander.send_hold(np.array([0.0, 0.0, 0.4]), 0, motion=True, moved=True)
    assert [topic for topic, sent in desk.sent.items() if len(sent) == 2] == [TWIST]
    assert desk.sent[TWIST][1].twist == TwistStamped().twist


def test_what_is_sent_after_the_publishers_are_gone_goes_nowhere(policy: Any) -> None:
    desk, commander, first = seated(policy.manifest)
    commander.destroy()
    commander.send_command(first, motion=True)
    commander.send_telemetry({"tick": 1}, STEP)
    assert desk.sent == {}


class ActionServer:
    """Stands in for rclpy's ActionClient of a gripper, and for the server beyond."""

    made: ClassVar[list[ActionServer]] = []

    def __init__(self, node: Any, action: Any, name: str) -> None:
        self.name, self.goals, self.ready, self.accepts, self.destroyed = name, [], True, True, False
        self.made.append(self)

    def server_is_ready(self) -> bool:
        return self.ready

    def send_goal_async(self, goal: Any) -> Any:
        self.goals.append((goal.command.position, goal.command.max_effort))
        answer = SimpleNamespace(accepted=self.accepts)
        future = SimpleNamespace(cancelled=lambda: False, exception=lambda: None, result=lambda: answer)
        return SimpleNamespace(add_done_callback=lambda call: call(future))

    def destroy(self) -> None:
        self.destroyed = True


GRIPPER_CONTRACT = """
command:
  - {fields: [dx, dy]}
  - type: gripper_command
    topic: /gripper_controller/gripper_cmd
    fields: [grip]
    hysteresis: {above: 0.5, below: 0.3, dwell: 0.0, positions: [0.0, 0.7]}
    max_effort: 40.0
"""


@pytest.fixture
def gripper(policy: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A commander at a desk with a gripper's action, the server, and a way to send an opening."""

    class Goal:
        def __init__(self) -> None:
            self.command = SimpleNamespace(position=0.0, max_effort=0.0)

    package = ModuleType("control_msgs.action")
    package.GripperCommand = SimpleNamespace(Goal=Goal)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "control_msgs", ModuleType("control_msgs"))
    monkeypatch.setitem(sys.modules, "control_msgs.action", package)
    monkeypatch.setattr("rclpy.action.ActionClient", ActionServer)
    monkeypatch.setattr(ActionServer, "made", [])
    desk = Desk(simulated=True)
    contract = RobotContract.model_validate(yaml.safe_load(GRIPPER_CONTRACT))
    commander = Commander(desk, "fake", contract.outputs(policy.manifest), dry_run=False)
    commander.advertise()
    (server,) = ActionServer.made

    def send(opening: float, tick: int, *, begins: bool = False, motion: bool = True) -> None:
        measured = np.array([0.0, 0.0, np.nan])
        values = np.array([0.0, 0.0, opening])
        nothing = np.empty((0, 3))
        commander.send_command(
            Command(values, np.zeros(3, np.float32), tick * STEP, True, begins, measured, nothing), motion=motion
        )

    return SimpleNamespace(desk=desk, commander=commander, server=server, send=send)


def test_a_gripper_action_gets_a_goal_for_each_change_and_none_for_a_repetition(gripper: Any) -> None:
    for tick, opening in enumerate([0.1, 0.4, 0.6, 0.4, 0.7, 0.2, 0.1]):
        gripper.send(opening, tick, begins=tick == 0)
    assert gripper.server.name == "/gripper_controller/gripper_cmd"
    assert gripper.server.goals == [(0.0, 40.0), (0.7, 40.0), (0.0, 40.0)]
    gripper.commander.send_hold(np.array([0.0, 0.0, 0.1]), 6 * STEP, motion=True)
    assert len(gripper.server.goals) == 3  # it is where it was sent
    gripper.send(0.1, 7, begins=True)
    assert gripper.server.goals[3:] == [(0.0, 40.0)]  # somebody may have moved it meanwhile
    gripper.commander.wait_for_acknowledgement()
    gripper.commander.destroy()
    assert gripper.server.destroyed


def test_without_motion_or_while_inactive_a_gripper_action_gets_no_goal_but_the_shadow_says_it(gripper: Any) -> None:
    gripper.send(0.6, 0, begins=True, motion=False)
    (shadow,) = gripper.desk.sent["~/shadow/gripper_controller/gripper_cmd"]
    assert (list(shadow.name), list(shadow.position)) == (["grip"], [0.7])
    gripper.desk.active = False
    gripper.send(0.1, 1)
    assert gripper.server.goals == []


def test_a_goal_that_nobody_can_take_is_sent_when_somebody_can_and_said_once(gripper: Any) -> None:
    gripper.server.ready = False
    gripper.send(0.6, 0, begins=True)
    gripper.send(0.7, 1)
    assert gripper.desk.said == [
        "output gripper_command on /gripper_controller/gripper_cmd has no action server yet; the gripper moves once there is one"
    ]
    gripper.server.ready, gripper.server.accepts = True, False
    gripper.send(0.7, 2)
    assert gripper.server.goals == [(0.7, 40.0)]
    assert "was refused the position 0.7; the next one is sent when it changes" in gripper.desk.said[1]
    gripper.send(0.7, 3)
    assert (len(gripper.server.goals), len(gripper.desk.said)) == (1, 2)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_gripper_action_without_its_package_is_refused_in_one_sentence(policy: Any, dry_run: bool) -> None:
    contract = RobotContract.model_validate(yaml.safe_load(GRIPPER_CONTRACT))
    commander = Commander(Desk(simulated=True), "fake", contract.outputs(policy.manifest), dry_run=dry_run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "control_msgs", None)  # as if it were not there, wherever this runs
        with pytest.raises(ContractError, match=r"needs the package control_msgs, which is not installed; install it"):
            commander.advertise()
