"""The tick loop: a command or a hold for every request."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.fields import ActionField
from qgf_ros.control.controller import Controller, Settings
from qgf_ros.control.observation import Observation
from qgf_ros.errors import GuidanceError
from qgf_ros.nodes.statistics import TickStatistics
from qgf_ros.nodes.tick_loop import Fault, Tick, TickLoop

STEP = 50_000_000


@pytest.fixture
def loop(policy: Any, recorder: Any) -> TickLoop:
    return TickLoop(Controller(policy, Settings(0.5, "near", execution_horizon=2)), recorder, TickStatistics(0.05))


def at(step: int) -> Tick:
    return Tick(Observation(np.zeros(6, dtype=np.float32), step * STEP))


def test_an_observation_becomes_a_command_and_telemetry(loop: TickLoop, recorder: Any) -> None:
    loop.handle(at(3))
    assert [stamp for _, stamp in recorder.commands] == [3 * STEP]
    assert recorder.telemetry[0]["tick"] == 1
    assert recorder.telemetry[0]["inference_ms"] == 2.0
    assert loop.commanding


def test_the_same_stamp_again_repeats_the_command_and_nothing_else(loop: TickLoop, policy: Any, recorder: Any) -> None:
    loop.handle(at(3))
    loop.handle(at(3))
    assert recorder.commands[0] == recorder.commands[1]
    assert (len(policy.calls), len(recorder.telemetry), loop.statistics.ticks) == (1, 1, 1)


def test_a_fault_is_one_hold_with_the_stamp_of_the_last_command(loop: TickLoop, recorder: Any) -> None:
    loop.handle(at(3))
    loop.handle(Fault("blind"))
    loop.handle(Fault("blind"))
    assert recorder.commands[1:] == [([0.0, 0.0], 3 * STEP)]
    assert recorder.reports[-1] == (logging.ERROR, "holding: blind")
    assert (loop.fault, loop.commanding, loop.statistics.summary()["holds"]) == ("blind", False, 1)


def test_a_fault_before_the_first_command_sends_nothing(loop: TickLoop, recorder: Any) -> None:
    loop.handle(Fault("blind"))
    assert recorder.commands == []
    assert recorder.reports == [(logging.WARNING, "holding: blind")]


def test_commanding_resumes_by_itself_with_a_new_inference(loop: TickLoop, policy: Any, recorder: Any) -> None:
    loop.handle(at(3))
    loop.handle(Fault("blind"))
    loop.handle(at(4))
    assert len(policy.calls) == 2
    assert loop.fault is None
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
    assert text in str(loop.fault)
    assert recorder.commands[-1] == ([0.0, 0.0], 0)
    policy.failure = None
    loop.handle(at(11))
    assert loop.fault is None


def test_staged_settings_wait_for_the_next_tick(loop: TickLoop, policy: Any, recorder: Any) -> None:
    loop.handle(at(0))
    loop.stage(Settings(0.25, "far", num_samples=2), reseed=False)
    assert loop.settings.critic == "far"
    assert recorder.telemetry[-1]["critic"] == "near"
    loop.handle(at(1))
    assert policy.calls[-1] == ("far", 0.25, 2)
    assert recorder.telemetry[-1]["guidance_weight"] == 0.25


def test_a_staged_seed_survives_a_later_change(loop: TickLoop, recorder: Any) -> None:
    loop.handle(at(0))
    loop.stage(Settings(0.5, "near", seed=0), reseed=True)
    loop.stage(Settings(0.25, "near", seed=0), reseed=False)
    loop.handle(at(1))
    assert recorder.commands[1][0] == recorder.commands[0][0]  # the fake's action is its noise


def test_a_restart_forgets_the_answered_stamp(loop: TickLoop, policy: Any) -> None:
    loop.handle(at(3))
    loop.restart()
    loop.handle(at(3))
    assert len(policy.calls) == 2


def test_a_restart_is_a_hold_first_although_the_next_tick_fails(loop: TickLoop, policy: Any, recorder: Any) -> None:
    loop.handle(at(100))
    loop.restart()
    policy.failure = GuidanceError("not finite")
    loop.handle(at(3))
    assert recorder.commands[1:] == [([0.0, 0.0], 100 * STEP)]
    assert (loop.fault, loop.commanding) == ("not finite", False)


def test_a_new_seed_and_an_inference_that_fails_are_a_hold_of_every_component(
    manifest_factory: Any, policy: Any, recorder: Any
) -> None:
    joint = ActionField(name="joint", unit="rad", scale=1.0, lower=-1.0, upper=1.0, hold=None)
    slide = ActionField(name="slide", unit="m", scale=1.0, lower=-1.0, upper=1.0)
    policy.manifest = manifest_factory(action=(joint, slide))
    policy.action_value = 0.5
    loop = TickLoop(Controller(policy, Settings(0.5, "near")), recorder, TickStatistics(0.05))
    loop.handle(at(0))
    loop.stage(Settings(0.5, "near"), reseed=True)
    policy.failure = GuidanceError("not finite")
    loop.handle(at(1))
    assert recorder.commands[1:] == [([0.5, 0.0], 0)]


def test_after_close_only_a_hold_passes(loop: TickLoop, recorder: Any) -> None:
    loop.handle(at(0))
    loop.close()
    loop.handle(at(1))
    loop.handle(at(0))
    loop.hold("deactivated", logging.INFO)
    assert [values for values, _ in recorder.commands[1:]] == [[0.0, 0.0]]
    loop.open()
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
    loop.stop("by hand")
    assert recorder.commands[1:] == [([0.0, 0.0], 0)]
    loop.stage(Settings(0.25, "far"), reseed=False)
    loop.close()
    loop.open()
    for request in (at(0), at(1), Fault("blind"), at(2)):
        loop.handle(request)
    assert len(recorder.commands) == 2
    assert len(policy.calls) == 1
    loop.resume()
    loop.handle(at(3))
    assert recorder.commands[-1][1] == 3 * STEP


def test_a_robot_that_is_held_is_not_called_back_by_a_second_stop(
    manifest_factory: Any, policy: Any, recorder: Any
) -> None:
    field = ActionField(name="joint", unit="rad", scale=1.0, lower=-1.0, upper=1.0, hold=None)
    policy.manifest = manifest_factory(action=(field,))
    loop = TickLoop(Controller(policy, Settings(0.5, "near")), recorder, TickStatistics(0.05))
    loop.handle(at(0))
    loop.handle(Fault("blind"))  # and from here on someone may move the robot
    assert len(recorder.commands) == 2
    loop.stop("by hand")
    loop.stop("by hand")
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
    assert policy.entered.wait(5.0)
    if interruption == "stop":
        loop.stop("by hand")
        loop.resume()
    elif interruption == "close":
        loop.close()
        loop.hold("deactivated")
        loop.open()
    else:
        loop.enable(False)
        loop.enable(True)
    policy.gate.set()
    thread.join()
    assert recorder.commands[1:] == [([0.0, 0.0], 0)]
    assert recorder.shadows == []
    calls = len(policy.calls)
    loop.handle(at(11))
    assert len(policy.calls) == calls + 1  # nor does its chunk


def test_motion_switched_off_is_a_hold_and_then_shadows_only(loop: TickLoop, recorder: Any) -> None:
    loop.handle(at(0))
    loop.enable(False)
    assert recorder.commands[1:] == [([0.0, 0.0], 0)]
    loop.handle(at(1))
    loop.hold("blind")
    assert [stamp for _, stamp in recorder.shadows] == [STEP, STEP]
    assert len(recorder.commands) == 2
    assert recorder.telemetry[-1]["motion"] == 0
    loop.enable(True)
    loop.handle(at(2))
    assert recorder.commands[-1][1] == 2 * STEP


def test_an_absolute_action_that_was_only_a_shadow_is_never_held_on_the_robot(
    manifest_factory: Any, policy: Any, recorder: Any
) -> None:
    field = ActionField(name="joint", unit="rad", scale=1.0, lower=-1.0, upper=1.0, hold=None)
    policy.manifest = manifest_factory(action=(field,))
    loop = TickLoop(Controller(policy, Settings(0.5, "near")), recorder, TickStatistics(0.05), motion=False)
    loop.handle(at(0))
    loop.enable(True)
    loop.handle(Fault("blind"))
    loop.stop("by hand")
    assert recorder.commands == []


def test_an_intervention_is_counted_told_and_in_the_telemetry(
    manifest_factory: Any, policy: Any, recorder: Any
) -> None:
    fields = (ActionField(name="dx", unit="m", scale=0.1, lower=-0.1, upper=0.1, max_rate=0.2),)
    policy.manifest = manifest_factory(action=fields)
    policy.action_value = 0.5
    loop = TickLoop(Controller(policy, Settings(0.5, "near")), recorder, TickStatistics(0.05))
    loop.handle(at(0))
    assert recorder.telemetry[0]["limited_velocity"] == 1
    assert recorder.telemetry[0]["intervention"] == "max_rate: dx 0.05 wanted, 0.01 m sent"
    assert recorder.reports == [(logging.WARNING, "limited by max_rate: dx 0.05 wanted, 0.01 m sent")]


def test_a_repeated_observation_after_a_hold_is_answered_anew(loop: TickLoop, policy: Any) -> None:
    loop.handle(at(0))
    loop.handle(Fault("blind"))
    loop.handle(at(0))
    assert len(policy.calls) == 2
