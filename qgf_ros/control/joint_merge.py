"""The joints of one topic that come in several messages, or of several publishers, put together by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.extraction import JointReading
from qgf_ros.errors import ObservationError


class JointPart(NamedTuple):
    """The newest message that carries some joints, and its stamp [ns]."""

    stamp: int
    reading: JointReading


class JointMerge:
    """Keeps of every joint that is read from a topic what was said of it last, and when.

    A message that carries all of them passes as it is, and ends all parts. Others are parts, told apart by their names: a
    joint belongs to the part that named it last, and a part that has lost a joint to another is forgotten, its other joints
    too. So messages that take turns are merged, while the joints of a publisher whose names change are missed at once.

    Args:
        fields: What is read from the topic.
    """

    def __init__(self, fields: Sequence[ObservationField]) -> None:
        self._joints = frozenset(joint for field in fields for joint in field.joints)
        self._parts: dict[tuple[str, ...], JointPart] = {}
        self._complete: tuple[str, ...] | None = None

    @property
    def whole(self) -> bool:
        """Whether all parts have one stamp."""
        return len(self._parts) < 2 or len({part.stamp for part in self._parts.values()}) == 1

    def clear(self) -> None:
        """Forget every part."""
        self._parts.clear()
        self._complete = None

    def passes(self, names: tuple[str, ...]) -> bool:
        """Return whether a message of these names carries every joint, and so needs no `take`; it ends all parts."""
        if names != self._complete:
            if not self._joints.issubset(names):
                return False
            self._complete = names
        self._parts.clear()
        return True

    def take(self, stamp: int, reading: JointReading) -> tuple[int, JointReading] | None:
        """Take a part stamped `stamp` [ns].

        Returns:
            The newest stamp [ns] and a reading of all joints; None for a message about other joints than are read here,
            beside such as are.
        """
        part = self._parts.get(reading.names)
        if part is None and not self._enter(reading.names):
            known = self._parts or self._complete
            return None if reading.names and known else (stamp, reading)
        if part is None or stamp >= part.stamp:
            self._parts[reading.names] = JointPart(stamp, reading)
        if len(self._parts) == 1:
            return stamp, reading
        return max(part.stamp for part in self._parts.values()), self._merged()

    def check(self, field: ObservationField, now: int) -> None:
        """Look at the parts that a field is made of, each by itself, as of `now` [ns].

        Raises:
            ObservationError: A part is older than the field's max_age, or has not a value for each of its joints; the
                message names field and joints.
        """
        if len(self._parts) < 2 or field.max_age is None:
            return
        for names, part in self._parts.items():
            joints = [joint for joint in field.joints if joint in names]
            age = (now - part.stamp) * 1e-9
            if joints and age > field.max_age:
                raise ObservationError(
                    f"field {field.name}: joint {', '.join(joints)} of topic {field.topic} is stale, {age:.3f} s old, "
                    f"at most {field.max_age:g} s allowed"
                )
            count = len(_values(part.reading, field.extraction.split("_")[1]))
            if joints and count != len(names):
                raise ObservationError(
                    f"field {field.name}: topic {field.topic} carries {count} values for {len(names)} joints"
                )

    def _enter(self, names: tuple[str, ...]) -> bool:
        """Make room for a part of these names; return whether there is one."""
        wanted = self._joints.intersection(names)
        if not names:  # a driver that names nothing says nothing of any joint
            self._parts.clear()
        for other in [other for other in self._parts if not wanted.isdisjoint(other)]:
            del self._parts[other]
        return bool(wanted)

    def _merged(self) -> JointReading:
        readings = [part.reading for part in self._parts.values()]
        names = tuple(name for reading in readings for name in reading.names)
        position, velocity, effort = (
            np.concatenate([_one_each(_values(reading, kind), len(reading.names)) for reading in readings])
            for kind in ("position", "velocity", "effort")
        )
        return JointReading(names, position, velocity, effort)


def joint_merges(fields: Sequence[ObservationField]) -> dict[str, JointMerge]:
    """Return a merge for each live topic that joints are read from, by topic."""
    joints = [field for field in fields if field.joints and field.constant is None]
    topics = {field.topic for field in joints} & {field.topic for field in fields if field.live}
    return {topic: JointMerge([field for field in joints if field.topic == topic]) for topic in topics}


def _values(reading: JointReading, kind: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = getattr(reading, kind)
    return values


def _one_each(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return values, or as many that are none where their number is not that of the joints: `check` says so."""
    return values if len(values) == count else np.full(count, np.nan)
