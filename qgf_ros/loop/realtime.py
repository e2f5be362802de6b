"""What a control loop asks of the machine: scheduling, cores and memory of its own, and no garbage collection in a tick.

Real-time scheduling needs rights that most processes lack. What is refused is told and the node goes on without it.
Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from qgf_ros.errors import GuidanceError

#: Objects more than there were at the last collection at which Python collects by itself, be it within a tick.
LEFT_BETWEEN_TICKS = 100_000
#: Ticks from one collection of all generations to the next.
FULL_COLLECTION = 1000

_MCL_CURRENT, _MCL_FUTURE = 1, 2  # mman.h


def parse_cores(text: str) -> frozenset[int]:
    """Return the cores of a list such as ``2,4-6``, as taskset(1) reads it; none for an empty one.

    Raises:
        GuidanceError: It is no such list.
    """
    cores: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise GuidanceError(f"cpu_affinity {text!r} was given; it must be cores and ranges of cores, such as 2,4-6")
        cores.update(range(first, last + 1))
    return frozenset(cores)


@dataclass(frozen=True)
class RealTime:
    """What the process is to get from the kernel.

    Attributes:
        sched_fifo: Priority under SCHED_FIFO, 1 to 98 [1], that of the watchdog being 1 more; 0 leaves the scheduling as it is.
        cores: The only ones to run on; empty leaves them as they are.
        memory_lock: Whether no page may be swapped out, nor be first touched in the midst of a tick.
    """

    sched_fifo: int = 0
    cores: frozenset[int] = frozenset()
    memory_lock: bool = False

    def apply(self) -> list[str]:
        """Ask the kernel, for every thread of this process and those they start later, until the process ends.

        Returns:
            A sentence for each thing that was refused.
        """
        asked: list[tuple[str, str, Callable[[], None]]] = []
        if self.cores:
            cores = ",".join(map(str, sorted(self.cores)))
            asked.append((f"cpu_affinity {cores}", "name cores that this machine has and lends", self._take_cores))
        if self.sched_fifo:
            advice = "allow it with rtprio in /etc/security/limits.conf, or with CAP_SYS_NICE"
            asked.append((f"sched_fifo {self.sched_fifo}", advice, self._take_priority))
        if self.memory_lock:
            advice = "allow it with memlock unlimited in /etc/security/limits.conf, or with CAP_IPC_LOCK"
            asked.append(("memory_lock", advice, _lock_memory))
        refused = []
        for what, advice, take in asked:
            try:
                take()
            except (OSError, AttributeError) as error:  # where the system is not Linux, os lacks these functions
                refused.append(f"{what} was refused ({error}) and is left out; {advice}")
        return refused

    def _take_cores(self) -> None:
        _for_each_thread(lambda thread: os.sched_setaffinity(thread, self.cores))

    def _take_priority(self) -> None:
        priority = os.sched_param(self.sched_fifo)
        _for_each_thread(lambda thread: os.sched_setscheduler(thread, os.SCHED_FIFO, priority))


def rise_above_others() -> None:
    """Let this thread preempt those of the priority it began with, where that is one under SCHED_FIFO.

    Raises:
        OSError: The kernel refuses.
    """
    if hasattr(os, "SCHED_FIFO") and os.sched_getscheduler(0) == os.SCHED_FIFO:
        above = os.sched_getparam(0).sched_priority + 1
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(above))


def _for_each_thread(change: Callable[[int], None]) -> None:
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has just ended
            change(int(thread))


def _lock_memory() -> None:
    if ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def keep_garbage_for_later() -> None:
    """Let Python collect garbage by itself only where nobody calls `collect_garbage` for long; of the whole process."""
    gc.set_threshold(LEFT_BETWEEN_TICKS, *gc.get_threshold()[1:])


def freeze_garbage() -> None:
    """Collect all garbage once, and never again look at what exists now; to be called when everything is loaded."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def collect_garbage() -> None:
    """Collect what a tick left behind; to be called after each of them."""
    collections_since_full = gc.get_count()[2]
    gc.collect(2 if collections_since_full >= FULL_COLLECTION else 1)
