"""An arm far from where the policy begins: it is not started by luck, but once it was brought near."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

from robot import JOINTS, Fault, Robot, changed

from qgf_ros.bundle.fields import Measurement
from qgf_ros.bundle.store import load_manifest, update_manifest

#: Of the first command, which is within 0.1 rad of 0 [rad].
JUMP = 0.25


def standing_at(shoulder: float) -> Fault:
    return Fault(JOINTS, changed(position=[0.1, shoulder]), "")


@pytest.mark.parametrize("trigger", ["timer", pytest.param("observation", marks=pytest.mark.slow)])
def test_a_start_that_was_refused_stays_refused_until_the_arm_is_moved(
    make_robot: Callable[..., Robot], trigger: str, on_page: Callable[..., None]
) -> None:
    robot = make_robot()
    manifest = load_manifest(robot.bundle)
    first = manifest.action[0].model_copy(
        update={
            "unit": "rad",
            "hold": None,
            "lower": -0.5,
            "upper": 0.5,
            "measured": Measurement(field="angle", component=0),
            "max_start_jump": JUMP,
        }
    )
    update_manifest(robot.bundle, manifest.model_copy(update={"action": (first, *manifest.action[1:])}))
    robot.goes_on(1)
    with robot.suffering(standing_at(0.37)):
        robot.start(trigger=trigger, start_retry_distance=0.2)
        robot.hears("from the measured 0.37, at most 0.25 is allowed", level=1)
        assert "angle shoulder by 0.17 rad" in robot.figures["outside_demonstrations"]
    # Here every third first command or so would be near enough, but the arm has hardly moved.
    with robot.suffering(standing_at(0.325)):
        sets = robot.sets
        robot.goes_on(50)
        robot.hears("it is tried again once the robot has moved, or after ~/resume", level=1)
        assert robot.commands == []
        on_page(f"0 commands in {robot.sets - sets} control periods")
    robot.is_commanded()  # at 0.1 rad
    assert robot.judge.wrong == []
