"""The judge of the fault tests finds what is wrong, and nothing else."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="commands are ROS messages")

from robot import Judge
from sensor_msgs.msg import JointState
from waiting import WaitingTime, waited_between

from qgf_ros.bundle.fields import ActionField
from qgf_ros.nodes.messages import to_time


@pytest.fixture
def judge() -> Judge:
    """Of two components within 0.1 that may change by 0.05 each control period; stamps 1 to 9 were sent."""
    fields = [ActionField(name=name, unit="m", scale=0.1, lower=-0.1, upper=0.1, max_rate=1.0) for name in ("dx", "dy")]
    judge = Judge(fields, period=0.05)
    for stamp in range(1, 10):
        judge.sent(stamp)
    return judge


def command(stamp: int, *values: float, names: tuple[str, ...] = ("dx", "dy")) -> JointState:
    message = JointState(name=list(names), position=list(values))
    message.header.stamp = to_time(stamp)
    return message


def test_sound_commands_and_holds_are_not_wrong(judge: Judge) -> None:
    for message in (command(1, 0.1, 0.1), command(2, 0.05, 0.06), command(2, 0.0, 0.0), command(5, -0.1, 0.1)):
        judge.check(message)
    assert judge.wrong == []


def test_after_the_hold_of_an_absolute_action_the_next_command_begins_where_the_robot_is() -> None:
    joint = ActionField(name="dx", unit="rad", scale=1.0, lower=-1.0, upper=1.0, hold=None, max_rate=1.0)
    for stamp, wrong in ((2, []), (3, ["[0.2] after [0.1] is a larger step than [0.05]"])):
        judge = Judge([joint], period=0.05)
        for sent in range(1, 10):
            judge.sent(sent)
        judge.check(command(2, 0.1, names=("dx",)))
        judge.check(command(stamp, 0.1, names=("dx",)))  # a hold, or another command that happens to be the same
        judge.check(command(4, 0.2, names=("dx",)))
        assert judge.wrong == wrong


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (command(2, math.nan, 0.1), "not finite"),
        (command(2, 0.1, 0.1, names=("dx", "dz")), "expected one value for each of"),
        (command(2, 0.1), "expected one value for each of"),
        (command(2, 0.1, 0.11), "outside the limits"),
        (command(2, 0.1, 0.04), "is a larger step than"),
        (command(10, 0.1, 0.1), "no sound observation was"),
    ],
)
def test_a_wrong_command_is_found(judge: Judge, message: JointState, complaint: str) -> None:
    judge.check(command(1, 0.1, 0.1))
    judge.check(message)
    assert len(judge.wrong) == 1
    assert complaint in judge.wrong[0]


counted = pytest.mark.skipif(
    not Path("/proc/self/schedstat").is_file(),
    reason="this system does not say how long a thread waits for a processor",
)
#: Computes for so many seconds of processor time when it is told to, says so, and does nothing until its input ends.
COMPUTE = """
import sys, time
sys.stdin.readline()
while time.process_time() < float(sys.argv[1]): pass
print("done", flush=True)
sys.stdin.read()
"""


@contextmanager
def computers(*seconds: float) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that share one processor, and compute for so long [s] each when they are told to."""
    words = [sys.executable, "-S", "-c", COMPUTE]
    found = [
        subprocess.Popen([*words, str(one)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for one in seconds
    ]
    try:
        for one in found:
            os.sched_setaffinity(one.pid, {min(os.sched_getaffinity(0))})
        yield found
    finally:
        for one in found:
            one.communicate()


def compute(*found: subprocess.Popen[str]) -> None:
    """Tell processes to begin, and wait until all have computed what they should."""
    for one in found:
        assert one.stdin is not None
        one.stdin.write("begin\n")
        one.stdin.flush()
    for one in found:
        assert one.stdout is not None
        assert one.stdout.readline() == "done\n"


@counted
def test_a_busy_machine_is_as_busy_as_it_kept_processes_waiting() -> None:
    """Of three that share a processor, one computes while two wait; others that use it make them wait longer still."""
    waiting = WaitingTime()
    with computers(0.2, 0.2, 0.2) as found:
        before = waiting.read(one.pid for one in found)
        compute(*found)
        assert waiting.read(one.pid for one in found) - before > 0.2


@counted
def test_a_process_that_hangs_is_no_busy_machine() -> None:
    """It awaits what does not come, and then is stopped: neither is the machine's doing."""
    waiting = WaitingTime()
    with computers(0.0) as (one,):
        compute(one)
        before, since = waiting.read([one.pid]), time.monotonic()
        for sign in (signal.SIGCONT, signal.SIGSTOP):
            os.kill(one.pid, sign)
            with pytest.raises(subprocess.TimeoutExpired):
                one.wait(0.3)
        os.kill(one.pid, signal.SIGCONT)
        assert waiting.read([one.pid]) - before < 0.5 * (time.monotonic() - since)


def test_what_was_waited_meanwhile_is_read_from_before_the_beginning_to_after_the_end() -> None:
    readings = [(1.0, 0.1), (2.0, 0.3), (3.0, 0.4), (4.0, 1.4), (5.0, 1.5)]
    assert waited_between(readings, 2.5, 3.5) == pytest.approx(1.1)
    assert waited_between(readings, 2.0, 3.0) == pytest.approx(0.1)
    assert waited_between(readings, 0.0, 9.0) == pytest.approx(1.4)
