"""What happens to an observation on the inference thread: a command, or a hold with its reason. No ROS in here.

A hold is one command that keeps the robot still, sent when commanding ends, and then silence until an observation
can be answered again. It repeats the stamp of the last command, since it answers no newer observation; where nothing
was ever commanded, nothing is sent. A *stop* is a hold that lasts until it is taken back.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.controller import Command, Controller, Settings
from qgf_ros.control.observation import Observation
from qgf_ros.errors import QgfError
from qgf_ros.nodes.statistics import TickStatistics


@dataclass(frozen=True)
class Fault:
    """Why the newest observation cannot be answered."""

    reason: str


@dataclass(frozen=True)
class Tick:
    """An observation to answer, complete since `since` (`time.perf_counter` [s])."""

    observation: Observation
    since: float = field(default_factory=time.perf_counter)


Request: TypeAlias = Tick | Fault
Figures: TypeAlias = Mapping[str, str | int | float]


class Outputs(Protocol):
    """Where commands, telemetry and messages to people go."""

    def send_command(self, values: NDArray[np.float64], stamp: int) -> None:
        """Publish a command, float64 [A], stamped `stamp` [ns]."""
        ...

    def send_shadow(self, values: NDArray[np.float64], stamp: int) -> None:
        """Publish a command where no robot listens."""
        ...

    def send_telemetry(self, figures: Figures, stamp: int) -> None:
        """Publish the telemetry of one tick."""
        ...

    def report(self, level: int, text: str) -> None:
        """Tell people, at a level of `logging`."""
        ...


class TickLoop:
    """Answers requests one at a time, on one thread; everything else may be called from any thread, also meanwhile.

    Args:
        controller: Ticked by this object alone.
        outputs: Where the results go.
        statistics: Counts them.
        motion: Whether commands go to the robot; otherwise they are shadows.
    """

    def __init__(
        self, controller: Controller, outputs: Outputs, statistics: TickStatistics, *, motion: bool = True
    ) -> None:
        self._controller = controller
        self._outputs = outputs
        self.statistics = statistics
        self._lock = threading.Lock()
        self._staged: tuple[Settings, bool] | None = None
        self._restart = False
        self._settings = controller.settings
        self._last: Command | None = None
        self._gate = threading.Lock()  # whatever is sent is made and sent under it, so that nothing follows a hold
        self._open = True
        self._turn = 0  # a tick that began in an earlier one comes to nothing
        self.stopped: str | None = None
        self._motion = motion
        self._commanding = False
        self._held_since = 0.0
        self.fault: str | None = None
        self.critic_failed = False

    @property
    def settings(self) -> Settings:
        """The settings last asked for; they are in force from the next tick on."""
        with self._lock:
            return self._settings

    @property
    def commanding(self) -> bool:
        """Whether the last request was answered with a command."""
        return self._commanding

    def stage(self, settings: Settings, *, reseed: bool) -> None:
        """Use other, checked settings from the next tick on; see `Controller.apply`."""
        with self._lock:
            reseed = reseed or (self._staged is not None and self._staged[1])
            self._staged = (settings, reseed)
            self._settings = settings

    def restart(self) -> None:
        """Hold, and forget chunk and last command, at the next tick, as after a restart of the clock."""
        with self._lock:
            self._restart = True

    def handle(self, request: Request) -> None:
        """Answer an observation or hold for a fault."""
        if isinstance(request, Fault):
            self.hold(request.reason)
        else:
            self._answer(request)

    def hold(self, reason: str, level: int | None = None) -> None:
        """Keep the robot still and say why, at a level of `logging` (by default a warning before the first command)."""
        if self.fault is None:
            self._held_since = time.monotonic()
        self.fault = reason
        if level is None:
            level = logging.WARNING if self._last is None else logging.ERROR
        with self._gate:
            self._send_hold()
        self._outputs.report(level, f"holding: {reason}")

    def stop(self, reason: str) -> None:
        """Send the hold at once, whatever is under way, unless it was sent already; let nothing out until `resume`."""
        with self._gate:
            self._turn += 1
            self.stopped = reason
            self._send_hold()
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
            self._send_hold()
            self._turn += 1
            self._motion = motion
            self._forget()

    def open(self) -> None:
        """Let commands out and forget why the robot was held."""
        with self._gate:
            self.fault = None
            self._open = True

    def close(self) -> None:
        """Let no command out any more, not even that of a tick under way; a hold still passes."""
        with self._gate:
            self._turn += 1
            self._open = False

    def _answer(self, tick: Tick) -> None:
        try:
            with self._gate:
                if not self._passing:
                    return
                turn = self._turn
                self._take_changes()
                if self._commanding and self._last is not None and tick.observation.stamp == self._last.stamp:
                    # Asked again because the command was lost: the same observation has the same answer.
                    self._send(self._last.values, self._last.stamp)
                    return
            inferred = self._controller.prepare(tick.observation)
            with self._gate:
                if not self._passing or turn != self._turn:
                    self._controller.drop_chunk()
                    return
                command = self._controller.command(tick.observation, inferred)
                self._last = command
                self._send(command.values, command.stamp)
                self._commanding = True
        except QgfError as error:
            self.hold(str(error))
            return
        except Exception as error:
            self._outputs.report(logging.ERROR, traceback.format_exc())
            self.hold(f"inference failed, {type(error).__name__}: {error}; see the log, and check the bundle")
            return
        latency = time.perf_counter() - tick.since
        self.statistics.answered(latency)
        self._tell_resumed()
        self._outputs.send_telemetry(self._figures(command, tick.observation, latency), command.stamp)
        self._report_critic(command)
        if self._controller.safety.explanation:
            self._outputs.report(logging.WARNING, f"limited by {self._controller.safety.explanation}")

    @property
    def _passing(self) -> bool:
        return self._open and self.stopped is None

    def _send(self, values: NDArray[np.float64], stamp: int) -> None:
        if self._motion:
            self._outputs.send_command(values, stamp)
        else:
            self._outputs.send_shadow(values, stamp)

    def _send_hold(self) -> None:
        """End commanding; a robot that is held already may have been moved, and is not called back to where it was."""
        if not self._commanding:
            return
        self.statistics.held()
        self._commanding = False
        values = self._controller.hold()
        if values is not None and self._last is not None:
            self._send(values, self._last.stamp)

    def _forget(self) -> None:
        """Begin anew: what was commanded so far is no longer where the robot is."""
        self._controller.reset()
        self._last = None
        self._commanding = False

    def _take_changes(self) -> None:
        with self._lock:
            staged, self._staged = self._staged, None
            restart, self._restart = self._restart, False
        if staged is not None:
            self._controller.apply(staged[0], reseed=staged[1])
        if restart:
            self._send_hold()
            self._forget()

    def _tell_resumed(self) -> None:
        if self.fault is not None:
            self.fault = None
            held = time.monotonic() - self._held_since
            self._outputs.report(logging.INFO, f"commanding after a hold of {held:.2f} s")

    def _figures(self, command: Command, observation: Observation, latency: float) -> Figures:
        settings = self._controller.settings
        chunk = dict(command.telemetry)
        if "latency_ms" in chunk:  # of the policy alone; latency_ms is that of the whole tick
            chunk["inference_ms"] = chunk.pop("latency_ms")
        summary = self.statistics.summary()
        return {
            "tick": int(summary.pop("ticks")),
            **settings.figures(),
            "guidance_weight": self._controller.guidance_weight,
            "inferred": int(command.inferred),
            "motion": int(self._motion),
            **self.interventions(),
            # What a replay needs to know that it sees what this tick saw.
            "noise_drawn": self._controller.noise_drawn,
            "observation_crc32": zlib.crc32(observation.vector.tobytes()),
            **chunk,
            "latency_ms": latency * 1e3,
            **summary,
        }

    def interventions(self) -> dict[str, str | int | float]:
        """Return how often the safety envelope intervened, by kind, and what it did at the last tick."""
        safety = self._controller.safety
        counts = {f"limited_{kind}": count for kind, count in safety.counts.items()}
        return {**counts, "intervention": safety.explanation}

    def _report_critic(self, command: Command) -> None:
        failed = command.telemetry.get("critic_failed", 0.0) > 0.0
        if failed:
            critic = self._controller.settings.critic
            self._outputs.report(logging.ERROR, f"critic {critic} failed; plain behaviour cloning acts instead")
        elif self.critic_failed:
            self._outputs.report(logging.INFO, "the critic guides again")
        self.critic_failed = failed
