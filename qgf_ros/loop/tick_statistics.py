"""Latency and missed ticks, counted on the inference thread and read by any other."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

#: Ticks over which latency percentiles are taken.
WINDOW = 1000
#: Observations over which the share of missed ticks is taken, the last ones since commanding began, and how many it needs.
SHARE_WINDOW, SHARE_LEAST = 200, 50


class TickStatistics:
    """Counts ticks and keeps the latencies of the last `WINDOW` of them.

    Args:
        period: Control period [s]; an answer that takes longer is a missed tick.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._lock = threading.Lock()
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._ticks = 0
        self._missed = 0
        self._holds = 0
        self._commanding = False
        self._late: deque[bool] = deque(maxlen=SHARE_WINDOW)

    @property
    def ticks(self) -> int:
        """Observations answered with a command."""
        return self._ticks

    @property
    def holds(self) -> int:
        """Changes from commanding to holding."""
        return self._holds

    @property
    def missed_share(self) -> float:
        """Share of the last observations since commanding began that were not answered within a period, 0 to 1."""
        with self._lock:
            return sum(self._late) / len(self._late) if len(self._late) >= SHARE_LEAST else 0.0

    def answered(self, latency: float) -> None:
        """Count a tick answered `latency` [s] after its observation was complete."""
        with self._lock:
            self._ticks += 1
            self._latencies.append(latency)
            self._missed += latency > self._period
            self._commanding = True
            self._late.append(latency > self._period)

    def missed(self) -> None:
        """Count a period without an answer, be it that there was nothing new to answer."""
        with self._lock:
            self._missed += 1

    def overtaken(self, count: int = 1) -> None:
        """Count observations that are never answered, or not even taken, because their time was over before."""
        with self._lock:
            if self._commanding:
                self._late.extend([True] * min(count, SHARE_WINDOW))

    def held(self) -> None:
        """Count a change from commanding to holding."""
        with self._lock:
            self._holds += 1
            self._commanding = False
            self._late.clear()

    def summary(self) -> dict[str, float]:
        """Return ticks, missed ticks, holds and the latency percentiles [ms] (nan before the first tick)."""
        with self._lock:
            latencies = np.array(self._latencies) * 1e3
            figures: dict[str, float] = {"ticks": self._ticks, "missed_ticks": self._missed, "holds": self._holds}
        p50, p99 = np.percentile(latencies, (50, 99)) if latencies.size else (np.nan, np.nan)
        figures["latency_p50_ms"] = float(p50)
        figures["latency_p99_ms"] = float(p99)
        figures["latency_max_ms"] = float(latencies.max()) if latencies.size else float("nan")
        return figures
