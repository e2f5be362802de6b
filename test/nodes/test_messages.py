"""Messages to readings and back, bit for bit."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Imu, JointState, Range

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.messages.message_types import DETECTIONS, EXTRACTIONS, TRANSFORMS
from qgf_ros.control.extraction import (
    READING_TYPES,
    JointReading,
    PoseReading,
    Reading,
    TwistReading,
    VectorReading,
    WrenchReading,
)
from qgf_ros.control.sensing.further_readings import ImuReading, OdometryReading, RangeReading
from qgf_ros.control.sensing.sensor_messages import SENSOR_MESSAGES
from qgf_ros.errors import ContractError, ObservationError
from qgf_ros.nodes.messages import (
    MESSAGE_CLASSES,
    command_message,
    command_values,
    from_time,
    received,
    subscriptions,
    to_message,
    to_reading,
    to_time,
    type_name,
)

RANDOM = np.random.default_rng(5)
STAMP = 1_795_183_715_623_189_069
#: Is read, but never sent: a reading is float64.
FLOAT32 = "std_msgs/msg/Float32MultiArray"
FRAME = "world"
#: Packages of messages that are always there.
STANDARD = ("geometry_msgs", "sensor_msgs", "std_msgs")

READINGS: dict[str, Reading] = {
    "sensor_msgs/msg/JointState": JointReading(
        ("a", "b"), RANDOM.normal(size=2), RANDOM.normal(size=2), RANDOM.normal(size=2)
    ),
    "geometry_msgs/msg/PoseStamped": PoseReading(RANDOM.normal(size=3), RANDOM.normal(size=4), FRAME),
    "geometry_msgs/msg/TwistStamped": TwistReading(RANDOM.normal(size=3), RANDOM.normal(size=3), FRAME),
    "geometry_msgs/msg/WrenchStamped": WrenchReading(RANDOM.normal(size=3), RANDOM.normal(size=3), FRAME),
    "std_msgs/msg/Float64MultiArray": VectorReading(RANDOM.normal(size=4)),
}


def test_every_message_type_of_the_contract_has_a_class_and_a_reading() -> None:
    heard = {*READINGS, FLOAT32, *SENSOR_MESSAGES}
    assert set(EXTRACTIONS) == set(READING_TYPES) == heard
    assert set(MESSAGE_CLASSES) == {kind for kind in heard if kind.split("/")[0] in STANDARD}


def test_an_array_of_float32_is_read_as_the_same_numbers() -> None:
    reading = to_reading(MESSAGE_CLASSES[FLOAT32](data=[0.1, -3.0]))
    assert isinstance(reading, VectorReading)
    np.testing.assert_array_equal(reading.data, np.array([0.1, -3.0], dtype=np.float32).astype(np.float64))


@pytest.mark.parametrize("kind", READINGS)
def test_a_reading_survives_the_wire_bit_for_bit(kind: str) -> None:
    reading = READINGS[kind]
    message = to_message(reading, STAMP, FRAME)
    assert isinstance(message, MESSAGE_CLASSES[kind])
    heard = deserialize_message(serialize_message(message), type(message))
    if hasattr(heard, "header"):
        assert from_time(heard.header.stamp) == STAMP
        assert heard.header.frame_id == FRAME
    again = received(heard)
    assert type(to_reading(heard)) is type(again)
    assert type(again) is READING_TYPES[kind]
    for name, value in vars(reading).items():
        np.testing.assert_array_equal(getattr(again, name), value)
        if isinstance(value, np.ndarray):
            assert getattr(again, name).dtype == np.float64


def test_an_inertial_unit_says_which_of_its_parts_it_does_not_measure() -> None:
    message = Imu()
    message.header.frame_id = FRAME
    message.orientation_covariance[0] = -1.0
    message.angular_velocity.z, message.linear_acceleration.x = 0.25, -9.5
    reading = received(deserialize_message(serialize_message(message), Imu))
    assert isinstance(reading, ImuReading)
    assert np.isnan(reading.quaternion_xyzw).all()
    assert (reading.angular[2], reading.linear_acceleration[0], reading.frame_id) == (0.25, -9.5, FRAME)


def test_a_range_comes_with_what_its_sensor_can_tell() -> None:
    reading = received(Range(range=0.5, min_range=0.25, max_range=4.0))
    assert isinstance(reading, RangeReading)
    assert (*reading.range, reading.shortest, reading.longest) == (0.5, 0.25, 4.0)


def test_odometry_is_pose_and_velocities_with_both_frames() -> None:
    kind = pytest.importorskip("nav_msgs.msg", reason="nav_msgs is not installed").Odometry
    message = kind(child_frame_id="base")
    message.header.frame_id = "odom"
    message.pose.pose.position.x, message.twist.twist.angular.z = 1.5, 0.5
    reading = received(deserialize_message(serialize_message(message), kind))
    assert isinstance(reading, OdometryReading)
    assert (reading.position[0], reading.quaternion_xyzw[3], reading.angular[2]) == (1.5, 1.0, 0.5)
    assert (reading.frame_id, reading.child_frame_id) == ("odom", "base")


def field(message_type: str, topic: str, **names: str) -> ObservationField:
    return ObservationField(
        name="thing", topic=topic, message_type=message_type, extraction="position", size=3, unit="m", **names
    )


SEEN = field(DETECTIONS, "detections", object_id="cup")
FOUND = field(TRANSFORMS, "/tf", frame_id="base", child_frame_id="tag")


def test_transforms_that_never_change_are_heard_even_by_who_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    stub: Any = ModuleType("tf2_msgs.msg")
    stub.TFMessage = type("TFMessage", (), {"__module__": "tf2_msgs.msg._tf_message"})
    monkeypatch.setitem(sys.modules, "tf2_msgs", ModuleType("tf2_msgs"))
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", stub)
    (_, kind, moving), (topic, same, static) = subscriptions([FOUND], {}, reliable=False)
    assert topic == "/tf_static"
    assert kind is same is stub.TFMessage
    assert type_name(kind) == TRANSFORMS
    assert (moving.durability, moving.depth) == (DurabilityPolicy.VOLATILE, 100)
    assert (static.durability, static.reliability) == (DurabilityPolicy.TRANSIENT_LOCAL, ReliabilityPolicy.RELIABLE)


@pytest.mark.parametrize("asked", [SEEN, FOUND], ids=lambda one: one.message_type)
def test_a_message_whose_package_is_missing_is_one_sentence_that_names_it(
    asked: ObservationField, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = asked.message_type.partition("/")[0]
    monkeypatch.setitem(sys.modules, f"{package}.msg", None)  # as if it were not there, wherever this runs
    with pytest.raises(ContractError) as error:
        subscriptions([asked], {}, reliable=False)
    assert str(error.value) == (
        f"field thing is a {asked.message_type}, which is not installed here; install the package {package} of your ROS "
        "distribution, or serve the field by another type in the robot contract"
    )


@pytest.mark.parametrize("stamp", [0, 1, 999_999_999, 1_000_000_000, STAMP])
def test_a_stamp_keeps_every_nanosecond(stamp: int) -> None:
    assert from_time(to_time(stamp)) == stamp


def test_a_command_carries_names_values_and_the_stamp(manifest: Manifest) -> None:
    values = np.array([0.012345678901234567, -0.1])
    message = command_message(["dx", "dy"], values, STAMP)
    assert list(message.name) == ["dx", "dy"]
    assert from_time(message.header.stamp) == STAMP
    np.testing.assert_array_equal(command_values(manifest.action, message), values)


def test_a_command_is_read_by_name(manifest: Manifest) -> None:
    message = JointState(name=["dy", "other", "dx"], position=[2.0, 9.0, 1.0])
    assert command_values(manifest.action, message).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("names", "values", "reason"),
    [
        (["dx"], [1.0], "expected one value for each of"),
        (["dx", "dy"], [1.0], "with 1 values were given"),
        (["dx", "dy"], [1.0, float("nan")], "not finite"),
    ],
)
def test_a_command_that_does_not_fit_is_refused(manifest: Manifest, names: Any, values: Any, reason: str) -> None:
    with pytest.raises(ObservationError, match=reason):
        command_values(manifest.action, JointState(name=names, position=values))
