"""The chunk schedule: actions belong to times."""

from __future__ import annotations

import numpy as np
import pytest

from qgf_ros.control.chunking import ChunkSchedule

PERIOD = 50_000_000
START = 10**18  # of the size of real stamps


@pytest.fixture
def schedule() -> ChunkSchedule:
    schedule = ChunkSchedule(0.05)
    schedule.start(START, np.arange(5, dtype=np.float32)[:, None])
    return schedule


def due(schedule: ChunkSchedule, stamp: int, execution_horizon: int = 5) -> float | None:
    action = schedule.action(stamp, execution_horizon)
    return None if action is None else float(action[0])


def test_nothing_is_due_before_a_chunk_begins() -> None:
    assert due(ChunkSchedule(0.05), START) is None


def test_actions_follow_the_stamps_and_the_chunk_ends_with_the_horizon(schedule: ChunkSchedule) -> None:
    assert [due(schedule, START + k * PERIOD) for k in range(6)] == [0, 1, 2, 3, 4, None]


def test_a_skipped_tick_skips_its_action(schedule: ChunkSchedule) -> None:
    assert [due(schedule, START + k * PERIOD) for k in (0, 3, 4)] == [0, 3, 4]


def test_the_execution_horizon_shortens_the_chunk_but_never_lengthens_it(schedule: ChunkSchedule) -> None:
    assert [due(schedule, START + k * PERIOD, 2) for k in range(3)] == [0, 1, None]
    assert due(schedule, START + 5 * PERIOD, 50) is None


def test_jitter_of_less_than_half_a_period_changes_nothing(schedule: ChunkSchedule) -> None:
    assert [due(schedule, START + 2 * PERIOD + jitter) for jitter in (-24_000_000, 24_000_000)] == [2, 2]


def test_a_jump_of_the_stamps_ends_the_chunk(schedule: ChunkSchedule) -> None:
    assert due(schedule, START - PERIOD) is None
    assert due(schedule, START + 10**9) is None


def test_a_cleared_chunk_is_gone(schedule: ChunkSchedule) -> None:
    schedule.clear()
    assert due(schedule, START) is None
