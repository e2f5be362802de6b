"""What lets commands out, and ends commanding: held, stopped, closed, at once or braking. No ROS in here.

A hold is one command that keeps the robot still, sent when commanding ends, and then silence until an observation
can be answered again. It repeats the stamp of the last command, since it answers no newer observation; where nothing
was ever commanded, nothing is sent. Where a fault is to be silence, the hold waits for a deliberate end. A *stop* is a
hold that lasts until it is taken back. Where commanding ends by deceleration, the watchdog's thread sends the commands
on the way to the hold, and no observation is answered meanwhile.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.command import Command
from qgf_ros.control.controller import Controller
from qgf_ros.control.safety import LONGEST_STOP
from qgf_ros.errors import GuidanceError
from qgf_ros.loop.telemetry import Figures, interventions
from qgf_ros.loop.tick_statistics import TickStatistics


class Outputs(Protocol):
    """Where commands, telemetry and messages to people go."""

    def send_command(self, command: Command, *, motion: bool) -> None:
        """Publish a command to the robot or, without motion, where no robot listens."""
        ...

    def send_hold(self, values: NDArray[np.float64], stamp: int, *, motion: bool, moved: bool = False) -> None:
        """Publish the command that keeps the robot still, float64 [A], stamped `stamp` [ns].

        Where the robot may have been `moved` since the last command, no position that calls it back.
        """
        ...

    @property
    def watched(self) -> bool:
        """Whether anybody takes telemetry in."""
        ...

    def send_telemetry(self, figures: Figures, stamp: int) -> None:
        """Publish the telemetry of one tick."""
        ...

    def report(self, level: int, text: str) -> None:
        """Tell people, at a level of `logging`."""
        ...


class CommandGate:
    """Everything that is sent passes here, one at a time, so that nothing follows a hold. Called from any thread.

    Args:
        controller: Makes the commands, and knows how to keep the robot still.
        outputs: Where they go.
        statistics: Counts the holds.
        motion: Whether commands go to the robot; otherwise they are shadows.
        on_fault: How commanding ends at a fault: "hold", "decelerate" or "stop_publishing". Where somebody ends it
            deliberately, the last is a hold, too.

    Attributes:
        turn: Goes up whenever commanding is interrupted; a tick of an earlier one comes to nothing.
        stopped: Why nothing goes out until `resume`, or None.
        fault: Why the robot is held, or None.
        sent_at: When a command was last sent, or was to be (`time.monotonic` [s]); a hold does not count.
        wake: Set when there is something to `brake`, which is the watchdog's.
    """

    def __init__(
        self, controller: Controller, outputs: Outputs, statistics: TickStatistics, *, motion: bool, on_fault: str
    ) -> None:
        self._controller = controller
        self._outputs = outputs
        self.statistics = statistics
        self._on_fault = on_fault
        self._last: Command | None = None
        self._gate = threading.Lock()  # whatever is sent is made and sent under it
        self._open = True
        self.turn = 0
        self.stopped: str | None = None
        self._bar: str | None = None
        self._motion = motion
        self._commanding = False
        self._held_since = 0.0
        self.fault: str | None = None
        self.sent_at = -math.inf
        self._silenced = False  # whether commanding ended without its hold
        self._braking: bool | None = None  # if so, `motion` of the commands on the way to rest
        self._braked = 0  # commands on the way to rest
        self._forgetful = False  # to begin anew at rest
        self._at_rest = threading.Condition(self._gate)
        self.wake = threading.Event()

    @property
    def commanding(self) -> bool:
        """Whether the last request was answered with a command."""
        return self._commanding

    @property
    def braking(self) -> bool:
        """Whether the robot is on its way to rest."""
        return self._braking is not None

    def hold(
        self, reason: str, level: int | None = None, *, deliberate: bool = False, keep_chunk: bool = False
    ) -> None:
        """Keep the robot still and say why.

        Args:
            reason: For people.
            level: Of `logging`; by default a warning before the first command, then an error.
            deliberate: Whether commanding ends because somebody wants it to.
            keep_chunk: Whether to go on with the chunk that is being inferred.
        """
        with self._gate:
            if level is None:
                level = logging.WARNING if self._last is None else logging.ERROR
            self._blame(reason)
            self._end(deliberate=deliberate, keep_chunk=keep_chunk)
        self._outputs.report(level, f"holding: {reason}")

    def interrupt(self, reason: str) -> None:
        """Hold at once; what is under way comes to nothing."""
        with self._gate:
            self.turn += 1
        self.hold(reason)

    def stop(self, reason: str) -> None:
        """Hold at once, whatever is under way, unless that was done already; let nothing out until `resume`."""
        with self._gate:
            self.turn += 1
            self.stopped = reason
            self._end(deliberate=True)
        self._outputs.report(logging.WARNING, f"stopped: {reason}")

    def resume(self) -> None:
        """Take a stop back: the next observation is answered as after activation."""
        with self._gate:
            self.stopped = None
            self._forget()

    @property
    def motion(self) -> bool:
        """Whether commands go to the robot."""
        return self._motion

    def enable(self, motion: bool) -> None:
        """Let commands go to the robot, or hold it and send shadows from now on."""
        with self._gate:
            if motion == self._motion:
                return
            self._end(deliberate=True)
            self.turn += 1
            self._motion = motion
            self._forget()

    @property
    def barred(self) -> str | None:
        """Why no command may reach the robot, or None; shadows always may be sent."""
        return self._bar if self._motion else None

    def bar(self, reason: str | None) -> None:
        """Let no command reach the robot from now on, not even that of a tick under way; None takes it back."""
        with self._gate:
            self._bar = reason

    def open(self) -> None:
        """Let commands out and forget why the robot was held."""
        with self._gate:
            self.fault = None
            self._open = True

    def close(self) -> None:
        """Let no command out any more, not even that of a tick under way; a hold, and what leads to it, still passes."""
        with self._gate:
            self.turn += 1
            self._open = False

    def brake(self) -> bool:
        """Send the next command on the way to rest, or the hold that ends it; return whether more are to come."""
        with self._gate:
            if self._braking is None:
                return False
            self.sent_at = time.monotonic()
            values = self._controller.safety.brake()
            self._braked += 1
            if values is None or self._last is None or self._braked > LONGEST_STOP:
                self._come_to_rest()
                return False
            place, rest = self._controller.safety.place, self._last.upcoming[:0]
            command = replace(self._last, values=values, begins=False, measured=place, upcoming=rest, braking=True)
            self._outputs.send_command(command, motion=self._braking)
            return True

    def wait_for_rest(self, timeout: float) -> bool:
        """Wait until the robot has braked, then hold it in any case; return whether `timeout` [s] was enough."""
        with self._at_rest:
            rested = self._at_rest.wait_for(lambda: self._braking is None, timeout)
            if not rested:
                self._come_to_rest()
        return rested

    def interventions(self) -> dict[str, str | int | float]:
        """Return how often the safety envelope intervened, by kind, and what it did at the last tick."""
        return interventions(self._controller.safety)

    @property
    def _passing(self) -> bool:
        return self._open and self.stopped is None and self._braking is None

    def _check_bar(self) -> None:
        """Raise GuidanceError where no command may reach the robot."""
        if self.barred is not None:
            raise GuidanceError(self.barred)

    def _send(self, command: Command) -> None:
        self.sent_at = time.monotonic()
        self._silenced = False
        self._outputs.send_command(command, motion=self._motion)

    def _blame(self, reason: str) -> None:
        """Note why the robot is held."""
        if self.fault is None:
            self._held_since = time.monotonic()
        self.fault = reason

    def _end(self, *, deliberate: bool, keep_chunk: bool = False) -> None:
        """End commanding; a robot that is held already may have been moved, and is not called back to where it was.

        Nor is one that was left to itself; but that was not held, and may still be carrying out what was sent.
        """
        if not keep_chunk:
            self._controller.drop_chunk()
        if not self._commanding:
            if deliberate and self._silenced:
                self._send_hold(self._motion, moved=True)
                self._silenced = False
            return
        self.statistics.held()
        self._commanding = False
        if self._on_fault == "decelerate":
            self._braking, self._braked = self._motion, 0
            self.wake.set()
        elif self._on_fault == "stop_publishing" and not deliberate:
            self._controller.safety.hold()  # the next command starts from rest
            self._silenced = True
        else:
            self._send_hold(self._motion)

    def _send_hold(self, motion: bool, *, moved: bool = False) -> None:
        values = self._controller.safety.hold()
        if values is not None and self._last is not None:
            self._outputs.send_hold(values, self._last.stamp, motion=motion, moved=moved)

    def _come_to_rest(self) -> None:
        """Hold, and let observations be answered again."""
        motion, self._braking = bool(self._braking), None
        try:
            self._send_hold(motion)
        finally:
            if self._forgetful:
                self._forget()
            self._at_rest.notify_all()

    def _forget(self) -> None:
        """Begin anew: what was commanded so far is no longer where the robot is."""
        self._forgetful = self._braking is not None
        if not self._forgetful:
            self._controller.reset()
            self._last = None
            self._commanding = self._silenced = False
