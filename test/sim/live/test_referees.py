"""Keys of a terminal as the judge of a robot's episodes, and the order in which configurations take turns."""

from __future__ import annotations

import os
import pty
import sys
import termios
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra or a ROS 2 installation")

from qgf_ros.control.run_options import BC, RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.trials import Trial
from qgf_sim.live.live_tuning import LiveTuner
from qgf_sim.live.referees import KeyReferee, Terminal, Verdict


class FakeGraph:
    """A graph whose policy node does as it is told, and ticks whenever messages are taken in."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.parameters: list[dict[str, Any]] = []
        self.tick: Callable[[Any], None] = lambda message: None
        self.node = SimpleNamespace(create_subscription=self._subscribe)
        self._stamp = 0

    def _subscribe(self, kind: Any, topic: str, callback: Callable[[Any], None], depth: Any) -> None:
        self.tick = callback

    def get(self, name: str, parameters: Any) -> dict[str, Any]:
        return {key: SimpleNamespace(bool_value=True) for key in parameters}

    def set(self, name: str, values: dict[str, Any]) -> None:
        self.parameters.append(values)
        self.calls.append("set")

    def call(self, kind: Any, name: str, request: Any) -> Any:
        self.calls.append(name.rpartition("/")[2])
        return SimpleNamespace(success=True, message="")

    def listen(self, duration: float) -> None:
        """Nothing is on its way."""

    def until(self, done: Callable[[], bool], timeout: float, missing: str) -> None:
        while True:
            self.send_tick()
            if done():
                return

    def send_tick(self) -> None:
        self._stamp += 1
        stamp = SimpleNamespace(sec=self._stamp, nanosec=0)
        values = [SimpleNamespace(key="q", value=f"-{self._stamp}"), SimpleNamespace(key="critic", value="near")]
        self.tick(SimpleNamespace(header=SimpleNamespace(stamp=stamp), status=[SimpleNamespace(values=values)]))


class Keyboard:
    """Keys that somebody presses, each once it is waited for."""

    def __init__(self, keys: str) -> None:
        self.keys: list[str | None] = [*keys]

    def __call__(self) -> str | None:
        return self.keys.pop(0) if self.keys else None


def by_keys(keys: str) -> tuple[FakeGraph, LiveTuner, list[str]]:
    graph, said = FakeGraph(), []
    # None: nothing is pressed when earlier keys are thrown away.
    keyboard = Keyboard("")
    for key in keys:
        keyboard.keys += [None, key] if key == "\n" else [key]
    referee = KeyReferee(graph, "policy_node", said.append, keyboard)  # type: ignore[arg-type]
    return graph, LiveTuner(graph, "policy_node", referee), said  # type: ignore[arg-type]


def trials(*configurations: RunOptions, rounds: int = 1) -> list[Trial]:
    return [
        Trial(Path("b"), "bundle", None, replace(name, critic="near"), (number,))
        for number in range(rounds)
        for name in configurations
    ]


class LateReferee:
    """Begins an episode while telemetry of the one before is still on its way."""

    automatic = True

    def __init__(self, graph: FakeGraph) -> None:
        self._graph = graph

    def prepare(self) -> None:
        """Nothing to do."""

    def start(self, task: int | None, seed: int) -> int:
        self._graph.send_tick()
        return 2 * 10**9

    def verdict(self) -> Verdict:
        return Verdict(True, 3)

    def stop(self) -> None:
        """Nothing to do."""


def test_telemetry_that_comes_while_the_next_episode_is_begun_is_not_of_it() -> None:
    graph = FakeGraph()
    tuner = LiveTuner(graph, "policy_node", LateReferee(graph))  # type: ignore[arg-type]
    ((_, (outcome,)),) = tuner.execute(trials(BC))
    assert outcome.start_q == -2.0


def test_enter_begins_an_episode_and_y_or_n_ends_it() -> None:
    graph, tuner, said = by_keys("\ny\nn")
    found = [outcomes[0] for _, outcomes in tuner.execute(trials(BC, rounds=2))]
    assert [(outcome.seed, outcome.success) for outcome in found] == [(0, True), (1, False)]
    assert all(outcome.start_q is not None and outcome.length > 0 for outcome in found)
    # Parameters change while the robot holds.
    assert graph.calls == ["hold", *["set", "resume", "hold"] * 2]
    assert said[0] == "set the scene up, then press Enter; the robot will move"


def test_nobody_is_told_which_configuration_is_up() -> None:
    _, tuner, said = by_keys("\ny\ny")
    list(tuner.execute(trials(BC, RunOptions(0.3))))
    assert not any("0.3" in line or "weight" in line for line in said)


def test_an_episode_that_does_not_count_is_repeated() -> None:
    graph, tuner, _ = by_keys("\nr\ny")
    ((_, (outcome,)),) = tuner.execute(trials(BC))
    assert outcome.success
    assert [values["seed"] for values in graph.parameters] == [0, 0]


def test_other_keys_and_those_pressed_too_early_mean_nothing() -> None:
    keyboard = Keyboard("y")  # left over from before
    keyboard.keys += [None, "x", "\n", "x", "n"]
    graph = FakeGraph()
    referee = KeyReferee(graph, "policy_node", print, keyboard)  # type: ignore[arg-type]
    referee.prepare()
    assert [referee.verdict(), referee.verdict()] == [None, Verdict(False)]


def test_every_round_has_each_configuration_once_in_an_order_of_its_own() -> None:
    configurations = [RunOptions(weight) for weight in (0.0, 0.1, 0.2, 0.3, 0.4)]
    graph, tuner, _ = by_keys("\ny" * 20)
    list(tuner.execute(trials(*configurations, rounds=4)))
    weights = [values["guidance_weight"] for values in graph.parameters]
    rounds = [tuple(weights[i : i + 5]) for i in range(0, 20, 5)]
    assert all(sorted(a_round) == [0.0, 0.1, 0.2, 0.3, 0.4] for a_round in rounds)
    assert len(set(rounds)) > 1
    assert [values["seed"] for values in graph.parameters] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5


def test_a_terminal_gives_single_keys_and_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: slave))
    terminal = Terminal()
    assert terminal.read() is None
    os.write(master, b"y")
    assert terminal.read() == "y"
    terminal.close()
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_without_a_terminal_nothing_is_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graph = FakeGraph()
    with (tmp_path / "keys").open("w+") as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(SimulationError, match="outcomes by keys need a terminal"):
            KeyReferee(graph, "policy_node", print)  # type: ignore[arg-type]
    assert graph.calls == []


def test_a_robot_that_cannot_be_judged_leaves_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: slave))
    graph = FakeGraph()
    graph.get = lambda name, parameters: {"enable_motion": SimpleNamespace(bool_value=False)}  # type: ignore[method-assign]
    with pytest.raises(SimulationError, match="enable_motion of policy_node is false"):
        KeyReferee(graph, "policy_node", print)  # type: ignore[arg-type]
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


class LateGraph(FakeGraph):
    """Its telemetry comes after the news that the robot holds, if at all."""

    def __init__(self, late: int) -> None:
        super().__init__()
        self.late = late

    def until(self, done: Callable[[], bool], timeout: float, missing: str) -> None:
        for _ in range(100):
            if done():
                return
        raise SimulationError(missing)

    def listen(self, duration: float) -> None:
        if self.late:
            self.late -= 1
            self.send_tick()


def judged(graph: FakeGraph) -> LiveTuner:
    """Enter, and at once y."""
    keyboard = Keyboard("")
    keyboard.keys += [None, "\n", "y"]
    return LiveTuner(graph, "policy_node", KeyReferee(graph, "policy_node", print, keyboard))  # type: ignore[arg-type]


def test_ticks_that_are_heard_of_after_the_verdict_count() -> None:
    ((_, (outcome,)),) = judged(LateGraph(late=3)).execute(trials(BC))
    assert (outcome.length, outcome.start_q) == (3, -1.0)


def test_a_robot_that_goes_on_after_the_verdict_ends_the_tuning() -> None:
    with pytest.raises(
        SimulationError, match="policy_node still ticked 2 s after the hold; leave ~/resume to qgf tune"
    ):
        list(judged(LateGraph(late=1000)).execute(trials(BC)))


def test_an_episode_without_a_tick_ends_the_tuning() -> None:
    with pytest.raises(SimulationError, match="policy_node did not tick during the episode; activate it"):
        list(judged(LateGraph(late=0)).execute(trials(BC)))
