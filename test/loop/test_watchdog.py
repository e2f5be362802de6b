"""The watchdog: what it holds the robot for, and when it beats; and braking, which it carries out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.fields import ActionField
from qgf_ros.control.controller import Controller
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import GuidanceError
from qgf_ros.loop import command_stream, watchdog
from qgf_ros.loop.command_stream import StreamState
from qgf_ros.loop.supervision import Supervision
from qgf_ros.loop.tick_loop import Tick, TickLoop
from qgf_ros.loop.tick_statistics import TickStatistics
from qgf_ros.loop.watchdog import Watchdog

STEP = 50_000_000
STOP = [0.04, 0.03, 0.02, 0.01, 0.0, 0.0]  # from a displacement of 0.05, with the hold at the end


def at(step: int) -> Tick:
    return Tick(Observation(np.zeros(6, dtype=np.float32), step * STEP))


class Watched:
    """A tick loop of one action limited to changes of 0.01 per period, its watchdog, and what that is told."""

    def __init__(self, policy: Any, recorder: Any, manifest_factory: Any, on_fault: str, period: float) -> None:
        field = ActionField(name="dx", unit="m", scale=0.1, lower=-0.1, upper=0.1, max_rate=0.2)
        policy.manifest = manifest_factory(action=(field,))
        policy.action_value = 0.5
        self.loop = TickLoop(
            Controller(policy, RunOptions(0.5, "near", execution_horizon=1)),
            recorder,
            TickStatistics(0.05),
            supervision=Supervision(on_fault=on_fault),
        )
        self.limit, self.busy, self.waiting = 1.0, 0.0, 0.0
        self.watchdog = Watchdog(
            self.loop.gate,
            recorder,
            period=period,
            limit=lambda: self.limit,
            busy=lambda: self.busy,
            waiting=lambda: self.waiting,
        )

    def command(self) -> None:
        """Tick until the displacement is as wanted."""
        for step in range(5):
            self.loop.handle(at(step))

    def await_look(self) -> None:
        """Wait until the watchdog has looked at what it is told now, and does no longer at what it was told before."""
        beats = threading.Semaphore(0)
        self.watchdog.beat(beats.release, 0.001)
        for _ in range(2):  # the look of the first may have begun before
            assert beats.acquire(timeout=60.0)


@pytest.fixture
def watched(policy: Any, recorder: Any, manifest_factory: Any) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(on_fault: str = "hold", period: float = 0.001) -> Watched:
        made.append(Watched(policy, recorder, manifest_factory, on_fault, period))
        return made[-1]

    yield make
    policy.gate.set()
    for each in made:
        each.watchdog.stop(60.0)


def sent(recorder: Any) -> list[float]:
    """Return the commands after the last one that was as wanted."""
    return [values[0] for values, _ in recorder.commands[5:]]


@pytest.mark.parametrize(
    ("trouble", "text"),
    [("busy", "inference has been running for 3.00 s"), ("waiting", "observations have been waiting 3.00 s")],
)
def test_an_answer_that_fails_to_come_is_a_hold(
    watched: Callable[..., Watched], recorder: Any, trouble: str, text: str
) -> None:
    robot = watched()
    robot.command()
    setattr(robot, trouble, 3.0)
    recorder.wait(lambda r: len(r.commands) == 6)
    assert recorder.commands[-1] == ([0.0], 4 * STEP)
    recorder.wait(lambda r: any(text in said for said in r.texts))
    assert "raise watchdog_timeout from 1 s" in str(robot.loop.gate.fault)
    setattr(robot, trouble, 0.0)
    robot.await_look()
    robot.loop.handle(at(5))
    assert robot.loop.gate.fault is None


def test_callbacks_that_no_longer_run_are_a_hold_unless_they_are_excused(
    watched: Callable[..., Watched], recorder: Any
) -> None:
    robot = watched()
    robot.command()
    robot.limit = 1e-6
    beats = threading.Semaphore(0)
    robot.watchdog.beat(beats.release, 0.001)
    assert beats.acquire(timeout=60.0)  # nobody said that callbacks would run
    robot.watchdog.called_back()
    recorder.wait(lambda r: len(r.commands) == 6)
    assert "no callback of the node has run" in str(robot.loop.gate.fault)
    assert not robot.watchdog.look()
    robot.watchdog.excuse_callbacks()
    assert robot.watchdog.look()


def test_it_beats_only_while_all_is_alive(watched: Callable[..., Watched]) -> None:
    robot = watched()
    beats = threading.Semaphore(0)
    robot.watchdog.beat(beats.release, 0.001)
    for _ in range(3):
        assert beats.acquire(timeout=60.0)
    robot.busy = 2.0
    assert not robot.watchdog.look()
    robot.waiting, robot.busy = 2.0, 0.0  # too slow is not dead
    assert robot.watchdog.look()
    for _ in range(100):
        assert beats.acquire(timeout=60.0)


def test_however_often_it_looks_it_beats_once_a_period(watched: Callable[..., Watched], monkeypatch: Any) -> None:
    robot = watched()
    now = [100.0]
    looks = threading.Semaphore(0)
    beats: list[float] = []

    def look() -> bool:
        looks.release()
        return True

    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(robot.watchdog, "look", look)

    def looked_at(time: float, often: int = 3) -> list[float]:
        now[0] = time
        for _ in range(often):
            robot.loop.gate.wake.set()
            assert looks.acquire(timeout=60.0)
        while looks.acquire(blocking=False):
            pass
        robot.loop.gate.wake.set()
        assert looks.acquire(timeout=60.0)  # whatever the look before had to do is done
        return list(beats)

    robot.watchdog.beat(lambda: beats.append(now[0]), 0.5)
    assert looked_at(100.0) == [100.0]
    assert looked_at(100.4) == [100.0]
    assert looked_at(100.6) == [100.0, 100.6]
    assert looked_at(100.9) == [100.0, 100.6], "the pace is that of the period, not of when it was late"
    assert looked_at(101.1) == [100.0, 100.6, 101.1]
    assert looked_at(110.0, 9) == [100.0, 100.6, 101.1, 110.0, 110.0], "of what was missed, one is made up for"
    assert looked_at(110.4) == [100.0, 100.6, 101.1, 110.0, 110.0]
    robot.watchdog.beat(None)
    assert looked_at(120.0) == [100.0, 100.6, 101.1, 110.0, 110.0]


def test_without_a_limit_nothing_is_held_but_what_is_stuck_does_not_beat(
    watched: Callable[..., Watched], recorder: Any
) -> None:
    robot = watched()
    robot.command()
    robot.limit = math.inf
    robot.await_look()
    robot.busy = robot.waiting = 60.0
    assert not robot.watchdog.look()
    assert len(recorder.commands) == 5


def test_it_never_spins_however_short_the_limit_is(watched: Callable[..., Watched]) -> None:
    robot = watched()
    robot.limit = 1e-9
    assert robot.watchdog.interval == 0.001


def test_it_outlives_an_output_that_fails(watched: Callable[..., Watched], recorder: Any) -> None:
    robot = watched()
    beats = threading.Semaphore(0)

    def fail() -> None:
        beats.release()
        raise RuntimeError("no context")

    robot.watchdog.beat(fail, 0.001)
    for _ in range(3):
        assert beats.acquire(timeout=60.0)
    recorder.wait(lambda r: "the watchdog failed, RuntimeError: no context" in r.texts)


@pytest.mark.parametrize("end", ["fault", "stop", "disable", "restart"])
def test_a_deceleration_fades_to_the_hold_whatever_ends_commanding(
    watched: Callable[..., Watched], policy: Any, recorder: Any, end: str
) -> None:
    robot = watched("decelerate")
    robot.command()
    if end == "fault":
        robot.loop.gate.hold("blind")
    elif end == "stop":
        robot.loop.gate.stop("by hand")
    elif end == "disable":
        robot.loop.gate.enable(False)
    else:
        robot.loop.gate.restart()
        policy.failure = GuidanceError("not finite")  # or it would be answered, had braking ended before its inference
        robot.loop.handle(at(5))
    recorder.wait(lambda r: len(r.commands) == 5 + len(STOP))
    np.testing.assert_allclose(sent(recorder), STOP, atol=1e-9)
    assert {stamp for _, stamp in recorder.commands[5:]} == {4 * STEP}
    assert recorder.shadows == []
    assert robot.loop.gate.wait_for_rest(60.0)


def test_while_it_brakes_nothing_is_answered_and_then_all_begins_anew(
    watched: Callable[..., Watched], recorder: Any
) -> None:
    robot = watched("decelerate", period=3600.0)
    robot.command()
    robot.loop.gate.hold("blind")  # and the first command on the way to rest comes in an hour
    assert robot.loop.gate.brake()
    robot.loop.handle(at(6))
    assert (len(recorder.commands), robot.loop.gate.state) == (6, StreamState.BRAKING)
    while robot.loop.gate.brake():
        pass
    robot.loop.handle(at(7))
    np.testing.assert_allclose(sent(recorder), [*STOP, 0.01], atol=1e-9)
    assert robot.loop.gate.state is StreamState.COMMANDING


def test_the_first_command_on_the_way_to_rest_comes_a_period_after_the_last_one_while_it_beats_on(
    watched: Callable[..., Watched], recorder: Any
) -> None:
    robot = watched("decelerate", period=3600.0)
    robot.command()
    robot.loop.gate.hold("blind")
    beats = threading.Semaphore(0)
    robot.watchdog.beat(beats.release, 0.001)
    for _ in range(3):
        assert beats.acquire(timeout=60.0)
    assert (len(recorder.commands), robot.loop.gate.state) == (5, StreamState.BRAKING)
    robot.loop.gate.sent_at -= 3600.0
    recorder.wait(lambda r: len(r.commands) == 6)
    assert recorder.commands[-1] == ([pytest.approx(0.04)], 4 * STEP)
    for _ in range(3):
        assert beats.acquire(timeout=60.0)
    assert len(recorder.commands) == 6


def test_a_deceleration_that_takes_too_long_ends_with_the_hold(
    watched: Callable[..., Watched], recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_stream, "LONGEST_STOP", 2)
    robot = watched("decelerate")
    robot.command()
    robot.loop.gate.hold("blind")
    assert robot.loop.gate.wait_for_rest(60.0)
    np.testing.assert_allclose(sent(recorder), [0.04, 0.03, 0.0], atol=1e-9)


def test_whoever_cannot_wait_for_the_end_of_braking_gets_the_hold(
    watched: Callable[..., Watched], recorder: Any
) -> None:
    robot = watched("decelerate", period=3600.0)
    robot.command()
    robot.loop.gate.close("deactivated")
    assert robot.loop.gate.brake()
    assert not robot.loop.gate.wait_for_rest(0.001)
    np.testing.assert_allclose(sent(recorder), [0.04, 0.0], atol=1e-9)


def test_silence_is_for_faults_and_whoever_ends_it_deliberately_gets_the_hold(
    watched: Callable[..., Watched], recorder: Any
) -> None:
    robot = watched("stop_publishing")
    robot.command()
    robot.loop.gate.hold("blind")
    assert len(recorder.commands) == 5
    robot.loop.gate.stop("by hand")
    assert sent(recorder) == [0.0]
    robot.loop.gate.resume()
    robot.loop.handle(at(6))
    assert recorder.commands[-1] == ([pytest.approx(0.01)], 6 * STEP)  # from rest
    robot.loop.gate.stop("by hand")
    assert recorder.commands[-1] == ([0.0], 6 * STEP)
