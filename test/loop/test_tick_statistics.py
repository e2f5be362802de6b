"""Tick statistics."""

from __future__ import annotations

import math

from qgf_ros.loop.tick_statistics import WINDOW, TickStatistics

SHARE_WINDOW, SHARE_LEAST = 200, 50  # as docs/diagnostics.md has them


def test_before_the_first_tick_latencies_are_unknown() -> None:
    summary = TickStatistics(0.05).summary()
    assert summary["ticks"] == summary["missed_ticks"] == 0
    assert all(math.isnan(summary[f"latency_{name}_ms"]) for name in ("p50", "p99", "max"))


def test_percentiles_are_in_milliseconds_over_the_window() -> None:
    statistics = TickStatistics(0.05)
    statistics.answered(10.0)  # falls out of the window
    for i in range(WINDOW):
        statistics.answered(i * 1e-6)
    summary = statistics.summary()
    assert math.isclose(summary["latency_p50_ms"], (WINDOW - 1) * 1e-3 / 2)
    assert math.isclose(summary["latency_max_ms"], (WINDOW - 1) * 1e-3)
    assert summary["latency_p50_ms"] < summary["latency_p99_ms"] < summary["latency_max_ms"]
    assert summary["ticks"] == WINDOW + 1


def test_an_answer_slower_than_the_period_is_missed() -> None:
    statistics = TickStatistics(0.05)
    statistics.answered(0.049)
    statistics.answered(0.051)
    statistics.missed()
    statistics.held()
    summary = statistics.summary()
    assert (summary["ticks"], summary["missed_ticks"], summary["holds"]) == (2, 2, 1)


def test_the_share_of_missed_ticks_is_of_the_last_observations_since_commanding_began() -> None:
    statistics = TickStatistics(0.05)
    statistics.overtaken(1000)  # before the first command nothing is late
    for _ in range(SHARE_LEAST - 1):
        statistics.answered(0.06)
    assert statistics.missed_share == 0.0
    statistics.answered(0.01)
    assert statistics.missed_share == (SHARE_LEAST - 1) / SHARE_LEAST
    for _ in range(SHARE_WINDOW - 10):
        statistics.answered(0.01)
    statistics.overtaken(10)
    statistics.missed()  # of a period without anything new
    assert statistics.missed_share == 10 / SHARE_WINDOW
    statistics.overtaken(10**9)
    assert statistics.missed_share == 1.0
    statistics.held()
    statistics.overtaken(1000)
    assert statistics.missed_share == 0.0
