"""What the robot is told, from the first command to the hold, with one explicit state. No ROS and no threads in here.

A hold is one command that keeps the robot still, sent when commanding ends, and then silence. It repeats the stamp of
the last command, since it answers no newer observation; where nothing was ever commanded, nothing is sent. Where a fault
is to be silence, the hold waits for a deliberate end.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.command import Command
from qgf_ros.control.controller import Controller
from qgf_ros.control.safety import LONGEST_STOP
from qgf_ros.loop.telemetry import Figures
from qgf_ros.loop.tick_statistics import TickStatistics

#: The way back to where a robot stands may take so much longer than the longest stop: to stop, and then to move so far.
WAY_BACK = 4


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


class StreamState(Enum):
    """How it stands with the robot; what leads from one state to another is a table in docs/design.md."""

    #: Nothing was commanded since it began, or began anew.
    IDLE = "idle"
    #: The last observation that could be answered has its command.
    COMMANDING = "commanding"
    #: On the way to rest, or back to where a robot stands that does not follow; it goes on whatever happens.
    BRAKING = "braking"
    #: Kept still, or left to itself where a fault is to be silence, until an observation can be answered.
    HELD = "held"
    #: The same, or nothing was commanded; no observation is answered until the stop is taken back.
    STOPPED = "stopped"


class CommandStream:
    """The commands to a robot, or their shadows, and how they end. One caller at a time: the gate, under its lock.

    Args:
        controller: Makes the commands, and knows how to keep the robot still.
        outputs: Where they go.
        statistics: Counts the holds.
        motion: Whether commands go to the robot; otherwise they are shadows.
        on_fault: How commanding ends at a fault; see `CommandGate`.

    Attributes:
        state: How it stands with the robot.
        stopped: Why the robot is kept still until `release`, or None.
        last: The last command, unless all began anew since; a hold does not count.
    """

    def __init__(
        self, controller: Controller, outputs: Outputs, statistics: TickStatistics, *, motion: bool, on_fault: str
    ) -> None:
        self._controller = controller
        self._outputs = outputs
        self._statistics = statistics
        self._on_fault = on_fault
        self.motion = motion
        self.state = StreamState.IDLE
        self.stopped: str | None = None
        self.last: Command | None = None
        self._silenced = False  # whether commanding ended without its hold
        self._forgetful = False  # to begin anew at rest
        self._brakes_robot = False  # `motion` of the commands on the way to rest
        self._braked = 0  # how many there were
        self._longest_way = LONGEST_STOP  # and may be

    @property
    def motion(self) -> bool:
        """Whether commands go to the robot, which has to follow them then."""
        return self._controller.safety.followed

    @motion.setter
    def motion(self, motion: bool) -> None:
        self._controller.safety.followed = motion

    def send(self, command: Command) -> None:
        """Send the command of an observation, be it the last one again."""
        self.last = command
        self.state = StreamState.COMMANDING  # from here on something may be out, whatever fails
        self._silenced = False
        self._outputs.send_command(command, motion=self.motion)

    def end(self, *, deliberate: bool, keep_chunk: bool = False) -> bool:
        """End commanding; a robot that is held already may have been moved, and is not called back to where it was.

        Nor is one that was left to itself; but that was not held, and may still be carrying out what was sent. The commands
        of one that stands and does not follow, held or not, are led back to where it is.

        Args:
            deliberate: Whether it ends because somebody wants it to: then with a hold in any case.
            keep_chunk: Whether to go on with the chunk that is being inferred.

        Returns:
            Whether there is something to `brake` from now on.
        """
        if not keep_chunk:
            self._controller.drop_chunk()
        held, gives_way = self.state is StreamState.HELD, self._gives_way
        if gives_way:
            self._controller.safety.give_way(held=held, fades=self._on_fault == "decelerate")
        if gives_way and held:
            self._start_braking(WAY_BACK * LONGEST_STOP)
            return True
        if self.state is not StreamState.COMMANDING:
            if deliberate and self._silenced:
                self._send_hold(self.motion, moved=True)
                self._silenced = False
            return False
        self._statistics.held()
        if gives_way or self._on_fault == "decelerate":
            self._start_braking(WAY_BACK * LONGEST_STOP if gives_way else LONGEST_STOP)
            return True
        self.state = self._still
        if self._on_fault == "stop_publishing" and not deliberate:
            self._controller.safety.hold()  # the next command starts from rest
            self._silenced = True
        else:
            self._send_hold(self.motion)
        return False

    def stop(self, reason: str) -> bool:
        """End commanding deliberately, and keep the robot still until `release`; return what `end` does."""
        self.stopped = reason
        if self.state in (StreamState.IDLE, StreamState.HELD):
            self.state = StreamState.STOPPED
        return self.end(deliberate=True)

    def release(self) -> None:
        """Take a stop back, if there is one, and begin anew."""
        if self.stopped is not None:
            self.stopped = None
            self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what was commanded so far, once at rest: it is no longer where the robot is."""
        self._forgetful = self.state is StreamState.BRAKING
        if not self._forgetful:
            self._controller.reset()
            self.last = None
            self._silenced = False
            self.state = StreamState.IDLE if self.stopped is None else StreamState.STOPPED

    def brake(self) -> None:
        """Send the next command on the way to rest, or the hold that ends it."""
        values = self._controller.safety.brake()
        self._braked += 1
        if values is None or self.last is None or self._braked > self._longest_way:
            self.rest()
            return
        place, rest = self._controller.safety.place, self.last.upcoming[:0]
        command = replace(self.last, values=values, begins=False, measured=place, upcoming=rest, braking=True)
        if self._longest_way > LONGEST_STOP:
            command = replace(command, led_back=True)
        self._outputs.send_command(command, motion=self._brakes_robot)

    def rest(self) -> None:
        """End braking with the hold, however far it has come."""
        self.state = self._still
        try:
            self._send_hold(self._brakes_robot)
        finally:
            if self._forgetful:
                self.begin_anew()

    def _start_braking(self, longest_way: int) -> None:
        self.state = StreamState.BRAKING
        self._brakes_robot, self._braked, self._longest_way = self.motion, 0, longest_way

    @property
    def _gives_way(self) -> bool:
        """Whether the robot stands away from its command, which is therefore led back, unless a fault is to be silence."""
        commanded = self.state in (StreamState.COMMANDING, StreamState.HELD) and self.last is not None
        return (
            commanded
            and self.motion
            and self._on_fault != "stop_publishing"
            and self._controller.safety.tracking.stands
        )

    @property
    def _still(self) -> StreamState:
        """The state of a robot that was commanded and is kept still."""
        return StreamState.HELD if self.stopped is None else StreamState.STOPPED

    def _send_hold(self, motion: bool, *, moved: bool = False) -> None:
        values = self._controller.safety.hold()
        if values is not None and self.last is not None:
            self._outputs.send_hold(values, self.last.stamp, motion=motion, moved=moved)
