"""From readings as they arrive to complete observations, without ROS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.expectation import Expected, outside_demonstrations
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.extraction import Said
from qgf_ros.control.observation import Observation, ObservationAssembler
from qgf_ros.control.sensing.sensor_messages import Detections, Transforms
from qgf_ros.control.sensing.topic_parts import TopicParts
from qgf_ros.errors import ObservationError
from qgf_ros.loop.clocks import NO_CLOCK, foreign_clock

#: With simulated time, a stamp may be ahead of the clock by this much more [s]: a message overtakes the ``/clock`` of its
#: instant, and a reset of the simulator takes a second. What is further ahead is from before the clock fell back.
SIMULATED_LEAD = 2.0


#: A set of readings may come so early [control periods]; the one after it is due no earlier for that.
EARLY = 0.25


class ControlPeriods:
    """Which observations begin a control period.

    What is commanded once a period, a displacement above all, must not follow a sensor that is faster.

    Args:
        period: [s].
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._last: int | None = None
        self._due = 0  # stamp [ns] from which on the next one begins
        self._began_at = -math.inf

    def restart(self) -> None:
        """Begin with whatever comes next."""
        self._last = None

    def begins(self, stamp: int, wall: float) -> bool:
        """Whether an observation stamped `stamp` [ns] begins one at `wall` [s]; repeated, it is due a period of that later."""
        period = 1e9 * self._period
        if self._last is not None and stamp <= self._last:
            if (wall - self._began_at) * 1e9 < period:
                return False
        else:
            if self._last is None:
                self._due = stamp
            elif stamp < self._due - EARLY * period:
                return False
            self._due = max(self._due, stamp) + round(period)
        self._last, self._began_at = stamp, wall
        return True

    def is_new(self, stamp: int) -> bool:
        """Note an observation that a timer asks for; whether it is another than the one before."""
        new, self._last = stamp != self._last, stamp
        return new


class ObservationIntake:
    """Collects readings and knows when a set of them is complete.

    A set is complete when every live topic has delivered the same stamp. The same stamp may complete again: a simulator
    that waits for its command repeats the set, and each repetition completes once. A goal completes nothing.

    Args:
        fields: The observation contract.
        period: Control period [s].
        alignment: How readings of different topics are brought together; see `ObservationAssembler`.
        simulated_time: Whether the node follows ``/clock``. A message can then overtake the clock that stamped it,
            so a stamp ahead of the clock is not held against it.
        backward_jump: A clock that falls back by more than this [s] has been restarted.
        expected: What each field is expected to yield; by default anything finite.
        cameras: The cameras by name. Their stamps are taken for those of the host less each one's clock_offset.
    """

    def __init__(
        self,
        fields: Sequence[ObservationField],
        period: float,
        *,
        simulated_time: bool,
        backward_jump: float,
        alignment: str = "latest",
        expected: Sequence[Expected] = (),
        cameras: Mapping[str, CameraField] | None = None,
    ) -> None:
        self._assembler = ObservationAssembler(fields, period, alignment, expected, cameras)
        self._cameras = {camera.topic: camera for camera in (cameras or {}).values()}
        self._parts = TopicParts(fields)
        self._expected = tuple(expected)
        self._collected: Observation | None = None
        self._simulated_time = simulated_time
        self._backward_jump = backward_jump
        #: Why nothing that arrives is to be believed, or None.
        self.doubt: str | None = None
        self._last_now: int | None = None
        self._newest: dict[str, int] = {}
        self._fresh: set[str] = set()
        self._max_age = {field.source: field.max_age for field in fields if field.live}
        self._max_age |= {topic: camera.max_age for topic, camera in self._cameras.items()}
        #: Of the newest reading of a live topic: stamp, and what is wrong with its clock.
        self._arrived: dict[str, tuple[int, str | None]] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics of the contract, in order."""
        return self._assembler.topics

    @property
    def live_topics(self) -> tuple[str, ...]:
        """Topics that deliver all the time, as opposed to goals."""
        return self._assembler.live_topics

    def has_time(self, now: int) -> bool:
        """Whether ages can be told at `now` [ns]: simulated time stands at 0 until the first ``/clock``."""
        return now > 0 or not self._simulated_time

    def clock_restarted(self, now: int) -> bool:
        """Note the time `now` [ns]; if it fell back, forget every reading and return True."""
        last, self._last_now = self._last_now, now
        if last is None or (last - now) * 1e-9 <= self._backward_jump:
            return False
        self.clear()
        return True

    def receive(self, topic: str, stamp: int, reading: Said, now: int | None = None) -> bool:
        """Take what a message says, stamped `stamp` [ns], that arrived at `now` [ns]; return whether it completes a set."""
        if isinstance(reading, (Transforms, Detections)):
            return any([self.receive(*part, now) for part in self._parts.take(topic, stamp, reading)])
        if topic in self._cameras:
            stamp = self._cameras[topic].host_stamp(stamp)
        if not self._assembler.update(topic, stamp, reading):
            return False
        if now is not None:
            self._compare_clocks(topic, stamp, now)
        if topic not in self._assembler.live_topics:
            return False
        newest = max(self._newest.values(), default=stamp)
        if stamp > newest:
            self._fresh.clear()
        self._newest[topic] = max(stamp, self._newest.get(topic, stamp))
        if stamp >= newest and self._assembler.is_whole(topic):
            self._fresh.add(topic)
        if len(self._fresh) < len(self._assembler.live_topics) or self._assembler.synchronised_stamp is None:
            return False
        self._fresh.clear()
        return True

    def collect(self, now: int) -> Observation:
        """Return the observation as of `now` [ns].

        Raises:
            ObservationError: There is a doubt, simulated time stands at 0, a topic is stamped by another clock; or see
                `ObservationAssembler.assemble`.
        """
        if self.doubt is not None:
            raise ObservationError(self.doubt)
        if not self.has_time(now):
            raise ObservationError(NO_CLOCK)
        if self._simulated_time:
            self._forget_future(now, SIMULATED_LEAD)
            now = max([now, *self._newest.values()])
        try:
            if self._parts.topics and (gap := self._parts.gap()):  # first: what is static has any stamp, and 0, too
                raise ObservationError(gap)
            for _, trouble in self._arrived.values():
                if trouble is not None:
                    raise ObservationError(trouble)
            self._collected = self._assembler.assemble(now)
            return self._collected
        finally:
            self._forget_future(now)

    def _compare_clocks(self, topic: str, stamp: int, now: int) -> None:
        last = self._arrived.get(topic, (None, None))[0]
        if (
            stamp != last and self.has_time(now) and topic in self._max_age
        ):  # what is repeated says nothing of the clock
            self._arrived[topic] = stamp, foreign_clock(topic, stamp, now, self._max_age[topic] or 0.0)

    def _forget_future(self, now: int, lead: float = 0.0) -> None:
        for topic in self._assembler.forget_future(now, lead):
            del self._newest[topic]
            self._fresh.discard(topic)

    def clear(self) -> None:
        """Forget every reading of a live topic; a goal stays."""
        self._assembler.clear()
        self._parts.clear()
        self._newest.clear()
        self._fresh.clear()
        self._arrived.clear()
        self._collected = None

    def outside_demonstrations(self) -> str:
        """Say what of the newest complete observation the training data never reached; "" if nothing."""
        vector = None if self._collected is None else self._collected.vector.astype(np.float64)
        return outside_demonstrations(self._expected, vector)

    def frame_ages(self) -> dict[str, str]:
        """Return how old the picture of each camera was in the newest complete observation, in words; nothing without any."""
        if not self._cameras:
            return {}
        sight = None if self._collected is None else self._collected.sight
        ages = {} if sight is None else sight.ages
        return {"frame_ages": ", ".join(f"{name} {age * 1e3:.0f} ms" for name, age in ages.items())}

    def describe_gap(self) -> str:
        """Say what keeps the set from being complete, such as a silent topic or stamps that differ."""
        topics = self._assembler.live_topics
        silent = [topic for topic in topics if topic not in self._newest]
        if silent:
            return f"nothing received yet on topic {', '.join(silent)}"
        newest = max(self._newest.values())
        behind = [f"{topic} by {(newest - self._newest[topic]) * 1e-9:.3f} s" for topic in topics]
        behind = [text for topic, text in zip(topics, behind) if self._newest[topic] != newest]
        if behind:
            return (
                f"stamps differ, behind the newest: {', '.join(behind)}; "
                "publish every topic with one stamp, or set trigger to timer"
            )
        torn = [topic for topic in topics if not self._assembler.is_whole(topic)]
        if torn:
            return (
                f"stamps differ between the joints of topic {', '.join(torn)}; "
                "publish all of them with one stamp, or set trigger to timer"
            )
        return "every topic waits for its next message"
