"""Clocks that do not agree: a topic that is stamped by another one than the node's, and one that jumps. No ROS in here."""

from __future__ import annotations

#: A stamp that is farther than this [s] from the node's clock on arrival, and than twice its max_age, is of another clock.
CLOCK_TOLERANCE = 2.0
#: A clock that gained or lost more than this [s] on a steady one between two readings was set.
JUMP_TOLERANCE = 1.0
#: Said while simulated time has not begun.
NO_CLOCK = "this node's time stands at 0 because nobody publishes /clock; start what publishes it, or set use_sim_time to false"
#: Farther apart [s] are only clocks of which one began at 0 with a simulation.
_YEAR = 365.25 * 86400.0


def foreign_clock(topic: str, stamp: int, now: int, max_age: float) -> str | None:
    """Say why the stamp of a message that has just arrived is of another clock, and what to do, or return None.

    Args:
        topic: Its topic.
        stamp: Its stamp [ns].
        now: The node's clock on arrival [ns].
        max_age: Oldest acceptable message of the topic [s].
    """
    age = (now - stamp) * 1e-9
    if abs(age) <= max(CLOCK_TOLERANCE, 2.0 * max_age):
        return None
    if stamp == 0:
        return f"topic {topic} is stamped 0; let its publisher set header.stamp to the time of the measurement"
    if abs(age) > _YEAR:
        return (
            f"topic {topic} is stamped {stamp * 1e-9:.3f} s when this node's clock says {now * 1e-9:.3f} s, so one of the "
            "two is simulated time; set use_sim_time alike for publisher and node"
        )
    return (
        f"topic {topic} is stamped {abs(age):.3f} s {'behind' if age > 0.0 else 'ahead of'} this node's clock on arrival; "
        "synchronise the clocks of both machines (chrony, PTP), or play a recording with its clock and use_sim_time"
    )


class ClockJumps:
    """Compares a clock that may be set with a steady one."""

    def __init__(self) -> None:
        self._lead: float | None = None

    def note(self, now: int, steady: float) -> float:
        """Note what both say, [ns] and [s]; return by how much [s] the first was set since, 0 if it was not."""
        lead = now * 1e-9 - steady
        gained = 0.0 if self._lead is None else lead - self._lead
        self._lead = lead
        return gained if abs(gained) > JUMP_TOLERANCE else 0.0


class TimerBeats:
    """Notices the beats that a timer left out: one that falls behind goes on with the next, and tells nobody.

    Args:
        period: Of the timer [s].
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._due: float | None = None

    def restart(self) -> None:
        """Begin with the next beat."""
        self._due = None

    def skipped(self, wall: float) -> int:
        """Return how many whole periods before the beat at `wall` [s] went by without one."""
        due = wall if self._due is None else self._due
        late = max(int((wall - due) / self._period), 0)
        self._due = due + (late + 1) * self._period
        return late
