"""Whether the robot follows: the command is held to what is measured, and a reading that stands still is a fault."""

from __future__ import annotations

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

    Args:
        fields: The action contract.
        period: Control period [s].
    """

    def __init__(self, fields: Sequence[ActionField], period: float) -> None:
        self._fields = tuple(fields)
        self._period = period
        self._most = np.array([largest_tracking_error(field, period) for field in fields])
        self._far = np.array([one.stuck_distance or STUCK_SHARE * most for one, most in zip(fields, self._most)])
        patience = np.array([field.stuck_after or STUCK_AFTER for field in fields])
        self._patience = np.ceil(patience / period - 1e-9)
        self._watches = bool(np.isfinite(self._far).any())
        self.clear()

    def clear(self) -> None:
        """Forget what was measured, and that the robot did not follow."""
        self._lost = False
        self._reading = np.full(len(self._fields), np.nan)
        self._still = np.zeros(len(self._fields))

    def check(self, commanded: Array | None, measured: Array, *, commanding: bool) -> Deviation | None:
        """Return why the robot does not follow; None if it does, or if nothing was commanded.

        Args:
            commanded: The last command or hold, float64 [A]; None where there was none.
            measured: Where the robot is now, float64 [A]; NaN if unknown.
            commanding: Whether it was a command; a robot that is held for another reason may be moved by anyone.
        """
        if not self._watches or commanded is None:
            return None
        if not (commanding or self._lost):
            self.clear()
            return None
        error = np.abs(commanded - measured)
        self._still = np.where((error >= self._far) & (measured == self._reading), self._still + 1.0, 0.0)
        self._reading = measured
        stuck, beyond = self._still >= self._patience, error > self._most * (1.0 + _ROUNDING)
        self._lost = bool(stuck.any() or beyond.any())
        if not self._lost:
            return None
        i = int(np.argmax(stuck if stuck.any() else beyond))
        field = self._fields[i]
        apart = f"{error[i]:.4g} {field.unit} from its command {commanded[i]:.4g}"
        if stuck.any():
            return Deviation(
                "stuck",
                f"action {field.name} is measured {apart} and has not changed by one bit for "
                f"{self._still[i] * self._period:.2f} s; its sensor is stuck, or the robot blocked or stopped",
            )
        return Deviation(
            "tracking",
            f"action {field.name} is measured {apart}, at most {self._most[i]:.4g} is allowed; the robot is blocked or "
            "stopped, or follows too slowly: free it, or lower max_rate",
        )
