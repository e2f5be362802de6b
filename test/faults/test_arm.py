"""An arm that does not do what it is told, over DDS: its command is held to what is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

from robot import Robot
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from qgf_ros.bundle.fields import ActionField, Measurement

#: Of each joint [rad/s], [rad]; and what the noise of its encoder is below [rad].
RATE, LEAD, NOISE = 1.0, 0.12, 1e-3
BACK = "the command was led back, and goes on from where the robot is once that is measured to have moved by 0.06 rad"


def joint(index: int, name: str, **changes: Any) -> ActionField:
    values = dict(
        name=name,
        unit="rad",
        scale=1.0,
        lower=-1.0,
        upper=1.0,
        hold=None,
        measured=Measurement(field="angle", component=index),
        max_rate=RATE,
        max_start_jump=2.0,
        max_tracking_error=LEAD,
    )
    return ActionField(**{**values, **changes})


class Arm(Robot):
    """Is where it was told to be, unless it is blocked; its encoders say so, unless they are stuck."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.place = np.zeros(2)
        self.blocked = False
        self.stuck: list[float] | None = None
        self._noise = np.random.default_rng(0)
        super().__init__(bundle, folder)

    def sound_message(self, topic: str, stamp: int) -> Any:
        message = super().sound_message(topic, stamp)
        if topic == "joint_states":
            seen = (self.place + self._noise.normal(0.0, 1e-4, 2)).tolist() if self.stuck is None else self.stuck
            message.name, message.position = ["shoulder", "elbow"], seen
        return message

    def _on_command(self, message: JointState, ago: float = 0.0) -> None:
        with self._changed:
            if not self.blocked:
                self.place = np.array(message.position)
        super()._on_command(message, ago)

    def holds(self, reason: str) -> None:
        """Wait until the node says why it holds, and that the last command was repeated once and no other follows."""
        self.hears(reason)
        heard = len(self.commands)
        self.goes_on(10)
        assert len(self.commands) == heard
        assert self.commands[-1].values == self.commands[-2].values

    def gives_way(self, reason: str, seen: np.ndarray, heard: int) -> None:
        """Wait until the node says that it led the command back, and see that it did: from where it was, to `seen` [rad].

        The judge sees that every step on the way is inside the limits.
        """
        self.holds(reason)
        assert np.abs(np.array(self.commands[-1].values) - seen).max() <= NOISE
        stamps = [one.stamp for one in self.commands[heard:]]
        assert stamps[-1] == stamps[-3], "one of the way back is no answer to a later observation"

    def lead(self, heard: int) -> float:
        """Return how far commands from the one numbered `heard` on were from where the arm is [rad]."""
        return max(float(np.abs(np.array(one.values) - self.place).max()) for one in self.commands[heard:])


def resume(arm: Arm) -> None:
    """What is commanded from then on begins where the arm is measured, noise and all."""
    with arm._changed:
        arm.judge.forget()
    assert arm.call(Trigger, "policy_node/resume", Trigger.Request()).success


@pytest.fixture(scope="module", params=["timer", pytest.param("observation", marks=pytest.mark.slow)])
def running(request: pytest.FixtureRequest, make_robot: Callable[..., Arm]) -> Arm:
    arm = make_robot(Arm, {"action": (joint(0, "shoulder"), joint(1, "elbow"))})
    arm.start(trigger=request.param)
    return arm


@pytest.fixture
def arm(running: Arm) -> Iterator[Arm]:
    running.is_commanded()
    running.judge.wrong.clear()
    yield running
    assert running.judge.wrong == []


def test_the_command_of_a_blocked_arm_is_led_back_so_that_it_does_not_jump_when_it_is_released(
    arm: Arm, on_page: Callable[..., None]
) -> None:
    with arm._changed:
        arm.blocked, heard, since = True, len(arm.commands), time.monotonic()
        place = arm.place.copy()
    arm.gives_way(BACK, place, heard)
    arm.hears(f"at most {LEAD} is allowed")
    lead = arm.lead(heard)
    assert lead <= LEAD + RATE * arm.period + NOISE
    with arm._changed:
        arm.blocked = False
        jump = float(np.abs(np.array(arm.commands[-1].values) - arm.place).max())
    on_page(
        arm.commands[-1].sent - since,
        text=f"{{:.2f}} s, {lead:.2f} rad ahead at most; released, it moves by {jump:.4f} rad",
    )
    assert jump <= NOISE
    arm.holds(BACK)  # nobody has said yet that it is free
    resume(arm)
    arm.is_commanded()
    assert np.abs(np.array(arm.commands[heard].values) - place).max() <= RATE * arm.period + NOISE
    arm.hears("commanding", level=0)


def test_a_blocked_arm_that_was_given_way_goes_on_from_where_it_is_once_it_has_moved(arm: Arm) -> None:
    with arm._changed:
        arm.blocked, heard, place = True, len(arm.commands), arm.place.copy()
    arm.gives_way(BACK, place, heard)
    with arm._changed:
        heard, place = len(arm.commands), arm.place - np.sign(arm.place.sum()) * 0.1
        arm.blocked, arm.place = False, place
        arm.judge.forget()
    arm.is_commanded()
    assert np.abs(np.array(arm.commands[heard].values) - place).max() <= RATE * arm.period + NOISE
    arm.hears("commanding", level=0)


def test_an_encoder_that_is_stuck_under_fresh_stamps_is_a_hold_that_names_the_joint_until_somebody_resumes(
    arm: Arm, on_page: Callable[..., None]
) -> None:
    """Nothing tells it from a blocked arm whose encoder is quiet: the arm goes back to where it was last measured."""
    with arm._changed:
        arm.stuck, heard, since = arm.place.tolist(), len(arm.commands), time.monotonic()
        stuck = np.array(arm.stuck)
    arm.gives_way("has not changed by one bit", stuck, heard)
    lead = max(float(np.abs(np.array(one.values) - stuck).max()) for one in arm.commands[heard:])
    on_page(arm.commands[-1].sent - since, text=f"{{:.2f}} s, {lead:.2f} rad away at most, and back")
    assert lead <= LEAD + RATE * arm.period + 1e-9
    with arm._changed:
        heard, place = len(arm.commands), arm.place.copy()
        arm.stuck = None
    arm.holds(BACK)
    resume(arm)
    arm.is_commanded()
    assert np.abs(np.array(arm.commands[heard].values) - place).max() <= RATE * arm.period + NOISE
    arm.hears("commanding", level=0)


@pytest.mark.parametrize("trigger", ["timer", pytest.param("observation", marks=pytest.mark.slow)])
def test_at_250_hz_a_node_answers_nearly_all_or_says_that_it_does_not(
    make_robot: Callable[..., Arm], trigger: str, on_page: Callable[..., None]
) -> None:
    """With acceleration and jerk limits, which used to take longer than the period."""
    limits = {"max_acceleration": 5.0, "max_jerk": 100.0, "max_tracking_error": 0.5}
    joints = tuple(joint(index, name, **limits) for index, name in enumerate(("shoulder", "elbow")))
    arm = make_robot(Arm, {"action": joints, "control_rate": 250.0})
    arm.start(trigger=trigger, module="qgf_ros.nodes.policy_node")
    arm.is_commanded(250)
    heard, sets, since = len(arm.commands), arm.sets, time.monotonic()
    arm.goes_on(500)
    passed = time.monotonic() - since
    answered, published = (len(arm.commands) - heard) / passed, (arm.sets - sets) / passed
    level, said = arm.diagnostics[-1]
    on_page(answered, text="{:.0f} commands/s, " + f"of {published:.0f} observations/s")
    assert said == "commanding" or "of the last ticks were missed" in said
    assert level > 0 or answered > 0.75 * min(published, 250.0)
    assert arm.judge.wrong == []
