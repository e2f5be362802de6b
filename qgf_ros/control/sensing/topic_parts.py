"""Topics whose messages hold much, and what single fields are given of them: the pose of one frame, or of one thing."""

from __future__ import annotations

from collections.abc import Iterable

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.messages.message_types import DETECTIONS, STATIC, TRANSFORMS
from qgf_ros.control.sensing.further_readings import MissedReading
from qgf_ros.control.sensing.sensor_messages import Detections, Transforms
from qgf_ros.control.sensing.transform_tree import Part, TransformTree

#: How far apart the transforms of one pose may be that holds until it is replaced [s].
_FOR_GOALS = 1.0


class TopicParts:
    """Makes of messages with much in them the readings that fields are given, each under `ObservationField.source`.

    Args:
        fields: The observation contract.

    Attributes:
        topics: Those that this is about.
        optional: Those of them that need not be there: what never changes may be said of nothing.
    """

    def __init__(self, fields: Iterable[ObservationField]) -> None:
        found = [field for field in fields if field.constant is None and field.source != field.topic]
        self._names = {field.source: field.name for field in reversed(found) if field.live}
        self._trees: dict[str, TransformTree] = {}
        self._things: dict[str, dict[str, str]] = {}
        for field in found:
            if field.message_type == DETECTIONS:
                self._things.setdefault(field.topic, {})[field.source] = str(field.object_id)
        moving = dict.fromkeys(field.topics[0] for field in found if field.message_type == TRANSFORMS)
        for topic in moving:
            read = [field for field in found if field.message_type == TRANSFORMS and field.topics[0] == topic]
            wanted = {field.source: (str(field.frame_id), str(field.child_frame_id)) for field in read}
            self._trees[topic] = TransformTree(wanted, max(field.max_age or _FOR_GOALS for field in read))
        self.optional = frozenset(topic + STATIC for topic in moving)
        self.topics = frozenset([*self._things, *moving, *self.optional])

    def take(self, topic: str, stamp: int, said: Transforms | Detections) -> list[Part]:
        """Return source, stamp [ns] and reading of each part of a message that fields are given.

        Args:
            topic: Of the message.
            stamp: Of its header [ns]; transforms have stamps of their own.
            said: What it says.
        """
        if isinstance(said, Transforms):
            tree = self._trees.get(topic.removesuffix(STATIC))
            return [] if tree is None else tree.hear(said.transforms, static=topic.endswith(STATIC))
        parts: list[Part] = []
        for source, thing in self._things.get(topic, {}).items():
            if thing in said.best:
                _, own, reading = said.best[thing]
                # A tracker may tell again and again where it saw a thing last, and when.
                parts.append((source, min(stamp, own) if own else stamp, reading))
            elif source in self._names:  # live: what is not seen now is not where it was, nor anything to act on
                parts.append((source, stamp, MissedReading(f"has no detection of {thing} among {said.count}")))
        return parts

    def gap(self) -> str | None:
        """Say which field has no pose yet, though its topic says something, and why; None if there is none.

        A field that holds until it is replaced is left out.
        """
        for source, name in self._names.items():
            reason = self.gap_of(source)
            if reason is not None:
                return f"field {name}: {reason}"
        return None

    def gap_of(self, source: str) -> str | None:
        """Say why there is no pose of a source yet, though its topic says something, or return None."""
        for topic, tree in self._trees.items():
            if tree.knows(source) and (reason := tree.gap(source)) is not None:
                return f"topic {topic} {reason}"
        return None

    def clear(self) -> None:
        """Forget what moves, as after a restart of the clock."""
        for tree in self._trees.values():
            tree.clear()
