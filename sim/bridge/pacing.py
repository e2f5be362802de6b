"""Which command a control step uses, and when the step is due.

Both paces are told of each observation that goes out and of each command that comes in, and answer one question: is a
step due now, and with which command? Time is passed in, so that tests need no clock.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: What became of a command. *duplicate*: of an observation already answered; *late*: of an earlier observation of this
#: episode; *foreign*: of another episode or of an observation that never went out.
Verdict = Literal["accepted", "duplicate", "late", "foreign"]


class Pace(Protocol):
    """Decides when the simulation steps."""

    late_commands: int
    held_steps: int

    def start(self, stamp: int) -> None:
        """Begin an episode whose first observation is stamped `stamp` [ns]."""
        ...

    def observed(self, stamp: int, complete: bool = True) -> None:
        """Note that the observation stamped `stamp` [ns] went out; one that is not complete cannot be answered."""
        ...

    def offer(self, stamp: int, values: Values) -> Verdict:
        """Take a command that answers the observation stamped `stamp` [ns]."""
        ...

    def due(self, now: float) -> Values | None:
        """Return the command of the step that is due at wall time `now` [s], or None when none is."""
        ...

    def wait(self, now: float) -> float:
        """Return for how long [s] nothing becomes due unless a command arrives."""
        ...


class LockstepPace:
    """One command per step, matched by stamp; waits for it as long as it takes.

    Where a message of the observation dropped out, nobody can answer: the step is due at once and stands still.

    Args:
        size: Components of a command.
    """

    def __init__(self, size: int) -> None:
        self.late_commands = 0
        self.held_steps = 0
        self._stop = np.zeros(size)
        self._complete = True
        self._first = self._current = 0
        self._answer: Values | None = None
        self._answered: int | None = None

    def start(self, stamp: int) -> None:
        """Begin an episode whose first observation is stamped `stamp` [ns]."""
        self.late_commands = 0
        self.held_steps = 0
        self._first = self._current = stamp
        self._complete = True
        self._answer = self._answered = None

    def observed(self, stamp: int, complete: bool = True) -> None:
        """Note that the observation stamped `stamp` [ns] went out; one that is not complete cannot be answered."""
        self._current = stamp
        self._complete = complete

    def offer(self, stamp: int, values: Values) -> Verdict:
        """Take a command that answers the observation stamped `stamp` [ns]; the first answer counts."""
        if not self._first <= stamp <= self._current:
            return "foreign"
        if stamp == self._answered:
            return "duplicate"
        if stamp < self._current:
            self.late_commands += 1
            return "late"
        self._answer = values
        self._answered = stamp
        return "accepted"

    def due(self, now: float) -> Values | None:
        """Return the command of the step that is due, or None while it is missing."""
        if not self._complete:
            self.held_steps += 1
            return self._stop
        answer, self._answer = self._answer, None
        return answer

    def wait(self, now: float) -> float:
        """Return for how long [s] nothing becomes due unless a command arrives."""
        return 0.0 if self._answer is not None or not self._complete else float("inf")


class RealtimePace:
    """A step per period of wall time, whether a command arrived or not.

    A step for which none arrived repeats the last command, as a robot's own controller would. A command is a relative
    motion, so repeating it for ever would drive the arm until something stops it: once the observation it answered is
    older than `hold_limit`, the step uses the zero command, which stands still (but for a sag of about 16 mm/s, as
    OGBench takes relative motions from the measured pose). Each episode starts so.

    A late command is counted; being the newest there is, it still becomes the last command.

    Args:
        period: Control period [s], in wall time; may be changed at any time.
        hold_limit: Greatest age of a repeated command [s], in simulated time.
        size: Components of a command.
    """

    def __init__(self, period: float, hold_limit: float, size: int) -> None:
        self.late_commands = 0
        self.held_steps = 0
        self.hold_limit = hold_limit
        self.period = period
        self._stop = np.zeros(size)
        self._first = self._current = 0
        self._newest: tuple[int, Values] | None = None
        self._deadline: float | None = None

    def start(self, stamp: int) -> None:
        """Begin an episode whose first observation is stamped `stamp` [ns]."""
        self.late_commands = 0
        self.held_steps = 0
        self._first = self._current = stamp
        self._newest = None
        self._deadline = None

    def observed(self, stamp: int, complete: bool = True) -> None:
        """Note that the observation stamped `stamp` [ns] went out; one that is not complete may stay unanswered."""
        self._current = stamp

    def offer(self, stamp: int, values: Values) -> Verdict:
        """Take a command that answers the observation stamped `stamp` [ns].

        The newest arrival of a stamp counts: a hold carries the stamp of the last command, and must replace it.
        """
        if not self._first <= stamp <= self._current:
            return "foreign"
        if self._newest is not None and stamp == self._newest[0]:
            self._newest = (stamp, values)
            return "duplicate"
        if self._newest is None or stamp > self._newest[0]:
            self._newest = (stamp, values)
        if stamp < self._current:
            self.late_commands += 1
            return "late"
        return "accepted"

    def due(self, now: float) -> Values | None:
        """Return the command of the step that is due at wall time `now` [s], or None when none is."""
        if self._deadline is None:
            self._deadline = now + self.period
        if now < self._deadline:
            return None
        self._deadline += self.period
        if now > self._deadline:  # fallen behind by a whole period: lost time is not caught up in a burst
            self._deadline = now + self.period
        if self._newest is None:
            self.held_steps += 1
            return self._stop
        stamp, values = self._newest
        if stamp < self._current:
            self.held_steps += 1
            if (self._current - stamp) * 1e-9 > self.hold_limit + 1e-9:
                return self._stop
        return values

    def wait(self, now: float) -> float:
        """Return for how long [s] nothing becomes due."""
        return 0.0 if self._deadline is None else max(0.0, self._deadline - now)
