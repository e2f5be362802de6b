"""Recorded messages as readings, the observations made of them, and commands."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.observation import (
    JointReading,
    Observation,
    ObservationAssembler,
    PoseReading,
    Reading,
    TwistReading,
    VectorReading,
    WrenchReading,
)
from qgf_ros.errors import RecordingError
from qgf_ros.recording.recording import Recorded, Recording


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

    A reading was there if its stamp is no newer than the command's. Where that does not tell (topics without a header,
    readings brought together by ``nearest``), it was there if it was received before the command: an inference.

    Args:
        recording: The file.
        fields: The observation contract.
        period: Control period [s].
        alignment: As of `ObservationAssembler`.

    Raises:
        RecordingError: A topic of the contract is not in the file.
    """

    def __init__(
        self, recording: Recording, fields: Sequence[ObservationField], period: float, alignment: str = "latest"
    ) -> None:
        self._contract = fields, period, alignment
        self._assembler = ObservationAssembler(*self._contract)
        names = {recording.resolve(topic): topic for topic in self._assembler.topics}
        absent = [name for name in names if name not in recording.topics]
        if absent:
            raise RecordingError(
                f"{recording.path} has no topic {', '.join(absent)}; it has {', '.join(sorted(recording.topics)) or 'none'}"
            )
        self._by_stamp: list[_Item] = []
        self._by_arrival: list[_Item] = []
        for recorded in recording.messages(names):
            stamp = recorded.stamp if hasattr(recorded.message, "header") else None
            by_stamp = alignment == "latest" and stamp is not None
            key = recorded.stamp if by_stamp else recorded.log_time
            item = _Item(key, stamp, names[recorded.topic], to_reading(recorded))
            (self._by_stamp if by_stamp else self._by_arrival).append(item)
        self._by_stamp.sort(key=_key)
        self._by_arrival.sort(key=_key)
        self._last: int | None = None
        self._taken = [0, 0]

    @property
    def inferred(self) -> bool:
        """Whether times of arrival had to tell which readings were there."""
        return bool(self._by_arrival)

    def observe(self, stamp: int, received: int) -> Observation:
        """Return the observation behind a command stamped `stamp` [ns] and received at `received` [ns].

        Raises:
            ObservationError: See `ObservationAssembler.assemble`.
        """
        if self._last is not None and stamp < self._last:
            self._assembler, self._taken = ObservationAssembler(*self._contract), [0, 0]
        self._last = stamp
        for which, (items, limit) in enumerate(((self._by_stamp, stamp), (self._by_arrival, received))):
            end = bisect.bisect_right(items, limit, lo=self._taken[which], key=_key)
            for item in items[self._taken[which] : end]:
                self._assembler.update(item.topic, stamp if item.stamp is None else item.stamp, item.reading)
            self._taken[which] = end
        return self._assembler.assemble(stamp)


class _Item(NamedTuple):
    """A reading, the time that tells whether it was there [ns], and its stamp [ns] where it has one."""

    key: int
    stamp: int | None
    topic: str
    reading: Reading


def _key(item: _Item) -> int:
    return item.key


def command_values(names: Sequence[str], recorded: Recorded) -> NDArray[np.float64]:
    """Return the values of a recorded command in the order of the action contract, float64 [A].

    Raises:
        RecordingError: It is no JointState, or lacks a name.
    """
    message = recorded.message
    if recorded.type_name != "sensor_msgs/msg/JointState":
        raise RecordingError(
            f"topic {recorded.topic} is recorded as {recorded.type_name or 'an unknown type'}; "
            "commands are read from sensor_msgs/msg/JointState, by name"
        )
    values = dict(zip(message.name, message.position))
    missing = [name for name in names if name not in values]
    if missing:
        raise RecordingError(
            f"topic {recorded.topic} has no {', '.join(missing)}; it has {', '.join(message.name) or 'no names'}"
        )
    return _array([values[name] for name in names])


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
