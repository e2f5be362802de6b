"""ROS messages to readings and back, and the messages that carry commands.

Standard messages only. A stamp is an integer number of nanoseconds everywhere else in the package; here it becomes
and comes from ``builtin_interfaces/Time``. Floats are float64 on both sides, so a round trip keeps every bit.
"""

from __future__ import annotations

import importlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, Imu, JointState, Range
from std_msgs.msg import Float32MultiArray, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.fields import ActionField, ObservationField, Quality
from qgf_ros.bundle.messages.message_types import STATIC, TRANSFORMS
from qgf_ros.control.extraction import (
    JointReading,
    PoseReading,
    Reading,
    Said,
    TwistReading,
    VectorReading,
    WrenchReading,
)
from qgf_ros.control.output_source import ANGLES, GRIPPER, PLACE
from qgf_ros.control.outputs import Output, Sent, quaternion_xyzw
from qgf_ros.control.sensing.sensor_messages import SENSOR_MESSAGES
from qgf_ros.control.vision.pictures import CompressedReading, ImageReading, Picture
from qgf_ros.errors import ContractError, ObservationError

#: Message classes by the names used in manifests; others are looked for when they are asked for, see `message_class`.
MESSAGE_CLASSES: dict[str, type] = {
    "sensor_msgs/msg/JointState": JointState,
    "geometry_msgs/msg/PoseStamped": PoseStamped,
    "geometry_msgs/msg/TwistStamped": TwistStamped,
    "geometry_msgs/msg/WrenchStamped": WrenchStamped,
    "std_msgs/msg/Float32MultiArray": Float32MultiArray,
    "std_msgs/msg/Float64MultiArray": Float64MultiArray,
    "sensor_msgs/msg/Imu": Imu,
    "sensor_msgs/msg/Range": Range,
}
#: Those of cameras.
CAMERA_CLASSES: dict[str, type] = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}

#: Message classes of the outputs of a robot contract; of an action, what its shadow and its client are given.
OUTPUT_CLASSES: dict[str, type] = {
    "joint_state": JointState,
    GRIPPER: JointState,
    "float64_multi_array": Float64MultiArray,
    "joint_trajectory": JointTrajectory,
    "twist_stamped": TwistStamped,
    "pose_stamped": PoseStamped,
}


def output_type(kind: str) -> str:
    """Return the full name of what a type of output is listened to as, such as ``sensor_msgs/msg/JointState``."""
    return "control_msgs/action/GripperCommand" if kind == GRIPPER else type_name(OUTPUT_CLASSES[kind])


def message_class(message_type: str, about: str, instead: str) -> Any:
    """Return the class of a message type, from whichever package of messages is installed.

    Args:
        message_type: Such as ``nav_msgs/msg/Odometry``.
        about, instead: What is of this type, and what else may be done, for the sentence where its package is missing.

    Raises:
        ContractError: It is not installed.
    """
    if message_type in MESSAGE_CLASSES:
        return MESSAGE_CLASSES[message_type]
    package, _, name = message_type.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ContractError(
            f"{about} is a {message_type}, which is not installed here; install the package {package} of your ROS "
            f"distribution, or {instead}"
        ) from error


@cache
def type_name(kind: Any) -> str:
    """Return the full name of a message class, such as ``sensor_msgs/msg/JointState``."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def subscriptions(
    fields: Sequence[ObservationField], cameras: Mapping[str, CameraField], reliable: bool
) -> list[tuple[str, type, QoSProfile]]:
    """Return topic, message class and quality of service of each topic that observations are read from.

    Goals first: of messages that are there together, an executor takes those of the first first. Cameras last: they are large.
    """
    sources = {topic: one for one in sorted(fields, key=lambda one: one.live) for topic in one.topics}
    instead = "serve the field by another type in the robot contract"
    kinds = {one.name: message_class(one.message_type, f"field {one.name}", instead) for one in sources.values()}
    read = [(topic, kinds[one.name], _quality_of(one, topic)) for topic, one in sources.items()]
    read += [(camera.topic, CAMERA_CLASSES[camera.type], camera.quality) for camera in cameras.values()]
    return [(topic, kind, quality_of_service(quality, reliable)) for topic, kind, quality in read]


#: Of transforms as many messages are kept until they are heard as tf2 keeps: they come from many publishers at once.
_TRANSFORM_DEPTH = 100


def _quality_of(field: ObservationField, topic: str) -> Quality:
    """Return the quality asked of one of the topics of a field; static transforms are said once, before anybody listens."""
    if field.message_type != TRANSFORMS:
        return field.quality
    if topic.endswith(STATIC):
        return Quality(reliability="reliable", durability="transient_local", depth=_TRANSFORM_DEPTH)
    return field.quality.model_copy(update={"depth": max(field.quality.depth, _TRANSFORM_DEPTH)})


def quality_of_service(quality: Quality, reliable: bool) -> QoSProfile:
    """Return a quality as rclpy takes it; `reliable` counts where it does not say."""
    asked = quality.reliability or ("reliable" if reliable else "best_effort")
    lasting = quality.durability == "transient_local"
    return QoSProfile(
        depth=quality.depth,
        reliability=ReliabilityPolicy.RELIABLE if asked == "reliable" else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if lasting else DurabilityPolicy.VOLATILE,
    )


def to_time(stamp: int) -> Time:
    """Return a stamp [ns] as a Time message."""
    return Time(sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000)


def from_time(time: Time) -> int:
    """Return a Time message as a stamp [ns]."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def _xyz(vector: Any) -> NDArray[np.float64]:
    return np.array([vector.x, vector.y, vector.z])


def received(message: Any) -> Said:
    """Return what a message of any type says, without ROS; the bytes of a picture are not copied."""
    if isinstance(message, Image):
        shape = message.width, message.height, message.step
        return ImageReading(message.encoding, *shape, np.asarray(message.data, np.uint8), message.header.frame_id)
    if isinstance(message, CompressedImage):
        return CompressedReading(message.format, np.asarray(message.data, np.uint8), message.header.frame_id)
    kind: Any = type(message)
    read = SENSOR_MESSAGES.get(type_name(kind))
    return to_reading(message) if read is None else read(message)


def to_reading(message: Any) -> Reading:
    """Return what a message of a plain quantity says, without ROS."""
    if isinstance(message, JointState):
        return JointReading(
            tuple(message.name), np.array(message.position), np.array(message.velocity), np.array(message.effort)
        )
    if isinstance(message, PoseStamped):
        q = message.pose.orientation
        return PoseReading(_xyz(message.pose.position), np.array([q.x, q.y, q.z, q.w]), message.header.frame_id)
    if isinstance(message, TwistStamped):
        return TwistReading(_xyz(message.twist.linear), _xyz(message.twist.angular), message.header.frame_id)
    if isinstance(message, WrenchStamped):
        return WrenchReading(_xyz(message.wrench.force), _xyz(message.wrench.torque), message.header.frame_id)
    return VectorReading(np.array(message.data, dtype=np.float64))


def _set_xyz(target: Any, values: Iterable[float]) -> None:
    target.x, target.y, target.z = (float(v) for v in values)


def to_message(reading: Reading, stamp: int, frame_id: str = "") -> Any:
    """Return a reading as a stamped message (a Float64MultiArray has no header); raises ObservationError if it has none."""
    if isinstance(reading, VectorReading):
        return Float64MultiArray(data=reading.data.tolist())
    message: Any
    if isinstance(reading, JointReading):
        message = JointState(
            name=list(reading.names),
            position=reading.position.tolist(),
            velocity=reading.velocity.tolist(),
            effort=reading.effort.tolist(),
        )
    elif isinstance(reading, PoseReading):
        message = PoseStamped()
        _set_xyz(message.pose.position, reading.position)
        q = message.pose.orientation
        q.x, q.y, q.z, q.w = (float(v) for v in reading.quaternion_xyzw)
    elif isinstance(reading, TwistReading):
        message = TwistStamped()
        _set_xyz(message.twist.linear, reading.linear)
        _set_xyz(message.twist.angular, reading.angular)
    elif isinstance(reading, WrenchReading):
        message = WrenchStamped()
        _set_xyz(message.wrench.force, reading.force)
        _set_xyz(message.wrench.torque, reading.torque)
    else:
        raise ObservationError(f"a {type(reading).__name__} was given, and nobody publishes one")
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame_id
    return message


def picture_message(picture: Picture, stamp: int) -> Any:
    """Return what a camera sees as a stamped message; its bytes are copied once."""
    message: Any
    if isinstance(picture, ImageReading):
        message = Image(encoding=picture.encoding, width=picture.width, height=picture.height, step=picture.step)
    else:
        message = CompressedImage(format=picture.format)
    message.data = array("B", picture.data.tobytes())  # bytes would be checked element by element
    message.header.stamp = to_time(stamp)
    message.header.frame_id = picture.frame_id
    return message


def command_message(names: Sequence[str], values: NDArray[np.float64], stamp: int) -> JointState:
    """Return a command as a JointState whose positions are its values.

    Args:
        names: What they are called, F of them.
        values: float64 [F].
        stamp: Stamp of the observation the command answers [ns].
    """
    message = JointState(name=list(names), position=_floats(values))
    message.header.stamp = to_time(stamp)
    return message


def _floats(values: NDArray[np.float64]) -> array[float]:
    """Return float64 values [F] as rclpy keeps them; a list would be converted one by one."""
    return array("d", values.tobytes())


def fill_message(message: Any, output: Output, sent: Sent) -> Any:
    """Fill a message of an output, which may have been published before, and return it.

    Rows of a trajectory are due at its stamp plus one control period, two, and so on, each with its velocity; a single row
    is due now. A Float64MultiArray has no header and stays unstamped.
    """
    kind, first = output.source.type, sent.values[0]
    if kind == "float64_multi_array":
        message.data = _floats(first)
        return message
    if kind in ("joint_state", GRIPPER):
        message.name, message.position = list(output.names), _floats(first)
    elif sent.velocities is not None:
        message.joint_names = list(output.names)
        message.points = []
        for k, (positions, velocities) in enumerate(zip(sent.values, sent.velocities), start=1):
            seconds, nanoseconds = divmod(round(k * output.period * 1e9), 1_000_000_000)
            point = JointTrajectoryPoint(positions=_floats(positions), velocities=_floats(velocities))
            point.time_from_start = Duration(sec=seconds, nanosec=nanoseconds)
            message.points.append(point)
    elif kind == "pose_stamped":
        message.header.frame_id = output.source.frame_id
        parts: dict[str, float] = {str(part): value for part, value in output.source.fixed.items()}
        parts.update(zip(output.names, first.tolist()))
        _set_xyz(message.pose.position, [parts[part] for part in PLACE])
        q = message.pose.orientation
        q.x, q.y, q.z, q.w = quaternion_xyzw(*(parts[part] for part in ANGLES)).tolist()
    else:
        message.header.frame_id = output.source.frame_id
        for name, value in zip(output.names, first.tolist()):
            part, _, axis = name.partition(".")
            setattr(getattr(message.twist, part), axis, value)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(sent.stamp, 1_000_000_000)
    return message


def command_values(fields: Sequence[ActionField], message: JointState) -> NDArray[np.float64]:
    """Return the values of a command in the order of the action contract.

    Raises:
        ObservationError: A name is missing, a value is not finite, or the lengths differ.
    """
    by_name = dict(zip(message.name, message.position))
    missing = [field.name for field in fields if field.name not in by_name]
    if missing or len(message.name) != len(message.position):
        raise ObservationError(
            f"command names {list(message.name)} with {len(message.position)} values were given, "
            f"expected one value for each of {[field.name for field in fields]}"
        )
    values = np.array([by_name[field.name] for field in fields], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ObservationError(f"command {values.tolist()} holds a value that is not finite")
    return values
