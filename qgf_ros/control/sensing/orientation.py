"""Orientations as networks get them: quaternions of one sign, angles, columns of a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.errors import ObservationError

Array = NDArray[np.float64]


class Rotated:
    """A reading that has an orientation, a quaternion in ROS order (x, y, z, w)."""

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


def yaw_of(quaternion_xyzw: Array) -> float:
    """Return the rotation about z [rad] of a quaternion (x, y, z, w), in (-pi, pi]."""
    x, y, z, w = quaternion_xyzw.tolist()  # Python's own numbers are faster one by one
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def no_rotation(field: ObservationField, given: Array) -> ObservationError:
    """Return the error of a field whose quaternion (x, y, z, w) has no `Rotated.unit_quaternion`."""
    return ObservationError(
        f"field {field.name}: topic {field.source} gives a quaternion of length {math.hypot(*given.tolist()):.4g}, which is no "
        f"rotation; expected 1, to {LENGTH_TOLERANCE:.0%}"
    )


def _xyzw(q: Array, field: ObservationField) -> Array:
    mean = None if field.sign_follows else field.mean_quaternion
    return -q if mean is not None and _product(q, mean) < 0.0 else q


def _wxyz(q: Array, field: ObservationField) -> Array:
    ordered = np.array([q[3], q[0], q[1], q[2]])
    mean = None if field.sign_follows else field.mean_quaternion
    return -ordered if mean is not None and _product(ordered, mean) < 0.0 else ordered


def _yaw(q: Array, field: ObservationField) -> Array:
    return np.array([yaw_of(q)])


def _yaw_cos_sin(q: Array, field: ObservationField) -> Array:
    yaw = yaw_of(q)
    return np.array([np.cos(yaw), np.sin(yaw)])


def _two_columns(q: Array, field: ObservationField) -> Array:
    """Return the first two columns of the rotation matrix, one after the other (Zhou et al., 2019)."""
    x, y, z, w = q.tolist()
    first = 1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)
    return np.array([*first, 2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)])


#: What is made of an orientation, a unit quaternion (x, y, z, w).
TURNS: dict[str, Callable[[Array, ObservationField], Array]] = {
    "quaternion_xyzw": _xyzw,
    "quaternion_wxyz": _wxyz,
    "yaw": _yaw,
    "yaw_cos_sin": _yaw_cos_sin,
    "rotation_6d": _two_columns,
}


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

    def __call__(self, stamp: int, q: Array) -> Array:
        """Return a quaternion (x, y, z, w) stamped `stamp` [ns], later than the one before, with its sign; the same if that."""
        last = self._last
        reference = self._mean if last is None or abs(stamp - last[0]) > _FOLLOWED_FOR else last[1]
        nearness = _product(q, reference)
        if nearness < 0.0:
            q = -q
        if math.isfinite(nearness):
            self._last = stamp, q.tolist()
        return q
