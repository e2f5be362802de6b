"""Readings of topics, and what a field of the observation contract takes out of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ObservationField
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
    "std_msgs/msg/Float32MultiArray": VectorReading,
    "std_msgs/msg/Float64MultiArray": VectorReading,
}


#: Where a joint extraction finds its values in a reading.
_JOINT_VALUES = {
    "joint_position": "position",
    "joint_position_cos_sin": "position",
    "joint_velocity": "velocity",
    "joint_effort": "effort",
}


def yaw_of(quaternion_xyzw: Array) -> float:
    """Return the rotation about z [rad] of a quaternion (x, y, z, w), in (-pi, pi]."""
    x, y, z, w = quaternion_xyzw.tolist()  # Python's own numbers are faster one by one
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


@lru_cache(maxsize=256)
def _places(joints: tuple[str, ...], names: tuple[str, ...]) -> NDArray[np.intp] | None:
    """Return where the joints are among the names of a message, which seldom change; None if one is missing."""
    index = {name: i for i, name in enumerate(names)}
    if not all(name in index for name in joints):
        return None
    return np.array([index[name] for name in joints], dtype=np.intp)


def _joints(field: ObservationField, names: tuple[str, ...], values: Array) -> Array:
    places = _places(field.joints, names)
    if places is None:
        missing = [name for name in field.joints if name not in names]
        raise ObservationError(
            f"field {field.name}: topic {field.topic} has no joint {', '.join(missing)}; it has {', '.join(names) or 'none'}"
        )
    if len(values) != len(names):
        raise ObservationError(
            f"field {field.name}: topic {field.topic} carries {len(values)} values for {len(names)} joints"
        )
    return values[places]


def _extract(field: ObservationField, reading: Reading) -> Array:
    kind = field.extraction
    if isinstance(reading, JointReading):
        chosen = _joints(field, reading.names, getattr(reading, _JOINT_VALUES[kind]))
        return np.concatenate([np.cos(chosen), np.sin(chosen)]) if kind == "joint_position_cos_sin" else chosen
    if isinstance(reading, PoseReading):
        if kind == "position":
            return reading.position
        q = reading.quaternion_xyzw
        if kind.startswith("quaternion_"):
            return q if kind == "quaternion_xyzw" else np.array([q[3], q[0], q[1], q[2]])
        yaw = yaw_of(q)
        return np.array([yaw]) if kind == "yaw" else np.array([np.cos(yaw), np.sin(yaw)])
    if isinstance(reading, TwistReading):
        return reading.linear if kind == "linear" else reading.angular
    if isinstance(reading, WrenchReading):
        if kind == "wrench_norm":
            return np.array([np.sqrt((reading.torque**2).sum() + (reading.force**2).sum())])
        return reading.force if kind == "force" else reading.torque
    return reading.data


def extract(field: ObservationField, reading: Reading) -> Array:
    """Return the scaled block that one reading gives a field.

    Args:
        field: The contract of the block.
        reading: A reading of the field's topic.

    Returns:
        float64 [field.instant_size].

    Raises:
        ObservationError: The reading is of another type or shape, lacks a joint, or is not finite.
    """
    raw = instant(field, reading)
    if not np.isfinite(raw).all():
        raise not_finite(field)
    return Scaling([field], instants=1)(raw)


def instant(field: ObservationField, reading: Reading) -> Array:
    """Return what one reading gives a field, float64 [field.instant_size], neither scaled nor known to be finite."""
    expected = READING_TYPES[field.message_type]
    if not isinstance(reading, expected):
        raise ObservationError(
            f"field {field.name}: topic {field.topic} gave a {type(reading).__name__}, expected {expected.__name__}"
        )
    raw = np.asarray(_extract(field, reading), dtype=np.float64)
    if field.components:
        if raw.ndim != 1 or len(raw) <= max(field.components):
            raise ObservationError(
                f"field {field.name}: topic {field.topic} gave shape {raw.shape}, "
                f"expected at least {max(field.components) + 1} values"
            )
        raw = raw[list(field.components)]
    if raw.shape != (field.instant_size,):
        raise ObservationError(
            f"field {field.name}: topic {field.topic} gave shape {raw.shape}, expected ({field.instant_size},)"
        )
    return raw


def not_finite(field: ObservationField) -> ObservationError:
    """Return the error of a field that a reading leaves without a finite value."""
    return ObservationError(f"field {field.name}: topic {field.topic} holds a value that is not finite")


class Scaling:
    """Offset, scale and clip of several fields, applied to all their values at once.

    Args:
        fields: In the order of the values.
        instants: How many of each field's instants there are; by default its history.
    """

    def __init__(self, fields: Sequence[ObservationField], instants: int | None = None) -> None:
        sizes = [field.instant_size * (instants or field.history) for field in fields]
        ends = np.cumsum(sizes, dtype=np.intp).tolist()
        self._offset, self._scale = np.empty(sum(sizes)), np.empty(sum(sizes))
        self._clipped: list[tuple[slice, float, float]] = []
        for field, size, end in zip(fields, sizes, ends):
            place = slice(end - size, end)
            self._offset[place].reshape(-1, field.instant_size)[:] = field.offset
            self._scale[place] = field.scale
            if field.clip is not None:
                self._clipped.append((place, *field.clip))

    def __call__(self, raw: Array) -> Array:
        """Return the scaled values, float64, of as many extracted ones."""
        values: Array = (raw - self._offset) * self._scale
        for place, lower, upper in self._clipped:
            values[place] = np.clip(values[place], lower, upper)
        return values
