"""The tick loop: a command or a hold for every request."""

from __future__ import annotations

import logging
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.fields import ActionField, Measurement
from qgf_ros.control.controller import Controller
from qgf_ros.control.inference import Chunk
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import GuidanceError
from qgf_ros.loop.command_stream import StreamState
from qgf_ros.loop.degradation import RECOVERY, Fallback
from qgf_ros.loop.supervision import Supervision
from qgf_ros.loop.tick_loop import Tick, TickLoop
from qgf_ros.loop.tick_statistics import TickStatistics

STEP = 50_000_000


@pytest.fixture
def loop(policy: Any, recorder: Any) -> TickLoop:
    return TickLoop(Controller(policy, RunOptions(0.5, "near", execution_horizon=2)), recorder, TickStatistics(0.05))


def at(step: int) -> Tick:
    return Tick(Observation(np.zeros(6, dtype=np.float32), step * STEP))


def test_an_observation_becomes_a_command_and_telemetry(loop: TickLoop, recorder: Any) -> None:
    loop.handle(at(3))
    assert [stamp for _, stamp in recorder.commands] == [3 * STEP]
    assert recorder.telemetry[0]["tick"] == 1
    assert recorder.telemetry[0]["inference_ms"] == 2.0
    assert loop.gate.state is StreamState.COMMANDING


def test_telemetry_that_nobody_takes_in_is_not_made(loop: TickLoop, recorder: Any) -> None:
    recorder.watched = False
    loop.handle(at(1))
    assert (len(recorder.commands), recorder.telemetry) == (1, [])
    recorder.watched = True
    loop.handle(at(2))
    assert [figures["tick"] for figures in recorder.telemetry] == [2]


def test_the_same_stamp_again_repeats_the_command_and_nothing_else(loop: TickLoop, policy: Any, recorder: Any) -> None:
    loop.handle(at(3))
    loop.handle(at(3))
    assert recorder.commands[0] == recorder.commands[1]
    assert (len(policy.calls), len(recorder.telemetry), loop.statistics.ticks) == (1, 1, 1)


def test_a_fault_is_one_hold_with_the_stamp_of_the_last_command(loop: TickLoop, recorder: Any) -> None:
    loop.handle(at(3))
    loop.gate.hold("blind")
    loop.gate.hold("blind")
    assert recorder.commands[1:] == [([0.0, 0.0], 3 * STEP)]
    assert recorder.reports[-1] == (logging.ERROR, "holding: blind")
    assert (loop.gate.fault, loop.gate.state) == ("blind", StreamState.HELD)
    assert loop.statistics.summary()["holds"] == 1


def test_a_fault_before_the_first_command_sends_nothing(loop: TickLoop, recorder: Any) -> None:
    loop.gate.hold("blind")
    assert recorder.commands == []
    assert recorder.reports == [(logging.WARNING, "holding: blind")]


def test_commanding_resumes_by_itself_with_a_new_inference(loop: TickLoop, policy: Any, recorder: Any) -> None:
    loop.handle(at(3))
    loop.gate.hold("blind")
    loop.handle(at(4))
    assert len(policy.calls) == 2
    assert loop.gate.fault is None
    assert recorder.texts[-1].startswith("commanding after a hold")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (GuidanceError("the velocity field is not finite"), "the velocity field is not finite"),
        (MemoryError("no memory"), "inference failed, MemoryError: no memory"),
    ],
)
def test_inference_that_raises_is_a_hold(
    loop: TickLoop, policy: Any, recorder: Any, error: Exception, text: str
) -> None:
    loop.handle(at(0))
    policy.failure = error
    loop.handle(at(10))
    assert text in str(loop.gate.fault)
    assert recorder.commands[-1] == ([0.0, 0.0], 0)
    policy.failure = None
    loop.handle(at(11))
    assert loop.gate.fault is None


def test_staged_settings_wait_for_the_next_tick(loop: TickLoop, policy: Any, recorder: Any) -> None:
    loop.handle(at(0))
    loop.stage(RunOptions(0.25, "far", num_samples=2, execution_horizon=1), reseed=False)
    assert loop.settings.critic == "far"
    assert recorder.telemetry[-1]["critic"] == "near"
    loop.handle(at(1))
    assert policy.calls[-1] == ("far", 0.25, 2)
    assert recorder.telemetry[-1]["guidance_weight"] == 0.25


def test_a_staged_seed_survives_a_later_change(loop: TickLoop, recorder: Any) -> None:
    loop.handle(at(0))
    loop.stage(RunOptions(0.5, "near", execution_horizon=1, seed=0), reseed=True)
    loop.stage(RunOptions(0.25, "near", execution_horizon=1, seed=0), reseed=False)
    loop.handle(at(1))
    assert recorder.commands[1][0] == recorder.commands[0][0]  # the fake's action is its noise


def test_a_restart_forgets_the_answered_stamp(loop: TickLoop, policy: Any) -> None:
    loop.handle(at(3))
    loop.gate.restart()
    loop.handle(at(3))
    assert len(policy.calls) == 2


def test_a_restart_is_a_hold_first_although_the_next_tick_fails(loop: TickLoop, policy: Any, recorder: Any) -> None:
    loop.handle(at(100))
    loop.gate.restart()
    policy.failure = GuidanceError("not finite")
    loop.handle(at(3))
    assert recorder.commands[1:] == [([0.0, 0.0], 100 * STEP)]
    assert (loop.gate.fault, loop.gate.state) == ("not finite", StreamState.IDLE)


def test_a_new_seed_and_an_inference_that_fails_are_a_hold_of_every_component(
    manifest_factory: Any, policy: Any, recorder: Any
) -> None:
    joint = ActionField(name="joint", unit="rad", scale=1.0, lower=-1.0, upper=1.0, hold=None)
    slide = ActionField(name="slide", unit="m", scale=1.0, lower=-1.0, upper=1.0)
    policy.manifest = manifest_factory(action=(joint, slide))
    policy.action_value = 0.5
    loop = TickLoop(Controller(policy, RunOptions(0.5, "near", execution_horizon=1)), recorder, TickStatistics(0.05))
    loop.handle(at(0))
    loop.stage(RunOptions(0.5, "near", execution_horizon=1), reseed=True)
    policy.failure = GuidanceError("not finite")
    loop.handle(at(1))
    assert recorder.commands[1:] == [([0.5, 0.0], 0)]


def test_after_close_only_a_hold_passes(loop: TickLoop, recorder: Any) -> None:
    loop.handle(at(0))
    loop.gate.close("deactivated")
    assert recorder.reports == [(logging.INFO, "holding: deactivated")]
    loop.handle(at(1))
    loop.handle(at(0))
    loop.gate.hold("blind")
    assert [values for values, _ in recorder.commands[1:]] == [[0.0, 0.0]]
    loop.gate.open()
    loop.handle(at(2))
    assert recorder.commands[-1][1] == 2 * STEP


def test_a_critic_that_fails_is_reported_until_it_guides_again(loop: TickLoop, policy: Any, recorder: Any) -> None:
    policy.critic_failed = 1.0
    loop.handle(at(0))
    assert loop.critic_failed
    assert recorder.reports[-1] == (logging.ERROR, "critic near failed; plain behaviour cloning acts instead")
    policy.critic_failed = 0.0
    loop.handle(at(10))
    assert not loop.critic_failed
    assert recorder.texts[-1] == "the critic guides again"


def test_a_stop_sends_the_hold_and_lasts_until_it_is_taken_back(loop: TickLoop, policy: Any, recorder: Any) -> None:
    loop.handle(at(0))
    loop.gate.stop("by hand")
    assert recorder.commands[1:] == [([0.0, 0.0], 0)]
    loop.stage(RunOptions(0.25, "far", execution_horizon=1), reseed=False)
    loop.gate.close("deactivated")
    loop.gate.open()
    loop.handle(at(0))
    loop.handle(at(1))
    loop.gate.hold("blind")
    loop.handle(at(2))
    assert len(recorder.commands) == 2
    assert len(policy.calls) == 1
    loop.gate.resume()
    loop.handle(at(3))
    assert recorder.commands[-1][1] == 3 * STEP


def test_a_robot_that_is_held_is_not_called_back_by_a_second_stop(
    manifest_factory: Any, policy: Any, recorder: Any
) -> None:
    field = ActionField(name="joint", unit="rad", scale=1.0, lower=-1.0, upper=1.0, hold=None)
    policy.manifest = manifest_factory(action=(field,))
    loop = TickLoop(Controller(policy, RunOptions(0.5, "near", execution_horizon=1)), recorder, TickStatistics(0.05))
    loop.handle(at(0))
    loop.gate.hold("blind")  # and from here on someone may move the robot
    assert len(recorder.commands) == 2
    loop.gate.stop("by hand")
    loop.gate.stop("by hand")
    assert len(recorder.commands) == 2


@pytest.mark.parametrize("interruption", ["stop", "close", "disable"])
def test_a_tick_under_way_does_not_outlive_an_interruption(
    loop: TickLoop, policy: Any, recorder: Any, interruption: str
) -> None:
    loop.handle(at(0))
    policy.gate.clear()
    policy.entered.clear()
    thread = threading.Thread(target=loop.handle, args=(at(10),))
    thread.start()
    assert policy.entered.wait(60.0)
    if interruption == "stop":
        loop.gate.stop("by hand")
        loop.gate.resume()
    elif interruption == "close":
        loop.gate.close("deactivated")
        loop.gate.open()
    else:
        loop.gate.enable(False)
        loop.gate.enable(True)
    policy.gate.set()
    thread.join()
    assert recorder.commands[1:] == [([0.0, 0.0], 0)]
    assert recorder.shadows == []
    calls = len(policy.calls)
    loop.handle(at(11))
    assert len(policy.calls) == calls + 1  # nor does its chunk


def test_motion_switched_off_is_a_hold_and_then_shadows_only(loop: TickLoop, recorder: Any) -> None:
    loop.handle(at(0))
    loop.gate.enable(False)
    assert recorder.commands[1:] == [([0.0, 0.0], 0)]
    loop.handle(at(1))
    loop.gate.hold("blind")
    assert [stamp for _, stamp in recorder.shadows] == [STEP, STEP]
    assert len(recorder.commands) == 2
    assert recorder.telemetry[-1]["motion"] == 0
    loop.gate.enable(True)
    loop.handle(at(2))
    assert recorder.commands[-1][1] == 2 * STEP


def test_an_absolute_action_that_was_only_a_shadow_is_never_held_on_the_robot(
    manifest_factory: Any, policy: Any, recorder: Any
) -> None:
    field = ActionField(name="joint", unit="rad", scale=1.0, lower=-1.0, upper=1.0, hold=None)
    policy.manifest = manifest_factory(action=(field,))
    loop = TickLoop(
        Controller(policy, RunOptions(0.5, "near", execution_horizon=1)), recorder, TickStatistics(0.05), motion=False
    )
    loop.handle(at(0))
    loop.gate.enable(True)
    loop.gate.hold("blind")
    loop.gate.stop("by hand")
    assert recorder.commands == []


def test_an_intervention_is_counted_told_and_in_the_telemetry(
    manifest_factory: Any, policy: Any, recorder: Any
) -> None:
    fields = (ActionField(name="dx", unit="m", scale=0.1, lower=-0.1, upper=0.1, max_rate=0.2),)
    policy.manifest = manifest_factory(action=fields)
    policy.action_value = 0.5
    loop = TickLoop(Controller(policy, RunOptions(0.5, "near", execution_horizon=1)), recorder, TickStatistics(0.05))
    loop.handle(at(0))
    assert recorder.telemetry[0]["limited_velocity"] == 1
    assert recorder.telemetry[0]["intervention"] == "max_rate: dx 0.05 wanted, 0.01 m sent"
    assert recorder.reports == [(logging.WARNING, "limited by max_rate: dx 0.05 wanted, 0.01 m sent")]


def test_every_kind_of_intervention_has_the_count_that_the_page_of_safety_names(loop: TickLoop, recorder: Any) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "safety.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(limited_\w+)`", page))
    assert len(names) > 10
    loop.handle(at(0))
    for figures in (loop.figures(), recorder.telemetry[0]):
        assert {name for name in figures if name.startswith("limited_")} == names


def test_a_repeated_observation_after_a_hold_is_answered_anew(loop: TickLoop, policy: Any) -> None:
    loop.handle(at(0))
    loop.gate.hold("blind")
    loop.handle(at(0))
    assert len(policy.calls) == 2


class Clock:
    """A performance counter that an inference advances by `duration` [s]."""

    def __init__(self, policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.duration = 0.0, 0.0
        act = policy.act

        def slow_act(*arguments: Any, **options: Any) -> Any:
            self.now += self.duration
            return act(*arguments, **options)

        monkeypatch.setattr(policy, "act", slow_act)
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(policy: Any, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(policy, monkeypatch)


def supervised(policy: Any, recorder: Any, **settings: Any) -> TickLoop:
    """Return a loop whose inference has one period, 50 ms."""
    settings = {"guidance_weight": 0.5, "critic": "near", "num_samples": 4, "execution_horizon": 1, **settings}
    supervision = Supervision(deadline=None, misses=2)
    return TickLoop(Controller(policy, RunOptions(**settings)), recorder, TickStatistics(0.05), supervision=supervision)


def test_a_late_chunk_is_dropped_and_counted(policy: Any, recorder: Any, clock: Clock) -> None:
    loop = supervised(policy, recorder)
    loop.handle(at(0))
    clock.duration = 0.06
    loop.handle(at(1))
    assert [stamp for _, stamp in recorder.commands] == [0]
    assert recorder.reports == [(logging.WARNING, "a chunk is late: inference took 0.060 s, 0.050 s are allowed")]
    clock.duration = 0.0
    loop.handle(at(2))
    assert [stamp for _, stamp in recorder.commands] == [0, 2 * STEP]
    assert (recorder.telemetry[-1]["late_chunks"], recorder.telemetry[-1]["degradation"]) == (1, "as asked")
    assert len(policy.calls) == 3


def test_late_chunks_lead_down_to_the_hold_step_by_step_and_back_up(policy: Any, recorder: Any, clock: Clock) -> None:
    loop = supervised(policy, recorder)
    loop.handle(at(0))
    clock.duration = 0.06
    for step in range(1, 7):
        loop.handle(at(step))
    assert policy.calls[1:] == [("near", 0.5, 4)] * 2 + [("near", 0.5, 1)] * 2 + [("near", 0.0, 1)] * 2
    assert recorder.commands[1:] == [([0.0, 0.0], 0)]
    assert "late 2 times in a row even with one sample and no guidance" in str(loop.gate.fault)
    levels = [level for level, text in recorder.reports if "in a row" in text]
    assert levels == [logging.ERROR] * 3
    clock.duration = 0.0
    calls = len(policy.calls)
    for step in range(100, 101 + 3 * RECOVERY):
        loop.handle(at(step))
        assert bool(recorder.commands[2:]) is (step >= 99 + RECOVERY)  # until then it is only tried
    fallbacks = [("near", 0.0, 1)] * 2 * RECOVERY + [("near", 0.5, 1)] * RECOVERY + [("near", 0.5, 4)]
    assert policy.calls[calls:] == fallbacks
    assert (loop.settings.num_samples, loop.gate.fault) == (4, None)
    assert recorder.texts[-1] == "inference is in time again; now as asked"


def test_a_live_change_while_degraded_keeps_the_rung(policy: Any, recorder: Any, clock: Clock) -> None:
    loop = supervised(policy, recorder)
    clock.duration = 0.06
    loop.handle(at(0))
    loop.handle(at(1))
    loop.stage(RunOptions(0.25, "far", num_samples=8, execution_horizon=1), reseed=False)
    clock.duration = 0.0
    loop.handle(at(2))
    assert policy.calls[-1] == ("far", 0.25, 1)
    assert (loop.settings.num_samples, recorder.telemetry[-1]["num_samples"]) == (8, 1)
    assert recorder.telemetry[-1]["degradation"] == "one sample"


def test_a_tick_that_the_watchdog_interrupted_never_passes_and_counts_as_late(
    policy: Any, recorder: Any, clock: Clock
) -> None:
    loop = supervised(policy, recorder)
    loop.handle(at(0))
    policy.gate.clear()
    policy.entered.clear()
    clock.duration = 9.0
    thread = threading.Thread(target=loop.handle, args=(at(10),))
    thread.start()
    assert policy.entered.wait(60.0)
    loop.gate.interrupt("inference hangs")
    policy.gate.set()
    thread.join()
    assert recorder.commands[1:] == [([0.0, 0.0], 0)]
    assert (loop.gate.fault, loop.degradation.late) == ("inference hangs", 1)


class OneRequest:
    """A worker without a thread, which has one request at a time."""

    busy_for = 0.0

    def __init__(self) -> None:
        self.request: Any = None

    @property
    def busy(self) -> bool:
        return self.request is not None

    def submit(self, request: Any) -> None:
        self.request = request

    def abandon(self) -> None:
        self.request = None

    def close(self) -> None:
        pass


class Undelivered(OneRequest):
    """Its chunk comes when it is told."""

    ready: Any = None

    def take(self, stamp: int) -> Any:
        if self.request is None or self.ready is None:
            return None
        request, self.request = self.request, None
        return request, self.ready


@pytest.fixture
def background(policy: Any, recorder: Any) -> tuple[TickLoop, Undelivered]:
    worker = Undelivered()
    settings = RunOptions(0.5, "near", execution_horizon=2, execution="asynchronous")
    return TickLoop(Controller(policy, settings, worker=worker), recorder, TickStatistics(0.05)), worker


def test_a_tick_without_a_chunk_is_a_hold_and_the_chunk_is_still_awaited(background: Any, recorder: Any) -> None:
    loop, worker = background
    loop.handle(at(0))
    asked = worker.request
    loop.handle(at(1))
    assert worker.request is asked
    assert "still being inferred" in str(loop.gate.fault)
    worker.ready = Chunk(np.zeros((4, 2), np.float32), np.zeros((4, 2), np.float32), {})
    loop.handle(at(2))
    assert [stamp for _, stamp in recorder.commands] == [2 * STEP]
    assert recorder.telemetry[-1]["starved_ticks"] == 2
    assert loop.gate.fault is None


def test_a_fault_while_a_chunk_is_awaited_drops_it(background: Any) -> None:
    loop, worker = background
    loop.handle(at(0))
    loop.gate.hold("blind")
    assert worker.request is None


class DelayedWorker(OneRequest):
    """Infers a chunk when it is asked for one a number of control periods after its observation."""

    def __init__(self, delay: int) -> None:
        super().__init__()
        self.delay = delay
        self.infer: Any = None

    def take(self, stamp: int) -> Any:
        if self.request is None or stamp - self.request.stamp < self.delay * STEP:
            return None
        request, self.request = self.request, None
        return request, self.infer(request)


@pytest.mark.parametrize(("delay", "answered"), [(1, [STEP]), (5, [])])
def test_in_asynchronous_execution_late_chunks_count_and_those_that_outlived_themselves_are_dropped(
    policy: Any, recorder: Any, clock: Clock, delay: int, answered: list[int]
) -> None:
    settings = RunOptions(0.5, "near", 4, execution_horizon=2, execution="asynchronous")
    worker = DelayedWorker(delay)
    controller = Controller(policy, settings, worker=worker)
    worker.infer = controller.inference
    supervision = Supervision(deadline=None, misses=1)
    loop = TickLoop(controller, recorder, TickStatistics(0.05), supervision=supervision)
    clock.duration = 0.21  # and the chunk of four lasts 0.2 s
    loop.handle(at(0))
    assert (recorder.commands, worker.busy) == ([], True)
    assert "still being inferred" in str(loop.gate.fault)
    loop.handle(at(delay))
    assert [stamp for _, stamp in recorder.commands] == answered
    assert (loop.degradation.late, loop.degradation.fallback) == (1, Fallback.ONE_SAMPLE)
    assert len(policy.calls) == 1


def test_an_observation_of_before_the_process_was_stopped_gets_no_answer(
    policy: Any, recorder: Any, clock: Clock
) -> None:
    """Nothing ran meanwhile, the watchdog neither: only the clock tells."""
    settings = RunOptions(0.5, "near", execution_horizon=2)
    supervision = Supervision(timeout=5.0)
    loop = TickLoop(Controller(policy, settings), recorder, TickStatistics(0.05), supervision=supervision)
    loop.handle(at(3))
    loop.handle(Tick(at(4).observation, since=clock.now - 6.0))
    assert recorder.commands[1:] == [([0.0, 0.0], 3 * STEP)]
    assert "an observation has been waiting 6.00 s" in recorder.texts[-1]
    loop.handle(at(5))
    assert recorder.commands[-1][1] == 5 * STEP


def far_loop(policy: Any, manifest_factory: Any, recorder: Any) -> TickLoop:
    """A loop that sets a measured angle, within 0.3 rad of 0, and starts it at most 0.1 rad away."""
    angle = ActionField(
        name="turn",
        unit="rad",
        scale=0.3,
        lower=-2.0,
        upper=2.0,
        hold=None,
        measured=Measurement(field="angle"),
        max_start_jump=0.1,
    )
    policy.manifest = manifest_factory(action=(angle, angle.model_copy(update={"name": "bend"})))
    supervision = Supervision(start_retry_distance=0.2)
    return TickLoop(
        Controller(policy, RunOptions(0.5, "near", execution_horizon=1)),
        recorder,
        TickStatistics(0.05),
        supervision=supervision,
    )


def standing(step: int, angle: float) -> Tick:
    return Tick(Observation(np.array([angle, 0, 0, 0, 0, 0], dtype=np.float32), step * STEP))


def test_a_start_that_was_refused_is_not_tried_again_by_luck(policy: Any, manifest_factory: Any, recorder: Any) -> None:
    loop = far_loop(policy, manifest_factory, recorder)
    for step in range(1, 301):
        loop.handle(standing(step, 0.35))  # near enough for one in ten of the policy's actions
        if loop.gate.fault is not None:
            break
    for again in range(step + 1, step + 301):
        loop.handle(standing(again, 0.35 + 0.015 * (-1) ** again))  # as the encoder's noise
    assert recorder.commands == []
    assert loop.gate.fault is not None
    assert loop.gate.fault.endswith("it is tried again once the robot has moved, or after ~/resume")
    assert loop.figures()["limited_start_pose"] == 301


@pytest.mark.parametrize("consent", ["moved", "resumed", "opened", "motion switched"])
def test_a_refused_start_is_tried_again_once_the_robot_has_moved_or_a_person_says_so(
    policy: Any, manifest_factory: Any, recorder: Any, consent: str
) -> None:
    loop = far_loop(policy, manifest_factory, recorder)
    policy.action_value = -1.0
    loop.handle(standing(1, 0.3))
    policy.action_value = 1.0  # which would do
    loop.handle(standing(2, 0.3))
    assert recorder.commands == []
    if consent == "resumed":
        loop.gate.resume()
    elif consent == "opened":
        loop.gate.close("deactivated")
        loop.gate.open()
    elif consent == "motion switched":
        loop.gate.enable(False)
        loop.gate.enable(True)
    loop.handle(standing(3, 0.3 - 0.021 * (consent == "moved")))
    assert [stamp for _, stamp in recorder.commands] == [3 * STEP]


def test_a_restart_of_the_clock_is_no_consent_to_a_refused_start(
    policy: Any, manifest_factory: Any, recorder: Any
) -> None:
    loop = far_loop(policy, manifest_factory, recorder)
    policy.action_value = -1.0
    loop.handle(standing(10, 0.3))
    policy.action_value = 1.0
    loop.gate.restart()
    loop.handle(standing(1, 0.3))
    assert recorder.commands == []
