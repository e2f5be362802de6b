"""When to ask for a new action chunk, and which of its actions is due."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class ChunkSchedule:
    """Plays an action chunk against observation stamps.

    Actions belong to times, not to calls: action k of a chunk that answers the observation stamped t0 is due at
    t0 + k * period. A tick that is skipped therefore skips its action, and a jump in the stamps (a reset, a pause, a
    restarted sensor) ends the chunk by itself.

    Args:
        period: Control period [s].
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._chunk: NDArray[np.float32] | None = None
        self._start = 0

    def start(self, stamp: int, chunk: NDArray[np.float32]) -> None:
        """Begin a chunk, float32 [H, A], that answers the observation stamped `stamp` [ns]."""
        self._chunk = chunk
        self._start = stamp

    def clear(self) -> None:
        """Drop the chunk; the next tick needs a new one."""
        self._chunk = None

    def action(self, stamp: int, execution_horizon: int) -> NDArray[np.float32] | None:
        """Return the action due at `stamp` [ns], float32 [A], or None when a new chunk is needed.

        Args:
            stamp: Stamp of the observation to answer [ns].
            execution_horizon: How many actions of a chunk may be executed.
        """
        if self._chunk is None:
            return None
        index = round((stamp - self._start) * 1e-9 / self._period)
        if not 0 <= index < min(execution_horizon, len(self._chunk)):
            return None
        action: NDArray[np.float32] = self._chunk[index]
        return action
