"""Observation contract: readings of topics in, one checked vector out.

A *reading* is a message without ROS: plain arrays in SI units. The node turns messages into readings, the simulated
environment makes them directly; both then go through this module, so that the vector a policy sees is the same bits
on a robot, over the bridge and in process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import ObservationField
from qgf_ros.errors import ObservationError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JointReading:
    """Joint positions [rad or m], velocities [rad/s or m/s] and efforts [N m or N]; empty where not measured."""

    names: tuple[str, ...]
    position: Array
    velocity: Array
    effort: Array


@dataclass(frozen=True)
class PoseReading:
    """Position [m] and orientation quaternion in ROS order (x, y, z, w)."""

    position: Array
    quaternion_xyzw: Array


@dataclass(frozen=True)
class TwistReading:
    """Linear velocity [m/s] and angular velocity [rad/s]."""

    linear: Array
    angular: Array


@dataclass(frozen=True)
class WrenchReading:
    """Force [N] and torque [N m]."""

    force: Array
    torque: Array


@dataclass(frozen=True)
class VectorReading:
    """A plain vector, such as a Float64MultiArray."""

    data: Array


Reading: TypeAlias = JointReading | PoseReading | TwistReading | WrenchReading | VectorReading

READING_TYPES: dict[str, type] = {
    "sensor_msgs/msg/JointState": JointReading,
    "geometry_msgs/msg/PoseStamped": PoseReading,
    "geometry_msgs/msg/TwistStamped": TwistReading,
    "geometry_msgs/msg/WrenchStamped": WrenchReading,
    "std_msgs/msg/Float64MultiArray": VectorReading,
}


def yaw_of(quaternion_xyzw: Array) -> float:
    """Return the rotation about z [rad] of a quaternion (x, y, z, w), in (-pi, pi]."""
    x, y, z, w = quaternion_xyzw
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def _joints(field: ObservationField, names: tuple[str, ...], values: Array) -> Array:
    index = {name: i for i, name in enumerate(names)}
    missing = [name for name in field.joints if name not in index]
    if missing:
        raise ObservationError(
            f"field {field.name}: topic {field.topic} has no joint {', '.join(missing)}; it has {', '.join(names) or 'none'}"
        )
    if len(values) != len(names):
        raise ObservationError(
            f"field {field.name}: topic {field.topic} carries {len(values)} values for {len(names)} joints"
        )
    return np.array([values[index[name]] for name in field.joints], dtype=np.float64)


def _extract(field: ObservationField, reading: Reading) -> Array:
    kind = field.extraction
    if isinstance(reading, JointReading):
        values = {
            "joint_position": reading.position,
            "joint_velocity": reading.velocity,
            "joint_effort": reading.effort,
        }[kind]
        return _joints(field, reading.names, values)
    if isinstance(reading, PoseReading):
        if kind == "position":
            return reading.position
        q = reading.quaternion_xyzw
        if kind == "quaternion_wxyz":
            return np.array([q[3], q[0], q[1], q[2]])
        yaw = yaw_of(q)
        return np.array([yaw]) if kind == "yaw" else np.array([np.cos(yaw), np.sin(yaw)])
    if isinstance(reading, TwistReading):
        return reading.linear if kind == "linear" else reading.angular
    if isinstance(reading, WrenchReading):
        if kind == "wrench_norm":
            return np.array([np.sqrt(np.sum(reading.torque**2) + np.sum(reading.force**2))])
        return reading.force if kind == "force" else reading.torque
    return reading.data


def extract(field: ObservationField, reading: Reading) -> Array:
    """Return the scaled block of one field.

    Args:
        field: The contract of the block.
        reading: A reading of the field's topic.

    Returns:
        float64 [field.size].

    Raises:
        ObservationError: The reading is of another type or shape, lacks a joint, or is not finite.
    """
    expected = READING_TYPES[field.message_type]
    if not isinstance(reading, expected):
        raise ObservationError(
            f"field {field.name}: topic {field.topic} gave a {type(reading).__name__}, expected {expected.__name__}"
        )
    raw = np.asarray(_extract(field, reading), dtype=np.float64)
    if raw.shape != (field.size,):
        raise ObservationError(
            f"field {field.name}: topic {field.topic} gave shape {raw.shape}, expected ({field.size},)"
        )
    if not np.isfinite(raw).all():
        raise ObservationError(f"field {field.name}: topic {field.topic} holds a value that is not finite")
    value: Array = (raw - np.asarray(field.offset)) * field.scale
    if field.clip is not None:
        value = np.clip(value, *field.clip)
    return value


@dataclass(frozen=True)
class Observation:
    """A complete, checked observation.

    Attributes:
        vector: float32 [observation_size].
        stamp: Stamp of the newest reading in it [ns].
    """

    vector: NDArray[np.float32]
    stamp: int


class ObservationAssembler:
    """Keeps the newest reading of every topic and fills the observation vector.

    Args:
        fields: The observation contract, in order.
    """

    def __init__(self, fields: Sequence[ObservationField]) -> None:
        self.fields = tuple(fields)
        self.topics = tuple(dict.fromkeys(field.topic for field in self.fields))
        self._newest: dict[str, tuple[int, Reading]] = {}

    def update(self, topic: str, stamp: int, reading: Reading) -> None:
        """Keep a reading taken at `stamp` [ns]; an older one than the one held is ignored."""
        held = self._newest.get(topic)
        if held is None or stamp >= held[0]:
            self._newest[topic] = (stamp, reading)

    def clear(self) -> None:
        """Forget every reading."""
        self._newest.clear()

    @property
    def synchronised_stamp(self) -> int | None:
        """The stamp [ns] shared by the newest reading of every topic, or None while they differ."""
        stamps = {self._newest[topic][0] if topic in self._newest else None for topic in self.topics}
        return stamps.pop() if len(stamps) == 1 else None

    def assemble(self, now: int) -> Observation:
        """Return the observation as of `now` [ns].

        Raises:
            ObservationError: A field is missing, stale, from the future by more than its max_age, misshapen or not
                finite; the message names the field and the topic.
        """
        vector = np.empty(sum(field.size for field in self.fields), dtype=np.float32)
        start = 0
        newest = 0
        for field in self.fields:
            if field.topic not in self._newest:
                raise ObservationError(f"field {field.name}: nothing received yet on topic {field.topic}")
            stamp, reading = self._newest[field.topic]
            age = (now - stamp) * 1e-9
            if age > field.max_age:
                raise ObservationError(
                    f"field {field.name}: topic {field.topic} is stale, {age:.3f} s old, at most {field.max_age:g} s allowed"
                )
            if age < -field.max_age:
                raise ObservationError(
                    f"field {field.name}: topic {field.topic} is stamped {-age:.3f} s in the future; "
                    "check that publisher and node use the same clock (use_sim_time)"
                )
            vector[start : start + field.size] = extract(field, reading)
            start += field.size
            newest = max(newest, stamp)
        return Observation(vector, newest)
