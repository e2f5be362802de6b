"""Whether the robot follows: the command is held to what is measured, and a reading that stands still is a fault."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ActionField

Array = NDArray[np.float64]

#: A robot may lag behind its command by what it moves at its `max_rate` in so many control periods, or so many seconds.
LAG_PERIODS, LAG_SECONDS = 5.0, 0.25
#: Where the manifest does not say: how long [s] a reading may stand still, and how far from it the command must be for that
#: to mean anything, as a share of the largest tracking error. Far above the step of a coarse encoder.
STUCK_AFTER, STUCK_SHARE = 1.0, 0.5
#: A robot stands that was measured to move by less than this share of its largest tracking error, in half of the time that it
#: may lag: at a fifth of `max_rate` it moves so far.
STANDS_SHARE = 0.1
#: From here on [unit] the largest tracking error says that nobody minds: a gripper keeps its command, and so its force.
UNBOUNDED = 1e9
#: Rounding that the largest tracking error is allowed, relative to it; observations are float32.
_ROUNDING = 1e-6


def largest_tracking_error(field: ActionField, period: float) -> float:
    """Return how far the command may be from the measured value [unit]; inf where that is not watched.

    Args:
        field: The component; only an absolute one that is measured is watched.
        period: Control period [s].
    """
    if field.hold is not None or field.measured is None:
        return np.inf
    if field.max_tracking_error is not None:
        return field.max_tracking_error
    return np.inf if field.max_rate is None else field.max_rate * max(LAG_PERIODS * period, LAG_SECONDS)


class Deviation(NamedTuple):
    """Why the robot does not follow: `kind` is "tracking" or "stuck", and `reason` one sentence for people."""

    kind: str
    reason: str


class TrackingGuard:
    """Compares the last command with what is measured, once a control period.

    Where they are too far apart, it says so until the measured value is back within, or all begins anew: a robot that
    is blocked, or stopped by its own safety controller, must not be led on, and not jump when it is released. A reading
    that is bit for bit the same for a while although it was commanded away from is no measurement.

    A robot that not only lags, but stands, may be given way: its command is led back to where it is measured. Then
    nothing tells any more that it is free, and the guard waits until it has moved, or is excused.

    Args:
        fields: The action contract.
        period: Control period [s].

    Attributes:
        stands: Whether the robot that was found not to follow stands, and is not given way yet.
    """

    def __init__(self, fields: Sequence[ActionField], period: float) -> None:
        self._fields = tuple(fields)
        self._period = period
        self._most = np.array([largest_tracking_error(field, period) for field in fields])
        self._far = np.array([one.stuck_distance or STUCK_SHARE * most for one, most in zip(fields, self._most)])
        patience = np.array([field.stuck_after or STUCK_AFTER for field in fields])
        self._patience = np.ceil(patience / period - 1e-9)
        self._watches = bool(np.isfinite(self._far).any())
        lag = max(LAG_PERIODS * period, LAG_SECONDS)
        self._readings: deque[Array] = deque(maxlen=1 + int(np.ceil(0.5 * lag / period - 1e-9)))
        self._gave_way: Array | None = None  # where it was then
        self._culprit, self._reason = 0, ""  # of that
        self.clear()

    def clear(self) -> None:
        """Forget what was measured, and that the robot did not follow; one that was given way waits on."""
        self.stands = self._lost = False
        self._readings.clear()
        self._reading = np.full(len(self._fields), np.nan)
        self._still = np.zeros(len(self._fields))

    def give_way(self) -> Array:
        """Return where the command of the robot, which stands, is to be led back to, float64 [A]; NaN for what stays."""
        self.stands = False
        self._gave_way = self._reading
        return np.where(self._most < UNBOUNDED, self._reading, np.nan)

    def excuse(self) -> None:
        """Wait no longer for a robot that was given way: somebody says that it may go on."""
        if self._gave_way is not None:
            self._gave_way = None
            self.clear()

    def check(self, commanded: Array | None, measured: Array, *, commanding: bool) -> Deviation | None:
        """Return why the robot does not follow; None if it does, or if nothing was commanded.

        Args:
            commanded: The last command or hold, float64 [A]; None where there was none.
            measured: Where the robot is now, float64 [A]; NaN if unknown.
            commanding: Whether it was a command; a robot that is held for another reason may be moved by anyone.
        """
        if not self._watches:
            return None
        if self._gave_way is not None:
            return self._wait(self._gave_way, measured)
        if commanded is None:
            return None
        if not (commanding or self._lost):
            self.clear()
            return None
        error = np.abs(commanded - measured)
        self._still = np.where((error >= self._far) & (measured == self._reading), self._still + 1.0, 0.0)
        self._reading = measured
        self._readings.append(measured)
        stuck, beyond = self._still >= self._patience, error > self._most * (1.0 + _ROUNDING)
        self._lost = bool(stuck.any() or beyond.any())
        if not self._lost:
            return None
        moved = np.abs(measured - self._readings[0]) > STANDS_SHARE * self._most
        full = len(self._readings) == self._readings.maxlen
        self.stands = bool((~moved)[stuck | beyond].all() and (full or stuck.any()))
        self._culprit = i = int(np.argmax(stuck if stuck.any() else beyond))
        field = self._fields[i]
        self._reason = f"{error[i]:.4g} {field.unit} from its command {commanded[i]:.4g}"
        return self._deviation(stuck=bool(stuck.any()))

    def _deviation(self, *, stuck: bool) -> Deviation:
        i, field = self._culprit, self._fields[self._culprit]
        if stuck:
            return Deviation(
                "stuck",
                f"action {field.name} is measured {self._reason} and has not changed by one bit for "
                f"{self._still[i] * self._period:.2f} s; its sensor is stuck, or the robot blocked or stopped",
            )
        return Deviation(
            "tracking",
            f"action {field.name} is measured {self._reason}, at most {self._most[i]:.4g} is allowed; the robot is blocked or "
            "stopped, or follows too slowly: free it, or lower max_rate",
        )

    def _wait(self, place: Array, measured: Array) -> Deviation | None:
        """Return that the robot was given way at `place`, float64 [A], as long as it is measured to be there."""
        if (np.abs(measured - place) >= self._far).any():
            self.excuse()
            return None
        self._still = np.where(measured == self._reading, self._still + 1.0, 0.0)
        self._reading = measured
        i = self._culprit
        kind, reason = self._deviation(stuck=bool(self._still[i] >= self._patience[i]))
        return Deviation(
            kind,
            f"{reason}; the command was led back, and goes on from where the robot is once that is measured to have moved by "
            f"{self._far[i]:.4g} {self._fields[i].unit}, or after ~/resume",
        )
