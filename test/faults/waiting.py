"""How long the machine keeps processes waiting for a processor, as the kernel counts it: no wall clock has a say in it.

What a busy machine adds to a measured time is exactly this. A thread that sleeps, hangs, is stopped or computes does not
wait, however late it is.
"""

from __future__ import annotations

import bisect
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path


class WaitingTime:
    """Adds up what all threads of some processes have waited, those that have ended by now included.

    A thread waits from when it could go on to when a processor takes it (``schedstat`` of Linux). Threads of which one
    keeps the next from going on wait one after the other, so the sum is what the machine added at most. What the host of
    a virtual machine took its processors away for counts, too.
    """

    def __init__(self) -> None:
        self._waited: dict[str, float] = {}
        if not Path("/proc/self/schedstat").is_file():
            self._waited["unknown"] = math.nan

    def read(self, processes: Iterable[int]) -> float:
        """Return what these processes, and others of readings before, have waited by now [s]; nan where nobody counts it."""
        if "unknown" not in self._waited:
            self._waited["host"] = _stolen()
            for process in processes:
                self._waited.update(_threads(process))
        return sum(self._waited.values())


def _threads(process: int) -> Iterator[tuple[str, float]]:
    """Yield each thread of a process and what it has waited [s]."""
    with suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{process}/task"):
            with suppress(OSError):
                path = f"/proc/{process}/task/{thread}/schedstat"
                with open(path, "rb") as file:
                    yield path, int(file.read().split()[1]) * 1e-9


def _stolen() -> float:
    """Return how long the processors of this virtual machine were somebody else's [s]."""
    with open("/proc/stat", "rb") as file:
        return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def waited_between(readings: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """Return what was waited from one time to another [s].

    Args:
        readings: Times, rising, and what had been waited by then [s].
        begin, end: Times [s]; readings a little before and after are taken where there is none at them.
    """
    first = max(bisect.bisect_right(readings, (begin, float("inf"))) - 1, 0)
    last = min(bisect.bisect_left(readings, (end,)), len(readings) - 1)
    return readings[last][1] - readings[first][1]
