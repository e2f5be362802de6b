"""Poses of frames in other frames, composed of transforms that come one by one, at rates of their own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np

from qgf_ros.control.sensing.further_readings import LocatedReading, MissedReading
from qgf_ros.control.sensing.orientation import LENGTH_TOLERANCE
from qgf_ros.control.sensing.sensor_messages import Numbers, Transform

#: Frames that are known of at most, and instants that are kept of a transform at most.
MOST_FRAMES, MOST_INSTANTS = 1000, 1000

Pose = tuple[Numbers, Numbers]
#: Source, stamp [ns] and reading.
Part = tuple[str, int, LocatedReading | MissedReading]
_SAME: Pose = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)


class Edge:
    """Where one frame was in its parent, over some time.

    Attributes:
        parent: Frame of the poses.
        static: Whether it never changes, and so never grows old.
        instants: Transforms in the order of their stamps.
    """

    def __init__(self, parent: str, static: bool) -> None:
        self.parent, self.static = parent, static
        self.instants: deque[Transform] = deque(maxlen=MOST_INSTANTS)
        self._late: int | None = None

    def add(self, transform: Transform, memory: int) -> None:
        """Keep a transform, and those that are at most `memory` [ns] older.

        One that came too late is passed over; two in a row mean that what went before was stamped in the future.
        """
        kept, stamp = self.instants, transform.stamp
        if kept and stamp < kept[-1].stamp and not self.static:
            late, self._late = self._late, stamp
            if late is None or stamp <= late:
                return
            kept.clear()
        elif kept and (stamp == kept[-1].stamp or self.static):
            kept.pop()
        self._late = None
        kept.append(transform)
        while kept[0].stamp < stamp - memory:
            kept.popleft()

    def at(self, stamp: int) -> Pose | None:
        """Return the pose at an instant [ns], between the two around it; None before the first, the newest after the last."""
        after: Transform | None = None
        for before in reversed(self.instants):
            if self.static or before.stamp <= stamp:
                pose = before.position, before.quaternion_xyzw
                if after is None or before.stamp == stamp:
                    return pose
                share = (stamp - before.stamp) / (after.stamp - before.stamp)
                return _between(pose, (after.position, after.quaternion_xyzw), share)
            after = before
        return None


class TransformTree:
    """The frames of one topic of transforms, and the poses that are asked for.

    A pose is composed along the only way through the tree that leads from frame to frame. Its stamp is that of the oldest of
    the transforms on the way, and the others are taken as they were then, between the two instants around it. What never changes
    is as good as ever, whatever its stamp. Of a transform on no way its newest instant is kept, as it may be on one later.

    Args:
        wanted: Frame, and the frame whose pose in it is wanted, by source.
        memory: How far apart transforms on one way may be [s].
    """

    def __init__(self, wanted: Mapping[str, tuple[str, str]], memory: float) -> None:
        self._wanted = dict(wanted)
        self._memory = round(memory * 1e9)
        self._edges: dict[str, Edge] = {}
        self._ways: dict[str, tuple[list[Edge], list[Edge]]] = {}
        self._used: frozenset[str] = frozenset()
        self._given: dict[str, int] = {}

    def clear(self) -> None:
        """Forget what moves; what never changes is said only once."""
        self._edges = {child: edge for child, edge in self._edges.items() if edge.static}
        self._given.clear()
        self._find()

    def hear(self, transforms: Iterable[Transform], *, static: bool) -> list[Part]:
        """Take the transforms of one message; return source, stamp [ns] and reading of each pose that is newer by them."""
        grown, touched = False, False
        for transform in transforms:
            child = transform.child_frame_id
            edge = self._edges.get(child)
            if edge is None or edge.parent != transform.frame_id or edge.static != static:
                if edge is None and len(self._edges) >= MOST_FRAMES and not self._made_room():
                    continue
                edge = self._edges[child] = Edge(transform.frame_id, static)
                grown = True
            used = child in self._used
            touched |= used
            edge.add(transform, self._memory if used else 0)
        if grown:
            self._find()
        return self._renewed() if grown or touched else []

    def knows(self, source: str) -> bool:
        """Whether a source is one of this tree."""
        return source in self._wanted

    def gap(self, source: str) -> str | None:
        """Say why there is no pose yet that could grow old, in words that go behind the topic; None where there was one."""
        frame, child = self._wanted[source]
        still = source in self._ways and all(edge.static for way in self._ways[source] for edge in way)
        if still:
            return (
                f"has only static transforms from frame {frame} to {child}, of which nothing is measured; set max_age: null "
                "for what holds until it is replaced"
            )
        if source in self._given or not self._edges:
            return None
        known = {*self._edges, *(edge.parent for edge in self._edges.values())}
        for name in (frame, child):
            if name not in known and len(self._edges) >= MOST_FRAMES:
                return (
                    f"has more than {MOST_FRAMES} frames, and none of those known is {name}; see who publishes so many"
                )
            if name not in known:
                return f"has no transform of frame {name}; look at its spelling, and at who publishes it"
        if source not in self._ways:
            return (
                f"has no way through its transforms from frame {frame} to {child}; a transform between them is missing"
            )
        return f"has transforms from frame {frame} that have no time in common with those to {child}"

    def _renewed(self) -> list[Part]:
        found: list[Part] = []
        for source, way in self._ways.items():
            stamp = self._reached(way)
            if stamp is None or stamp == self._given.get(source):
                continue
            reading = self._composed(source, way, stamp)
            if reading is not None:
                self._given[source] = stamp
                found.append((source, stamp, reading))
        return found

    def _reached(self, way: tuple[list[Edge], list[Edge]]) -> int | None:
        """Return the newest instant [ns] that all that moves has reached; of a way that never changes, its newest stamp."""
        edges = [*way[0], *way[1]]
        moving = [edge.instants[-1].stamp for edge in edges if not edge.static]
        return min(moving) if moving else max(edge.instants[-1].stamp for edge in edges)

    def _composed(
        self, source: str, way: tuple[list[Edge], list[Edge]], stamp: int
    ) -> LocatedReading | MissedReading | None:
        up, down = way
        pose = _SAME
        for edges, back in ((up, True), (down, False)):
            for edge in edges:
                step = edge.at(stamp)
                if step is None:
                    return None
                length = math.hypot(*step[1])
                if abs(length - 1.0) > LENGTH_TOLERANCE:
                    one = edge.instants[-1]
                    return MissedReading(
                        f"gives a quaternion of length {length:.4g} from frame {one.frame_id} to {one.child_frame_id}, which "
                        "is no rotation"
                    )
                step = step[0], tuple(part / length for part in step[1])
                pose = _after(pose, _inverse(step) if back else step)
        return LocatedReading(np.array(pose[0]), np.array(pose[1]), self._wanted[source][0])

    def _find(self) -> None:
        """Find the ways anew."""
        self._ways.clear()
        used: set[str] = set()
        for source, (frame, child) in self._wanted.items():
            above, below = self._line(frame), self._line(child)
            meeting = next((name for name in above if name in below), None)
            if meeting is None:
                continue
            up, down = above[: above.index(meeting)], below[: below.index(meeting)]
            used.update(up, down)
            self._ways[source] = [self._edges[name] for name in up], [self._edges[name] for name in reversed(down)]
        self._used = frozenset(used)

    def _line(self, name: str) -> list[str]:
        """Return a frame, its parent, and so on."""
        line = [name]
        while (edge := self._edges.get(line[-1])) is not None and edge.parent not in line:
            line.append(edge.parent)
        return line

    def _made_room(self) -> bool:
        """Forget what moves and is on no way: what still does is heard again; return whether anything was."""
        self._edges = {name: edge for name, edge in self._edges.items() if edge.static or name in self._used}
        return len(self._edges) < MOST_FRAMES


def _times(p: Numbers, q: Numbers) -> Numbers:
    """Return the product of two quaternions (x, y, z, w)."""
    a, b, c, d = p
    x, y, z, w = q
    return (
        d * x + a * w + b * z - c * y,
        d * y - a * z + b * w + c * x,
        d * z + a * y - b * x + c * w,
        d * w - a * x - b * y - c * z,
    )


def _turn(q: Numbers, v: Numbers) -> Numbers:
    """Return a vector, rotated."""
    x, y, z, w = q
    a, b, c = v
    s, t, u = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return a + w * s + y * u - z * t, b + w * t + z * s - x * u, c + w * u + x * t - y * s


def _after(first: Pose, second: Pose) -> Pose:
    """Return the pose of what is at `second` in what is at `first`."""
    position = tuple(a + b for a, b in zip(first[0], _turn(first[1], second[0])))
    return position, _times(first[1], second[1])


def _inverse(pose: Pose) -> Pose:
    (x, y, z), (a, b, c, w) = pose
    back = -a, -b, -c, w
    return _turn(back, (-x, -y, -z)), back


def _between(one: Pose, other: Pose, share: float) -> Pose:
    """Return the pose that lies `share` of the way to the other: straight, and by the shorter turn (Shoemake, 1985)."""
    position = tuple(a + share * (b - a) for a, b in zip(one[0], other[0]))
    cosine = sum(a * b for a, b in zip(one[1], other[1]))
    sign = -1.0 if cosine < 0.0 else 1.0
    angle = math.acos(min(abs(cosine), 1.0)) if math.isfinite(cosine) else math.nan
    if angle < 1e-6:
        return position, one[1]
    first, second = math.sin((1.0 - share) * angle) / math.sin(angle), sign * math.sin(share * angle) / math.sin(angle)
    return position, tuple(first * a + second * b for a, b in zip(one[1], other[1]))
