"""The chunk schedule: actions belong to times."""

from __future__ import annotations

import numpy as np
import pytest

from qgf_ros.control.chunking import ENSEMBLE_DECAY, ChunkSchedule, cross_fade, ensemble

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


def join(schedule: ChunkSchedule, observed: int, now: int, seam: str = "switch", limit: int = 5) -> None:
    """Go on at step `now` with a chunk 10, 11, ... that answers the observation of step `observed`."""
    chunk = np.arange(10, 15, dtype=np.float32)[:, None]
    schedule.join(START + observed * PERIOD, START + now * PERIOD, chunk, limit, seam, 2)


def test_a_chunk_is_joined_where_its_delay_says(schedule: ChunkSchedule) -> None:
    join(schedule, observed=2, now=4)
    assert [due(schedule, START + k * PERIOD) for k in range(4, 8)] == [12, 13, 14, None]


def test_a_robot_that_waited_skips_no_action(schedule: ChunkSchedule) -> None:
    # The chunk 0 to 4 ran out after two actions since the observation of step 3; step 5 and 6 were waited through.
    join(schedule, observed=3, now=7)
    assert [due(schedule, START + k * PERIOD) for k in range(6, 11)] == [11, 12, 13, 14, None]


def test_a_robot_that_stood_still_begins_with_the_first_action(schedule: ChunkSchedule) -> None:
    schedule.clear()
    join(schedule, observed=3, now=5)
    assert [due(schedule, START + k * PERIOD) for k in (5, 6)] == [10, 11]


def test_actions_beyond_the_execution_horizon_count_as_not_executed(schedule: ChunkSchedule) -> None:
    join(schedule, observed=2, now=4, limit=3)  # of 0 to 2 only 2 was executed since the observation
    assert due(schedule, START + 4 * PERIOD) == 11


def test_a_linear_seam_fades_from_the_chunk_that_was_played(schedule: ChunkSchedule) -> None:
    join(schedule, observed=1, now=2, seam="linear")
    # At step 2: 2 and 11; at 3: 3 and 12; from 4 on the new chunk alone.
    expected = [2 + 9 / 3, 3 + 2 * 9 / 3, 13]
    np.testing.assert_allclose([due(schedule, START + k * PERIOD) for k in (2, 3, 4)], expected, rtol=1e-6)


def test_an_ensemble_averages_what_every_chunk_inferred_for_a_time(schedule: ChunkSchedule) -> None:
    join(schedule, observed=1, now=2, seam="ensemble")
    schedule.join(START + 2 * PERIOD, START + 3 * PERIOD, np.full((5, 1), 100, np.float32), 5, "ensemble", 2)
    weights = np.exp(-ENSEMBLE_DECAY * np.arange(3))
    # Step 3: 3 of the first, 12 of the second, 100 of the third; at 5 the first has ended, at 6 the second, too.
    expected = [np.dot(weights, [3, 12, 100]) / weights.sum(), np.dot(weights[:2], [14, 100]) / weights[:2].sum(), 100]
    np.testing.assert_allclose([due(schedule, START + k * PERIOD) for k in (3, 5, 6)], expected, rtol=1e-6)


def test_chunks_from_before_a_wait_are_not_blended_in(schedule: ChunkSchedule) -> None:
    for seam in ("linear", "ensemble"):
        schedule.start(START, np.zeros((5, 1), np.float32))
        join(schedule, observed=4, now=7, seam=seam)
        assert due(schedule, START + 7 * PERIOD) == 11


def test_a_cross_fade_ends_with_the_chunk_before() -> None:
    before, after = np.zeros((3, 1), np.float32), np.ones((5, 1), np.float32)
    np.testing.assert_allclose(cross_fade(before, after, 1, 10).ravel(), [1, 1 / 3, 2 / 3, 1, 1])
    assert cross_fade(before, after, 3, 10) is after
    assert (after == 1).all()


def test_an_ensemble_of_one_is_that_chunk() -> None:
    chunk = np.random.default_rng(0).standard_normal((4, 2), dtype=np.float32)
    np.testing.assert_array_equal(ensemble([chunk]), chunk)
    assert ensemble([chunk]).dtype == np.float32
