"""Simulated time: the stamps of the bridge's observations and its /clock."""

from __future__ import annotations

#: How far simulated time jumps at a reset [s]: longer than any action chunk, so that none survives into an episode.
RESET_JUMP = 1.0


class SimulatedClock:
    """Counts control steps in nanoseconds and never goes back, resets included.

    Args:
        start: First time [ns]; the wall clock's, so that time also grows when a bridge is started again.
        period: Control period [s].
    """

    def __init__(self, start: int, period: float) -> None:
        self.now = start
        self._period = round(period * 1e9)

    def step(self) -> int:
        """Advance by one control period and return the new time [ns]."""
        self.now += self._period
        return self.now

    def reset(self) -> int:
        """Jump ahead to the start of another episode and return the new time [ns]."""
        self.now += round(RESET_JUMP * 1e9)
        return self.now
