"""Observation contract: readings of topics in, one checked vector out.

A *reading* is a message without ROS: plain arrays in SI units. The node turns messages into readings, the simulated
environment makes them directly; both then go through this module, so that the vector a policy sees is the same bits
on a robot, over the bridge and in process.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.demonstrations import places, scales_of
from qgf_ros.bundle.expectation import Expected, plausible_bounds
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.extraction import JointReading, Reading, Scaling, instant, not_finite, with_sign
from qgf_ros.control.joint_merge import joint_merges
from qgf_ros.control.sensing.orientation import FollowedSign
from qgf_ros.control.vision.pictures import Picture
from qgf_ros.errors import ObservationError

if TYPE_CHECKING:
    from qgf_ros.control.vision.newest_pictures import NewestPictures, Sight

Array = NDArray[np.float64]

#: Readings kept of one topic at most, whatever its rate.
MOST_READINGS = 1000


@dataclass(frozen=True)
class Observation:
    """A complete, checked observation.

    Attributes:
        vector: float32 [observation_size].
        stamp: Newest stamp of the live topics [ns].
        sight: What the cameras see; None without any.
    """

    vector: NDArray[np.float32]
    stamp: int
    sight: Sight | None = None


class MeasuredValues:
    """Finds in an observation where the robot is: what the components of an action set or move, in their units.

    Args:
        manifest: The contract.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._nothing = np.full(manifest.action_size, np.nan)
        fields = {field.name: field for field in manifest.observation}
        ends = {field.name: place.stop for field, place in places(manifest.observation)}
        self._found: list[tuple[int, int, float, float]] = []
        for i, action in enumerate(manifest.action):
            if action.measured is not None:
                field, component = fields[action.measured.field], action.measured.component
                newest = ends[field.name] - field.instant_size  # instant, which stands last
                offset = np.broadcast_to(field.offset, field.instant_size)[component]
                self._found.append((i, newest + component, float(scales_of(field)[component]), float(offset)))

    def __call__(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the measured values of an observation vector, float64 [A] in the units of the action; NaN if unknown."""
        values: NDArray[np.float64] = self._nothing.copy()
        for i, index, scale, offset in self._found:
            values[i] = float(vector[index]) / scale + offset
        return values


class ObservationAssembler:
    """Keeps the latest readings of every topic, or source (see `ObservationField.source`), and fills the observation vector.

    The readings of different topics are brought together by `alignment`. ``latest`` takes the newest of each, ``nearest``
    of each topic the reading nearest to the newest instant that every topic has reached, so that what a slow topic and
    fast ones say belongs together. Either way the observation has the newest stamp of all. A field with a history takes
    the readings nearest to the instants that lie whole control periods before. The joints of a live topic may come in
    several messages; see `JointMerge`. Then its stamp is that of the newest, and each field is as old as the oldest message
    that it takes a joint from. Of a camera only the newest picture is kept, to which ``nearest`` brings the rest.

    Args:
        fields: The observation contract, in order.
        period: Control period [s].
        alignment: "latest" or "nearest".
        expected: What each field is expected to yield; by default anything finite.
        cameras: The cameras by name.
    """

    def __init__(
        self,
        fields: Sequence[ObservationField],
        period: float,
        alignment: str = "latest",
        expected: Sequence[Expected] = (),
        cameras: Mapping[str, CameraField] | None = None,
    ) -> None:
        self.fields = tuple(fields)
        sourced = [field for field in self.fields if field.constant is None]
        self._sources = {field.name: field.source for field in sourced}
        measured = tuple(dict.fromkeys(field.source for field in sourced))
        live = tuple(dict.fromkeys(field.source for field in sourced if field.live))
        watched = {camera.topic: camera.max_age for camera in (cameras or {}).values()}
        self.topics = (*measured, *watched)
        #: Topics that deliver all the time, as opposed to goals.
        self.live_topics = (*live, *watched)
        self._nearest = alignment == "nearest"
        self._period = round(period * 1e9)
        self._oldest = max([*(field.max_age or 0.0 for field in self.fields), *watched.values()], default=0.0)
        self._kept = {topic: self._memory([f for f in sourced if f.source == topic]) for topic in measured}
        self._pictures: NewestPictures | None = None
        if cameras:  # and only then is OpenCV needed
            from qgf_ros.control.vision.newest_pictures import NewestPictures

            self._pictures = NewestPictures(cameras)
        #: How far ahead of now a live topic may be [s].
        self._ahead = watched | {
            topic: min(f.max_age or 0.0 for f in sourced if f.live and f.source == topic) for topic in live
        }
        #: Fields of a topic with their place in the vector, which begins with the constants in place.
        self._filled = [(field, place) for field, place in places(self.fields) if field.constant is None]
        self._blank = np.zeros(sum(field.size for field in self.fields))
        for field, place in places(self.fields):
            if field.constant is not None:
                self._blank[place].reshape(field.history, -1)[:] = field.constant
        self._scaling = Scaling(self.fields)
        self._merges = joint_merges(self.fields)
        self._expected = {one.served.name: one for one in expected}
        self._lower, self._upper = plausible_bounds(self.fields, self._expected)
        self._readings: dict[str, deque[tuple[int, Reading]]] = {}
        self._signs = self._followed_signs()

    def _memory(self, fields: Sequence[ObservationField]) -> int:
        """Return how long [ns] the readings of a topic are kept behind its newest one."""
        instants = max(field.history for field in fields)
        behind = round(self._oldest * 1e9) if self._nearest else 0
        return behind + (instants * self._period if instants > 1 else 0)

    def update(self, topic: str, stamp: int, reading: Reading | Picture) -> bool:
        """Keep a reading taken at `stamp` [ns]; an older one than the newest is ignored, but a goal always replaces.

        Return whether it says anything of what is read from the topic: a message about other joints may not.
        """
        if isinstance(reading, Picture):
            if self._pictures is not None:
                self._pictures.keep(topic, stamp, reading)
            return True
        merge = self._merges.get(topic)
        if merge is not None and isinstance(reading, JointReading) and not merge.passes(reading.names):
            taken = merge.take(stamp, reading)
            if taken is None:
                return False
            stamp, reading = taken
        self._keep(topic, stamp, reading)
        return True

    def is_whole(self, topic: str) -> bool:
        """Return whether all that is read from a topic has the newest stamp of it."""
        return topic not in self._merges or self._merges[topic].whole

    def _keep(self, topic: str, stamp: int, reading: Reading) -> None:
        kept = self._readings.setdefault(topic, deque(maxlen=MOST_READINGS))
        if topic not in self.live_topics:
            kept.clear()
        if kept and stamp < kept[-1][0]:
            return
        if kept and stamp == kept[-1][0]:
            kept.pop()
        if topic in self._signs:
            reading = with_sign(self._signs[topic], stamp, reading)
        kept.append((stamp, reading))
        while kept[0][0] < stamp - self._kept[topic]:
            kept.popleft()

    def clear(self) -> None:
        """Forget every reading of a live topic; a goal stays."""
        for topic in self.live_topics:
            self._forget(topic)
        self._signs = self._followed_signs()

    def _forget(self, topic: str) -> None:
        self._readings.pop(topic, None)
        if topic in self._merges:
            self._merges[topic].clear()
        if self._pictures is not None:
            self._pictures.forget(topic)

    def _followed_signs(self) -> dict[str, FollowedSign]:
        return {field.source: FollowedSign(field) for field, _ in self._filled if field.sign_follows and field.live}

    def forget_future(self, now: int, lead: float = 0.0) -> list[str]:
        """Forget live topics that are ahead of `now` [ns] by more than `lead` [s] and a max_age, and return them.

        Beside a reading from the future every sound one seems old, and in the end it would pass for a fresh one itself.
        """
        ahead = []
        for topic, most in self._ahead.items():
            newest = self._newest(topic)
            if newest is not None and (newest - now) * 1e-9 - lead > most:
                self._forget(topic)
                ahead.append(topic)
        return ahead

    @property
    def synchronised_stamp(self) -> int | None:
        """The stamp [ns] shared by the newest reading of every live topic, or None while they differ."""
        stamps = {self._newest(topic) for topic in self.live_topics}
        return stamps.pop() if len(stamps) == 1 else None

    def _newest(self, topic: str) -> int | None:
        if kept := self._readings.get(topic):
            return kept[-1][0]
        return None if self._pictures is None else self._pictures.newest(topic)

    def assemble(self, now: int) -> Observation:
        """Return the observation as of `now` [ns].

        Raises:
            ObservationError: A field is missing, stale, from the future by more than its max_age, misshapen or not
                finite, or far from everything that is expected, or its history has a gap; or there is no picture of a
                camera that the policy may see. The message names field or camera, and the topic.
        """
        reached = [stamp for stamp in map(self._newest, self.live_topics) if stamp is not None]
        common = min(reached, default=now)
        raw = self._blank.copy()
        for field, place in self._filled:
            raw[place] = self._block(field, now, common)
        if not ((raw >= self._lower) & (raw <= self._upper)).all():
            self._complain(raw)
        sight = None if self._pictures is None else self._pictures.sight(now)
        return Observation(self._scaling(raw).astype(np.float32), max(reached, default=now), sight)

    def _complain(self, raw: Array) -> None:
        """Raise ObservationError for the first field with a value that is not finite, or else not plausible."""
        for field, place in self._filled:
            if not np.isfinite(raw[place]).all():
                raise not_finite(field)
        for field, place in self._filled:
            for values in raw[place].reshape(field.history, -1) if field.name in self._expected else ():
                if reason := self._expected[field.name].implausible(values):
                    raise ObservationError(
                        f"field {field.name}: topic {field.source} is not plausible: {reason}; compare its units, and its "
                        "driver, with the training data, or raise plausible_range"
                    )

    def _block(self, field: ObservationField, now: int, common: int) -> Array:
        kept = self._readings.get(self._sources[field.name])
        if not kept:
            raise ObservationError(f"field {field.name}: nothing received yet on topic {field.source}")
        if field.live:
            self._check_age(field, (now - kept[-1][0]) * 1e-9)
            if field.joints:
                self._merges[field.topic].check(field, now)
        stamp, reading = _nearest(kept, common) if self._nearest and field.live else kept[-1]
        if field.history == 1:
            return instant(field, reading)
        past = reversed(range(field.history))
        return np.concatenate([instant(field, self._past(field, kept, stamp, k)) for k in past])

    def _past(self, field: ObservationField, kept: deque[tuple[int, Reading]], anchor: int, periods: int) -> Reading:
        """Return the reading `periods` control periods before the stamp `anchor` [ns], to half a period."""
        wanted = anchor - periods * self._period
        stamp, reading = _nearest(kept, wanted)
        if 2 * abs(stamp - wanted) > self._period:
            raise ObservationError(
                f"field {field.name}: topic {field.source} has no reading {periods * self._period * 1e-9:.3f} s before its "
                f"newest; its history of {field.history} needs one every {self._period * 1e-9:g} s"
            )
        return reading

    def _check_age(self, field: ObservationField, age: float) -> None:
        assert field.max_age is not None
        if age > field.max_age:
            raise ObservationError(
                f"field {field.name}: topic {field.source} is stale, {age:.3f} s old, at most {field.max_age:g} s allowed"
            )
        if age < -field.max_age:
            raise ObservationError(
                f"field {field.name}: topic {field.source} is stamped {-age:.3f} s in the future; "
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
