"""Messages to readings and back, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState

from qgf_ros.bundle.fields import EXTRACTIONS
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.extraction import (
    READING_TYPES,
    JointReading,
    PoseReading,
    Reading,
    TwistReading,
    VectorReading,
    WrenchReading,
)
from qgf_ros.errors import ObservationError
from qgf_ros.nodes.messages import (
    MESSAGE_CLASSES,
    command_message,
    command_values,
    from_time,
    to_message,
    to_reading,
    to_time,
)

RANDOM = np.random.default_rng(5)
STAMP = 1_795_183_715_623_189_069
#: Is read, but never sent: a reading is float64.
FLOAT32 = "std_msgs/msg/Float32MultiArray"

READINGS: dict[str, Reading] = {
    "sensor_msgs/msg/JointState": JointReading(
        ("a", "b"), RANDOM.normal(size=2), RANDOM.normal(size=2), RANDOM.normal(size=2)
    ),
    "geometry_msgs/msg/PoseStamped": PoseReading(RANDOM.normal(size=3), RANDOM.normal(size=4)),
    "geometry_msgs/msg/TwistStamped": TwistReading(RANDOM.normal(size=3), RANDOM.normal(size=3)),
    "geometry_msgs/msg/WrenchStamped": WrenchReading(RANDOM.normal(size=3), RANDOM.normal(size=3)),
    "std_msgs/msg/Float64MultiArray": VectorReading(RANDOM.normal(size=4)),
}


def test_every_message_type_of_the_contract_has_a_class_and_a_reading() -> None:
    assert set(MESSAGE_CLASSES) == set(EXTRACTIONS) == set(READING_TYPES) == {*READINGS, FLOAT32}


def test_an_array_of_float32_is_read_as_the_same_numbers() -> None:
    reading = to_reading(MESSAGE_CLASSES[FLOAT32](data=[0.1, -3.0]))
    assert isinstance(reading, VectorReading)
    np.testing.assert_array_equal(reading.data, np.array([0.1, -3.0], dtype=np.float32).astype(np.float64))


@pytest.mark.parametrize("kind", READINGS)
def test_a_reading_survives_the_wire_bit_for_bit(kind: str) -> None:
    reading = READINGS[kind]
    message = to_message(reading, STAMP, "world")
    assert isinstance(message, MESSAGE_CLASSES[kind])
    received = deserialize_message(serialize_message(message), type(message))
    if hasattr(received, "header"):
        assert from_time(received.header.stamp) == STAMP
        assert received.header.frame_id == "world"
    again = to_reading(received)
    assert type(again) is READING_TYPES[kind]
    for name, value in vars(reading).items():
        np.testing.assert_array_equal(getattr(again, name), value)
        if isinstance(value, np.ndarray):
            assert getattr(again, name).dtype == np.float64


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
