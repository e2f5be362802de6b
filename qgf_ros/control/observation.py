"""Observation contract: readings of topics in, one checked vector out.

A *reading* is a message without ROS: plain arrays in SI units. The node turns messages into readings, the simulated
environment makes them directly; both then go through this module, so that the vector a policy sees is the same bits
on a robot, over the bridge and in process.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.errors import ObservationError

Array = NDArray[np.float64]

#: Readings kept of one topic at most, whatever its rate.
MOST_READINGS = 1000


@dataclass(frozen=True)
class JointReading:
    """Joint positions [rad or m], velocities [rad/s or m/s] and efforts [N m or N]; empty where not measured."""

    names: tuple[str, ...]
    position: Array
    velocity: Array
    effort: Array


@dataclass(frozen=True)
class PoseReading:
    """Position [m] and orientation quaternion in ROS order (x, y, z, w)."""

    position: Array
    quaternion_xyzw: Array


@dataclass(frozen=True)
class TwistReading:
    """Linear velocity [m/s] and angular velocity [rad/s]."""

    linear: Array
    angular: Array


@dataclass(frozen=True)
class WrenchReading:
    """Force [N] and torque [N m]."""

    force: Array
    torque: Array


@dataclass(frozen=True)
class VectorReading:
    """A plain vector, such as a Float64MultiArray."""

    data: Array


Reading: TypeAlias = JointReading | PoseReading | TwistReading | WrenchReading | VectorReading

READING_TYPES: dict[str, type] = {
    "sensor_msgs/msg/JointState": JointReading,
    "geometry_msgs/msg/PoseStamped": PoseReading,
    "geometry_msgs/msg/TwistStamped": TwistReading,
    "geometry_msgs/msg/WrenchStamped": WrenchReading,
    "std_msgs/msg/Float32MultiArray": VectorReading,
    "std_msgs/msg/Float64MultiArray": VectorReading,
}


def yaw_of(quaternion_xyzw: Array) -> float:
    """Return the rotation about z [rad] of a quaternion (x, y, z, w), in (-pi, pi]."""
    x, y, z, w = quaternion_xyzw
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def _joints(field: ObservationField, names: tuple[str, ...], values: Array) -> Array:
    index = {name: i for i, name in enumerate(names)}
    missing = [name for name in field.joints if name not in index]
    if missing:
        raise ObservationError(
            f"field {field.name}: topic {field.topic} has no joint {', '.join(missing)}; it has {', '.join(names) or 'none'}"
        )
    if len(values) != len(names):
        raise ObservationError(
            f"field {field.name}: topic {field.topic} carries {len(values)} values for {len(names)} joints"
        )
    return np.array([values[index[name]] for name in field.joints], dtype=np.float64)


def _extract(field: ObservationField, reading: Reading) -> Array:
    kind = field.extraction
    if isinstance(reading, JointReading):
        values = {
            "joint_position": reading.position,
            "joint_position_cos_sin": reading.position,
            "joint_velocity": reading.velocity,
            "joint_effort": reading.effort,
        }[kind]
        chosen = _joints(field, reading.names, values)
        return np.concatenate([np.cos(chosen), np.sin(chosen)]) if kind == "joint_position_cos_sin" else chosen
    if isinstance(reading, PoseReading):
        if kind == "position":
            return reading.position
        q = reading.quaternion_xyzw
        if kind.startswith("quaternion_"):
            return q if kind == "quaternion_xyzw" else np.array([q[3], q[0], q[1], q[2]])
        yaw = yaw_of(q)
        return np.array([yaw]) if kind == "yaw" else np.array([np.cos(yaw), np.sin(yaw)])
    if isinstance(reading, TwistReading):
        return reading.linear if kind == "linear" else reading.angular
    if isinstance(reading, WrenchReading):
        if kind == "wrench_norm":
            return np.array([np.sqrt(np.sum(reading.torque**2) + np.sum(reading.force**2))])
        return reading.force if kind == "force" else reading.torque
    return reading.data


def extract(field: ObservationField, reading: Reading) -> Array:
    """Return the scaled block that one reading gives a field.

    Args:
        field: The contract of the block.
        reading: A reading of the field's topic.

    Returns:
        float64 [field.instant_size].

    Raises:
        ObservationError: The reading is of another type or shape, lacks a joint, or is not finite.
    """
    expected = READING_TYPES[field.message_type]
    if not isinstance(reading, expected):
        raise ObservationError(
            f"field {field.name}: topic {field.topic} gave a {type(reading).__name__}, expected {expected.__name__}"
        )
    raw = np.asarray(_extract(field, reading), dtype=np.float64)
    if field.components:
        if raw.ndim != 1 or len(raw) <= max(field.components):
            raise ObservationError(
                f"field {field.name}: topic {field.topic} gave shape {raw.shape}, "
                f"expected at least {max(field.components) + 1} values"
            )
        raw = raw[list(field.components)]
    if raw.shape != (field.instant_size,):
        raise ObservationError(
            f"field {field.name}: topic {field.topic} gave shape {raw.shape}, expected ({field.instant_size},)"
        )
    if not np.isfinite(raw).all():
        raise ObservationError(f"field {field.name}: topic {field.topic} holds a value that is not finite")
    return _scaled(field, raw)


def _scaled(field: ObservationField, raw: Array) -> Array:
    value: Array = (raw - np.asarray(field.offset)) * field.scale
    return value if field.clip is None else np.clip(value, *field.clip)


@dataclass(frozen=True)
class Observation:
    """A complete, checked observation.

    Attributes:
        vector: float32 [observation_size].
        stamp: Newest stamp of the live topics [ns].
    """

    vector: NDArray[np.float32]
    stamp: int


class ObservationAssembler:
    """Keeps the latest readings of every topic and fills the observation vector.

    The readings of different topics are brought together by `alignment`. ``latest`` takes the newest of each, ``nearest``
    of each topic the reading nearest to the newest instant that every topic has reached, so that what a slow topic and
    fast ones say belongs together. Either way the observation has the newest stamp of all. A field with a history takes
    the readings nearest to the instants that lie whole control periods before.

    Args:
        fields: The observation contract, in order.
        period: Control period [s].
        alignment: "latest" or "nearest".
    """

    def __init__(self, fields: Sequence[ObservationField], period: float, alignment: str = "latest") -> None:
        self.fields = tuple(fields)
        sourced = [field for field in self.fields if field.constant is None]
        self.topics = tuple(dict.fromkeys(field.topic for field in sourced))
        #: Topics that deliver all the time, as opposed to goals.
        self.live_topics = tuple(dict.fromkeys(field.topic for field in sourced if field.live))
        self._nearest = alignment == "nearest"
        self._period = round(period * 1e9)
        self._kept = {topic: self._memory([f for f in sourced if f.topic == topic]) for topic in self.topics}
        self._readings: dict[str, deque[tuple[int, Reading]]] = {}

    def _memory(self, fields: Sequence[ObservationField]) -> int:
        """Return how long [ns] the readings of a topic are kept behind its newest one."""
        instants = max(field.history for field in fields)
        kept = instants * self._period if instants > 1 else 0
        if self._nearest:
            kept += max(round((field.max_age or 0.0) * 1e9) for field in self.fields)
        return kept

    def update(self, topic: str, stamp: int, reading: Reading) -> None:
        """Keep a reading taken at `stamp` [ns]; an older one than the newest is ignored, but a goal always replaces."""
        kept = self._readings.setdefault(topic, deque(maxlen=MOST_READINGS))
        if topic not in self.live_topics:
            kept.clear()
        if kept and stamp < kept[-1][0]:
            return
        if kept and stamp == kept[-1][0]:
            kept.pop()
        kept.append((stamp, reading))
        while kept[0][0] < stamp - self._kept[topic]:
            kept.popleft()

    def clear(self) -> None:
        """Forget every reading of a live topic; a goal stays."""
        for topic in self.live_topics:
            self._readings.pop(topic, None)

    def forget_future(self, now: int, lead: float = 0.0) -> list[str]:
        """Forget live topics that are ahead of `now` [ns] by more than `lead` [s] and a max_age, and return them.

        Beside a reading from the future every sound one seems old, and in the end it would pass for a fresh one itself.
        """
        ahead = []
        for field in self.fields:
            newest = self._newest(field.topic)
            if field.live and newest is not None and (newest - now) * 1e-9 - lead > (field.max_age or 0.0):
                del self._readings[field.topic]
                ahead.append(field.topic)
        return ahead

    @property
    def synchronised_stamp(self) -> int | None:
        """The stamp [ns] shared by the newest reading of every live topic, or None while they differ."""
        stamps = {self._newest(topic) for topic in self.live_topics}
        return stamps.pop() if len(stamps) == 1 else None

    def _newest(self, topic: str) -> int | None:
        kept = self._readings.get(topic)
        return kept[-1][0] if kept else None

    def assemble(self, now: int) -> Observation:
        """Return the observation as of `now` [ns].

        Raises:
            ObservationError: A field is missing, stale, from the future by more than its max_age, misshapen or not
                finite, or its history has a gap; the message names the field and the topic.
        """
        vector = np.empty(sum(field.size for field in self.fields), dtype=np.float32)
        reached = [stamp for stamp in map(self._newest, self.live_topics) if stamp is not None]
        common = min(reached, default=now)
        start = 0
        for field in self.fields:
            if field.constant is None:
                block = self._block(field, now, common)
            else:
                block = np.tile(_scaled(field, np.broadcast_to(field.constant, field.instant_size)), field.history)
            vector[start : start + field.size] = block
            start += field.size
        return Observation(vector, max(reached, default=now))

    def _block(self, field: ObservationField, now: int, common: int) -> Array:
        kept = self._readings.get(field.topic)
        if not kept:
            raise ObservationError(f"field {field.name}: nothing received yet on topic {field.topic}")
        if field.live:
            self._check_age(field, (now - kept[-1][0]) * 1e-9)
        stamp, reading = _nearest(kept, common) if self._nearest and field.live else kept[-1]
        if field.history == 1:
            return extract(field, reading)
        past = [self._past(field, kept, stamp, k) for k in reversed(range(field.history))]
        return np.concatenate([extract(field, reading) for reading in past])

    def _past(self, field: ObservationField, kept: deque[tuple[int, Reading]], anchor: int, periods: int) -> Reading:
        """Return the reading `periods` control periods before the stamp `anchor` [ns], to half a period."""
        wanted = anchor - periods * self._period
        stamp, reading = _nearest(kept, wanted)
        if 2 * abs(stamp - wanted) > self._period:
            raise ObservationError(
                f"field {field.name}: topic {field.topic} has no reading {periods * self._period * 1e-9:.3f} s before its "
                f"newest; its history of {field.history} needs one every {self._period * 1e-9:g} s"
            )
        return reading

    def _check_age(self, field: ObservationField, age: float) -> None:
        assert field.max_age is not None
        if age > field.max_age:
            raise ObservationError(
                f"field {field.name}: topic {field.topic} is stale, {age:.3f} s old, at most {field.max_age:g} s allowed"
            )
        if age < -field.max_age:
            raise ObservationError(
                f"field {field.name}: topic {field.topic} is stamped {-age:.3f} s in the future; "
                "check that publisher and node use the same clock (use_sim_time)"
            )


def _nearest(kept: deque[tuple[int, Reading]], stamp: int) -> tuple[int, Reading]:
    """Return the reading nearest to `stamp` [ns]; of two as near, the newer. Readings lie in order of their stamps."""
    nearest = kept[-1]
    for item in itertools.islice(reversed(kept), 1, None):
        if abs(item[0] - stamp) >= abs(nearest[0] - stamp):
            break
        nearest = item
    return nearest
