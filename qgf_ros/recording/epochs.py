"""Where the clock of a recorded run was restarted, so that what two sessions stamped alike is not mixed."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar


class Timed(Protocol):
    """Anything that was received at `log_time` [ns] and says it was made at `stamp` [ns]."""

    @property
    def log_time(self) -> int: ...

    @property
    def stamp(self) -> int: ...


T = TypeVar("T", bound=Timed)


@dataclass(frozen=True)
class Restart:
    """A restart of the clock, by the times at which three ticks were received [ns].

    Attributes:
        before: The last but one of the old epoch, where it has two.
        last: The last of the old epoch.
        first: The first of the new one.
    """

    before: int
    last: int
    first: int


def restarts(ticks: Sequence[Timed]) -> list[Restart]:
    """Return where the stamps of ticks, given in the order they were received, go back."""
    return [
        Restart(ticks[max(i - 1, 0)].log_time, last.log_time, first.log_time)
        for i, (last, first) in enumerate(pairwise(ticks))
        if first.stamp < last.stamp
    ]


def split(messages: Sequence[T], found: Sequence[Restart]) -> list[list[T]]:
    """Return the messages of one topic, given in the order they were received, by epoch.

    A topic follows a restart sooner or later than the ticks do. It is cut where its own stamps go back farthest around
    the restart; one whose stamps do not, or that has none, is cut behind the last tick of the old epoch.
    """
    times = [message.log_time for message in messages]
    cuts = [0]
    for restart in found:
        begin = max(bisect.bisect_right(times, restart.before), cuts[-1] + 1)
        end = bisect.bisect_right(times, restart.first)
        back = {i: messages[i].stamp - messages[i - 1].stamp for i in range(begin, end)}
        farthest = min(back, key=back.__getitem__, default=None)
        if farthest is None or back[farthest] >= 0:
            farthest = max(bisect.bisect_right(times, restart.last), cuts[-1])
        cuts.append(farthest)
    return [list(messages[begin:end]) for begin, end in pairwise([*cuts, len(messages)])]
