"""What messages of odometry, inertial units, range sensors, transforms and detections say, without ROS.

Messages are read by the names of their parts, so that those of rclpy and those of a recording are read alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.messages.message_types import DETECTIONS, TRANSFORMS
from qgf_ros.control.sensing.further_readings import ImuReading, LocatedReading, OdometryReading, RangeReading

Array = NDArray[np.float64]
Numbers = tuple[float, ...]


class Transform(NamedTuple):
    """A pose of one frame in another: stamp [ns], position [m], quaternion (x, y, z, w)."""

    frame_id: str
    child_frame_id: str
    stamp: int
    position: Numbers
    quaternion_xyzw: Numbers


@dataclass(frozen=True)
class Transforms:
    """The transforms of one message, of many frames."""

    transforms: tuple[Transform, ...]


@dataclass(frozen=True)
class Detections:
    """The detections of one message: how many, and of each class and each id that of the highest score: it, stamp [ns], pose.

    The stamp is 0 where a detection has none of its own.
    """

    count: int
    best: Mapping[str, tuple[float, int, LocatedReading]]

    def without_stamps(self) -> Detections:
        """Return the same, each as old as the message."""
        return Detections(self.count, {name: (score, 0, one) for name, (score, _, one) in self.best.items()})


Sensed: TypeAlias = OdometryReading | ImuReading | RangeReading | Transforms | Detections


def _numbers(vector: Any) -> Numbers:
    return float(vector.x), float(vector.y), float(vector.z)


def _quaternion(q: Any) -> Numbers:
    return float(q.x), float(q.y), float(q.z), float(q.w)


def _odometry(message: Any) -> OdometryReading:
    pose, twist = message.pose.pose, message.twist.twist
    return OdometryReading(
        np.array(_numbers(pose.position)),
        np.array(_quaternion(pose.orientation)),
        np.array(_numbers(twist.linear)),
        np.array(_numbers(twist.angular)),
        str(message.header.frame_id),
        str(message.child_frame_id),
    )


def _inertial(message: Any) -> ImuReading:
    """Return a reading; a first element of -1 of a covariance says that there is no such measurement (sensor_msgs/Imu)."""

    def measured(values: Numbers, covariance: Any) -> Array:
        return np.full(len(values), np.nan) if float(covariance[0]) == -1.0 else np.array(values)

    return ImuReading(
        measured(_quaternion(message.orientation), message.orientation_covariance),
        measured(_numbers(message.angular_velocity), message.angular_velocity_covariance),
        measured(_numbers(message.linear_acceleration), message.linear_acceleration_covariance),
        str(message.header.frame_id),
    )


def _range(message: Any) -> RangeReading:
    distance = np.array([float(message.range)])
    return RangeReading(distance, float(message.min_range), float(message.max_range), str(message.header.frame_id))


def stamp_of(header: Any) -> int:
    """Return the stamp of a header [ns]."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def _transforms(message: Any) -> Transforms:
    return Transforms(
        tuple(
            Transform(
                str(one.header.frame_id),
                str(one.child_frame_id),
                stamp_of(one.header),
                _numbers(one.transform.translation),
                _quaternion(one.transform.rotation),
            )
            for one in message.transforms
        )
    )


def _detections(message: Any) -> Detections:
    """Return the best of each name; frame and stamp of a detection's own count, and a score that is not finite is none."""
    best: dict[str, tuple[float, int, LocatedReading]] = {}
    for detection in message.detections:
        frame = str(detection.header.frame_id) or str(message.header.frame_id)
        for result in detection.results:
            score = float(result.hypothesis.score)
            if not math.isfinite(score):
                continue
            names = {str(result.hypothesis.class_id), str(detection.id)} - {""}
            better = [name for name in names if name not in best or score > best[name][0]]
            if better:
                pose = result.pose.pose
                where = np.array(_numbers(pose.position)), np.array(_quaternion(pose.orientation))
                reading = LocatedReading(*where, frame)
                best.update(dict.fromkeys(better, (score, stamp_of(detection.header), reading)))
    return Detections(len(message.detections), best)


#: How each message type is read.
SENSOR_MESSAGES: dict[str, Callable[[Any], Sensed]] = {
    "nav_msgs/msg/Odometry": _odometry,
    "sensor_msgs/msg/Imu": _inertial,
    "sensor_msgs/msg/Range": _range,
    TRANSFORMS: _transforms,
    DETECTIONS: _detections,
}
