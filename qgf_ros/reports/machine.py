"""The machine a benchmark runs on: what it is, how fast it copies, and who else is using it."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

#: Cores that others may keep busy before times are doubtful.
IDLE = 0.1
_LIBRARIES = ("numpy", "onnxruntime", "onnxruntime-gpu", "torch", "jax", "jaxlib")


def describe_machine(threads: int) -> dict[str, Any]:
    """Return processor, cores, caches, system, versions, threads and scheduling; what the system does not tell is left out."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "last_level_cache_mb": _last_level_cache(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions,
        "threads": threads,
        "scheduling": _scheduling(),
    }


def _scheduling() -> str:
    """Return the scheduling policy of this process and what it starts: real-time processes wait for no others."""
    if not hasattr(os, "sched_getscheduler"):
        return "unknown"
    policies = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}
    return policies.get(os.sched_getscheduler(0), "unknown")


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _last_level_cache() -> float | None:
    """Return the size of the largest cache of the first core [MB]."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        found = re.fullmatch(r"(\d+)K\s*", path.read_text(encoding="utf-8"))
        sizes += [int(found[1]) * 1024 / 1e6] if found else []
    return max(sizes, default=None)


def copy_bandwidth(threads: int, *, size: int = 256 * 2**20, rounds: int = 8) -> float:
    """Measure how fast memory can be copied [bytes/s].

    Every thread copies its share of an array much larger than the caches. A byte copied counts twice, once read and
    once written, as in STREAM (McCalpin 1995).

    Args:
        threads: Threads that copy at the same time.
        size: Bytes of the array.
        rounds: Copies, the best of which counts: whatever else the machine does can only slow one down.
    """
    source = np.ones(size // 8)
    target = np.empty_like(source)
    shares = list(zip(np.array_split(target, threads), np.array_split(source, threads)))
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds + 1):  # the first touches the pages
            start = time.perf_counter()
            list(pool.map(lambda share: np.copyto(*share), shares))  # lets go of Python's lock
            best = max(best, 2 * source.nbytes / (time.perf_counter() - start))
    return best


class LoadMeter:
    """Measures how many cores are busy with anything but this process, from now on."""

    def __init__(self) -> None:
        self._start = _snapshot()

    def cores(self) -> float | None:
        """Return the mean since the start; None where the system does not tell (it is read from /proc/stat)."""
        now = _snapshot()
        if self._start is None or now is None or now[0] <= self._start[0]:
            return None
        elapsed, busy, own = (after - before for before, after in zip(self._start, now))
        return max(0.0, busy - own) / elapsed


def _snapshot() -> tuple[float, float, float] | None:
    """Return wall clock, busy time of all cores and processor time of this process and its children [s]."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return None
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return time.perf_counter(), busy_seconds([int(part) for part in line.split()[1:]]), own


def busy_seconds(fields: Sequence[int]) -> float:
    """Return the busy time [s] in the first line of /proc/stat; time stolen by a hypervisor's other guests is busy.

    Args:
        fields: user, nice, system, idle, iowait, irq, softirq, steal, … [clock ticks]; user contains guest.
    """
    user, nice, system, _, _, *interrupts = fields[:8]
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
