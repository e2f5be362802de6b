"""Readings of odometry, inertial units and range sensors, and of what is found among transforms or detections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.sensing.orientation import Rotated

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OdometryReading(Rotated):
    """Pose of a base in frame_id, position in [m]; its velocities [m/s, rad/s] in its own frame, child_frame_id."""

    position: Array
    quaternion_xyzw: Array
    linear: Array
    angular: Array
    frame_id: str = ""
    child_frame_id: str = ""


@dataclass(frozen=True)
class ImuReading(Rotated):
    """Orientation, angular velocity [rad/s] and acceleration [m/s^2], gravity in it; NaN where the unit measures none."""

    quaternion_xyzw: Array
    angular: Array
    linear_acceleration: Array
    frame_id: str = ""


@dataclass(frozen=True)
class RangeReading:
    """A distance [m], float64 [1], and the shortest and the longest that the sensor can tell [m]."""

    range: Array
    shortest: float
    longest: float
    frame_id: str = ""

    @property
    def can_tell(self) -> bool:
        """Whether it is a distance that the sensor can tell: nothing in reach is infinite, an error not a number (REP 117)."""
        return bool(self.shortest <= self.range[0] <= self.longest)


@dataclass(frozen=True)
class LocatedReading(Rotated):
    """Where one thing is among many, in a frame: composed of transforms, or detected. Position [m] and orientation."""

    position: Array
    quaternion_xyzw: Array
    frame_id: str = ""


@dataclass(frozen=True)
class MissedReading:
    """What was looked for in a message, and was not there, and why."""

    why: str
