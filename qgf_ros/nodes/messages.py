"""ROS messages to readings and back, and the command message.

Standard messages only. A stamp is an integer number of nanoseconds everywhere else in the package; here it becomes
and comes from ``builtin_interfaces/Time``. Floats are float64 on both sides, so a round trip keeps every bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32MultiArray, Float64MultiArray

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.control.observation import (
    JointReading,
    PoseReading,
    Reading,
    TwistReading,
    VectorReading,
    WrenchReading,
)
from qgf_ros.errors import ObservationError

#: Message classes by the names used in manifests.
MESSAGE_CLASSES: dict[str, type] = {
    "sensor_msgs/msg/JointState": JointState,
    "geometry_msgs/msg/PoseStamped": PoseStamped,
    "geometry_msgs/msg/TwistStamped": TwistStamped,
    "geometry_msgs/msg/WrenchStamped": WrenchStamped,
    "std_msgs/msg/Float32MultiArray": Float32MultiArray,
    "std_msgs/msg/Float64MultiArray": Float64MultiArray,
}


def observation_quality(field: ObservationField, reliable: bool) -> QoSProfile:
    """Return the quality of service of a field's subscription; `reliable` counts where the field does not say."""
    asked = field.quality.reliability or ("reliable" if reliable else "best_effort")
    lasting = field.quality.durability == "transient_local"
    return QoSProfile(
        depth=field.quality.depth,
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


def to_reading(message: Any) -> Reading:
    """Return what a message says, without ROS."""
    if isinstance(message, JointState):
        return JointReading(
            tuple(message.name), np.array(message.position), np.array(message.velocity), np.array(message.effort)
        )
    if isinstance(message, PoseStamped):
        q = message.pose.orientation
        return PoseReading(_xyz(message.pose.position), np.array([q.x, q.y, q.z, q.w]))
    if isinstance(message, TwistStamped):
        return TwistReading(_xyz(message.twist.linear), _xyz(message.twist.angular))
    if isinstance(message, WrenchStamped):
        return WrenchReading(_xyz(message.wrench.force), _xyz(message.wrench.torque))
    return VectorReading(np.array(message.data, dtype=np.float64))


def _set_xyz(target: Any, values: NDArray[np.float64]) -> None:
    target.x, target.y, target.z = (float(v) for v in values)


def to_message(reading: Reading, stamp: int, frame_id: str = "") -> Any:
    """Return a reading as a stamped message (a Float64MultiArray has no header and stays unstamped)."""
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
    else:
        message = WrenchStamped()
        _set_xyz(message.wrench.force, reading.force)
        _set_xyz(message.wrench.torque, reading.torque)
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame_id
    return message


def command_message(fields: Sequence[ActionField], values: NDArray[np.float64], stamp: int) -> JointState:
    """Return a command: a JointState whose names are the action's and whose positions are its values.

    Args:
        fields: The action contract.
        values: float64 [A] in the fields' units.
        stamp: Stamp of the observation the command answers [ns].
    """
    message = JointState(name=[field.name for field in fields], position=values.tolist())
    message.header.stamp = to_time(stamp)
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
