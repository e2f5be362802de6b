"""What is made of the times of an exchange."""

from __future__ import annotations

import math

import pytest

from qgf_ros.benchmark.ros_latency import Exchange, Setting, Trace, distribution


def test_inference_does_not_count_as_overhead() -> None:
    trace = Trace([Exchange(10.0, 10.004, 10.005, 0.003)], seconds=2.0, processor=0.5)
    record = trace.record(Setting("node", 50, False))
    assert record["overhead_ms"]["p50"] == pytest.approx(1.0)
    assert record["round_trip_ms"]["p50"] == pytest.approx(2.0)
    assert record["inference_ms"]["max"] == pytest.approx(3.0)
    assert record["processor_seconds_per_minute"] == 15.0
    assert (record["subject"], record["rate"], record["neighbour"], record["ticks"]) == ("node", 50, False, 1)


def test_a_tick_is_missed_if_its_command_is_late_or_never_comes() -> None:
    trace = Trace([Exchange(0.0, 0.009, 0.01), Exchange(1.0, 1.011, 1.012), Exchange(2.0)])
    record = trace.record(Setting("echo", 100, True))
    assert (record["missed"], record["unanswered"], record["ticks"]) == (2, 1, 3)
    assert record["overhead_ms"]["max"] == pytest.approx(11.0)


def test_nothing_measured_is_no_number() -> None:
    record = Trace([Exchange(0.0)]).record(Setting("node", 20, False))
    assert math.isnan(record["overhead_ms"]["p50"])
    assert math.isnan(record["processor_seconds_per_minute"])


def test_a_distribution_is_in_milliseconds() -> None:
    found = distribution([k / 1000.0 for k in range(101)])
    assert found == pytest.approx({"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0})
