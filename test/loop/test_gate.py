"""What passes the gate of commands when threads meet there: silence, pace, a bar, and why the robot is held."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from qgf_ros.bundle.fields import ActionField, Measurement
from qgf_ros.control.controller import Controller
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.loop.command_stream import StreamState
from qgf_ros.loop.degradation import Fallback
from qgf_ros.loop.supervision import Supervision
from qgf_ros.loop.tick_loop import Tick, TickLoop
from qgf_ros.loop.tick_statistics import TickStatistics

STEP = 50_000_000


def at(step: int) -> Tick:
    return Tick(Observation(np.zeros(6, dtype=np.float32), step * STEP))


@pytest.fixture
def build(policy: Any, recorder: Any, manifest_factory: Any) -> Iterator[Callable[..., TickLoop]]:
    """Make loops of one displacement, limited to changes of 0.01 per period; the policy wants 0.05."""
    made: list[Controller] = []

    def make(on_fault: str = "hold", motion: bool = True, **settings: Any) -> TickLoop:
        field = ActionField(name="dx", unit="m", scale=0.1, lower=-0.1, upper=0.1, max_rate=0.2)
        policy.manifest = manifest_factory(action=(field,))
        policy.action_value = 0.5
        made.append(Controller(policy, RunOptions(0.5, "near", **{"execution_horizon": 1, **settings})))
        supervision = Supervision(on_fault=on_fault)
        return TickLoop(made[-1], recorder, TickStatistics(0.05), motion=motion, supervision=supervision)

    yield make
    policy.gate.set()
    for each in made:
        each.close()


@pytest.mark.parametrize("end", ["hold", "deactivate", "disable"])
def test_whoever_ends_it_deliberately_after_a_silent_fault_gets_the_hold_once(
    build: Callable[..., TickLoop], recorder: Any, end: str
) -> None:
    loop = build("stop_publishing")
    loop.handle(at(0))
    loop.gate.hold("blind")
    loop.gate.hold("still blind")
    assert len(recorder.commands) == 1
    for _ in range(2):
        if end == "hold":
            loop.gate.stop("by hand")
        elif end == "deactivate":
            loop.gate.close("deactivated")
        else:
            loop.gate.enable(False)
    assert recorder.commands[1:] == [([0.0], 0)]
    assert recorder.shadows == []


def test_a_hold_tells_whether_the_robot_was_left_to_itself_before(
    build: Callable[..., TickLoop], recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[bool] = []
    monkeypatch.setattr(recorder, "send_hold", lambda *_, **states: moved.append(states.get("moved", False)))
    for on_fault in ("stop_publishing", "hold"):
        loop = build(on_fault)
        moved.clear()
        loop.handle(at(0))
        loop.gate.hold("blind")
        loop.gate.stop("by hand")
        assert moved == [False, on_fault == "stop_publishing"]  # of the command, and of the one hold


def test_the_hold_after_silence_goes_where_the_commands_went(build: Callable[..., TickLoop], recorder: Any) -> None:
    loop = build("stop_publishing", motion=False)
    loop.handle(at(0))
    loop.gate.hold("blind")
    loop.gate.enable(True)
    loop.gate.stop("by hand")
    assert recorder.commands == []
    assert recorder.shadows[1:] == [([0.0], 0)]


@pytest.mark.parametrize("end", ["next command", "restart"])
def test_silence_is_forgotten_with_what_was_commanded(build: Callable[..., TickLoop], recorder: Any, end: str) -> None:
    loop = build("stop_publishing")
    loop.handle(at(0))
    loop.gate.hold("blind")
    if end == "restart":
        loop.gate.restart()
    loop.handle(at(1))
    loop.gate.stop("by hand")
    loop.gate.stop("by hand")
    assert [stamp for _, stamp in recorder.commands] == [0, STEP, STEP]


def test_a_restart_is_one_hold_and_then_commands_follow_each_other(
    build: Callable[..., TickLoop], recorder: Any
) -> None:
    loop = build()
    for step in range(4):
        loop.handle(at(step))
    loop.gate.restart()
    for step in range(3):
        loop.handle(at(step))
    values, stamps = zip(*recorder.commands)
    assert [value for (value,) in values] == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.0, 0.01, 0.02, 0.03])
    assert list(stamps) == [step * STEP for step in (0, 1, 2, 3, 3, 0, 1, 2)]
    assert loop.statistics.holds == 1


def test_a_stop_is_the_state_whatever_was_before_until_it_is_taken_back(build: Callable[..., TickLoop]) -> None:
    loop = build()
    states = []
    for before in ("idle", "held", "commanding"):
        if before != "idle":
            loop.handle(at(len(states)))
        if before == "held":
            loop.gate.hold("blind")
        states.append(loop.gate.state)
        loop.gate.stop("by hand")
        assert loop.gate.state is StreamState.STOPPED
        loop.gate.resume()
        assert loop.gate.state is StreamState.IDLE
    assert states == [StreamState.IDLE, StreamState.HELD, StreamState.COMMANDING]


def test_a_hold_lasts_from_its_first_reason_to_the_next_command(
    build: Callable[..., TickLoop], recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("qgf_ros.loop.gate.time", SimpleNamespace(monotonic=lambda: now[0]))
    loop = build()
    loop.handle(at(0))
    for seconds, reason in ((101.0, "blind"), (102.5, "deaf"), (103.0, "deaf")):
        now[0] = seconds
        loop.gate.hold(reason)
    now[0] = 104.25
    loop.handle(at(1))
    assert "commanding after a hold of 3.25 s" in recorder.texts
    now[0] = 110.0
    loop.gate.hold("blind")
    now[0] = 110.5
    loop.handle(at(2))
    assert "commanding after a hold of 0.50 s" in recorder.texts


@pytest.mark.parametrize("motion", [True, False])
def test_motion_goes_off_and_never_on_where_the_hold_before_cannot_be_sent(
    build: Callable[..., TickLoop], recorder: Any, monkeypatch: pytest.MonkeyPatch, motion: bool
) -> None:
    loop = build(motion=not motion)
    loop.handle(at(0))
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "send_hold", MagicMock(side_effect=RuntimeError("no middleware")))
        with pytest.raises(RuntimeError):
            loop.gate.enable(motion)
    loop.handle(at(1))
    assert not loop.gate.motion
    assert recorder.shadows[-1][1] == STEP


def test_every_command_tells_when_it_was_sent_and_a_hold_does_not_wait(
    build: Callable[..., TickLoop], recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("qgf_ros.loop.gate.time.monotonic", lambda: now)
    loop = build("decelerate")
    for step in range(3):
        loop.handle(at(step))
    loop.gate.stop("by hand")
    assert loop.gate.sent_at == 100.0
    now = 100.05
    assert loop.gate.brake()
    assert loop.gate.sent_at == 100.05
    assert not loop.gate.wait_for_rest(0.0)
    assert [values[0] for values, _ in recorder.commands[3:]] == [pytest.approx(0.02), 0.0]


@pytest.mark.parametrize("when", ["before", "during inference"])
def test_behind_a_bar_no_command_reaches_the_robot_but_shadows_go_on(
    build: Callable[..., TickLoop], policy: Any, recorder: Any, when: str
) -> None:
    loop = build(motion=False)
    loop.gate.bar("another publishes")
    loop.handle(at(0))
    assert len(recorder.shadows) == 1
    loop.gate.bar(None)
    loop.gate.enable(True)
    if when == "before":
        loop.gate.bar("another publishes")
        loop.handle(at(1))
        assert len(policy.calls) == 1
    else:
        policy.gate.clear()
        policy.entered.clear()
        thread = threading.Thread(target=loop.handle, args=(at(1),))
        thread.start()
        assert policy.entered.wait(60.0)
        loop.gate.bar("another publishes")
        policy.gate.set()
        thread.join()
    assert (recorder.commands, loop.gate.fault) == ([], "another publishes")
    loop.gate.bar(None)
    loop.handle(at(2))
    assert [stamp for _, stamp in recorder.commands] == [2 * STEP]


def test_a_bar_ends_commanding_although_the_same_observation_comes_again(
    build: Callable[..., TickLoop], recorder: Any
) -> None:
    loop = build()
    loop.handle(at(0))
    loop.gate.bar("another publishes")
    loop.handle(at(0))
    assert recorder.commands[1:] == [([0.0], 0)]


def test_a_fault_that_comes_right_after_a_command_is_not_forgotten(
    build: Callable[..., TickLoop], recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = build()
    loop.gate.hold("blind")
    answered = loop.statistics.answered

    def interrupted(latency: float) -> None:
        answered(latency)
        loop.gate.interrupt("stuck")

    monkeypatch.setattr(loop.statistics, "answered", interrupted)
    loop.handle(at(0))
    assert (loop.gate.state, loop.gate.fault) == (StreamState.HELD, "stuck")
    assert recorder.commands[-1] == ([0.0], 0)


def test_on_the_lowest_rung_a_fault_that_passed_leaves_the_reason_of_the_rung(
    build: Callable[..., TickLoop], policy: Any
) -> None:
    loop = build()
    loop.handle(at(0))
    loop.degradation.fallback = Fallback.HOLD
    loop.gate.hold("blind")
    assert loop.gate.fault == "blind"
    loop.handle(at(1))
    assert "even with one sample and no guidance" in str(loop.gate.fault)


def test_settings_leave_the_inference_under_way_alone_and_ask_for_another_only_where_they_differ(
    build: Callable[..., TickLoop], policy: Any
) -> None:
    loop = build(execution_horizon=2, execution="asynchronous")
    policy.gate.clear()
    loop.handle(at(0))
    assert policy.entered.wait(60.0)
    asked = loop._controller._worker._request  # type: ignore[attr-defined]
    loop.stage(replace(loop.settings), reseed=False)
    loop.handle(at(1))
    assert not loop._controller._outdated
    loop.stage(replace(loop.settings, guidance_weight=0.4), reseed=False)
    loop.handle(at(2))
    assert loop._controller._outdated
    assert loop._controller._worker._request is asked  # type: ignore[attr-defined]


def test_the_settings_in_force_given_again_with_a_seed_begin_the_noise_anew(
    build: Callable[..., TickLoop], policy: Any
) -> None:
    loop = build(execution_horizon=4)
    loop.handle(at(0))
    loop.stage(loop.settings, reseed=False)
    loop.handle(at(1))
    assert len(policy.calls) == 1
    loop.stage(loop.settings, reseed=True)
    loop.handle(at(2))
    assert len(policy.calls) == 2


@pytest.mark.parametrize("interruption", ["interrupt", "stop", "disable"])
def test_an_observation_of_before_an_interruption_is_not_answered_although_nobody_had_begun_with_it(
    build: Callable[..., TickLoop], policy: Any, recorder: Any, interruption: str
) -> None:
    """The inference thread had taken it out of the mailbox, which the interruption could not see."""
    loop = build()
    loop.handle(at(0))
    taken = replace(at(1), turn=loop.gate.turn)
    if interruption == "interrupt":
        loop.gate.interrupt("blind")
    elif interruption == "stop":
        loop.gate.stop("by hand")
        loop.gate.resume()
    else:
        loop.gate.enable(False)
        loop.gate.enable(True)
    loop.handle(taken)
    assert recorder.commands[1:] == [([0.0], 0)]
    assert (recorder.shadows, len(policy.calls)) == ([], 1)
    loop.handle(replace(at(2), turn=loop.gate.turn))
    assert recorder.commands[-1][1] == 2 * STEP


@pytest.mark.parametrize("cause", ["motion", "restart", "resume"])
def test_whatever_begins_anew_forgets_where_the_robot_was_told_to_be(
    policy: Any, recorder: Any, manifest_factory: Any, cause: str
) -> None:
    joint = ActionField(name="joint", unit="rad", scale=1.0, lower=-1.0, upper=1.0, hold=None, max_rate=0.2)
    policy.manifest = manifest_factory(action=(joint,))
    policy.action_value = 0.5
    loop = TickLoop(Controller(policy, RunOptions(0.5, "near")), recorder, TickStatistics(0.05))
    loop.handle(at(0))
    if cause == "motion":
        loop.gate.enable(False)
        loop.gate.enable(True)
    elif cause == "restart":
        loop.gate.restart()
    else:
        loop.gate.stop("by hand")
        loop.gate.resume()
    policy.action_value = -0.5
    loop.handle(at(1))
    assert recorder.commands == [([0.5], 0), ([0.5], 0), ([-0.5], STEP)]


def test_a_robot_has_to_follow_commands_and_no_shadows(policy: Any, recorder: Any, manifest_factory: Any) -> None:
    """It stands still, and 0.05 ahead of it is as far as it may be led."""
    joint = ActionField(
        name="joint",
        unit="rad",
        scale=1.0,
        lower=-1.0,
        upper=1.0,
        hold=None,
        max_rate=0.2,
        measured=Measurement(field="angle"),
    )
    policy.manifest = manifest_factory(action=(joint,))
    policy.action_value = 0.5
    loop = TickLoop(Controller(policy, RunOptions(0.5, "near")), recorder, TickStatistics(0.05), motion=False)
    for step in range(10):
        loop.handle(at(step))
    assert (len(recorder.shadows), loop.gate.fault) == (10, None)
    loop.gate.enable(True)
    for step in range(10, 20):
        loop.handle(at(step))
    while loop.gate.brake():
        pass
    loop.handle(at(20))
    places = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01, 0.0, 0.0]  # and back to where it stands
    assert [round(values[0], 3) for values, _ in recorder.commands] == places
    assert loop.gate.fault is not None
    assert "action joint is measured 0.06 rad from its command 0.06, at most 0.05 is allowed" in loop.gate.fault
