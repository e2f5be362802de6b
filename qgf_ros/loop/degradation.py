"""What becomes of inference that is too slow: late chunks are dropped, less is asked for, and more again. No clock here.

Below what was asked for lie three fallbacks: one sample; plain behaviour cloning of one sample; and the same with nothing
sent, only to see when it is in time again. Late inferences in a row lead down, those in time in a row lead up. That
takes more of them than the way down, and after an attempt that failed twice as many, so that a machine that can just
not do what is asked does not stumble every few seconds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import IntEnum

from qgf_ros.control.run_options import RunOptions

#: Inferences in time, in a row, that lead one fallback up.
RECOVERY = 20
#: After failed attempts it takes at most so many times as many.
MOST_PATIENCE = 8


class Fallback(IntEnum):
    """How much is asked of inference; the higher the number, the less."""

    AS_ASKED = 0
    ONE_SAMPLE = 1
    PLAIN_BC = 2
    HOLD = 3

    @property
    def words(self) -> str:
        """What happens there, for people."""
        return ("as asked", "one sample", "plain behaviour cloning", "hold")[self]


class Degradation:
    """Judges how long inferences took and decides on the settings to use.

    Args:
        period: Control period [s].
        horizon: Actions of a chunk.
        deadline: An inference that takes longer [s] is late; None for as long as a chunk lasts: after that time nothing of
            it is left to execute.
        misses: Late inferences in a row that lead one fallback down.

    Attributes:
        fallback: Where it is now.
        late: How many inferences were late so far.
        misses: As given.
    """

    def __init__(self, period: float, horizon: int, *, deadline: float | None = math.inf, misses: int = 3) -> None:
        self._period = period
        self._horizon = horizon
        self._deadline = deadline
        self.misses = misses
        self.fallback = Fallback.AS_ASKED
        self.late = 0
        self._late_in_a_row = 0
        self._in_time = 0
        self._patience = 1
        self._climbed = False

    def deadline(self, asked: RunOptions) -> float:
        """Return how long an inference of these settings may take [s]."""
        if self._deadline is not None:
            return self._deadline
        return self._period * (self._horizon if asked.asynchronous else asked.execution_horizon)

    def note(self, seconds: float, asked: RunOptions) -> bool:
        """Note that an inference took so long [s]; return whether its chunk is late, and to be dropped."""
        late = not seconds <= self.deadline(asked)
        if late:
            self.late += 1
            self._in_time = 0
            self._late_in_a_row += 1
            if self._late_in_a_row >= self.misses:
                self._descend(asked)
        else:
            self._late_in_a_row = 0
            self._in_time += 1
            if self._in_time >= RECOVERY * self._patience:
                self._climb(asked)
        return late

    def settings(self, asked: RunOptions) -> RunOptions:
        """Return the settings to use where these are asked for."""
        if self.fallback is Fallback.AS_ASKED:
            return asked
        if self.fallback is Fallback.ONE_SAMPLE:
            return replace(asked, num_samples=1)
        # The slew limit would keep the critic, and what it takes, in use for a while.
        return replace(asked, num_samples=1, guidance_weight=0.0, guidance_weight_slew=math.inf)

    def figures(self) -> dict[str, str | int | float]:
        """Return what telemetry and diagnostics say of it."""
        return {"degradation": self.fallback.words, "late_chunks": self.late}

    def _descend(self, asked: RunOptions) -> None:
        self._late_in_a_row = 0
        if self._climbed:
            self._patience = min(2 * self._patience, MOST_PATIENCE)
        self._climbed = False
        self.fallback = min((one for one in _fallbacks(asked) if one > self.fallback), default=Fallback.HOLD)

    def _climb(self, asked: RunOptions) -> None:
        self._in_time = 0
        self._climbed = self.fallback is not Fallback.AS_ASKED
        if not self._climbed:
            self._patience = 1
        self.fallback = max((one for one in _fallbacks(asked) if one < self.fallback), default=Fallback.AS_ASKED)


def _fallbacks(asked: RunOptions) -> list[Fallback]:
    """Return the fallbacks that differ for these settings."""
    differs = (True, asked.num_samples > 1, asked.guidance_weight > 0.0, True)
    return [one for one in Fallback if differs[one]]
