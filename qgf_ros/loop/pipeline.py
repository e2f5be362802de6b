"""From readings to commands, without ROS: intake, inference thread and tick loop put together.

The node calls `receive`, `tick` and `watch` from its callbacks; none of them waits for inference.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.expectation import expected_fields
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.controller import Controller
from qgf_ros.control.extraction import Said
from qgf_ros.control.inference import ChunkPolicy
from qgf_ros.control.run_options import RunOptions
from qgf_ros.control.safety import LONGEST_STOP
from qgf_ros.errors import ObservationError
from qgf_ros.loop.clocks import NO_CLOCK, ClockJumps, TimerBeats
from qgf_ros.loop.command_stream import Outputs
from qgf_ros.loop.health import QUIET_AFTER, Level, active, inactive
from qgf_ros.loop.inference_thread import InferenceThread
from qgf_ros.loop.intake import ControlPeriods, ObservationIntake
from qgf_ros.loop.realtime import collect_garbage
from qgf_ros.loop.supervision import UNSUPERVISED, Supervision
from qgf_ros.loop.tick_loop import Tick, TickLoop
from qgf_ros.loop.tick_statistics import TickStatistics
from qgf_ros.loop.watchdog import Watchdog

#: Longest wait for a tick under way when commanding ends [s].
DRAIN_TIMEOUT = 1.0
#: With simulated time, a fault seen between messages must last this long [s] of wall time: ``/clock`` and the
#: observations that belong to it arrive one after the other.
SIMULATED_GRACE = 0.5


class LoadedPolicy(ChunkPolicy, Protocol):
    """A policy the node can warm up, and that says what infers its chunks."""

    def warm_up(self, num_samples: int = 1) -> None:
        """Infer once with `num_samples` candidates."""
        ...

    def backend(self, critic: str, estimator: str) -> str:
        """Return what infers a chunk guided by a critic through an estimator."""
        ...


class Pipeline:
    """Readings in on any one thread, commands out on the inference thread.

    Args:
        policy: The loaded bundle.
        settings: Initial settings.
        outputs: Where commands, telemetry and messages to people go.
        fields, cameras: Observation fields and cameras as this robot serves them; the bundle's own by default.
        alignment: How readings of different topics are brought together; see `ObservationAssembler`.
        by_observation: Tick at every complete set of readings, rather than when `tick` is called.
        motion: Whether commands go to the robot; see `TickLoop`.
        previews: Whether commands tell what follows them; see `Controller`.
        simulated_time: Whether stamps and `now` come from ``/clock``.
        supervision: What is done about slow inference, stalled threads and faults; by default a fault is a hold.
        wall: Monotonic wall clock [s].

    Raises:
        GuidanceError: The bundle cannot run the settings.
    """

    def __init__(
        self,
        policy: LoadedPolicy,
        settings: RunOptions,
        outputs: Outputs,
        *,
        by_observation: bool,
        simulated_time: bool,
        fields: Sequence[ObservationField] | None = None,
        cameras: Mapping[str, CameraField] | None = None,
        alignment: str = "latest",
        motion: bool = True,
        previews: bool = False,
        supervision: Supervision = UNSUPERVISED,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self.manifest = policy.manifest
        self._policy = policy
        self.by_observation = by_observation
        self._simulated_time = simulated_time
        self._outputs = outputs
        self._wall = wall
        period = 1.0 / self.manifest.control_rate
        self._supervision = supervision.in_simulated_time() if simulated_time else supervision
        fields = self.manifest.observation if fields is None else fields
        self._controller = Controller(policy, settings, previews=previews, fields=fields)
        self.loop = TickLoop(
            self._controller, outputs, TickStatistics(period), motion=motion, supervision=self._supervision
        )
        self.gate = self.loop.gate
        self._intake = ObservationIntake(
            fields,
            period,
            simulated_time=simulated_time,
            backward_jump=period,
            alignment=alignment,
            expected=expected_fields(self.manifest, fields, supervision.plausible_range),
            cameras=self.manifest.cameras if cameras is None else cameras,
        )
        self._thread: InferenceThread[Tick] = InferenceThread(self.loop.handle, self._on_error, collect_garbage)
        self._jumps = ClockJumps()
        self._asked_at: float | None = None
        self.watchdog = Watchdog(
            self.gate, outputs, period=period, limit=self._longest_wait, busy=self._busy_for, waiting=self._waiting
        )
        self._open = False
        self._opened_at = self._answered_before = 0
        self._pace = ControlPeriods(period)
        self._beats = TimerBeats(period)
        self._complete_at = wall()
        self._faulty_since: float | None = None

    def open(self) -> None:
        """Begin to answer observations that arrive from now on."""
        self._intake.clear()
        self._opened_at = self._answered_before = self.loop.statistics.ticks
        self._pace.restart()
        self._beats.restart()
        self._complete_at = self._wall()
        self._faulty_since = self._asked_at = None
        self._open = True
        self.gate.open()

    def close(self) -> None:
        """End commanding, with a hold at the end; a tick that is still under way after `DRAIN_TIMEOUT` is abandoned."""
        if not self._open:
            return
        self._open = False
        self.watchdog.excuse_callbacks()
        self.gate.close("deactivated")
        if not self._thread.drain(DRAIN_TIMEOUT):
            busy = self._thread.busy_for
            self._outputs.report(logging.ERROR, f"a tick is under way for {busy:.1f} s and is abandoned")
        self.gate.wait_for_rest(2.0 * LONGEST_STOP / self.manifest.control_rate)

    def stop(self) -> None:
        """Close, and end the threads."""
        self.close()
        self.watchdog.stop(DRAIN_TIMEOUT)
        self._controller.close()
        self._thread.stop(DRAIN_TIMEOUT)

    def receive(self, topic: str, stamp: int, reading: Said, now: int) -> None:
        """Take a reading stamped `stamp` [ns] at `now` [ns]; tick if it completes a set and sets trigger ticks.

        While closed only goals are kept: they may be published once, before the first `open`.
        """
        if not self._open:
            if topic not in self._intake.live_topics:
                self._intake.receive(topic, stamp, reading)
            return
        self._follow_clock(now)
        complete = self._intake.receive(topic, stamp, reading, now)
        if not self._intake.has_time(now):  # and no timer runs that would notice
            self._notice(NO_CLOCK)
        elif complete and self.by_observation:
            self._complete_at, self._faulty_since = self._wall(), None
            since = time.perf_counter()
            try:
                observation = self._intake.collect(now)
            except ObservationError as error:
                self._hold_at_once(str(error))
                return
            if self._pace.begins(observation.stamp, self._wall()):
                self._submit(Tick(observation, since, self.gate.turn))

    def _follow_clock(self, now: int) -> None:
        """Begin anew if the clock was set; simulated time may go ahead as it likes."""
        gained = 0.0 if self._simulated_time else self._jumps.note(now, self._wall())
        if self._intake.clock_restarted(now) or gained < 0.0:
            text = "the clock fell back; observations and action chunk are dropped"
        elif gained > 0.0:
            text = f"the clock jumped ahead by {gained:.3f} s; observations and action chunk are dropped"
        else:
            return
        self._outputs.report(logging.WARNING, text)
        self._intake.clear()
        self.gate.restart()
        self._pace.restart()

    def tick(self, now: int) -> None:
        """Answer the newest readings as of `now` [ns], once per control period."""
        if not self._open:
            return
        statistics = self.loop.statistics
        if statistics.ticks > self._opened_at and statistics.ticks == self._answered_before:
            statistics.missed()
        self._answered_before = statistics.ticks
        statistics.overtaken(self._beats.skipped(self._wall()))
        since = time.perf_counter()
        try:
            observation = self._intake.collect(now)
        except ObservationError as error:
            self._hold_at_once(str(error))
            return
        self._complete_at = self._wall()
        self._faulty_since = None
        if self._pace.is_new(observation.stamp):  # otherwise nothing new was measured, and the tick counts as missed
            self._submit(Tick(observation, since, self.gate.turn))

    def watch(self, now: int) -> None:
        """Notice at `now` [ns], between complete sets, that none can come: hold once readings are too old.

        A simulator may be paused, or wait: while its clock stands still nothing grows old, and there is no hold.
        """
        if not self._open:
            return
        wall = self._wall()
        quiet = wall - self._complete_at
        try:
            self._intake.collect(now)
            if quiet < QUIET_AFTER or self._simulated_time:
                self._faulty_since = None
                return
            reason = f"no complete observation for {quiet:.1f} s, {self._intake.describe_gap()}"
        except ObservationError as error:
            reason = str(error)
        self._notice(reason)

    def fault(self, reason: str) -> None:
        """Hold for a reason that lies outside the pipeline."""
        if self._open:
            self._hold_at_once(reason)

    def block(self, reason: str | None) -> None:
        """Hold for a reason that no observation can end, as long as motion is enabled; None takes it back."""
        self.gate.bar(reason)
        if self.gate.barred is not None:
            self.fault(self.gate.barred)

    def doubt(self, reason: str | None) -> None:
        """Hold for a reason to believe no observation, be motion enabled or not; None takes it back."""
        self._intake.doubt = reason
        if reason is not None:
            self.fault(reason)

    def health(self) -> tuple[Level, str]:
        """Return how it goes, with one sentence about it."""
        if not self._open:
            return inactive(self.gate)
        waiting = self.loop.statistics.ticks == self._opened_at
        quiet = self._wall() - self._complete_at
        missed = 0.0 if self._simulated_time else self.loop.statistics.missed_share  # there everybody waits
        busy, gap = self._busy_for(), self._intake.describe_gap
        return active(self.loop, waiting=waiting, busy=busy, quiet=quiet, gap=gap, missed=missed)

    def figures(self) -> dict[str, str | int | float]:
        """Return settings and statistics by name."""
        settings = self.loop.settings
        backend = self._policy.backend(settings.critic, settings.estimator)
        observed = {"outside_demonstrations": self._intake.outside_demonstrations(), **self._intake.frame_ages()}
        return {**settings.figures(), "inference": backend, **observed, **self.loop.figures()}

    def _longest_wait(self) -> float:
        return self._supervision.longest_wait(self.loop.degradation.deadline(self.loop.settings))

    def _busy_for(self) -> float:
        """Return how long the tick, or the inference in the background, has been under way [s]."""
        return max(self._thread.busy_for, self._controller.busy_for)

    def _waiting(self) -> float:
        """Return how long observations have been handed over and none was dealt with [s]."""
        asked = self._asked_at
        return 0.0 if asked is None or self.loop.settled_at >= asked else time.monotonic() - asked

    def _submit(self, tick: Tick) -> None:
        known = self.manifest.demonstrations is not None
        if known and self._asked_at is None and (outside := self._intake.outside_demonstrations()):
            self._outputs.report(logging.WARNING, f"outside the demonstrations: {outside}")
        if self._waiting() == 0.0:
            self._asked_at = time.monotonic()
        replaced = self._thread.submit(tick)
        if replaced is not None:
            self.loop.statistics.missed()
            self.loop.statistics.overtaken()

    def _hold_at_once(self, reason: str) -> None:
        """Hold without waiting for inference; the observations under way and in the mailbox get no answer any more."""
        self._thread.drain(0.0)
        self._asked_at = None
        self.gate.interrupt(reason)

    def _notice(self, reason: str) -> None:
        """Hold for a fault that is seen between complete sets, once it has lasted long enough."""
        wall = self._wall()
        if self._faulty_since is None:
            self._faulty_since = wall
        if wall - self._faulty_since >= (SIMULATED_GRACE if self._simulated_time else 0.0):
            self._hold_at_once(reason)

    def _on_error(self, error: Exception) -> None:
        self._outputs.report(logging.ERROR, f"the tick could not be published, {type(error).__name__}: {error}")
