"""The command of an arm that stands and does not follow is led back to where it is measured, and the arm waits there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.fields import ActionField, Measurement
from qgf_ros.control.controller import Controller
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.loop.command_stream import StreamState
from qgf_ros.loop.supervision import Supervision
from qgf_ros.loop.tick_loop import Tick, TickLoop
from qgf_ros.loop.tick_statistics import TickStatistics

STEP = 50_000_000
#: It may lag by 0.05.
JOINT = ActionField(
    name="joint",
    unit="rad",
    scale=1.0,
    lower=-1.0,
    upper=1.0,
    hold=None,
    max_rate=0.2,
    measured=Measurement(field="angle"),
)
LED_BACK = (
    "the command was led back, and goes on from where the robot is once that is measured to have moved by 0.025 rad"
)


def at(step: int, place: float = 0.0) -> Tick:
    vector = np.zeros(6, dtype=np.float32)
    vector[0] = place
    return Tick(Observation(vector, step * STEP))


@pytest.fixture
def build(policy: Any, recorder: Any, manifest_factory: Any) -> Callable[..., TickLoop]:
    def make(on_fault: str = "hold") -> TickLoop:
        policy.manifest = manifest_factory(action=(JOINT,))
        policy.action_value = 0.5
        controller = Controller(policy, RunOptions(0.5, "near"))
        return TickLoop(controller, recorder, TickStatistics(0.05), supervision=Supervision(on_fault=on_fault))

    return make


def brake(loop: TickLoop) -> None:
    """Do what the watchdog does."""
    while loop.gate.brake():
        pass


def blocked(loop: TickLoop, steps: int = 10) -> None:
    """Let it be led on while it stands at 0, and its command be led back."""
    for step in range(steps):
        loop.handle(at(step))
    brake(loop)


def test_only_the_commands_of_the_way_back_say_that_they_are(
    build: Callable[..., TickLoop], recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs that would go on to their next point, or let go, have to know."""
    said: list[tuple[bool, bool]] = []
    monkeypatch.setattr(recorder, "send_command", lambda one, *, motion: said.append((one.braking, one.led_back)))
    loop = build("decelerate")
    for step in range(3):
        loop.handle(at(step, 0.01 * step))
    loop.gate.hold("blind")
    brake(loop)
    loop.gate.restart()
    led_back = [back for _, back in said]
    assert not any(led_back)
    said.clear()
    for step in range(10, 20):
        loop.handle(at(step))
    brake(loop)
    assert set(said) == {(False, False), (True, True)}


@pytest.mark.parametrize("on_fault", ["hold", "decelerate"])
def test_every_command_of_the_way_back_has_the_stamp_of_the_last_answer_and_the_hold_ends_it(
    build: Callable[..., TickLoop], recorder: Any, on_fault: str
) -> None:
    loop = build(on_fault)
    for step in range(10):
        loop.handle(at(step))
    assert loop.gate.state is StreamState.BRAKING
    assert loop.gate.wake.is_set()
    assert len(recorder.commands) == 6  # and no observation is answered meanwhile
    brake(loop)
    assert loop.gate.state is StreamState.HELD
    back = [round(values[0], 3) for values, _ in recorder.commands[6:]]
    assert back == [0.05, 0.04, 0.03, 0.02, 0.01, 0.0, 0.0]
    assert {stamp for _, stamp in recorder.commands[6:]} == {recorder.commands[5][1]}
    assert loop.statistics.holds == 1


def test_it_stays_where_it_is_and_says_so_until_it_has_moved(build: Callable[..., TickLoop], recorder: Any) -> None:
    loop = build()
    blocked(loop)
    sent = len(recorder.commands)
    for step in range(10, 20):
        loop.handle(at(step, 0.024))
    assert len(recorder.commands) == sent
    assert loop.gate.fault is not None
    assert LED_BACK in loop.gate.fault
    loop.handle(at(20, -0.03))
    assert recorder.commands[-1] == ([pytest.approx(-0.02)], 20 * STEP)
    assert loop.gate.fault is None


@pytest.mark.parametrize("consent", ["resume", "stop and resume", "open", "enable", "ready again"])
def test_it_goes_on_where_it_is_when_somebody_says_that_it_may(
    build: Callable[..., TickLoop], recorder: Any, consent: str
) -> None:
    loop = build()
    blocked(loop)
    if consent == "ready again":
        loop.gate.bar("driver state /running is False")
        loop.handle(at(10))
        loop.gate.bar(None)
    elif consent == "enable":
        loop.gate.enable(False)
        loop.gate.enable(True)
    elif consent == "open":
        loop.gate.close("deactivated")
        loop.gate.open()
    else:
        if consent == "stop and resume":
            loop.gate.stop("by hand")
        loop.gate.resume()
    sent = len(recorder.commands)
    loop.handle(at(11))
    assert recorder.commands[sent:] == [([pytest.approx(0.01)], 11 * STEP)]


def test_a_restart_of_the_clock_is_no_consent(build: Callable[..., TickLoop], recorder: Any) -> None:
    loop = build()
    blocked(loop)
    loop.gate.restart()
    sent = len(recorder.commands)
    loop.handle(at(11))
    loop.handle(at(12))
    assert len(recorder.commands) == sent
    assert LED_BACK in str(loop.gate.fault)


def test_an_arm_that_is_held_for_its_lag_and_then_stands_is_given_way_from_its_hold(
    build: Callable[..., TickLoop], recorder: Any
) -> None:
    loop = build()
    place = 0.0
    for step in range(12):
        place += 0.004  # two fifths of max_rate
        loop.handle(at(step, place))
        if loop.gate.state is StreamState.HELD:
            break
    held, sent = recorder.commands[-1], len(recorder.commands)
    assert held == recorder.commands[-2]
    for step in range(20, 40):
        loop.handle(at(step, place))
        brake(loop)
    back = [values[0] for values, _ in recorder.commands[sent:]]
    assert back[-1] == pytest.approx(place, abs=1e-6)
    assert np.abs(np.diff([held[0][0], *back])).max() <= 0.01 + 1e-9


def test_an_arm_that_lags_and_catches_up_goes_on_by_itself_and_is_led_nowhere(
    build: Callable[..., TickLoop], recorder: Any
) -> None:
    loop = build()
    place, step = 0.0, 0
    while loop.gate.state is not StreamState.HELD:
        place += 0.003
        loop.handle(at(step, place))
        step += 1
    command, sent = recorder.commands[-1][0][0], len(recorder.commands)
    while loop.gate.state is StreamState.HELD:
        place = min(place + 0.003, command)
        loop.handle(at(step, place))
        step += 1
    assert loop.gate.state is StreamState.COMMANDING
    assert len(recorder.commands) == sent + 1
    assert recorder.commands[-1][0][0] == pytest.approx(place + 0.01)


def test_silence_stays_silence(build: Callable[..., TickLoop], recorder: Any) -> None:
    """A controller that stops by itself when no command comes is not told where to."""
    loop = build("stop_publishing")
    blocked(loop, 20)
    assert len(recorder.commands) == 6
    assert loop.gate.state is StreamState.HELD


def test_whoever_stops_it_on_its_way_back_finds_it_there_and_stopped(
    build: Callable[..., TickLoop], recorder: Any
) -> None:
    loop = build()
    for step in range(10):
        loop.handle(at(step))
    loop.gate.brake()
    loop.gate.stop("by hand")
    brake(loop)
    assert loop.gate.state is StreamState.STOPPED
    assert recorder.commands[-1][0] == [pytest.approx(0.0, abs=1e-9)]
