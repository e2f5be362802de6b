"""Commands of the types that robots are sent, as the action that they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

from geometry_msgs.msg import PoseStamped, TwistStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32MultiArray, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.errors import RecordingError
from qgf_ros.recording.recording import Recording
from qgf_ros.recording.rows.outcomes import Outcomes
from qgf_ros.recording.rows.source import Source
from qgf_ros.recording.rows.to_dataset import convert
from qgf_ros.recording.rows.trajectories import Conversion

Make = Callable[..., Any]
BEGIN, PERIOD = 5 * 10**9, 50_000_000


def fields(*names: str, unit: str = "rad", hold: float | None = None) -> list[ActionField]:
    return [ActionField(name=name, unit=unit, scale=1.0, lower=-1.0, upper=1.0, hold=hold) for name in names]


def vector(values: Sequence[float]) -> Float64MultiArray:
    return Float64MultiArray(data=list(values))


def trajectory(values: Sequence[float]) -> JointTrajectory:
    return JointTrajectory(joint_names=["b", "a"], points=[JointTrajectoryPoint(positions=list(values)[::-1])])


def twist(values: Sequence[float]) -> TwistStamped:
    message = TwistStamped()
    message.twist.linear.x, message.twist.angular.z = values
    return message


@pytest.fixture
def bag(tmp_path: Path, write: Make, as_received: Make, joint_message: Make) -> Callable[..., Recording]:
    """Write a bag of joints and of commands made of a list of values; what has a header is stamped."""

    def make(
        command: Callable[[Sequence[float]], Any], values: Sequence[Sequence[float]], *, stamp: bool = True
    ) -> Recording:
        said = []
        for i, one in enumerate(values):
            time = BEGIN + i * PERIOD
            said.append(as_received("/joint_states", joint_message(time, 0.1 * i, 0.0), time + 1_000_000))
            message = command(one)
            if stamp and hasattr(message, "header"):
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(time, 10**9)
            said.append(as_received("/told", message, time + 5_000_000))
        return Recording.open(write(*said))

    return make


@pytest.fixture
def converted(manifest_of: Make) -> Callable[..., Conversion]:
    def run(recording: Recording, action: Sequence[ActionField], **changes: Any) -> Conversion:
        values = {"command": "/told", "outcomes": Outcomes(succeed=True), **changes}
        return convert([recording], Source(manifest_of().observation, action, 20.0, **values))

    return run


VALUES = [[0.01 * i, -0.02 * i] for i in range(6)]


@pytest.mark.parametrize(
    ("command", "said"), [(vector, "without a stamp"), (trajectory, "stamped 0"), (twist, "stamped 0")]
)
def test_commands_without_stamps_are_rows_by_arrival_and_it_is_said(
    command: Make, said: str, bag: Make, converted: Make
) -> None:
    names = ("a", "b") if command is not twist else ("linear_x", "angular_z")
    made = converted(bag(command, VALUES, stamp=False), fields(*names, unit="rad/s"))
    assert made.arrays()["actions"][:6] == pytest.approx(np.array(VALUES))
    assert made.arrays()["observations"][:6, 0] == pytest.approx(0.1 * np.arange(6))
    assert any(note.startswith("every message on /told of ") and said in note for note in made.notes)


@pytest.mark.parametrize("command", [trajectory, twist])
def test_stamped_commands_are_rows_by_their_stamps(command: Make, bag: Make, converted: Make) -> None:
    names = ("a", "b") if command is trajectory else ("linear_x", "angular_z")
    made = converted(bag(command, VALUES), fields(*names, unit="rad/s"))
    assert made.arrays()["actions"][:6] == pytest.approx(np.array(VALUES))
    assert made.notes == []


def test_a_twist_of_displacements_is_what_it_moves_in_a_control_period(bag: Make, converted: Make) -> None:
    action = [*fields("dx", unit="m", hold=0.0), *fields("turn", unit="rad/s", hold=0.0)]
    made = converted(bag(twist, VALUES), action, command_names=("linear.x", "angular.z"))
    assert made.arrays()["actions"][:6] == pytest.approx(np.array(VALUES) * [0.05, 1.0])


def test_six_components_are_a_twist_in_its_order(bag: Make, converted: Make) -> None:
    action = fields("vx", "vy", "vz", "wx", "wy", "wz", unit="m/s")
    actions = converted(bag(twist, VALUES), action).arrays()["actions"][:6]
    assert actions[:, [0, 5]] == pytest.approx(np.array(VALUES))
    assert not actions[:, 1:5].any()


def test_names_on_the_topic_may_be_others_than_the_contracts(bag: Make, converted: Make) -> None:
    made = converted(bag(trajectory, VALUES), fields("elbow", "wrist"), command_names=("a", "b"))
    assert made.arrays()["actions"][:6] == pytest.approx(np.array(VALUES))


def test_a_trajectory_without_points_commands_nothing_and_is_counted(bag: Make, converted: Make) -> None:
    def command(values: Sequence[float]) -> JointTrajectory:
        return trajectory(values) if values != VALUES[2] else JointTrajectory(joint_names=["a", "b"])

    made = converted(bag(command, VALUES), fields("a", "b"))
    assert (
        sum(count for reason, count in made.left_out.items() if "without points, which commands nothing" in reason) == 1
    )


def halves(values: Sequence[float]) -> JointTrajectory:
    message = trajectory(values)
    message.points.append(message.points[0])
    return message


def offset(values: Sequence[float]) -> Float64MultiArray:
    message = vector(values)
    message.layout.data_offset = 1
    return message


@pytest.mark.parametrize(
    ("command", "action", "names", "sentence"),
    [
        (
            vector,
            fields("a", "b", "c"),
            (),
            "holds 2 values behind a data_offset of 0, expected 3 and 0, in the order a, b, c",
        ),
        (offset, fields("a", "b"), (), "holds 2 values behind a data_offset of 1, expected 2 and 0"),
        (vector, fields("a", "b"), ("x", "y"), "has no names; leave --command-names out"),
        (
            vector,
            fields("a", "b"),
            ("x",),
            "the names x were given for commands, expected another one for each component: a, b",
        ),
        (vector, fields("a", "b"), ("x", "x"), "expected another one for each component"),
        (halves, fields("a", "b"), (), "holds trajectories of 2 points, expected one"),
        (trajectory, fields("a", "c"), (), "has no c; it has b, a"),
        (
            twist,
            fields("dx", "dy"),
            (),
            "is not said; give it in this order, such as --command-names linear.x linear.y",
        ),
        (twist, fields("linear_x", "angular_z"), (), "linear_x is a position .hold null. in rad, which no velocity is"),
        (
            lambda values: JointState(name=["a", "b"], velocity=list(values)),
            fields("a", "b"),
            (),
            "holds 0 positions for a, b; commands are read from positions",
        ),
        (
            lambda values: PoseStamped(),
            fields("a", "b"),
            (),
            "is recorded as geometry_msgs/msg/PoseStamped; commands are read",
        ),
        (lambda values: Float32MultiArray(data=[0.0]), fields("a", "b"), (), "holds 1 values behind"),
    ],
)
def test_commands_that_cannot_be_read_say_why(
    command: Make, action: Sequence[ActionField], names: Sequence[str], sentence: str, bag: Make, converted: Make
) -> None:
    with pytest.raises(RecordingError, match=sentence):
        converted(bag(command, VALUES), action, command_names=names)


def echo(values: Sequence[float]) -> JointState:
    """What the robot measures at the tick of these values."""
    return JointState(name=["joint0", "joint1"], position=[10 * values[0], 0.0])


def test_commands_on_the_topic_of_the_observation_that_equal_it_are_refused(bag: Make, converted: Make) -> None:
    with pytest.raises(RecordingError, match="is what is observed beside it as angle: it says where the robot is, not"):
        converted(bag(vector, VALUES), fields("joint0", "joint1"), command="/joint_states")


def test_commands_of_another_topic_that_equal_the_observation_are_noticed(bag: Make, converted: Make) -> None:
    made = converted(bag(echo, VALUES), fields("joint0", "joint1"))
    assert any(
        "a policy of such commands stands still; give the topic of what the robot was told" in n for n in made.notes
    )


def test_commands_that_lead_the_robot_are_no_copies(bag: Make, converted: Make) -> None:
    made = converted(
        bag(lambda v: JointState(name=["a", "b"], position=[10 * v[0] + 0.1, 0.0]), VALUES), fields("a", "b")
    )
    assert made.notes == []


def test_two_arms_on_one_topic_are_observation_and_command(write: Make, as_received: Make, manifest_of: Make) -> None:
    said = []
    for i in range(8):
        time = BEGIN + i * PERIOD
        message = JointState(name=["follower", "leader"], position=[0.1 * i, 0.1 * i + 0.05])
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time, 10**9)
        said.append(as_received("/joint_states", message, time))
    seen = ObservationField(
        **{**manifest_of().observation[0].model_dump(), "joints": ("follower",), "size": 1, "name": "angle"}
    )
    source = Source([seen], fields("leader"), 20.0, command="/joint_states", outcomes=Outcomes(succeed=True))
    rows = convert([Recording.open(write(*said))], source).arrays()
    assert rows["actions"][:-1, 0] - rows["observations"][:-1, 0] == pytest.approx(0.05)
