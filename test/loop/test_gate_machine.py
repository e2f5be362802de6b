"""Gate and tick loop in thousands of orders of events: what goes out is what the words of docs/design.md promise.

One thread plays them all. What others do while an inference is under way is done from within it, where no lock is held.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from exploration import examples
from fakes import FakePolicy, make_manifest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qgf_ros.bundle.fields import ActionField, Measurement
from qgf_ros.control.controller import Controller
from qgf_ros.control.inference import Chunk, ChunkRequest
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import GuidanceError
from qgf_ros.loop.command_stream import StreamState
from qgf_ros.loop.degradation import Fallback
from qgf_ros.loop.supervision import Supervision
from qgf_ros.loop.tick_loop import Tick, TickLoop
from qgf_ros.loop.tick_statistics import TickStatistics

PERIOD = 0.05
STEP = 50_000_000
DEADLINE = 0.04
#: A displacement, which stands still at 0, and a joint, which does where it is.
ACTION = (
    ActionField(name="dx", unit="m", scale=0.1, lower=-0.08, upper=0.08, max_rate=0.6, max_acceleration=6.0),
    ActionField(
        name="joint",
        unit="rad",
        scale=1.2,
        lower=-1.0,
        upper=1.0,
        hold=None,
        max_rate=3.0,
        max_acceleration=20.0,
        measured=Measurement(field="angle", component=0),
    ),
)
LOWER, UPPER = np.array([[field.lower, field.upper] for field in ACTION]).T
RATE = np.array([(field.max_rate or 0.0) * PERIOD for field in ACTION])
ACCELERATION = np.array([(field.max_acceleration or 0.0) * PERIOD**2 for field in ACTION])
ROUNDING = 1e-9
MANIFEST = make_manifest(action=ACTION)


#: What others do; see the methods `do_...` of the machine.
EVENTS = st.sampled_from(
    [
        *("hold", "interrupt", "stop", "resume", "close", "open", "enable", "bar", "restart", "brake", "rest"),
        *("stop_and_resume", "close_and_open", "switch_twice"),
    ]
)


def table_of_transitions() -> set[tuple[str, str]]:
    """Return what leads where, from the table in docs/design.md."""
    text = (Path(__file__).resolve().parents[2] / "docs/design.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\|([^|]*)\|([^|]*)\|[^|]*\|$", text.split("| From | Leads to | By |\n|---|---|---|\n")[1], re.M
    )
    pairs = (itertools.product(before.split(","), [after.split(",")[0]]) for before, after in rows)
    return {(before.strip(), after.strip()) for before, after in itertools.chain(*pairs)}


ALLOWED = table_of_transitions()


class SignedPolicy(FakePolicy):
    """Guided chunks move dx forward, unguided ones backward."""

    def act(self, *arguments: Any, **options: Any) -> list[Chunk]:
        (chunk,) = super().act(*arguments, **options)
        forward, backward = chunk.actions.copy(), chunk.actions.copy()
        forward[:, 0], backward[:, 0] = np.abs(forward[:, 0]), -np.abs(forward[:, 0])
        guided = arguments[3] > 0.0
        return [Chunk(forward if guided else backward, backward, chunk.telemetry)]


class Inference:
    """What the controller infers with: it takes as long as it is told, and others act meanwhile."""

    def __init__(self, infer: Callable[[ChunkRequest], Chunk]) -> None:
        self._infer = infer
        self.seconds = 0.0
        self.duration = 0.0
        self.meanwhile: Callable[[], None] | None = None

    def __call__(self, request: ChunkRequest) -> Chunk:
        self.interrupt()
        self.seconds = self.duration
        return self._infer(request)

    def interrupt(self) -> None:
        """Let others act, once."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()


class Worker:
    """Infers in the background, as far as anything else can see, when it is told to."""

    busy_for = 0.0

    def __init__(self) -> None:
        self.infer: Inference
        self.request: ChunkRequest | None = None
        self.outcome: Chunk | Exception | None = None

    @property
    def busy(self) -> bool:
        return self.request is not None

    def submit(self, request: ChunkRequest) -> None:
        self.request, self.outcome = request, None

    def deliver(self) -> None:
        assert self.request is not None
        try:
            self.outcome = self.infer(self.request)
        except Exception as error:
            self.outcome = error

    def take(self, stamp: int) -> tuple[ChunkRequest, Chunk] | None:
        self.infer.interrupt()
        request, outcome = self.request, self.outcome
        if request is None or outcome is None:
            return None
        self.abandon()
        if isinstance(outcome, Exception):
            raise outcome
        return request, outcome

    def abandon(self) -> None:
        self.request = self.outcome = None

    def close(self) -> None:
        pass


def judged(judge: Callable[..., None]) -> Callable[..., None]:
    """Keep what is wrong for the end of the event: the tick loop takes whatever is raised below it for a fault."""

    @functools.wraps(judge)
    def kept(self: Any, *args: Any, **options: Any) -> None:
        try:
            judge(self, *args, **options)
        except AssertionError as error:
            self.wrong.append(error)

    return kept


@dataclass(frozen=True)
class Handed:
    """An observation that was handed over, and how much had been interrupted by then."""

    tick: Tick
    interruptions: int


class GateMachine(RuleBasedStateMachine):
    """The events, and beside them what may go out, judged from the events alone."""

    on_fault: str

    @initialize(
        asynchronous=st.booleans(),
        seam=st.sampled_from(["switch", "linear", "ensemble"]),
        motion=st.booleans(),
        misses=st.integers(1, 3),
    )
    def begin(self, asynchronous: bool, seam: str, motion: bool, misses: int) -> None:
        self.motion = motion
        self.policy = SignedPolicy(MANIFEST)
        execution = "asynchronous" if asynchronous else "synchronous"
        asked = RunOptions(0.5, "near", 2, execution_horizon=2, execution=execution, seam=seam, blend_steps=2)
        self.worker = Worker()
        self.controller = Controller(self.policy, asked, worker=self.worker)
        self.inference = self.worker.infer = self.controller.inference = Inference(self.controller.inference)  # type: ignore[assignment]
        self.statistics = TickStatistics(PERIOD)
        supervision = Supervision(deadline=DEADLINE, misses=misses, on_fault=self.on_fault)
        self.loop = TickLoop(self.controller, self, self.statistics, motion=motion, supervision=supervision)
        self.gate = self.loop.gate
        self.place = np.zeros(2)  # of the robot; of a displacement, none is left
        self.clock = 0
        self.handed: Handed | None = None
        self.mailbox: Handed | None = None
        self.answering: Handed | None = None
        self.answered: set[int] = set()  # stamps since the clock was set
        self.interruptions = 0
        self.open, self.stopped, self.barred = True, False, False
        self.last: str | None = None  # what went out last: "command", "braking" or "hold"
        self.sent: Any = None  # the last command
        self.run: list[Any] = []  # commands since the robot stood still, after two times where it did
        self.ends = self.plain = 0
        self.at_robot = False  # whether the last command was for it
        self.forced = self.restarted = self.begins_anew = self.anew = self.chunkless = False
        self.seen = self.gate.state
        self.wrong: list[AssertionError] = []

    # What goes out

    watched = True

    @judged
    def send_command(self, command: Any, *, motion: bool) -> None:
        self.note_state()
        if command.braking:
            self.judge_braking(command, motion)
        else:
            self.judge_command(command, motion)
        values = command.values
        assert (values >= LOWER - ROUNDING).all()
        assert (values <= UPPER + ROUNDING).all()
        if motion:
            self.place = np.array([0.0, values[1]])

    def judge_command(self, command: Any, motion: bool) -> None:
        handed = self.answering
        assert handed is not None, "a command without an observation"
        assert command.stamp == handed.tick.observation.stamp
        assert handed.interruptions == self.interruptions, "an answer to an observation of before an interruption"
        assert self.open
        assert not self.stopped
        assert motion is self.motion
        assert not (motion and self.barred)
        assert self.seen is StreamState.COMMANDING
        self.answering = None  # once
        if self.begins_anew:
            self.run = []
        if command is self.sent:  # asked again
            assert (self.last, self.run[-1].tolist()) == ("command", command.values.tolist())
            return
        assert command.stamp not in self.answered or not self.run, "a second command for one observation"
        self.answered.add(command.stamp)
        assert np.isfinite(command.action).all()
        assert self.loop.degradation.fallback is not Fallback.HOLD
        late = self.inference.seconds > DEADLINE and not self.loop.settings.asynchronous
        assert not (command.inferred and late), "a late chunk"
        assert command.inferred or not self.chunkless, "a chunk that was dropped"
        self.chunkless = False
        forward = bool(command.action[0] > 0.0)
        assert not (forward and self.plain), "guided although the weight is 0"
        if self.loop.settings.guidance_weight == 0.0:
            self.plain = not forward
            assert self.plain or self.loop.settings.asynchronous
        if not self.run:
            rest = np.array([0.0, np.clip(handed.tick.observation.vector[0], LOWER[1], UPPER[1])])
            self.run = [rest, rest]
            assert command.begins
            assert command.inferred, "a chunk of before"
        self.follow(command.values)
        self.last, self.sent, self.at_robot = "command", command, motion

    def judge_braking(self, command: Any, motion: bool) -> None:
        assert self.on_fault == "decelerate"
        assert self.last in ("command", "braking")
        assert self.seen is StreamState.BRAKING
        assert (command.stamp, motion) == (self.sent.stamp, self.at_robot)
        self.follow(command.values)
        self.last = "braking"

    def follow(self, values: Any, slack: float = 1e-7) -> None:
        """Let the robot, or its shadow, be told the next place."""
        self.run.append(values)
        before, last, now = self.run[-3:]
        assert (np.abs(now - last) <= RATE + slack).all(), (before, last, now)
        assert (np.abs(now - 2.0 * last + before) <= ACCELERATION + slack).all(), (before, last, now)

    @judged
    def send_hold(self, values: Any, stamp: int, *, motion: bool, moved: bool = False) -> None:
        self.note_state()
        assert self.last in ("command", "braking"), "a second hold"
        silence = self.on_fault == "stop_publishing" and not self.run
        assert (stamp, motion, moved) == (self.sent.stamp, self.at_robot, silence)
        assert self.seen in (StreamState.HELD, StreamState.STOPPED, StreamState.IDLE)
        assert values[0] == 0.0
        if not silence:
            assert values[1] == self.run[-1][1], "called elsewhere"
            if self.on_fault == "decelerate" and not self.forced:
                self.follow(values)
        self.last, self.run = "hold", []

    @judged
    def send_telemetry(self, figures: Any, stamp: int) -> None:
        assert stamp == self.sent.stamp

    def report(self, level: int, text: str) -> None:
        pass

    def note_state(self) -> None:
        before, self.seen = self.seen, self.gate.state
        assert before is self.seen or (before.value, self.seen.value) in ALLOWED, (before, self.seen)
        if before is StreamState.COMMANDING and self.seen is not before:
            self.ends += 1

    # Observations

    def observe(self, stamp: int) -> None:
        vector = np.zeros(6, dtype=np.float32)
        vector[0] = self.place[1]
        self.handed = Handed(Tick(Observation(vector, stamp), turn=self.gate.turn), self.interruptions)
        self.mailbox = None  # replaced

    def work(self, handed: Handed) -> None:
        state, holds, commands = self.gate.state, self.statistics.holds, len(self.answered)
        valid = self.open and not self.stopped and state is not StreamState.BRAKING
        self.begins_anew = self.restarted and valid and handed.interruptions == self.interruptions
        self.restarted = self.restarted and not self.begins_anew
        self.inference.seconds = 0.0
        self.answering = handed
        self.loop.handle(handed.tick)
        self.answering = None
        self.settle()
        assert state is StreamState.COMMANDING or self.statistics.holds <= holds + 1
        if len(self.answered) > commands:
            assert self.gate.fault is None
        if self.begins_anew:
            assert self.gate.state is not StreamState.HELD or len(self.answered) > commands, "begun anew"
        if self.inference.seconds > DEADLINE and not self.loop.settings.asynchronous:
            self.chunkless = True

    @rule(periods=st.sampled_from([1, 1, 1, 1, 2, 5]))
    def fresh_observation(self, periods: int) -> None:
        self.clock += periods
        self.observe(self.clock * STEP)
        assert self.handed is not None
        self.work(self.handed)

    @rule(
        ticks=st.integers(2, 5),
        events=st.lists(st.tuples(EVENTS, st.booleans()), min_size=1, max_size=3),
        again=st.booleans(),
        when=st.sampled_from(["between ticks", "during inference", "with one in the mailbox"]),
    )
    def commanding_and_events(self, ticks: int, events: list[tuple[str, bool]], again: bool, when: str) -> None:
        """All that keeps observations from being answered is taken back, a few are, and then something happens."""
        self.goes_on()
        for _ in range(ticks):
            self.worker_delivers()
            self.fresh_observation(1)
        if when == "during inference":
            self.inference.meanwhile = functools.partial(self.happen, events)
            self.fresh_observation(5)  # which no chunk covers any more
        elif when == "with one in the mailbox":
            self.observation_into_the_mailbox()
            mail = self.mailbox
            self.happen(events)
            assert mail is not None
            self.work(mail)
        else:
            self.happen(events)
        if again and self.handed is not None:
            self.same_observation_again()

    def happen(self, events: list[tuple[str, bool]]) -> None:
        for event, yes in events:
            self.happens(event, yes)

    @rule(ticks=st.integers(2, 5))
    def several_fresh_observations(self, ticks: int) -> None:
        for _ in range(ticks):
            self.worker_delivers()
            self.fresh_observation(1)

    @precondition(lambda self: self.handed is not None)
    @rule()
    def same_observation_again(self) -> None:
        """Its command was lost, or nothing new was measured."""
        assert self.handed is not None
        self.observe(self.handed.tick.observation.stamp)
        self.work(self.handed)

    @rule()
    def observation_into_the_mailbox(self) -> None:
        self.clock += 1
        self.observe(self.clock * STEP)
        self.mailbox = self.handed

    @precondition(lambda self: self.mailbox is not None)
    @rule()
    def observation_out_of_the_mailbox(self) -> None:
        """It may be stale by now."""
        assert self.mailbox is not None
        mail, self.mailbox = self.mailbox, None
        self.work(mail)

    @precondition(lambda self: self.worker.request is not None and self.worker.outcome is None)
    @rule()
    def chunk_is_ready(self) -> None:
        self.worker_delivers()

    def worker_delivers(self) -> None:
        if self.worker.request is not None and self.worker.outcome is None:
            meanwhile, self.inference.meanwhile = self.inference.meanwhile, None  # of a tick
            self.worker.deliver()
            self.inference.meanwhile = meanwhile

    # The policy

    @rule(value=st.sampled_from([None, None, 1.0, -1.0, 0.3, np.nan]))
    def wanted(self, value: float | None) -> None:
        self.policy.action_value = value

    @rule(failure=st.sampled_from([None, GuidanceError("not finite"), MemoryError("no memory")]))
    def policy_fails(self, failure: Exception | None) -> None:
        self.policy.failure = failure

    @rule(late=st.booleans())
    def inference_takes(self, late: bool) -> None:
        self.inference.duration = 2.0 * DEADLINE if late else 0.0

    # What others do, at once or while the next inference is under way

    @rule(
        event=EVENTS,
        yes=st.booleans(),
        meanwhile=st.booleans(),
    )
    def others(self, event: str, yes: bool, meanwhile: bool) -> None:
        if meanwhile:
            self.inference.meanwhile = functools.partial(self.happens, event, yes)
        else:
            self.happens(event, yes)

    @judged
    def happens(self, event: str, yes: bool) -> None:
        getattr(self, f"do_{event}")(yes)
        self.settle()

    def goes_on(self) -> None:
        for event, yes in (("bar", False), ("resume", True), ("open", True)):
            self.happens(event, yes)
        while self.gate.state is StreamState.BRAKING:
            self.gate.brake()
            self.note_state()
        self.policy.failure, self.policy.action_value, self.inference.duration = None, None, 0.0
        self.settle()

    def ended(self, before: StreamState, *, deliberate: bool) -> None:
        """Commanding has ended, from a state in which it may have been going on."""
        assert self.gate.state is not StreamState.COMMANDING
        if before is StreamState.COMMANDING:
            if self.on_fault == "decelerate":
                assert self.gate.state is StreamState.BRAKING
            else:
                assert self.last == ("hold" if deliberate or self.on_fault == "hold" else "command")
        elif before is StreamState.HELD and deliberate:
            assert self.last == "hold", "left to itself"

    def do_hold(self, yes: bool) -> None:
        before = self.gate.state
        self.gate.hold("blind")
        assert self.gate.fault == "blind"
        self.ended(before, deliberate=False)

    def do_interrupt(self, yes: bool) -> None:
        before = self.gate.state
        self.interruptions += 1
        self.gate.interrupt("stuck")
        assert self.gate.fault == "stuck"
        self.ended(before, deliberate=False)

    def do_stop(self, yes: bool) -> None:
        before = self.gate.state
        self.interruptions += 1
        self.stopped = True
        self.gate.stop("by hand")
        self.ended(before, deliberate=True)

    def do_resume(self, yes: bool) -> None:
        self.anew |= self.stopped and self.gate.state is StreamState.BRAKING
        self.stopped = False
        self.gate.resume()

    def do_close(self, yes: bool) -> None:
        before = self.gate.state
        self.interruptions += 1
        self.open = False
        self.gate.close("deactivated")
        assert self.gate.fault == "deactivated"
        self.ended(before, deliberate=True)

    def do_open(self, yes: bool) -> None:
        self.open = True
        self.gate.open()

    def do_enable(self, yes: bool) -> None:
        before, changes = self.gate.state, yes is not self.motion
        self.interruptions += changes
        self.motion = yes
        self.gate.enable(yes)
        if changes:
            self.ended(before, deliberate=True)
            self.anew |= self.gate.state is StreamState.BRAKING
            assert self.gate.state is not StreamState.HELD, "begun anew"

    def do_bar(self, yes: bool) -> None:
        self.barred = yes
        self.gate.bar("another publishes" if yes else None)

    def do_restart(self, yes: bool) -> None:
        """The clock falls back, or jumps ahead."""
        self.interruptions += 1
        self.answered.clear()
        self.handed = None  # its stamp is of another time
        self.clock += 1000 if yes else -20
        self.restarted = True
        self.gate.restart()

    def do_brake(self, yes: bool) -> None:
        more = self.gate.brake()
        assert more is (self.gate.state is StreamState.BRAKING)

    def do_rest(self, yes: bool) -> None:
        """Whoever deactivates waits no longer."""
        self.forced = True
        self.gate.wait_for_rest(0.0)
        self.forced = False
        assert self.gate.state is not StreamState.BRAKING

    def do_stop_and_resume(self, yes: bool) -> None:
        self.do_stop(yes)
        self.note_state()
        self.do_resume(yes)

    def do_close_and_open(self, yes: bool) -> None:
        self.do_close(yes)
        self.note_state()
        self.do_open(yes)

    def do_switch_twice(self, yes: bool) -> None:
        motion = self.motion
        self.do_enable(not motion)
        self.note_state()
        self.do_enable(motion)

    @rule(
        weight=st.sampled_from([0.0, 0.0, 0.5, 2.0]),
        critic=st.sampled_from(["near", "far"]),
        samples=st.integers(1, 3),
        horizon=st.integers(1, 3),
        reseed=st.booleans(),
    )
    def parameters_change(self, weight: float, critic: str, samples: int, horizon: int, reseed: bool) -> None:
        before = self.loop.settings
        self.plain = self.plain and weight == 0.0
        self.loop.stage(
            RunOptions(
                weight,
                critic,
                samples,
                execution_horizon=horizon,
                execution=before.execution,
                seam=before.seam,
                blend_steps=2,
            ),
            reseed=reseed,
        )

    @precondition(lambda self: self.gate.state not in (StreamState.COMMANDING, StreamState.BRAKING))
    @rule(where=st.floats(-1.0, 1.0))
    def somebody_moves_the_robot(self, where: float) -> None:
        self.place = np.array([0.0, where])

    # What always holds

    @invariant()
    def nothing_went_wrong(self) -> None:
        for error in self.wrong:
            raise error

    def settle(self) -> None:
        """Look at the gate after an event."""
        self.note_state()
        if self.seen not in (StreamState.COMMANDING, StreamState.BRAKING):
            self.run = []
        if self.seen is not StreamState.BRAKING:
            assert not (self.anew and self.seen is StreamState.HELD), "begun anew at rest"
            self.anew = False

    @invariant()
    def the_state_agrees_with_what_was_sent_last(self) -> None:
        state = self.gate.state
        if state is StreamState.COMMANDING:
            assert self.last == "command"
            assert self.run
        elif state is StreamState.BRAKING:
            assert self.on_fault == "decelerate"
            assert self.last in ("command", "braking")
        else:
            assert not self.run
            assert self.last in (None, "hold") or self.on_fault == "stop_publishing"
        if state is StreamState.HELD:
            assert self.last is not None
        if state is not StreamState.BRAKING:
            assert (state is StreamState.STOPPED) is self.stopped
        assert (self.gate.stopped is not None) is self.stopped
        assert (self.gate.motion, self.gate.barred is not None) == (self.motion, self.motion and self.barred)

    @invariant()
    def every_end_of_commanding_is_counted(self) -> None:
        assert self.statistics.holds >= self.ends

    @invariant()
    def somebody_who_has_to_brake_is_woken(self) -> None:
        assert self.gate.state is not StreamState.BRAKING or self.gate.wake.is_set()


class WithHold(GateMachine):
    on_fault = "hold"


class WithDeceleration(GateMachine):
    on_fault = "decelerate"


class WithSilence(GateMachine):
    on_fault = "stop_publishing"


TestWithHold = WithHold.TestCase
TestWithDeceleration = WithDeceleration.TestCase
TestWithSilence = WithSilence.TestCase
for case in (TestWithHold, TestWithDeceleration, TestWithSilence):
    case.settings = examples(80, stateful_step_count=50)
del case  # or it would be one more
