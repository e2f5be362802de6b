"""Clocks that do not agree, and clocks that jump."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.loop.clocks import JUMP_TOLERANCE, ClockJumps, TimerBeats, foreign_clock

SECOND = 1_000_000_000
WALL, SIMULATED = 1_795_000_000 * SECOND, 12 * SECOND


@pytest.mark.parametrize(
    ("stamp", "now", "text"),
    [
        (0, WALL, "topic pose is stamped 0; let its publisher set header.stamp"),
        (SIMULATED, WALL, "one of the two is simulated time; set use_sim_time alike for publisher and node"),
        (WALL, SIMULATED, "one of the two is simulated time; set use_sim_time alike for publisher and node"),
        (WALL - 180 * SECOND, WALL, "180.000 s behind this node's clock on arrival; synchronise the clocks"),
        (WALL + 3 * SECOND, WALL, "3.000 s ahead of this node's clock on arrival; synchronise the clocks"),
    ],
)
def test_a_stamp_of_another_clock_is_told_with_what_to_do(stamp: int, now: int, text: str) -> None:
    assert text in str(foreign_clock("pose", stamp, now, 0.2))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("age", "simulated"), [(31_557_599, False), (31_557_601, True)])
def test_farther_apart_than_a_year_one_of_two_clocks_is_simulated(sign: int, age: int, simulated: bool) -> None:
    """A year of 365.25 days has 31,557,600 s."""
    text = str(foreign_clock("pose", WALL - sign * age * SECOND, WALL, 0.2))
    assert ("one of the two is simulated time" in text) is simulated


@given(st.integers(-SECOND, SECOND), st.floats(0.0, 10.0, allow_subnormal=False))
def test_what_max_age_allows_is_of_the_node_s_own_clock(late: int, max_age: float) -> None:
    assert foreign_clock("pose", WALL - late, WALL, max_age) is None
    assert foreign_clock("pose", WALL - round(max_age * SECOND), WALL, max_age) is None


steps = st.lists(
    st.tuples(
        st.floats(1e-4, 100.0, allow_subnormal=False), st.floats(0.0, JUMP_TOLERANCE / 4.0, allow_subnormal=False)
    ),
    min_size=1,
    max_size=20,
)


@given(
    steps, st.floats(-1e6, 1e6, allow_subnormal=False).filter(lambda jump: abs(jump) > 2.0 * JUMP_TOLERANCE), st.data()
)
def test_a_jump_is_noticed_once_in_its_direction_and_late_readings_are_none(
    history: list[tuple[float, float]], jump: float, data: st.DataObject
) -> None:
    when = data.draw(st.integers(1, len(history)))
    jumps, steady, set_by = ClockJumps(), 1000.0, 0.0
    jumps.note(WALL, steady)
    noticed = []
    for i, (passed, delay) in enumerate(history, start=1):
        steady += passed
        set_by += jump if i == when else 0.0
        noticed.append(jumps.note(WALL + round((steady - 1000.0 + set_by) * SECOND), steady + delay))
    assert [i for i, gained in enumerate(noticed, start=1) if gained] == [when]
    assert noticed[when - 1] == pytest.approx(jump, abs=JUMP_TOLERANCE)


def test_a_timer_that_leaves_beats_out_is_noticed_and_one_that_is_late_is_not() -> None:
    beats = TimerBeats(0.1)
    found = [beats.skipped(wall) for wall in (5.0, 5.1, 5.29, 5.3, 5.41, 5.75, 5.8, 7.05, 7.1)]
    assert found == [0, 0, 0, 0, 0, 2, 0, 11, 0]
    beats.restart()
    assert beats.skipped(100.0) == 0
