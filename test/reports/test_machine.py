"""What is said about the machine."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from qgf_ros.reports import machine
from qgf_ros.reports.machine import LoadMeter, busy_seconds, copy_bandwidth, describe_machine


def test_the_machine_is_described() -> None:
    described = describe_machine(3)
    assert described["threads"] == 3
    assert described["processor"]
    assert 1 <= described["usable_cores"] <= described["cores"]
    assert {"python", "numpy"} <= described["versions"].keys()
    json.dumps(described, allow_nan=False)


def test_time_stolen_by_other_guests_is_busy_and_waiting_is_not() -> None:
    #         user nice system idle iowait irq softirq steal guest guest_nice
    fields = [100, 20, 30, 9999, 8888, 4, 5, 6, 70, 7]
    assert busy_seconds(fields) * os.sysconf("SC_CLK_TCK") == pytest.approx(100 + 20 + 30 + 4 + 5 + 6)


def test_load_is_what_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    #                      wall, busy on all cores, this process
    snapshots = iter([(10.0, 100.0, 50.0), (14.0, 107.0, 54.0)])
    monkeypatch.setattr(machine, "_snapshot", lambda: next(snapshots))
    assert LoadMeter().cores() == pytest.approx((7.0 - 4.0) / 4.0)


def test_load_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_snapshot", lambda: None)
    assert LoadMeter().cores() is None


def test_bandwidth_counts_what_is_read_and_written_and_takes_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 10.0, 11.0, 20.0, 20.5, 30.0, 32.0])  # copies of 4, 1, 0.5 and 2 s
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    assert copy_bandwidth(2, size=8000, rounds=3) == pytest.approx(2 * 8000 / 0.5)


def test_every_byte_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    copyto = np.copyto
    monkeypatch.setattr(np, "copyto", lambda target, source: (copied.append(target.nbytes), copyto(target, source)))
    copy_bandwidth(3, size=8 * 1000, rounds=1)
    assert sum(copied) == 2 * 8000  # the one that touches the pages, and the round
    assert len(copied) == 2 * 3
