"""The observations made of recorded readings."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.extraction import Reading
from qgf_ros.control.observation import Observation, ObservationAssembler
from qgf_ros.control.sensing.further_readings import LocatedReading, MissedReading
from qgf_ros.control.sensing.sensor_messages import Detections, Transforms, stamp_of
from qgf_ros.control.sensing.topic_parts import TopicParts
from qgf_ros.control.vision.pictures import Picture
from qgf_ros.errors import ObservationError, RecordingError
from qgf_ros.recording.epochs import Restart, split
from qgf_ros.recording.picture_reel import PictureMark, PictureReel, marking
from qgf_ros.recording.recorded_readings import by_topic, to_picture, to_reading
from qgf_ros.recording.recording import Recorded, Recording

#: A command that is received sooner than this after its stamp is stamped by the recorder's clock [ns].
LONGEST_TICK = 1_000_000_000


class ObservationSource:
    """Makes observations of recorded readings, as a node made them that stamped its command with the newest of them.

    A reading was there if its stamp is no newer than the command's. A topic without a header was heard before the
    command was stamped, as far as stamps are of the recorder's clock. Where that does not tell either (simulated time,
    readings brought together by ``nearest``), a reading was there if it was received before the command: an inference.
    Of a camera the telemetry of a node says which picture it was; else the newest that was received before, and so it is of
    transforms and detections.

    Args:
        readings: Of one epoch, in the order they were received; of cameras their marks.
        fields: The observation contract.
        period: Control period [s].
        alignment, cameras: As of `ObservationAssembler`.
        picture: Returns the picture of a topic of the contract that has a mark.
    """

    def __init__(
        self,
        readings: Iterable[TimedReading],
        fields: Sequence[ObservationField],
        period: float,
        alignment: str,
        cameras: Mapping[str, CameraField] | None = None,
        picture: Callable[[str, PictureMark], Picture] | None = None,
    ) -> None:
        self._contract = fields, period, alignment, (), cameras
        self._assembler = ObservationAssembler(*self._contract)
        self._picture = picture
        self._shown: dict[str, TimedReading] = {}  # of each topic the picture that the assembler has
        self._taken_at: dict[str, dict[int, TimedReading]] = {}
        self._pictures: dict[str, list[TimedReading]] = {c.topic: [] for c in (cameras or {}).values()}
        self._names = {camera.topic: name for name, camera in (cameras or {}).items()}
        self._latest = alignment == "latest"
        self._by_stamp: list[TimedReading] = []
        self._by_arrival: list[TimedReading] = []
        for reading in readings:
            if reading.topic in self._pictures:
                self._pictures[reading.topic].append(reading)
                continue
            late = isinstance(
                reading.reading, (LocatedReading, MissedReading)
            )  # what was seen is computed after its stamp
            (self._by_stamp if self._latest and reading.stamped and not late else self._by_arrival).append(reading)
        self._by_stamp.sort(key=_stamp)
        self._by_arrival.sort(key=_log_time)
        self._last: int | None = None
        self._taken = [0, 0]
        #: Whether the arrival of a command had to tell which readings were there.
        self.inferred = False

    def observe(self, stamp: int, received: int, shown: Mapping[str, int] | None = None) -> Observation:
        """Return the observation behind a command stamped `stamp` [ns] and received at `received` [ns].

        Args:
            stamp, received: Of the command.
            shown: Stamps [ns] of the pictures that the node saw, by camera, where it said so.

        Raises:
            ObservationError: See `ObservationAssembler.assemble`.
        """
        if self._last is not None and stamp < self._last:
            self._assembler, self._taken, self._shown = ObservationAssembler(*self._contract), [0, 0], {}
        self._last = stamp
        same_clock = self._latest and 0 <= received - stamp < LONGEST_TICK
        self.inferred |= bool(self._by_arrival) and not same_clock
        arrived = stamp if same_clock else received
        for which, (readings, limit, key) in enumerate(
            ((self._by_stamp, stamp, _stamp), (self._by_arrival, arrived, _log_time))
        ):
            end = bisect.bisect_right(readings, limit, lo=self._taken[which], key=key)
            for reading in readings[self._taken[which] : end]:
                said = cast("Reading", reading.reading)
                self._assembler.update(reading.topic, reading.stamp if reading.stamped else stamp, said)
            self._taken[which] = end
        for topic, pictures in self._pictures.items():
            self._show(topic, pictures, arrived, shown)
        return self._assembler.assemble(stamp)

    def _show(self, topic: str, pictures: list[TimedReading], arrived: int, shown: Mapping[str, int] | None) -> None:
        """Keep the picture that the node saw, or the newest that had arrived [ns]; one that is kept is not read again."""
        if shown is None:
            end = bisect.bisect_right(pictures, arrived, key=_log_time)
            found = pictures[end - 1] if end else None
            self.inferred = True
        else:
            found = self._pictures_by_stamp(topic).get(shown.get(self._names[topic], -1))
            if found is None:
                raise ObservationError(
                    f"camera {self._names[topic]}: the picture that the node saw is not on topic {topic}"
                )
        if found is not None and found is not self._shown.get(topic):
            assert isinstance(found.reading, PictureMark) and self._picture is not None
            self._shown[topic] = found
            self._assembler.update(topic, found.stamp, self._picture(topic, found.reading))

    def _pictures_by_stamp(self, topic: str) -> Mapping[int, TimedReading]:
        """Return the pictures of a topic by when they were taken [ns], of each time the first."""
        if topic not in self._taken_at:
            self._taken_at[topic] = {picture.stamp: picture for picture in reversed(self._pictures[topic])}
        return self._taken_at[topic]


class TimedReading(NamedTuple):
    """A reading of a topic of the contract, when it was received and its stamp, or that again if it has none [ns]."""

    log_time: int
    stamp: int
    stamped: bool
    topic: str
    reading: Reading | PictureMark


def _log_time(reading: TimedReading) -> int:
    return reading.log_time


def _stamp(reading: TimedReading) -> int:
    return reading.stamp


def observation_sources(
    recording: Recording,
    fields: Sequence[ObservationField],
    period: float,
    alignment: str = "latest",
    found: Sequence[Restart] = (),
    heard: Mapping[str, Sequence[Recorded]] | None = None,
    cameras: Mapping[str, CameraField] | None = None,
) -> list[ObservationSource]:
    """Return a source of observations for each epoch of a recording; goals are carried over into the next one.

    A message of a live topic that is stamped 0 among others that are not is as old as that, as on the robot. A goal that
    is stamped 0 holds from when it came.

    Args:
        recording: The file.
        fields, period, alignment: As of `ObservationSource`.
        found: Restarts of the clock.
        heard: Messages by full topic, in the order they were received, of cameras with a `PictureMark` for what they say; by
            default those of the file.
        cameras: As of `ObservationSource`.

    Raises:
        RecordingError: A topic of the contract is not in the file, or its type is none of an observation.
    """
    assembler = ObservationAssembler(fields, period, alignment, (), cameras)
    by_camera = {camera.topic: camera for camera in (cameras or {}).values()}
    parts = TopicParts(fields)
    topics = dict.fromkeys([*(topic for field in fields for topic in field.topics), *by_camera])
    names = {recording.resolve(topic): topic for topic in topics}
    absent = [name for name, topic in names.items() if name not in recording.topics and topic not in parts.optional]
    if absent:
        raise RecordingError(f"{recording.path} has no topic {', '.join(absent)}; it has {recording.topic_names}")
    seen = {topic: name for name, topic in names.items() if topic in by_camera}
    if heard is None:
        heard = by_topic(recording, names, {name: marking() for name in seen.values()})
    reel = PictureReel(recording, seen.values())

    def picture(topic: str, mark: PictureMark) -> Picture:
        return to_picture(reel.message(seen[topic], mark))

    epochs: list[list[TimedReading]] = [[] for _ in range(len(found) + 1)]
    parted: list[list[tuple[str, Recorded]]] = [[] for _ in epochs]
    for name, topic in names.items():
        if topic in parts.topics:
            for messages, heard_then in zip(parted, split(heard[name], found)):
                messages += [(topic, recorded) for recorded in heard_then]
            continue
        live = topic in assembler.live_topics
        readings = [_timed(topic, recorded, live, by_camera.get(topic)) for recorded in heard[name]]
        for epoch, part in zip(epochs, split(readings, found)):
            epoch += part
    before: list[TimedReading] = []
    for epoch, messages in zip(epochs, parted):
        epoch += _parts_of(messages, parts)
        epoch[:0] = before
        goals = {reading.topic: reading for reading in epoch if reading.topic not in assembler.live_topics}
        before = [goal._replace(log_time=-1, stamp=-1) for goal in goals.values()]
    return [ObservationSource(epoch, fields, period, alignment, cameras, picture) for epoch in epochs]


def _timed(topic: str, recorded: Recorded, live: bool, camera: CameraField | None) -> TimedReading:
    stamped = recorded.stamped and (live or recorded.stamp > 0)
    stamp = recorded.stamp if stamped else recorded.log_time
    if camera is not None and stamp != recorded.log_time:  # when it was received is the host's clock already
        stamp = camera.host_stamp(stamp)
    said = to_reading(recorded) if camera is None else recorded.message
    if isinstance(said, (Transforms, Detections)):
        raise _of_another_type(recorded)
    return TimedReading(recorded.log_time, stamp, stamped, topic, said)


def _parts_of(messages: Iterable[tuple[str, Recorded]], parts: TopicParts) -> list[TimedReading]:
    """Return what fields are given of the messages of one epoch that hold much, in the order they were received."""
    parts.clear()
    found: list[TimedReading] = []
    for topic, recorded in sorted(messages, key=lambda one: one[1].log_time):
        said = to_reading(recorded)
        if not isinstance(said, (Transforms, Detections)):
            raise _of_another_type(recorded)
        if isinstance(said, Transforms) and recorded.stamped:  # which has no header: times of arrival shall count
            said = Transforms(tuple(one._replace(stamp=recorded.stamp) for one in said.transforms))
        if isinstance(said, Detections) and recorded.stamp != stamp_of(recorded.message.header):  # here, too
            said = said.without_stamps()
        for source, stamp, reading in parts.take(topic, recorded.stamp, said):
            found.append(TimedReading(recorded.log_time, stamp, True, source, reading))
    return found


def _of_another_type(recorded: Recorded) -> RecordingError:
    return RecordingError(
        f"topic {recorded.topic} is recorded as {recorded.type_name}, and the contract expects another type of it; give the "
        "topic, or its message_type, in the contract"
    )
