"""Recorded messages as readings, the observations made of them, and commands."""

from __future__ import annotations

import bisect
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.extraction import JointReading, PoseReading, Reading, TwistReading, VectorReading, WrenchReading
from qgf_ros.control.observation import Observation, ObservationAssembler
from qgf_ros.errors import RecordingError
from qgf_ros.recording.epochs import Restart, split
from qgf_ros.recording.recording import Recorded, Recording

#: A command that is received sooner than this after its stamp is stamped by the recorder's clock [ns].
LONGEST_TICK = 1_000_000_000
#: Type of the telemetry of the policy node.
TELEMETRY = "diagnostic_msgs/msg/DiagnosticArray"


def _xyz(vector: Any) -> NDArray[np.float64]:
    return np.array([vector.x, vector.y, vector.z], dtype=np.float64)


def _array(values: Any) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def to_reading(recorded: Recorded) -> Reading:
    """Return what a recorded message says.

    Raises:
        RecordingError: Observations are not made of this type.
    """
    message = recorded.message
    kind = recorded.type_name
    if kind == "sensor_msgs/msg/JointState":
        return JointReading(
            tuple(message.name), _array(message.position), _array(message.velocity), _array(message.effort)
        )
    if kind == "geometry_msgs/msg/PoseStamped":
        q = message.pose.orientation
        return PoseReading(_xyz(message.pose.position), _array([q.x, q.y, q.z, q.w]))
    if kind == "geometry_msgs/msg/TwistStamped":
        return TwistReading(_xyz(message.twist.linear), _xyz(message.twist.angular))
    if kind == "geometry_msgs/msg/WrenchStamped":
        return WrenchReading(_xyz(message.wrench.force), _xyz(message.wrench.torque))
    if kind in ("std_msgs/msg/Float32MultiArray", "std_msgs/msg/Float64MultiArray"):
        return VectorReading(_array(message.data))
    raise RecordingError(f"topic {recorded.topic} is recorded as {kind or 'an unknown type'}, which is no observation")


class ObservationSource:
    """Makes observations of recorded readings, as a node made them that stamped its command with the newest of them.

    A reading was there if its stamp is no newer than the command's. A topic without a header was heard before the
    command was stamped, as far as stamps are of the recorder's clock. Where that does not tell either (simulated time,
    readings brought together by ``nearest``), a reading was there if it was received before the command: an inference.

    Args:
        readings: Of one epoch, in the order they were received.
        fields: The observation contract.
        period: Control period [s].
        alignment: As of `ObservationAssembler`.
    """

    def __init__(
        self, readings: Iterable[TimedReading], fields: Sequence[ObservationField], period: float, alignment: str
    ) -> None:
        self._contract = fields, period, alignment
        self._assembler = ObservationAssembler(*self._contract)
        self._latest = alignment == "latest"
        self._by_stamp: list[TimedReading] = []
        self._by_arrival: list[TimedReading] = []
        for reading in readings:
            (self._by_stamp if self._latest and reading.stamped else self._by_arrival).append(reading)
        self._by_stamp.sort(key=_stamp)
        self._by_arrival.sort(key=_log_time)
        self._last: int | None = None
        self._taken = [0, 0]
        #: Whether the arrival of a command had to tell which readings were there.
        self.inferred = False

    def observe(self, stamp: int, received: int) -> Observation:
        """Return the observation behind a command stamped `stamp` [ns] and received at `received` [ns].

        Raises:
            ObservationError: See `ObservationAssembler.assemble`.
        """
        if self._last is not None and stamp < self._last:
            self._assembler, self._taken = ObservationAssembler(*self._contract), [0, 0]
        self._last = stamp
        same_clock = self._latest and 0 <= received - stamp < LONGEST_TICK
        self.inferred |= bool(self._by_arrival) and not same_clock
        arrived = stamp if same_clock else received
        for which, (readings, limit, key) in enumerate(
            ((self._by_stamp, stamp, _stamp), (self._by_arrival, arrived, _log_time))
        ):
            end = bisect.bisect_right(readings, limit, lo=self._taken[which], key=key)
            for reading in readings[self._taken[which] : end]:
                self._assembler.update(reading.topic, reading.stamp if reading.stamped else stamp, reading.reading)
            self._taken[which] = end
        return self._assembler.assemble(stamp)


class TimedReading(NamedTuple):
    """A reading of a topic of the contract, when it was received and its stamp, or that again if it has none [ns]."""

    log_time: int
    stamp: int
    stamped: bool
    topic: str
    reading: Reading


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
) -> list[ObservationSource]:
    """Return a source of observations for each epoch of a recording; goals are carried over into the next one.

    Args:
        recording: The file.
        fields, period, alignment: As of `ObservationSource`.
        found: Restarts of the clock.

    Raises:
        RecordingError: A topic of the contract is not in the file, or its type is none of an observation.
    """
    assembler = ObservationAssembler(fields, period, alignment)
    names = {recording.resolve(topic): topic for topic in assembler.topics}
    absent = [name for name in names if name not in recording.topics]
    if absent:
        raise RecordingError(
            f"{recording.path} has no topic {', '.join(absent)}; it has {', '.join(sorted(recording.topics)) or 'none'}"
        )
    heard: dict[str, list[TimedReading]] = {topic: [] for topic in assembler.topics}
    for recorded in recording.messages(names):
        topic, stamped = names[recorded.topic], hasattr(recorded.message, "header")
        stamp = recorded.stamp if stamped else recorded.log_time
        heard[topic].append(TimedReading(recorded.log_time, stamp, stamped, topic, to_reading(recorded)))
    epochs: list[list[TimedReading]] = [[] for _ in range(len(found) + 1)]
    for topic, readings in heard.items():
        goal: list[TimedReading] = []
        for epoch, part in zip(epochs, split(sorted(readings, key=_log_time), found)):
            epoch += [*goal, *part]
            if topic not in assembler.live_topics:
                goal = [reading._replace(log_time=-1, stamp=-1) for reading in [*goal, *part][-1:]]
    return [ObservationSource(epoch, fields, period, alignment) for epoch in epochs]


def command_values(names: Sequence[str], recorded: Recorded) -> NDArray[np.float64]:
    """Return the values of a recorded command in the order of the action contract, float64 [A].

    Args:
        names: Of the action contract.
        recorded: A JointState, by name, or the telemetry of the tick that commanded it.

    Raises:
        RecordingError: It is neither, lacks a name, or its telemetry does not say what was commanded.
    """
    message = recorded.message
    if recorded.type_name == TELEMETRY:
        return _commanded(len(names), recorded)
    if recorded.type_name != "sensor_msgs/msg/JointState":
        raise RecordingError(
            f"topic {recorded.topic} is recorded as {recorded.type_name or 'an unknown type'}; commands are read from "
            "sensor_msgs/msg/JointState, by name, or from the telemetry of the policy node"
        )
    values = dict(zip(message.name, message.position))
    missing = [name for name in names if name not in values]
    if missing:
        raise RecordingError(
            f"topic {recorded.topic} has no {', '.join(missing)}; it has {', '.join(message.name) or 'no names'}"
        )
    return _array([values[name] for name in names])


def _commanded(size: int, recorded: Recorded) -> NDArray[np.float64]:
    try:
        values = _array(json.loads(figures(recorded).get("command", "")))
    except (ValueError, TypeError, OverflowError, RecursionError):
        values = np.empty(0)
    if values.shape != (size,):
        raise RecordingError(
            f"topic {recorded.topic} does not say what was commanded, expected {size} values as command; record the run "
            "with the policy node of this version"
        )
    return values


def reached_the_robot(command: Recorded) -> bool:
    """Return whether a recorded command, or the one that a telemetry tells of, went to the robot."""
    return command.type_name != TELEMETRY or figures(command).get("motion") == "1"


def says_what_was_sent(recorded: Recorded) -> bool:
    """Return whether a message is the telemetry of a command that went to the robot."""
    return recorded.type_name == TELEMETRY and reached_the_robot(recorded) and "command" in figures(recorded)


def differ(names: Sequence[str], commands: Sequence[Recorded], said: Mapping[int, Recorded]) -> bool:
    """Return whether what was sent is something else than the telemetry of its tick says was commanded.

    Args:
        names: Of the action contract.
        commands: What was sent, in the order of arrival; after the first of a stamp come holds.
        said: Telemetry by stamp.
    """
    for command in {command.stamp: command for command in reversed(commands)}.values():
        if command.stamp in said:
            try:
                sent = command_values(names, command)
            except RecordingError:  # under other names, or as another type
                return True
            if not np.array_equal(sent, command_values(names, said[command.stamp])):
                return True
    return False


def figures(recorded: Recorded) -> Mapping[str, str]:
    """Return the values of a recorded DiagnosticArray by key."""
    return {item.key: item.value for status in recorded.message.status for item in status.values}


def by_topic(recording: Recording, topics: Collection[str]) -> dict[str, list[Recorded]]:
    """Return the messages of some topics, each in the order they were received."""
    found: dict[str, list[Recorded]] = {topic: [] for topic in topics}
    for recorded in recording.messages(topics):
        found[recorded.topic].append(recorded)
    return {topic: _by_time(messages) for topic, messages in found.items()}


def _by_time(messages: Iterable[Recorded]) -> list[Recorded]:
    return sorted(messages, key=lambda recorded: recorded.log_time)
