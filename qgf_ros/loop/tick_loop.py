"""What happens to an observation on the inference thread: a command, or a hold with its reason. No ROS in here."""

from __future__ import annotations

import logging
import math
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field

from qgf_ros.control.command import Command
from qgf_ros.control.controller import Controller
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import GuidanceError, NotReadyError, QgfError, StartError
from qgf_ros.loop.command_stream import Outputs, StreamState
from qgf_ros.loop.degradation import Degradation, Fallback
from qgf_ros.loop.gate import Answer, CommandGate
from qgf_ros.loop.supervision import UNSUPERVISED, RefusedStart, Supervision
from qgf_ros.loop.telemetry import Figures, interventions, tick_figures
from qgf_ros.loop.tick_statistics import TickStatistics

#: What the pictures of a chunk took [ms], of its telemetry: said in diagnostics, too, where there are cameras.
OF_PICTURES = ("decode_ms", "encode_ms")


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


class TickLoop:
    """Answers observations one at a time, on one thread; everything else may be called from any thread, also meanwhile.

    Args:
        controller: Ticked by this object alone.
        outputs: Where the results go.
        statistics: Counts them.
        motion: Whether commands go to the robot; otherwise they are shadows.
        supervision: When inference is late, and how commanding ends at a fault; by default never, and with a hold.

    Attributes:
        gate: What every command passes, and through which commanding is ended.
        statistics: As given.
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
        self._controller = controller
        self._outputs = outputs
        self.statistics = statistics
        self.gate = CommandGate(controller, outputs, statistics, motion=motion, on_fault=supervision.on_fault)
        self._supervision = supervision
        manifest = controller.policy.manifest
        self.degradation = Degradation(
            1.0 / manifest.control_rate, manifest.horizon, deadline=supervision.deadline, misses=supervision.misses
        )
        self._refused: RefusedStart | None = None
        self._agreed = self.gate.consents, self.gate.lifts
        self._lock = threading.Lock()
        self._staged: tuple[RunOptions, bool] | None = None
        self._settings = self._asked = controller.settings
        self.settled_at = time.monotonic()
        self.critic_failed = False
        self._of_chunk: Mapping[str, float] = {}

    @property
    def settings(self) -> RunOptions:
        """The settings last asked for; they are in force from the next tick on, less what degradation takes away."""
        with self._lock:
            return self._settings

    @property
    def critic(self) -> str:
        """Name of the critic behind the chunk under way."""
        return self._controller.critic

    def stage(self, settings: RunOptions, *, reseed: bool) -> None:
        """Use other, settings, resolved for the bundle, from the next tick on; see `Controller.apply`."""
        with self._lock:
            reseed = reseed or (self._staged is not None and self._staged[1])
            self._staged = (settings, reseed)
            self._settings = settings

    def handle(self, tick: Tick) -> None:
        """Answer an observation, or hold for what keeps it from being answered."""
        if self._answer(tick):
            self.settled_at = time.monotonic()

    def _answer(self, tick: Tick) -> bool:
        """Return whether the observation was dealt with; one whose chunk came too late still waits for an answer."""
        try:
            turn = self.gate.admit(tick.observation.stamp, tick.turn, self._take_changes)
            if turn is None:
                return True
            inferred, late = self._infer(tick.observation)
            if late or self.degradation.fallback is Fallback.HOLD:
                return self._withhold(turn, inferred, late)
            answer = self.gate.answer(turn, lambda: self._command(tick, inferred))
        except NotReadyError as error:
            self.gate.hold(str(error), keep_chunk=True)
        except QgfError as error:
            self.gate.hold(str(error))
        except Exception as error:
            self._outputs.report(logging.ERROR, traceback.format_exc())
            self.gate.hold(f"inference failed, {type(error).__name__}: {error}; see the log, and check the bundle")
        else:
            if answer is None:
                self._controller.drop_chunk()
            else:  # what comes from here on comes after the command, though it may come before its telemetry
                self._tell(tick, answer)
        return True

    def _withhold(self, turn: int, inferred: bool, late: bool) -> bool:
        """Give an observation no answer; return whether it was dealt with."""
        reason = self._too_slow if self.degradation.fallback is Fallback.HOLD else None
        lasts = self.gate.withhold(turn, reason)  # whatever else was the matter meanwhile
        if inferred or not lasts:
            self._controller.drop_chunk()
        return not (late and lasts)

    def _command(self, tick: Tick, inferred: bool) -> Command:
        self._check_wait(time.perf_counter() - tick.since)
        vector, consents = tick.observation.vector, self.gate.consents
        if self._agreed != (agreed := (consents, self.gate.lifts)):
            self._agreed = agreed
            self._controller.safety.tracking.excuse()
        if self._refused is not None and self._refused.stands(vector, consents):
            self._controller.safety.counts["start_pose"] += 1
            raise StartError(self._refused.reason)
        self._refused = None
        try:
            return self._controller.command(tick.observation, inferred)
        except StartError as error:
            manifest, distance = self._controller.policy.manifest, self._supervision.start_retry_distance
            self._refused = RefusedStart(manifest, distance, vector, consents, error)
            raise StartError(self._refused.reason) from error

    def _tell(self, tick: Tick, answer: Answer) -> None:
        """Count an answer and say what there is to say of it."""
        command, latency = answer.command, time.perf_counter() - tick.since
        self._of_chunk = command.telemetry
        self.statistics.answered(latency)
        if answer.held is not None:
            self._outputs.report(logging.INFO, f"commanding after a hold of {answer.held:.2f} s")
        if self._outputs.watched:
            states: Figures = {"motion": int(answer.motion), "holds": answer.holds, **self.pace()}
            figures = tick_figures(self._controller, self.statistics, command, tick.observation, latency, states)
            self._outputs.send_telemetry(figures, command.stamp)
        self._report_critic(command)
        if self._controller.safety.explanation:
            self._outputs.report(logging.WARNING, f"limited by {self._controller.safety.explanation}")

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

    def figures(self) -> dict[str, str | int | float]:
        """Return how it stands, and what was counted, by name."""
        return {
            "holding": int(self.gate.state is not StreamState.COMMANDING),
            "stopped": int(self.gate.stopped is not None),
            "motion": int(self.gate.motion),
            "braking": int(self.gate.state is StreamState.BRAKING),
            **self.pace(),
            **interventions(self._controller.safety),
            **{name: cost for name, cost in self._of_chunk.items() if name in OF_PICTURES},
            "critic_failed": int(self.critic_failed),
            **self.statistics.summary(),
        }

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
        if staged is not None:
            self._asked = staged[0]
        settings = self.degradation.settings(self._asked)
        reseed = staged is not None and staged[1]
        if reseed or settings != self._controller.settings:
            self._controller.apply(settings, reseed=reseed)

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
            self.gate.hold(self._too_slow)
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
