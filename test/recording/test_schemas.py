"""Message definitions: complete, and the same as the type itself."""

from __future__ import annotations

import pytest

from qgf_ros.errors import RecordingError
from qgf_ros.recording.schemas import definition, leading_stamp, starts_with_stamp

STAMPED = ("sensor_msgs/msg/JointState", "rcl_interfaces/msg/ParameterEvent", "diagnostic_msgs/msg/DiagnosticArray")
UNSTAMPED = ("std_msgs/msg/Float64MultiArray", "std_msgs/msg/String", "geometry_msgs/msg/Pose")


@pytest.mark.parametrize("name", [*STAMPED, *UNSTAMPED])
def test_a_definition_holds_every_type_inside_once(name: str) -> None:
    text = definition(name)
    parts = text.split("=" * 80 + "\n")
    heads = [part.splitlines()[0] for part in parts[1:]]
    assert all(head.startswith("MSG: ") for head in heads)
    assert len(set(heads)) == len(heads)
    expected = {
        "sensor_msgs/msg/JointState": ["std_msgs/Header", "builtin_interfaces/Time"],
        "std_msgs/msg/Float64MultiArray": ["std_msgs/MultiArrayLayout", "std_msgs/MultiArrayDimension"],
        "geometry_msgs/msg/Pose": ["geometry_msgs/Point", "geometry_msgs/Quaternion"],
        "std_msgs/msg/String": [],
    }
    if name in expected:
        assert [head.removeprefix("MSG: ") for head in heads] == expected[name]


@pytest.mark.parametrize("name", STAMPED + UNSTAMPED)
def test_whether_a_message_begins_with_a_stamp_is_known(name: str) -> None:
    assert starts_with_stamp(name, definition(name)) == (name in STAMPED)


@pytest.mark.parametrize("name", ["JointState", "sensor_msgs/JointState", "../msg/Passwd", "sensor_msgs/msg/../../x"])
def test_what_is_no_type_name_is_refused(name: str) -> None:
    with pytest.raises(RecordingError, match="expected a name such as sensor_msgs/msg/JointState"):
        definition(name)


def test_a_type_that_is_not_installed_names_its_package() -> None:
    with pytest.raises(RecordingError, match="install the ROS package my_msgs"):
        definition("my_msgs/msg/Thing")


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\1\0\0", b"\0\1\0\0\1\0\0\0\1\0\0"])
def test_a_message_too_short_for_a_stamp_has_the_time_it_came(content: bytes) -> None:
    assert leading_stamp(content, 7) == 7


def test_a_stamp_is_read_in_the_byte_order_of_its_message() -> None:
    assert leading_stamp(b"\0\1\0\0\2\0\0\0\3\0\0\0", 7) == 2_000_000_003
    assert leading_stamp(b"\0\0\0\0\0\0\0\2\0\0\0\3", 7) == 2_000_000_003
