"""Pictures of a recording by their marks: the right ones in whatever order, and few of them in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")

from exploration import examples
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.errors import RecordingError
from qgf_ros.recording.picture_reel import LEAST_KEPT, MOST_REWINDS, PictureMark, PictureReel, marking
from qgf_ros.recording.recording import Recorded, Recording

TOPICS = ("/one", "/two")


class Tape(Recording):
    """A recording of pictures of 20 MB each, of which each says its place."""

    def __init__(self, topics: Collection[str]) -> None:
        super().__init__(Path("tape.mcap"))
        self.order = tuple(topics)
        self.runs = 0

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        self.runs += 1
        places = {topic: iter(range(1000)) for topic in topics}
        for time, topic in enumerate(self.order):
            data = Picture(next(places[topic]))
            yield Recorded(topic, "sensor_msgs/msg/Image", time, time, SimpleNamespace(data=data), True)


class Picture:
    def __init__(self, place: int) -> None:
        self.place = place

    def __sizeof__(self) -> int:
        return 20 * 2**20


def place(recorded: Recorded) -> Any:
    return recorded.message.data.place


@examples(40)
@given(data=st.data(), order=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=40))
def test_what_is_asked_for_is_given_in_whatever_order(data: st.DataObject, order: list[str]) -> None:
    tape = Tape(order)
    marks = {topic: marking() for topic in TOPICS}
    there = [(recorded.topic, marks[recorded.topic](recorded)) for recorded in tape.messages(TOPICS)]
    reel = PictureReel(tape, TOPICS)
    for topic, mark in data.draw(st.lists(st.sampled_from(there), max_size=30)):
        found = reel.message(topic, mark)
        assert (found.topic, place(found)) == (topic, mark.place)
        assert sum(map(len, reel._kept.values())) <= max(3, 2 * LEAST_KEPT)


def test_in_the_order_of_the_file_it_is_read_once_and_what_has_just_gone_by_is_still_there() -> None:
    tape = Tape(TOPICS * 50)
    reel = PictureReel(tape, TOPICS)
    for number in range(50):
        for topic in reversed(TOPICS):  # the second camera's picture came after the first one's
            assert place(reel.message(topic, PictureMark(number))) == number
        assert place(reel.message("/one", PictureMark(max(number - 1, 0)))) == max(number - 1, 0)
    assert tape.runs == 1


def test_a_recording_that_would_be_read_over_and_over_is_refused() -> None:
    reel = PictureReel(Tape(TOPICS * 50), TOPICS)
    for number in range(2 * MOST_REWINDS + 1):
        reel.message("/one", PictureMark(49 if number % 2 else 0))
    reel.message("/one", PictureMark(49))
    with pytest.raises(RecordingError, match="tape.mcap holds its pictures in another order than its commands"):
        reel.message("/one", PictureMark(0))


def test_a_recording_that_has_become_shorter_is_refused() -> None:
    with pytest.raises(RecordingError, match="tape.mcap was changed while it was read"):
        PictureReel(Tape(TOPICS), TOPICS).message("/one", PictureMark(1))
