"""A recording is cut where its clock was restarted, and nowhere else."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.recording.epochs import Restart, restarts, split


class Message(NamedTuple):
    log_time: int
    stamp: int


def test_a_topic_is_cut_where_its_own_stamps_go_back() -> None:
    ticks = [Message(10, 100), Message(20, 110), Message(30, 50), Message(40, 60)]
    assert restarts(ticks) == [Restart(before=10, last=20, first=30)]
    assert split(ticks, restarts(ticks)) == [ticks[:2], ticks[2:]]
    sooner = [Message(9, 99), Message(19, 109), Message(20, 50), Message(29, 51), Message(39, 61)]
    assert split(sooner, restarts(ticks)) == [sooner[:2], sooner[2:]]
    jittering = [Message(11, 100), Message(12, 98), Message(21, 111), Message(22, 110), Message(29, 50)]
    assert split(jittering, restarts(ticks)) == [jittering[:4], jittering[4:]]


def test_a_restart_tells_its_last_two_ticks_apart_from_those_before() -> None:
    ticks = [Message(10, 100), Message(20, 110), Message(30, 120), Message(40, 121), Message(50, 60), Message(60, 61)]
    assert restarts(ticks) == [Restart(before=30, last=40, first=50)]
    # Between the last but one and the first of the new epoch, a topic is cut where it goes back farthest, by however little.
    sooner = [Message(25, 130), Message(26, 121), Message(35, 120), Message(45, 125), Message(55, 126)]
    assert split(sooner, restarts(ticks)) == [sooner[:2], sooner[2:]]
    later = [Message(26, 60), Message(35, 120), Message(38, 121), Message(45, 121), Message(48, 120)]
    assert split(later, restarts(ticks)) == [later[:4], later[4:]]
    never = [Message(26, 60), Message(35, 120), Message(38, 121), Message(45, 121), Message(48, 122)]
    assert split(never, restarts(ticks)) == [never[:3], never[3:]], "behind the last tick of the old epoch"


def test_a_topic_without_stamps_or_without_messages_is_cut_behind_the_last_tick() -> None:
    found = [Restart(10, 20, 30)]
    unstamped = [Message(time, time) for time in (5, 20, 21, 35)]
    assert split(unstamped, found) == [unstamped[:2], unstamped[2:]]
    assert split([], found) == [[], []]


@given(stamps=st.lists(st.integers(0, 20), max_size=30))
def test_ticks_fall_into_their_longest_runs_of_stamps_that_do_not_go_back(stamps: list[int]) -> None:
    ticks = [Message(i, stamp) for i, stamp in enumerate(stamps)]
    runs = split(ticks, restarts(ticks))
    assert [tick for run in runs for tick in run] == ticks
    assert all(before.stamp <= after.stamp for run in runs for before, after in zip(run, run[1:]))
    assert all(before[-1].stamp > after[0].stamp for before, after in zip(runs, runs[1:]))
