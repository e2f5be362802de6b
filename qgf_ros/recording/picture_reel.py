"""Recorded pictures, read again one after the other: a few of a recording are in memory, and never all of them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from qgf_ros.errors import RecordingError
from qgf_ros.recording.recording import Recorded, Recording

#: What has gone by is kept up to so many bytes of all cameras together, and of each camera the newest so many pictures at
#: least: a tick asks for pictures of about its own time, camera by camera.
MOST_KEPT, LEAST_KEPT = 16 * 2**20, 8
#: A recording whose pictures are asked for in an order that makes it be read from the start more often than so is refused.
MOST_REWINDS = 100


@dataclass(frozen=True, slots=True)
class PictureMark:
    """What is kept of a recorded message of a camera: which one of its topic it was, in the order of the file."""

    place: int


def marking() -> Callable[[Recorded], PictureMark]:
    """Return what gives the messages of one topic their marks, one after the other."""
    places = iter(range(2**63))
    return lambda recorded: PictureMark(next(places))


class PictureReel:
    """Gives the pictures of a recording by their marks. In about the order of the file it is read through once.

    Args:
        recording: What they are in.
        topics: Full names of the topics of cameras.
    """

    def __init__(self, recording: Recording, topics: Collection[str]) -> None:
        self._recording = recording
        self._topics = tuple(topics)
        self._rewinds = -1
        self._rewind()

    def message(self, topic: str, mark: PictureMark) -> Recorded:
        """Return the message of a camera's topic that has this mark.

        Raises:
            RecordingError: The file cannot be read, is no longer what it was, or its pictures lie in no order.
        """
        if mark.place < self._passed[topic] - len(self._kept[topic]):
            self._rewind()
        while mark.place >= self._passed[topic]:
            recorded = next(self._coming, None)
            if recorded is None:
                raise RecordingError(
                    f"{self._recording.path} was changed while it was read; try again when it is finished"
                )
            self._keep(recorded)
        kept = self._kept[topic]
        return kept[mark.place - self._passed[topic] + len(kept)]

    def _rewind(self) -> None:
        self._rewinds += 1
        if self._rewinds > MOST_REWINDS:
            raise RecordingError(
                f"{self._recording.path} holds its pictures in another order than its commands; record them in one file, as "
                "they come"
            )
        self._coming: Iterator[Recorded] = self._recording.messages(self._topics)
        self._passed = dict.fromkeys(self._topics, 0)
        self._kept: dict[str, deque[Recorded]] = {topic: deque() for topic in self._topics}
        self._bytes = 0

    def _keep(self, recorded: Recorded) -> None:
        """Keep a picture, and let the oldest of the camera that has most of them go while they are too many bytes."""
        self._passed[recorded.topic] += 1
        self._kept[recorded.topic].append(recorded)
        self._bytes += _size(recorded)
        while self._bytes > MOST_KEPT:
            longest = max(self._kept.values(), key=len)
            if len(longest) <= LEAST_KEPT:
                return
            self._bytes -= _size(longest.popleft())


def _size(recorded: Recorded) -> int:
    return sys.getsizeof(getattr(recorded.message, "data", b""))
