"""What lets commands out, and ends commanding: held, interrupted, stopped or closed. No ROS in here.

Four verbs end commanding, and each means one thing. A *hold* is for a fault that a tick found itself, and lasts until an
observation can be answered again. An *interruption* is a hold from outside: what is under way comes to nothing. A *stop*
is a hold that lasts until it is taken back, and whoever *closes* the gate holds until it is opened. Where commanding ends
by deceleration, the watchdog's thread sends the commands on the way to the hold, and no observation is answered meanwhile.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from qgf_ros.control.command import Command
from qgf_ros.control.controller import Controller
from qgf_ros.errors import GuidanceError
from qgf_ros.loop.command_stream import CommandStream, Outputs, StreamState
from qgf_ros.loop.tick_statistics import TickStatistics


class Answer(NamedTuple):
    """What went out, and what was so when it did.

    Attributes:
        command: What was sent.
        motion: Whether it went to the robot.
        holds: How often commanding had ended before.
        held: How long [s] there had been a reason to hold the robot; None where there was none.
    """

    command: Command
    motion: bool
    holds: int
    held: float | None


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
        fault: Why the robot is held, or None.
        consents: Goes up whenever somebody lets commanding begin: opens the gate, resumes, or enables motion.
        lifts: Goes up whenever what barred the robot is gone.
        sent_at: When a command was last sent, or was to be (`time.monotonic` [s]); a hold does not count.
        wake: Set when there is something to `brake`, which is the watchdog's.
    """

    def __init__(
        self, controller: Controller, outputs: Outputs, statistics: TickStatistics, *, motion: bool, on_fault: str
    ) -> None:
        self._stream = CommandStream(controller, outputs, statistics, motion=motion, on_fault=on_fault)
        self._outputs = outputs
        self._statistics = statistics
        self._lock = threading.Lock()  # whatever is sent is made and sent under it
        self._at_rest = threading.Condition(self._lock)
        self._open = True
        self._bar: str | None = None
        self._restarted = False  # to begin anew at the next tick
        self._held_since = 0.0
        self.turn = 0
        self.fault: str | None = None
        self.consents = 0
        self.lifts = 0
        self.sent_at = -math.inf
        self.wake = threading.Event()

    @property
    def state(self) -> StreamState:
        """How it stands with the robot."""
        return self._stream.state

    @property
    def motion(self) -> bool:
        """Whether commands go to the robot."""
        return self._stream.motion

    @property
    def stopped(self) -> str | None:
        """Why nothing is answered until `resume`, or None."""
        return self._stream.stopped

    @property
    def barred(self) -> str | None:
        """Why no command may reach the robot, or None; shadows always may be sent."""
        return self._bar if self.motion else None

    # The way of an observation

    def admit(self, stamp: int, turn: int | None, change: Callable[[], None]) -> int | None:
        """Let an observation in that may be answered.

        The one that was answered last comes again where its command was lost: it has the same answer, at once.

        Args:
            stamp: Of the observation [ns].
            turn: In which it was handed over; None for the one at hand.
            change: Called for one that is let in, before anything else is done for it.

        Returns:
            The turn to `answer` it in; None where it gets no answer, or has it.

        Raises:
            GuidanceError: No command may reach the robot.
        """
        with self._lock:
            turn = self.turn if turn is None else turn
            if not self._admits(turn):
                return None
            change()
            if self._restarted:
                self._restarted = False
                self._end(deliberate=False)
                self._stream.begin_anew()
            self._check_bar()
            last = self._stream.last
            if self.state is StreamState.COMMANDING and last is not None and stamp == last.stamp:
                self._send(last)
                return None
            return turn

    def answer(self, turn: int, make: Callable[[], Command]) -> Answer | None:
        """Make the command that answers an observation and send it; None, and nothing of it, where its turn is over.

        Raises:
            GuidanceError: No command may reach the robot.
            QgfError: What `make` raises; nothing was sent.
        """
        with self._lock:
            if not self._admits(turn):
                return None
            self._check_bar()
            command = make()
            held = None if self.fault is None else time.monotonic() - self._held_since
            self.fault = None
            self._send(command)
            return Answer(command, self.motion, self._statistics.holds, held)

    def withhold(self, turn: int, reason: str | None) -> bool:
        """Leave an observation without its answer, for a reason that people know, if any; return whether its turn lasts."""
        with self._lock:
            lasts = self._admits(turn)
            if lasts and reason is not None:
                self._blame(reason)
            return lasts

    # The four ends of commanding

    def hold(self, reason: str, *, keep_chunk: bool = False) -> None:
        """Keep the robot still for a fault, and say why; with `keep_chunk`, go on with the chunk that is being inferred."""
        with self._lock:
            level = logging.WARNING if self._stream.last is None else logging.ERROR
            self._blame(reason)
            self._end(deliberate=False, keep_chunk=keep_chunk)
        self._outputs.report(level, f"holding: {reason}")

    def interrupt(self, reason: str) -> None:
        """Hold at once; what is under way comes to nothing."""
        with self._lock:
            self.turn += 1
        self.hold(reason)

    def stop(self, reason: str) -> None:
        """Hold at once, whatever is under way, unless that was done already; answer nothing until `resume`."""
        with self._lock:
            self.turn += 1
            if self._stream.stop(reason):
                self.wake.set()
        self._outputs.report(logging.WARNING, f"stopped: {reason}")

    def close(self, reason: str) -> None:
        """Hold at once, whatever is under way; answer nothing until `open`."""
        with self._lock:
            self.turn += 1
            self._open = False
            self._blame(reason)
            self._end(deliberate=True)
        self._outputs.report(logging.INFO, f"holding: {reason}")

    # What commanding begins with

    def open(self) -> None:
        """Let commands out and forget why the robot was held."""
        with self._lock:
            self.fault = None
            self._open = True
            self.consents += 1

    def resume(self) -> None:
        """Take a stop back, if there is one: the next observation is answered as after activation."""
        with self._lock:
            self.consents += 1
            self._stream.release()

    def restart(self) -> None:
        """Void every tick of before, and hold, and forget chunk and last command, at the next: the clock was restarted."""
        with self._lock:
            self.turn += 1
            self._restarted = True

    def enable(self, motion: bool) -> None:
        """Let commands go to the robot, or hold it and send shadows from now on, be its hold sent or not."""
        with self._lock:
            if motion == self.motion:
                return
            try:
                self._end(deliberate=True)
            except Exception:
                if not motion:
                    self._switch(motion)
                raise
            self._switch(motion)

    def bar(self, reason: str | None) -> None:
        """Let no command reach the robot from now on, not even that of a tick under way; None takes it back."""
        with self._lock:
            self.lifts += self._bar is not None and reason is None
            self._bar = reason

    # The way to rest

    def brake(self) -> bool:
        """Send the next command on the way to rest, or the hold that ends it; return whether more are to come."""
        with self._lock:
            if self.state is not StreamState.BRAKING:
                return False
            self.sent_at = time.monotonic()
            try:
                self._stream.brake()
            finally:
                self._at_rest.notify_all()
            return self._brakes

    def wait_for_rest(self, timeout: float) -> bool:
        """Wait until the robot has braked, then hold it in any case; return whether `timeout` [s] was enough."""
        with self._at_rest:
            rested = self._at_rest.wait_for(lambda: not self._brakes, timeout)
            if not rested:
                try:
                    self._stream.rest()
                finally:
                    self._at_rest.notify_all()
        return rested

    # Under the lock

    @property
    def _brakes(self) -> bool:
        return self.state is StreamState.BRAKING

    def _admits(self, turn: int) -> bool:
        """Whether an observation of a turn may be answered."""
        stream = self._stream
        still = stream.state is StreamState.BRAKING or stream.stopped is not None
        return self._open and not still and turn == self.turn

    def _check_bar(self) -> None:
        """Raise GuidanceError where no command may reach the robot."""
        if self._bar is not None and self.motion:
            raise GuidanceError(self._bar)

    def _send(self, command: Command) -> None:
        self.sent_at = time.monotonic()
        self._stream.send(command)

    def _switch(self, motion: bool) -> None:
        self.turn += 1
        self.consents += 1
        self._stream.motion = motion
        self._stream.begin_anew()

    def _blame(self, reason: str) -> None:
        """Note why the robot is held."""
        if self.fault is None:
            self._held_since = time.monotonic()
        self.fault = reason

    def _end(self, *, deliberate: bool, keep_chunk: bool = False) -> None:
        if self._stream.end(deliberate=deliberate, keep_chunk=keep_chunk):
            self.wake.set()
