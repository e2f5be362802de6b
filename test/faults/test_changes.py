"""What people and files do to a running node: parameters in a storm, a critic that fails, a bundle that is replaced."""

from __future__ import annotations

import math
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from robot import PATIENCE, Robot


@pytest.fixture(scope="module")
def running(make_robot: Callable[..., Robot]) -> Robot:
    robot = make_robot()
    robot.start()
    return robot


@pytest.fixture
def robot(running: Robot) -> Iterator[Robot]:
    running.is_commanded()
    running.judge.wrong.clear()
    yield running
    assert running.judge.wrong == []


def held(robot: Robot, heard: int) -> str:
    """Return how many of the commands from the one numbered `heard` on were holds, for the page."""
    commands = robot.commands[heard:]
    return f"{sum(robot.judge.is_hold(command.values) for command in commands)} holds in {len(commands)} commands"


def test_a_critic_that_returns_nan_leaves_plain_behaviour_cloning_until_it_is_changed(
    robot: Robot, on_page: Callable[..., None]
) -> None:
    heard = len(robot.commands)
    assert robot.set(critic="broken").successful
    robot.hears("critic broken failed; plain behaviour cloning acts instead", level=1)
    robot.is_commanded()
    assert robot.telemetry[-1]["critic_failed"] == "1.0"
    assert robot.set(critic="near").successful
    robot.hears("commanding", level=0)
    robot.is_commanded()
    assert robot.telemetry[-1]["critic_failed"] == "0.0"
    on_page(held(robot, heard))


#: Parameters with values that are taken, and values that are refused.
CHANGES: dict[str, tuple[list[Any], list[Any]]] = {
    "guidance_weight": ([0.0, 0.05, 0.9], [-1.0, math.nan, math.inf, 1e9, "much"]),
    "use_recommended_weight": ([True, False], [1, "yes"]),
    "critic": (["near", "broken", ""], ["nobody", 3]),
    "num_samples": ([1, 2, 5], [0, -3, 10**9, 1.5]),
    "execution_horizon": ([1, 3, 0], [-1, 4, "all"]),
    "seed": ([0, 7, 2**60], [-1, "x"]),
    "estimator": (["qgf", "noisy", "bptt"], ["", "magic"]),
    "max_guidance_deviation": ([0.1, math.inf], [0.0, math.nan]),
    "bundle": ([], ["/nowhere", ""]),
    "trigger": ([], ["observation", "never"]),
}


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_storm_of_parameters_is_answered_to_the_last_and_commands_go_on(
    robot: Robot, count: int, on_page: Callable[..., None]
) -> None:
    """100 changes a second, one in three of them nonsense; no more under way than a service keeps for its server."""
    source = random.Random(count)
    client = robot.node.create_client(SetParameters, "policy_node/set_parameters")
    assert client.wait_for_service(PATIENCE)
    asked = []
    heard = len(robot.commands)
    begin = time.monotonic()
    pace = threading.Event()
    for i in range(count):
        name = source.choice(list(CHANGES))
        taken, refused = CHANGES[name]
        good = bool(taken) and source.random() < 2 / 3
        value = source.choice(taken if good else refused)
        robot.until(lambda: sum(not future.done() for *_, future in asked) < 8)
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        asked.append((name, value, good, client.call_async(request)))
        pace.wait(max(begin + (i + 1) * 0.01 - time.monotonic(), 0.0))  # the load, not a wait
    robot.until(lambda: all(future.done() for *_, future in asked))
    seconds = time.monotonic() - begin
    wrong = [(name, value) for name, value, good, future in asked if future.result().results[0].successful != good]
    assert wrong == []
    answers = [command for command in robot.commands[heard:] if not robot.judge.is_hold(command.values)]
    on_page(seconds, row=f"a storm of {count:,} parameters", text="answered in {:.1f} s")
    assert len(answers) > count // 20
    assert robot.set(guidance_weight=0.25, critic="near", num_samples=1, estimator="qgf").successful
    robot.until(lambda: float(robot.telemetry[-1]["guidance_weight"]) == 0.25)
    robot.is_commanded()


@pytest.mark.slow
def test_a_bundle_replaced_under_a_running_node_changes_nothing_until_configure_refuses_it(robot: Robot) -> None:
    """Every file in turn, cut short and with one bit flipped; then restored, and the node runs as before."""
    files = sorted(path for path in robot.bundle.rglob("*") if path.is_file())
    contents = {path: path.read_bytes() for path in files}
    for path in files:
        path.write_bytes(b"something else")
    robot.is_commanded(10)
    assert robot.change_state("deactivate")
    assert robot.change_state("cleanup")
    assert robot.judge.is_hold(robot.commands[-1].values)
    heard = len(robot.commands)
    for path in files:
        restore(contents)
        flipped = bytearray(contents[path])
        # Of the manifest, which no checksum covers, the brace that opens it.
        flipped[0 if path.name == "manifest.json" else len(flipped) // 2] ^= 1
        for damaged in (bytes(flipped), contents[path][: len(flipped) // 2]):
            path.write_bytes(damaged)
            assert not robot.change_state("configure"), path.name
            robot.hears("configure failed: ")
            assert path.name in robot.diagnostics[-1][1]
    assert len(robot.commands) == heard
    restore(contents)
    assert robot.change_state("configure")
    assert robot.change_state("activate")
    robot.is_commanded()


def restore(contents: dict[Path, bytes]) -> None:
    for path, content in contents.items():
        path.write_bytes(content)


def test_a_bundle_whose_folder_vanishes_goes_on_in_memory(robot: Robot, on_page: Callable[..., None]) -> None:
    away = robot.bundle.with_name("away")
    shutil.move(robot.bundle, away)
    heard = len(robot.commands)
    try:
        robot.is_commanded(10)
        on_page(held(robot, heard))
    finally:
        shutil.move(away, robot.bundle)
