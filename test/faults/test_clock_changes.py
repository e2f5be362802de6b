"""Clocks that jump: of the simulator, and of the machine under a running node."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

from robot import SECOND, Received, Robot

HOUR = 3600


def commands_of_before(robot: Robot, heard: int) -> list[Received]:
    """Return the commands that answer observations of before the jump, holds aside."""
    now = time.time_ns() + robot.time_offset
    late = [c for c in robot.commands[heard:] if abs(c.stamp - now) > HOUR * SECOND // 2]
    return [c for c in late if not robot.judge.is_hold(c.values)]


@pytest.fixture(scope="module", params=["timer", pytest.param("observation", marks=pytest.mark.slow)])
def simulated(request: pytest.FixtureRequest, make_robot: Callable[..., Robot]) -> Robot:
    robot = make_robot(simulated_time=True)
    robot.start(trigger=request.param)
    return robot


@pytest.fixture
def robot(simulated: Robot) -> Iterator[Robot]:
    simulated.is_commanded()
    simulated.judge.wrong.clear()
    yield simulated
    assert simulated.judge.wrong == []


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_after_a_jump_of_the_simulators_clock_only_new_observations_are_answered(
    robot: Robot, seconds: int, on_page: Callable[..., None]
) -> None:
    heard = len(robot.commands)
    with robot.timing():
        since = robot.jump(seconds)
        robot.is_commanded()
    late = max((command.sent for command in commands_of_before(robot, heard)), default=since)
    late = max(late, since)
    on_page(late - since, column="last command of before")
    assert late - since < robot.period + robot.load(since, late)
    if seconds < 0:
        assert any(robot.judge.is_hold(command.values) for command in robot.commands[heard:])


def test_a_simulator_whose_clock_stands_still_is_waited_for_in_silence(robot: Robot) -> None:
    """A pause: nothing grows old, nothing is commanded, and the run goes on."""
    robot.pause()
    try:
        robot.hears("no complete observation", level=1)
        heard, said = len(robot.commands), len(robot.diagnostics)
        robot.until(lambda: len(robot.diagnostics) >= said + 10)
        assert "no complete observation" in robot.diagnostics[-1][1]
        assert len(robot.commands) == heard
    finally:
        robot.resume()
    robot.is_commanded()


@pytest.mark.parametrize("trigger", ["timer", pytest.param("observation", marks=pytest.mark.slow)])
def test_a_node_without_its_clock_commands_nothing_and_says_so_until_time_begins(
    make_robot: Callable[..., Robot], trigger: str, on_page: Callable[..., None]
) -> None:
    """Its time stands at 0, so that no reading would ever be old: these are of ten seconds ago."""
    robot = make_robot(simulated_time=True)
    robot.tells_time = False
    robot.time_offset = -10 * SECOND
    robot.start(trigger=trigger)
    robot.hears("holding: this node's time stands at 0 because nobody publishes /clock", level=1)
    robot.goes_on(40)
    on_page(len(robot.commands), column="last command of before", text="{} commands")
    assert robot.commands == []
    robot.tells_time = True
    robot.is_commanded()
    robot.hears("commanding", level=0)
    assert robot.judge.wrong == []


@pytest.fixture(scope="module", params=["timer", pytest.param("observation", marks=pytest.mark.slow)])
def stepped(
    request: pytest.FixtureRequest, make_robot: Callable[..., Robot], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Robot, Path]:
    """A robot with a node whose system clock has an offset, that of the file."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a shifted system clock needs a C compiler")
    folder = tmp_path_factory.mktemp("clock")
    library, offset = folder / "shifted_clock.so", folder / "offset"
    source = Path(__file__).with_name("shifted_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(library), "-ldl"], check=True)
    offset.write_bytes((0).to_bytes(8, "little", signed=True))
    robot = make_robot()
    robot.start(trigger=request.param, LD_PRELOAD=str(library), CLOCK_OFFSET_FILE=str(offset))
    return robot, offset


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_after_a_step_of_the_system_clock_only_new_observations_are_answered(
    stepped: tuple[Robot, Path], seconds: int, on_page: Callable[..., None]
) -> None:
    robot, file = stepped
    robot.is_commanded()
    robot.judge.wrong.clear()
    heard = len(robot.commands)
    with robot.timing():
        since = robot.jump(seconds)
        with file.open("r+b") as map_:
            map_.write((robot.time_offset // SECOND).to_bytes(8, "little", signed=True))
        since = max(since, time.monotonic())
        robot.is_commanded()
    # When they were sent is told by the clock that was stepped.
    late = max((command.at for command in commands_of_before(robot, heard)), default=since)
    late = max(late, since)
    on_page(late - since, column="last command of before")
    assert late - since < robot.max_age + robot.period + robot.load(since, late, came=True)
    assert robot.judge.wrong == []
