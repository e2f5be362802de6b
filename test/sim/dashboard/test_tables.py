"""The texts of the page."""

from __future__ import annotations

import math

from qgf_sim.dashboard.state import EpisodeRow, PageState, StatusLine, SuccessAtWeight
from qgf_sim.dashboard.tables import LISTED, WEIGHT_COLOURS, episode_table, link_table, notice_line


def test_what_came_over_the_network_is_escaped() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    state = PageState()
    state.status(2, hostile, {})
    for text in (link_table(state.view()), notice_line(StatusLine(2, hostile))):
        assert hostile not in text
        assert "&lt;img" in text


def test_the_last_episodes_are_listed() -> None:
    rows = [EpisodeRow(2, seed, seed % 2 == 0, 60 + seed, 0.1) for seed in range(1000, 1000 + LISTED + 3)]
    table = episode_table([SuccessAtWeight(0.1, 9, 11, (0.523, 0.949))], rows)
    assert "9 of 11" in table and "82 %" in table and "[52, 95]" in table
    assert table.count("not solved") == LISTED // 2
    assert "1000" in table and str(1000 + LISTED) not in table


def test_each_weight_has_the_colour_of_its_line_and_the_colours_begin_again() -> None:
    successes = [SuccessAtWeight(0.1 * i, 1, 2, (0.1, 0.9)) for i in range(len(WEIGHT_COLOURS) + 1)]
    table = episode_table(successes, [EpisodeRow(1, 0, True, 60, 0.1)])
    assert [table.count(colour) for colour in WEIGHT_COLOURS] == [2, *[1] * (len(WEIGHT_COLOURS) - 1)]


def test_words_stand_for_what_has_no_number() -> None:
    table = episode_table([], [EpisodeRow(1, 0, None, 60, math.nan)])
    assert "several" in table and "replayed" in table
    assert "no episode" in episode_table([], [])
