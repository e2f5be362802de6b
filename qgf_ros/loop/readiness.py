"""Whether the robot takes commands, by what its driver says. No ROS in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qgf_ros.control.robot_contract import DriverState


class DriverReadiness:
    """What the driver said last, state by state; the robot is ready once each was heard and says so.

    A value with a `max_age` counts for so long, as told by the node's clock. One without it, which the driver tells when it
    changes, counts until it is replaced, or forgotten because its publisher is gone.

    Args:
        states: What the driver has to say.
    """

    def __init__(self, states: Sequence[DriverState]) -> None:
        self.states = tuple(states)
        self._heard: list[tuple[Any, int] | None] = [None] * len(self.states)

    def hear(self, index: int, value: Any, now: int) -> bool:
        """Take the value of a state, by its index, at `now` [ns]; return whether it tells of another readiness than before."""
        state, before = self.states[index], self._heard[index]
        self._heard[index] = value, now
        return before is None or state.accepts(before[0]) is not state.accepts(value)

    def forget(self, index: int) -> None:
        """Take a state, by its index, as never heard."""
        self._heard[index] = None

    def value(self, index: int) -> Any:
        """Return what a state, by its index, was heard to be; None if nothing."""
        heard = self._heard[index]
        return None if heard is None else heard[0]

    def complaint(self, index: int, now: int) -> str | None:
        """Say why the robot is not ready by one state, by its index, at `now` [ns], or None if it is."""
        state, heard = self.states[index], self._heard[index]
        name = state.topic if state.field == "data" else f"{state.topic} {state.field}"
        if heard is None:
            return (
                f"driver state {name}: nothing received yet, expected {state.expected}; start the driver, or see who "
                "publishes it"
            )
        value, at = heard
        if not state.accepts(value):
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            return f"driver state {name} is {shown}, expected {state.expected}; make the robot ready again, the node goes on then"
        age = abs(now - at) * 1e-9  # a clock that falls back makes nothing fresh
        if state.max_age is not None and age > state.max_age:
            return f"driver state {name} is stale, {age:.2f} s old, at most {state.max_age:g} s allowed; see its driver"
        return None

    def reason(self, now: int) -> str | None:
        """Say why the robot is not ready at `now` [ns], by the first state that is the matter, or None if it is."""
        complaints = (self.complaint(index, now) for index in range(len(self.states)))
        return next((complaint for complaint in complaints if complaint is not None), None)
