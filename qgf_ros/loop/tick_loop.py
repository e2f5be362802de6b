"""What happens to an observation on the inference thread: a command, or a hold with its reason. No ROS in here."""

from __future__ import annotations

import logging
import math
import threading
import time
import traceback
from dataclasses import dataclass, field

from qgf_ros.control.command import Command
from qgf_ros.control.controller import Controller
from qgf_ros.control.observation import Observation
from qgf_ros.control.settings import Settings
from qgf_ros.errors import GuidanceError, NotReadyError, QgfError
from qgf_ros.loop.degradation import Degradation, Fallback
from qgf_ros.loop.gate import CommandGate, Outputs
from qgf_ros.loop.supervision import UNSUPERVISED, Supervision
from qgf_ros.loop.telemetry import Figures, tick_figures
from qgf_ros.loop.tick_statistics import TickStatistics


@dataclass(frozen=True)
class Tick:
    """An observation to answer.

    Attributes:
        observation: What was measured.
        since: When it was complete (`time.perf_counter` [s]).
        turn: `CommandGate.turn` when it was handed over: whatever interrupts commanding after that voids it, even in the
            mailbox. None for whatever turn it is answered in.
    """

    observation: Observation
    since: float = field(default_factory=time.perf_counter)
    turn: int | None = None


class TickLoop(CommandGate):
    """Answers observations one at a time, on one thread; everything else may be called from any thread, also meanwhile.

    Args:
        controller: Ticked by this object alone.
        outputs: Where the results go.
        statistics: Counts them.
        motion: Whether commands go to the robot; otherwise they are shadows.
        supervision: When inference is late, and how commanding ends at a fault; by default never, and with a hold.

    Attributes:
        degradation: What late inference has led to.
        settled_at: When an observation was last dealt with (`time.monotonic` [s]).
        critic_failed: Whether the critic failed at the last inference.
    """

    def __init__(
        self,
        controller: Controller,
        outputs: Outputs,
        statistics: TickStatistics,
        *,
        motion: bool = True,
        supervision: Supervision = UNSUPERVISED,
    ) -> None:
        super().__init__(controller, outputs, statistics, motion=motion, on_fault=supervision.on_fault)
        self._supervision = supervision
        manifest = controller.policy.manifest
        self.degradation = Degradation(
            1.0 / manifest.control_rate, manifest.horizon, deadline=supervision.deadline, misses=supervision.misses
        )
        self._lock = threading.Lock()
        self._staged: tuple[Settings, bool] | None = None
        self._restart = False
        self._settings = self._asked = controller.settings
        self.settled_at = time.monotonic()
        self.critic_failed = False

    @property
    def settings(self) -> Settings:
        """The settings last asked for; they are in force from the next tick on, less what degradation takes away."""
        with self._lock:
            return self._settings

    def stage(self, settings: Settings, *, reseed: bool) -> None:
        """Use other, checked settings from the next tick on; see `Controller.apply`."""
        with self._lock:
            reseed = reseed or (self._staged is not None and self._staged[1])
            self._staged = (settings, reseed)
            self._settings = settings

    def restart(self) -> None:
        """Void every tick of before, and hold, and forget chunk and last command, at the next: the clock was restarted."""
        with self._gate:
            self.turn += 1
        with self._lock:
            self._restart = True

    def handle(self, tick: Tick) -> None:
        """Answer an observation, or hold for what keeps it from being answered."""
        if self._answer(tick):
            self.settled_at = time.monotonic()

    def _answer(self, tick: Tick) -> bool:
        """Return whether the observation was dealt with; one whose chunk came too late still waits for an answer."""
        try:
            with self._gate:
                turn = self.turn if tick.turn is None else tick.turn
                if not self._passing or turn != self.turn:
                    return True
                self._take_changes()
                self._check_bar()
                if self._commanding and self._last is not None and tick.observation.stamp == self._last.stamp:
                    # Asked again because the command was lost: the same observation has the same answer.
                    self._send(self._last)
                    return True
            inferred, late = self._infer(tick.observation)
            with self._gate:
                if not self._passing or turn != self.turn:
                    self._controller.drop_chunk()
                    return True
                if late or self.degradation.fallback is Fallback.HOLD:
                    if inferred:
                        self._controller.drop_chunk()
                    if self.degradation.fallback is Fallback.HOLD:
                        self._blame(self._too_slow)  # whatever else was the matter meanwhile
                    return not late
                self._check_bar()
                self._check_wait(time.perf_counter() - tick.since)
                command = self._controller.command(tick.observation, inferred)
                self._last = command
                self._commanding = True  # from here on something may be out, whatever fails
                held = None if self.fault is None else time.monotonic() - self._held_since
                self.fault = None
                self._send(command)
                # What comes from here on comes after the command, though it may come before its telemetry.
                states: Figures = {"motion": int(self._motion), "holds": self.statistics.holds}
        except NotReadyError as error:
            self.hold(str(error), keep_chunk=True)
            return True
        except QgfError as error:
            self.hold(str(error))
            return True
        except Exception as error:
            self._outputs.report(logging.ERROR, traceback.format_exc())
            self.hold(f"inference failed, {type(error).__name__}: {error}; see the log, and check the bundle")
            return True
        latency = time.perf_counter() - tick.since
        self.statistics.answered(latency)
        if held is not None:
            self._outputs.report(logging.INFO, f"commanding after a hold of {held:.2f} s")
        if self._outputs.watched:
            states = {**states, **self.pace()}
            figures = tick_figures(self._controller, self.statistics, command, tick.observation, latency, states)
            self._outputs.send_telemetry(figures, command.stamp)
        self._report_critic(command)
        if self._controller.safety.explanation:
            self._outputs.report(logging.WARNING, f"limited by {self._controller.safety.explanation}")
        return True

    def _check_wait(self, waited: float) -> None:
        """Raise GuidanceError where the process stood still for so long [s] that the watchdog, too, was stopped."""
        limit = self._supervision.longest_wait(self.degradation.deadline(self._asked))
        if waited > limit:
            raise GuidanceError(
                f"an observation has been waiting {waited:.2f} s for an answer, and gets none; see what stops the process, or "
                f"raise watchdog_timeout from {limit:g} s"
            )

    def pace(self) -> dict[str, str | int | float]:
        """Return what degradation has come to, and how often chunks were late or missing."""
        counts = self._controller.counts
        # A chunk that outlived itself is late even where there is no deadline.
        late = max(self.degradation.late, counts["late_chunks"])
        return {**self.degradation.figures(), "late_chunks": late, "starved_ticks": counts["starved_ticks"]}

    def _infer(self, observation: Observation) -> tuple[bool, bool]:
        """Return whether a chunk begins at this tick, and whether it must not because it came too late."""
        controller, fallback = self._controller, self.degradation.fallback
        outlived = controller.counts["late_chunks"]
        inferred = controller.prepare(observation)
        late = False
        if controller.counts["late_chunks"] > outlived:
            late = self._note(math.inf)
        elif inferred:
            late = self._note(controller.inference.seconds)
        if self.degradation.fallback is not fallback:
            self._tell_fallback(fallback)
        # In asynchronous execution a chunk begins with the action that is due, however long it took.
        return inferred, late and not controller.settings.asynchronous

    def _note(self, seconds: float) -> bool:
        late = self.degradation.note(seconds, self._asked)
        if late:
            allowed = self.degradation.deadline(self._asked)
            took = "longer than it lasts" if math.isinf(seconds) else f"{seconds:.3f} s"
            self._outputs.report(
                logging.WARNING, f"a chunk is late: inference took {took}, {allowed:.3f} s are allowed"
            )
        return late

    def _take_changes(self) -> None:
        with self._lock:
            staged, self._staged = self._staged, None
            restart, self._restart = self._restart, False
        if staged is not None:
            self._asked = staged[0]
        settings = self.degradation.settings(self._asked)
        reseed = staged is not None and staged[1]
        if reseed or settings != self._controller.settings:
            self._controller.apply(settings, reseed=reseed)
        if restart:
            self._end(deliberate=False)
            self._forget()

    @property
    def _too_slow(self) -> str:
        return (
            f"inference was late {self.degradation.misses} times in a row even with one sample and no guidance; it goes on "
            "untold until it is in time: relieve the machine, or raise inference_deadline"
        )

    def _tell_fallback(self, before: Fallback) -> None:
        fallback, misses = self.degradation.fallback, self.degradation.misses
        if fallback < before:
            self._outputs.report(logging.INFO, f"inference is in time again; now {fallback.words}")
        elif fallback is Fallback.HOLD:
            self.hold(self._too_slow)
        else:
            self._outputs.report(logging.ERROR, f"inference was late {misses} times in a row; now {fallback.words}")

    def _report_critic(self, command: Command) -> None:
        failed = command.telemetry.get("critic_failed", 0.0) > 0.0
        if failed:
            critic = self._controller.critic
            self._outputs.report(logging.ERROR, f"critic {critic} failed; plain behaviour cloning acts instead")
        elif self.critic_failed:
            self._outputs.report(logging.INFO, "the critic guides again")
        self.critic_failed = failed
