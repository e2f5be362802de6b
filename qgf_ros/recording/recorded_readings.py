"""Recorded messages as readings, and as pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.cameras import COMPRESSED, IMAGE
from qgf_ros.control.extraction import JointReading, PoseReading, Reading, TwistReading, VectorReading, WrenchReading
from qgf_ros.control.sensing.sensor_messages import SENSOR_MESSAGES, Detections, Transforms
from qgf_ros.control.vision.pictures import CompressedReading, ImageReading, Picture
from qgf_ros.errors import RecordingError
from qgf_ros.recording.recorded_commands import MALFORMED, malformed
from qgf_ros.recording.recording import Recorded, Recording

#: What is kept of a message, of it.
Kept = Callable[[Recorded], Any]
_SAID = (*get_args(Reading), Transforms, Detections)


def _xyz(vector: Any) -> NDArray[np.float64]:
    return np.array([vector.x, vector.y, vector.z], dtype=np.float64)


def _array(values: Any) -> NDArray[np.float64]:
    """Return a list of numbers; raises ValueError for something else."""
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"a list of numbers was expected, not {array.ndim} dimensions")
    return array


def _bytes(values: Any) -> NDArray[np.uint8]:
    """Return the bytes of a picture, which are not copied where they are bytes."""
    if isinstance(values, (bytes, bytearray, memoryview)):
        return np.frombuffer(values, dtype=np.uint8)
    return _array(values).astype(np.uint8)


def to_reading(recorded: Recorded) -> Reading | Transforms | Detections:
    """Return what a recorded message says, or it itself where that is what is kept of the message.

    Raises:
        RecordingError: Observations are not made of this type, or it has not the fields of it.
    """
    if isinstance(recorded.message, _SAID):
        return cast("Reading | Transforms | Detections", recorded.message)
    try:
        return _reading(recorded)
    except MALFORMED as error:
        malformed(recorded, error)


def _reading(recorded: Recorded) -> Reading | Transforms | Detections:
    message = recorded.message
    kind = recorded.type_name
    if kind == "sensor_msgs/msg/JointState":
        names = tuple(sys.intern(str(name)) for name in message.name)
        return JointReading(names, _array(message.position), _array(message.velocity), _array(message.effort))
    if kind == "geometry_msgs/msg/PoseStamped":
        q = message.pose.orientation
        return PoseReading(_xyz(message.pose.position), _array([q.x, q.y, q.z, q.w]), str(message.header.frame_id))
    if kind == "geometry_msgs/msg/TwistStamped":
        return TwistReading(_xyz(message.twist.linear), _xyz(message.twist.angular), str(message.header.frame_id))
    if kind == "geometry_msgs/msg/WrenchStamped":
        return WrenchReading(_xyz(message.wrench.force), _xyz(message.wrench.torque), str(message.header.frame_id))
    if kind in ("std_msgs/msg/Float32MultiArray", "std_msgs/msg/Float64MultiArray"):
        return VectorReading(_array(message.data))
    if kind in SENSOR_MESSAGES:
        return SENSOR_MESSAGES[kind](message)
    raise RecordingError(f"topic {recorded.topic} is recorded as {kind or 'an unknown type'}, which is no observation")


def to_picture(recorded: Recorded) -> Picture:
    """Return the picture that a recorded message is; raises RecordingError as `to_reading`."""
    message = recorded.message
    kind = recorded.type_name
    try:
        if kind == IMAGE:
            shape = int(message.width), int(message.height), int(message.step)
            return ImageReading(str(message.encoding), *shape, _bytes(message.data), str(message.header.frame_id))
        if kind == COMPRESSED:
            return CompressedReading(str(message.format), _bytes(message.data), str(message.header.frame_id))
    except MALFORMED as error:
        malformed(recorded, error)
    raise RecordingError(f"topic {recorded.topic} is recorded as {kind or 'an unknown type'}, which is no picture")


def by_topic(
    recording: Recording, topics: Collection[str], kept: Mapping[str, Kept] | None = None
) -> dict[str, list[Recorded]]:
    """Return the messages of some topics, each in the order they were received.

    Args:
        recording: What they are in.
        topics: Full names.
        kept: By topic, what is to be kept of a message instead of it, as what is returned is all in memory.
    """
    found: dict[str, list[Recorded]] = {topic: [] for topic in topics}
    kept = kept or {}
    for recorded in recording.messages(topics):
        keep = kept.get(recorded.topic)
        found[recorded.topic].append(recorded if keep is None else replace(recorded, message=keep(recorded)))
    return {topic: _by_time(messages) for topic, messages in found.items()}


def _by_time(messages: Iterable[Recorded]) -> list[Recorded]:
    return sorted(messages, key=lambda recorded: recorded.log_time)
