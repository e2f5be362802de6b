"""Readings of topics, and what a field of the observation contract takes out of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
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

    @cached_property
    def unit_quaternion(self) -> Array | None:
        """The quaternion at length 1, the same bits where it has that; None where it is off by more than 1 %.

        What is not finite stays as it is: whoever takes it says so.
        """
        x, y, z, w = self.quaternion_xyzw.tolist()  # Python's own numbers are faster one by one
        square = x * x + y * y + z * z + w * w
        if abs(square - 1.0) <= _ROUNDING or not math.isfinite(x + y + z + w):
            return self.quaternion_xyzw
        length = math.sqrt(square)
        return self.quaternion_xyzw / length if abs(length - 1.0) <= LENGTH_TOLERANCE else None


#: A quaternion that is longer or shorter than 1 by more is none of a rotation [1].
LENGTH_TOLERANCE = 0.01
#: Of the square of its length, to float32, which leaves it as it is [1].
_ROUNDING = 1e-6


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
        q = _rotation(field, reading)
        if kind.startswith("quaternion_"):
            ordered = q if kind == "quaternion_xyzw" else np.array([q[3], q[0], q[1], q[2]])
            mean = None if field.sign_follows else field.mean_quaternion
            return -ordered if mean is not None and _product(ordered, mean) < 0.0 else ordered
        yaw = yaw_of(q)
        return np.array([yaw]) if kind == "yaw" else np.array([np.cos(yaw), np.sin(yaw)])
    if isinstance(reading, TwistReading):
        return reading.linear if kind == "linear" else reading.angular
    if isinstance(reading, WrenchReading):
        if kind == "wrench_norm":
            return np.array([np.sqrt((reading.torque**2).sum() + (reading.force**2).sum())])
        return reading.force if kind == "force" else reading.torque
    return reading.data


def _rotation(field: ObservationField, reading: PoseReading) -> Array:
    q = reading.unit_quaternion
    if q is None:
        length = math.hypot(*reading.quaternion_xyzw.tolist())
        raise ObservationError(
            f"field {field.name}: topic {field.topic} gives a quaternion of length {length:.4g}, which is no rotation; "
            f"expected 1, to {LENGTH_TOLERANCE:.0%}"
        )
    return q


def _product(q: Array, other: Sequence[float]) -> float:
    """Return the inner product of two quaternions; where it is negative, -q is nearer to the other than q."""
    a, b, c, d = q.tolist()
    return float(a * other[0] + b * other[1] + c * other[2] + d * other[3])


#: After a longer time without a reading its sign does not follow from the one before [ns].
_FOLLOWED_FOR = 900_000_000


class FollowedSign:
    """Gives the quaternions of a topic the sign nearer to the one before, and the first that nearer to a mean.

    Args:
        field: A field of the topic whose sign follows.
    """

    def __init__(self, field: ObservationField) -> None:
        assert field.mean_quaternion is not None
        a, b, c, d = field.mean_quaternion
        self._mean = (b, c, d, a) if field.extraction == "quaternion_wxyz" else (a, b, c, d)
        self._last: tuple[int, Sequence[float]] | None = None

    def __call__(self, stamp: int, reading: Reading) -> Reading:
        """Return a reading stamped `stamp` [ns], later than the one before, with its sign; another type as it is."""
        if not isinstance(reading, PoseReading):
            return reading
        last, q = self._last, reading.quaternion_xyzw
        reference = self._mean if last is None or stamp - last[0] > _FOLLOWED_FOR else last[1]
        nearness = _product(q, reference)
        if nearness < 0.0:
            reading = PoseReading(reading.position, -q)
        if math.isfinite(nearness):
            self._last = stamp, reading.quaternion_xyzw.tolist()
        return reading


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
            self._scale[place].reshape(-1, field.instant_size)[:] = field.scale
            if field.clip is not None:
                self._clipped.append((place, *field.clip))

    def __call__(self, raw: Array) -> Array:
        """Return the scaled values, float64, of as many extracted ones."""
        values: Array = (raw - self._offset) * self._scale
        for place, lower, upper in self._clipped:
            values[place] = np.clip(values[place], lower, upper)
        return values
