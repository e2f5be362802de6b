"""Hours of faults: memory stays flat, no heartbeat is missed, no command is wrong.

`QGF_SOAK_SECONDS=3600 pytest test/faults/test_soak.py -s` is the long one.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

from robot import SENSOR_FAULTS, Robot, resident

from qgf_ros.nodes.heartbeat import PATIENCE

SECONDS = float(os.environ.get("QGF_SOAK_SECONDS", "45"))
#: Of the heartbeat, by default [Hz].
RATE = 10.0
#: Part of the heartbeats that must arrive, and longest gap between two [s], for a machine that stands still itself at times.
BEATS, GAP = 0.5, 5.0
#: Longest return to commanding [s], beside what the machine kept robot and node waiting, and longest wait for it [s].
RECOVERY, LONGEST_WAIT = 60.0, 600.0
#: Time in which caches and allocators fill [s].
SETTLING = 15.0
#: Growth that a run of any length may show [bytes]: that of allocators, not that of a leak.
GROWTH = 8 * 2**20


@pytest.mark.slow
def test_through_faults_of_every_kind_memory_is_flat_and_the_heart_beats(
    make_robot: Callable[..., Robot], on_page: Callable[..., None]
) -> None:
    """A sensor fault drawn at random, a change of parameters, a while of peace; and again."""
    source = random.Random(0)
    robot = make_robot()
    node = robot.start(module="qgf_ros.nodes.policy_node")
    robot.is_commanded()
    samples: list[tuple[float, int]] = []
    faults = 0
    begin = time.monotonic()
    with robot.timing():
        while (passed := time.monotonic() - begin) < SECONDS:
            fault = SENSOR_FAULTS[source.choice(list(SENSOR_FAULTS))]
            with robot.suffering(fault):
                robot.goes_on(source.randrange(1, 20))
            assert robot.set(guidance_weight=source.random(), critic=source.choice(["near", "broken"])).successful
            over = time.monotonic()
            robot.is_commanded(patience=LONGEST_WAIT)
            assert time.monotonic() - over < RECOVERY + robot.load(over, time.monotonic(), came=True), robot.state()
            faults += 1
            if passed > SETTLING:
                samples.append((passed, resident(node.pid)))
    times, sizes = np.array(samples).T
    slope = np.polyfit(times, sizes, 1)[0]
    beats = np.diff(robot.heartbeats)
    found = {
        "faults": f"{faults:,}",
        "commands judged": f"{len(robot.commands):,}, {len(robot.judge.wrong)} of them wrong",
        "memory": f"{sizes[-1] / 2**20:.0f} MiB, {slope * 3600 / 2**20:+.1f} MiB/h",
        "heartbeats": f"{len(robot.heartbeats):,} of {round(RATE * (robot.heartbeats[-1] - robot.heartbeats[0])):,}",
        "later than their deadline": f"{(beats > PATIENCE / RATE).sum()}, the longest gap {beats.max():.2f} s",
    }
    for column, text in found.items():
        on_page(text, row=f"{SECONDS:g} s", column=column)
    assert robot.judge.wrong == []
    assert slope * (times[-1] - times[0]) < GROWTH
    assert sizes.max() - sizes[0] < GROWTH
    assert len(beats) > BEATS * RATE * (robot.heartbeats[-1] - robot.heartbeats[0])
    assert beats.max() < GAP
