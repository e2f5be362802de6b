"""Processes that die, stall, starve or come in pairs: over DDS, with nobody in this process but the robot."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

from robot import JOINTS, SECOND, Fault, Robot, dies

from qgf_sim.processes import Child


@pytest.fixture(scope="module")
def running(make_robot: Callable[..., Robot]) -> tuple[Robot, Child]:
    robot = make_robot()
    return robot, robot.start()


@pytest.fixture
def robot(running: tuple[Robot, Child]) -> Iterator[Robot]:
    robot, _ = running
    robot.is_commanded()
    robot.judge.wrong.clear()
    yield robot
    assert robot.judge.wrong == []


@contextmanager
def busy_neighbours(count: int) -> Iterator[None]:
    """Processes that do nothing as fast as they can."""
    loops = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.slow
def test_a_node_starved_by_busy_neighbours_answers_nothing_stale_and_recovers(
    robot: Robot, on_page: Callable[..., None]
) -> None:
    """Two processes for each core compete with the node, and with the robot, which shares its lot."""
    heard = len(robot.commands)
    with robot.timing(), busy_neighbours(2 * (os.cpu_count() or 1)):
        robot.goes_on(100)
        commands = robot.commands[heard:]
    answers = [command for command in commands if not robot.judge.is_hold(command.values)]
    asked = [robot.judge.sent_at[command.stamp] for command in answers]
    on_page(max((one.sent - sent for one, sent in zip(answers, asked)), default=0.0), text="slowest answer {:.2f} s")
    robot.is_commanded()
    robot.hears("commanding", level=0)
    for one, sent in zip(answers, asked):
        assert one.sent - sent < robot.max_age + robot.period + robot.load(sent, one.sent)


def test_a_node_that_hangs_is_told_from_a_busy_machine(robot: Robot, running: tuple[Robot, Child]) -> None:
    """It is safe, and too late: what the other tests measure finds it, however busy the machine is."""
    _, node = running
    commanding = False
    while not commanding:  # a machine that starves it may have made it hold by itself
        robot.is_commanded()
        with robot.suffering(Fault(JOINTS, dies, "")) as since:
            os.kill(node.pid, signal.SIGSTOP)
            try:
                robot.goes_on(60)
                commanding = not robot.judge.is_hold(robot.commands[-1].values)
            finally:
                os.kill(node.pid, signal.SIGCONT)
            seconds = robot.is_safe("joint_states is stale", since)
    assert seconds > robot.max_age + 2 * robot.period + robot.load(since, since + seconds)


@pytest.mark.slow
def test_a_node_that_was_stopped_for_seconds_answers_nothing_that_waited_in_its_queues(
    robot: Robot, running: tuple[Robot, Child], on_page: Callable[..., None]
) -> None:
    """As when a virtual machine, a debugger or a page fault stops it: what waited in its queues is old news."""
    _, node = running
    os.kill(node.pid, signal.SIGSTOP)
    try:
        robot.goes_on(80)
        heard, now = len(robot.commands), time.time_ns()
    finally:
        os.kill(node.pid, signal.SIGCONT)
    robot.is_commanded()
    answers = [command for command in robot.commands[heard:] if not robot.judge.is_hold(command.values)]
    old = [command for command in answers if (now - command.stamp) / SECOND > robot.max_age + robot.period]
    on_page(len(old), text="{} with an old stamp")
    assert len(old) <= 1  # the one that was on its way out when the process was stopped


def test_a_node_beside_another_is_an_error_and_holds_both_until_one_is_gone(
    robot: Robot, on_page: Callable[..., None]
) -> None:
    reason = "/command is published by /policy_node and /second_node"
    robot.judge.one_commander = False  # until each has discovered the other
    second = robot.start("second_node", trigger="observation")
    try:
        robot.until(lambda: "bundle small" in second.log.read_text())
        since = time.monotonic()
        robot.hears(reason)
        robot.until(lambda: f"holding: {reason}" in second.log.read_text())
        robot.goes_on()
        heard = len(robot.commands)
        robot.goes_on(20)
        assert len(robot.commands) == heard
        assert robot.judge.is_hold(robot.commands[-1].values)
        on_page(max(robot.commands[-1].sent - since, 0.0), text="{:.2f} s after the second was configured")
    finally:
        os.kill(second.pid, signal.SIGTERM)
        robot.judge.one_commander = True
    robot.is_commanded()


@pytest.mark.slow
def test_a_killed_node_comes_back_and_moves_nothing_until_motion_is_enabled_again(
    robot: Robot, running: tuple[Robot, Child], on_page: Callable[..., None]
) -> None:
    """As the supervisor in robot.launch.py starts it again."""
    robot.kill(running[1])
    heard = len(robot.commands)
    robot.judge.forget()
    node = robot.start(enable_motion=False)
    robot.hears("motion is not enabled", level=1)
    robot.goes_on()
    on_page(len(robot.commands) - heard, text="{} commands until then")
    assert len(robot.commands) == heard
    assert robot.set(enable_motion=True).successful
    robot.is_commanded()
    assert node.exit_code is None


@pytest.mark.slow
def test_a_recorder_on_a_full_disk_ends_and_the_node_commands_as_before(
    robot: Robot, tmp_path: Path, on_page: Callable[..., None]
) -> None:
    """The kernel refuses to let the file of the recorder grow, as a full disk does."""
    pytest.importorskip("mcap", reason="recording needs the extra record")
    from qgf_ros.recording.recording import Recording

    out = tmp_path / "run.mcap"
    room = resource.getrlimit(resource.RLIMIT_FSIZE)
    words = ["--ros-args", "-p", f"bundle:={robot.bundle}", "-p", f"out:={out}"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, room[1]))  # the child inherits it
    try:
        recorder = robot.run("recorder", "qgf_ros.nodes.recorder", words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
    robot.until(lambda: recorder.exit_code is not None)
    assert recorder.exit_code == 1
    assert "File too large" in recorder.log.read_text()
    recording = Recording.open(out)
    assert recording.damage
    readable = sum(1 for _ in recording.messages(list(recording.topics)))
    on_page(readable, text="{} messages can be read")
    assert readable > 0
    robot.is_commanded()
    robot.hears("commanding", level=0)
