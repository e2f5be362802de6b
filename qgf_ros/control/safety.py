"""The last gate before a command leaves: scaled, finite, inside its limits, no faster than allowed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import ActionField
from qgf_ros.errors import SafetyError


class SafetyEnvelope:
    """Turns normalised actions into commands in physical units and keeps them inside the manifest's limits.

    Args:
        fields: The action contract.
        period: Control period [s].
    """

    def __init__(self, fields: Sequence[ActionField], period: float) -> None:
        self._names = [field.name for field in fields]
        self._scale = np.array([field.scale for field in fields])
        self._lower = np.array([field.lower for field in fields])
        self._upper = np.array([field.upper for field in fields])
        rates = [np.inf if field.max_rate is None else field.max_rate for field in fields]
        self._largest_change = np.array(rates) * period
        self._still = np.array([np.nan if field.hold is None else field.hold for field in fields])
        self._previous: NDArray[np.float64] | None = None
        self.interventions = 0

    def clear(self) -> None:
        """Forget the previous command, so that the next one is not rate-limited against it."""
        self._previous = None

    def command(self, action: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the command of a normalised action.

        Args:
            action: float32 [A], in [-1, 1].

        Returns:
            float64 [A] in the units of the action contract.

        Raises:
            SafetyError: The action is not finite or has another length than the action contract.
        """
        if action.shape != self._scale.shape:
            raise SafetyError(
                f"an action of shape {action.shape} was given, expected {self._scale.shape} for {', '.join(self._names)}; "
                "nothing was sent, export the bundle again"
            )
        if not np.isfinite(action).all():
            bad = [name for name, value in zip(self._names, action) if not np.isfinite(value)]
            raise SafetyError(
                f"action {', '.join(bad)} is not finite; nothing was sent, check the observation and the bundle"
            )
        wanted = action.astype(np.float64) * self._scale
        command: NDArray[np.float64] = np.clip(wanted, self._lower, self._upper)
        if self._previous is not None:
            command = np.clip(command, self._previous - self._largest_change, self._previous + self._largest_change)
        self.interventions += int((command != wanted).any())
        self._previous = command
        return np.array(command)

    def hold(self) -> NDArray[np.float64] | None:
        """Return the command that keeps the robot still, at once and whatever the rate limit.

        Returns:
            float64 [A] in the units of the action contract, or None when an action can only repeat the last command
            and there is none: the robot then has nothing to be stopped from.
        """
        repeated = np.isnan(self._still)
        if self._previous is None and repeated.any():
            return None
        command = self._still if self._previous is None else np.where(repeated, self._previous, self._still)
        self._previous = command
        return np.array(command)
