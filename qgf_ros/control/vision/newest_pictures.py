"""The newest picture of each camera, and what the policy sees at one instant: never a queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import numpy as np

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.control.vision.decoding import decode
from qgf_ros.control.vision.pictures import Picture, refusal
from qgf_ros.control.vision.pixels import Pixels
from qgf_ros.errors import ObservationError


class KeptPicture:
    """The newest picture of a camera, decoded when it is looked at first, and once.

    Args:
        name: Of the camera.
        camera: Its contract.
        stamp: When it was taken [ns].
        picture: The reading.
        before: The one before.

    Attributes:
        refusal: Why the policy may not see it, or None; where there is one nothing of it is kept.
        same_since: The stamp [ns] of the first of the pictures in a row that are this one, bit by bit; what was refused among
            them does not count.
    """

    def __init__(
        self, name: str, camera: CameraField, stamp: int, picture: Picture, before: KeptPicture | None
    ) -> None:
        self._name, self._camera = name, camera
        self.stamp = stamp
        self.refusal = refusal(name, camera, picture)
        self._picture = None if self.refusal else picture
        self.same_since = stamp
        self._sound = self._picture  # the newest that was not refused, for whoever comes next
        if camera.frozen_after is not None and before is not None and self._goes_on(before):
            self.same_since, self._sound = before.same_since, self._picture or before._sound
        self._seen: Pixels | None = None
        self._lock = threading.Lock()

    def _goes_on(self, before: KeptPicture) -> bool:
        """Return whether nothing new is to be seen: it is the same again, or refused."""
        mine, its = self._picture, before._sound
        return mine is None or (its is not None and np.array_equal(mine.data, its.data))

    def seen(self) -> Pixels:
        """Return what the policy sees of it, uint8 [h, w, 3], RGB; raises ObservationError where it cannot be decoded."""
        with self._lock:
            if self._seen is None:
                assert self._picture is not None
                self._seen = decode(self._name, self._camera, self._picture)
            return self._seen

    def check(self, now: int) -> None:
        """Raise ObservationError where the policy may not see it at `now` [ns], as far as can be told undecoded."""
        if self.refusal is not None:
            raise ObservationError(self.refusal)
        topic, most = f"camera {self._name}: topic {self._camera.topic}", self._camera.max_age
        age = (now - self.stamp) * 1e-9
        if age > most:
            raise ObservationError(f"{topic} is stale, {age:.3f} s old, at most {most:g} s allowed")
        if age < -most:
            raise ObservationError(
                f"{topic} is stamped {-age:.3f} s in the future; compare the clocks of camera and node, and clock_offset"
            )
        frozen, limit = (self.stamp - self.same_since) * 1e-9, self._camera.frozen_after
        if limit is not None and frozen > limit:
            raise ObservationError(
                f"{topic} is frozen, it sends the same picture under new stamps for {frozen:.3f} s, at most {limit:g} s "
                "allowed; restart its driver"
            )


class Sight:
    """What the cameras see at one instant, to be decoded where it is inferred from.

    Args:
        kept: The picture of each camera.
        ages: How old each was when the observation was complete [s].

    Attributes:
        decode_seconds: How long `images` took [s]: of pictures that were decoded for an earlier sight nearly nothing; 0 before.
    """

    def __init__(self, kept: Mapping[str, KeptPicture], ages: Mapping[str, float]) -> None:
        self._kept = kept
        self.ages = ages
        self.decode_seconds = 0.0

    def images(self) -> dict[str, Pixels]:
        """Return what the policy sees of each camera, uint8 [h, w, 3]; raises ObservationError where it cannot be decoded."""
        began = time.perf_counter()
        found = {name: kept.seen() for name, kept in self._kept.items()}
        self.decode_seconds = time.perf_counter() - began
        return found

    @property
    def stamps(self) -> dict[str, int]:
        """When each was taken, by the host's clock [ns]."""
        return {name: kept.stamp for name, kept in self._kept.items()}

    @property
    def oldest(self) -> float:
        """How old the oldest picture was when the observation was complete [s]."""
        return max(self.ages.values())


class NewestPictures:
    """Keeps the newest picture of every camera.

    Args:
        cameras: The contract, by name.
    """

    def __init__(self, cameras: Mapping[str, CameraField]) -> None:
        self._cameras = {camera.topic: (name, camera) for name, camera in cameras.items()}
        self._kept: dict[str, KeptPicture] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics of the cameras, in order."""
        return tuple(self._cameras)

    def keep(self, topic: str, stamp: int, picture: Picture) -> None:
        """Keep a picture taken at `stamp` [ns] of the host's clock; an older one than the newest is ignored."""
        before = self._kept.get(topic)
        if before is None or stamp >= before.stamp:
            name, camera = self._cameras[topic]
            self._kept[topic] = KeptPicture(name, camera, stamp, picture, before)

    def newest(self, topic: str) -> int | None:
        """Return the stamp of the newest picture of a topic [ns], or None."""
        kept = self._kept.get(topic)
        return None if kept is None else kept.stamp

    def forget(self, topic: str) -> None:
        """Forget the picture of a topic."""
        self._kept.pop(topic, None)

    def sight(self, now: int) -> Sight:
        """Return what is seen as of `now` [ns].

        Raises:
            ObservationError: A picture is missing, stale, from the future by more than its max_age, frozen, or refused by
                what its message says; the message names camera and topic.
        """
        found = {}
        for topic, (name, _) in self._cameras.items():
            if topic not in self._kept:
                raise ObservationError(f"camera {name}: nothing received yet on topic {topic}")
            found[name] = self._kept[topic]
            found[name].check(now)
        return Sight(found, {name: (now - kept.stamp) * 1e-9 for name, kept in found.items()})
