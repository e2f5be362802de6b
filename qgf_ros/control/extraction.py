"""Readings of topics, and what a field of the observation contract takes out of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.messages.message_types import DETECTIONS, TRANSFORMS
from qgf_ros.control.sensing.further_readings import (
    ImuReading,
    LocatedReading,
    MissedReading,
    OdometryReading,
    RangeReading,
)
from qgf_ros.control.sensing.orientation import TURNS, FollowedSign, Rotated, no_rotation
from qgf_ros.control.sensing.sensor_messages import Detections, Transforms
from qgf_ros.control.vision.pictures import Picture
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
class PoseReading(Rotated):
    """Position [m] and orientation, in a frame."""

    position: Array
    quaternion_xyzw: Array
    frame_id: str = ""


@dataclass(frozen=True)
class TwistReading:
    """Linear velocity [m/s] and angular velocity [rad/s], in a frame."""

    linear: Array
    angular: Array
    frame_id: str = ""


@dataclass(frozen=True)
class WrenchReading:
    """Force [N] and torque [N m], in a frame."""

    force: Array
    torque: Array
    frame_id: str = ""


@dataclass(frozen=True)
class VectorReading:
    """A plain vector, such as a Float64MultiArray."""

    data: Array


Reading: TypeAlias = (
    JointReading
    | PoseReading
    | TwistReading
    | WrenchReading
    | VectorReading
    | OdometryReading
    | ImuReading
    | RangeReading
    | LocatedReading
    | MissedReading
)

#: What a message says, that of a camera, too, and those of which a field is given a part.
Said: TypeAlias = Reading | Picture | Transforms | Detections

READING_TYPES: dict[str, type] = {
    "sensor_msgs/msg/JointState": JointReading,
    "geometry_msgs/msg/PoseStamped": PoseReading,
    "geometry_msgs/msg/TwistStamped": TwistReading,
    "geometry_msgs/msg/WrenchStamped": WrenchReading,
    "std_msgs/msg/Float32MultiArray": VectorReading,
    "std_msgs/msg/Float64MultiArray": VectorReading,
    "nav_msgs/msg/Odometry": OdometryReading,
    "sensor_msgs/msg/Imu": ImuReading,
    "sensor_msgs/msg/Range": RangeReading,
    TRANSFORMS: LocatedReading,
    DETECTIONS: LocatedReading,
}


#: Where a joint extraction finds its values in a reading.
_JOINT_VALUES = {
    "joint_position": "position",
    "joint_position_cos_sin": "position",
    "joint_velocity": "velocity",
    "joint_effort": "effort",
}


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
            f"field {field.name}: topic {field.source} has no joint {', '.join(missing)}; it has {', '.join(names) or 'none'}"
        )
    if len(values) != len(names):
        raise ObservationError(
            f"field {field.name}: topic {field.source} carries {len(values)} values for {len(names)} joints"
        )
    return values[places]


def _extract(field: ObservationField, reading: Reading) -> Array:
    kind = field.extraction
    if isinstance(reading, JointReading):
        chosen = _joints(field, reading.names, getattr(reading, _JOINT_VALUES[kind]))
        return np.concatenate([np.cos(chosen), np.sin(chosen)]) if kind == "joint_position_cos_sin" else chosen
    if kind in TURNS and isinstance(reading, Rotated):
        unit = reading.unit_quaternion
        if unit is None:
            raise no_rotation(field, reading.quaternion_xyzw)
        return TURNS[kind](unit, field)
    if kind == "wrench_norm" and isinstance(reading, WrenchReading):
        return np.array([np.sqrt((reading.torque**2).sum() + (reading.force**2).sum())])
    if kind == "range" and isinstance(reading, RangeReading) and not reading.can_tell:
        raise ObservationError(
            f"field {field.name}: topic {field.source} gives a range of {reading.range[0]:.4g} m, and its sensor can tell "
            f"{reading.shortest:.4g} to {reading.longest:.4g} m"
        )
    values: Array = getattr(reading, kind)  # which is called as what is taken out
    return values


def with_sign(sign: FollowedSign, stamp: int, reading: Reading) -> Reading:
    """Return a reading stamped `stamp` [ns] with the sign that follows from the ones before; what has none, as it is."""
    if not isinstance(reading, Rotated):
        return reading
    q = sign(stamp, reading.quaternion_xyzw)
    return reading if q is reading.quaternion_xyzw else replace(reading, quaternion_xyzw=q)


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
        if isinstance(reading, MissedReading):
            raise ObservationError(f"field {field.name}: topic {field.source} {reading.why}")
        raise ObservationError(
            f"field {field.name}: topic {field.source} gave a {type(reading).__name__}, expected {expected.__name__}"
        )
    if field.frame_id is not None or field.child_frame_id is not None:
        _check_frames(field, reading)
    raw = np.asarray(_extract(field, reading), dtype=np.float64)
    if field.components:
        if raw.ndim != 1 or len(raw) <= max(field.components):
            raise ObservationError(
                f"field {field.name}: topic {field.source} gave shape {raw.shape}, "
                f"expected at least {max(field.components) + 1} values"
            )
        raw = raw[list(field.components)]
    if raw.shape != (field.instant_size,):
        raise ObservationError(
            f"field {field.name}: topic {field.source} gave shape {raw.shape}, expected ({field.instant_size},)"
        )
    return raw


def _check_frames(field: ObservationField, reading: Reading) -> None:
    for name, wanted in field.names.items():
        given = getattr(reading, name, wanted)
        if given != wanted:
            raise ObservationError(
                f"field {field.name}: topic {field.source} has {name} {given[:80]!r}, expected {wanted}; give the topic that is "
                "of that frame, or its frame in the contract"
            )


def not_finite(field: ObservationField) -> ObservationError:
    """Return the error of a field that a reading leaves without a finite value."""
    return ObservationError(f"field {field.name}: topic {field.source} holds a value that is not finite")


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
