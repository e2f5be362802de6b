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

from qgf_ros.bundle.fields import ActionField, Measurement

#: Of each joint [rad/s], [rad].
RATE, LEAD = 1.0, 0.12


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

    def lead(self, heard: int) -> float:
        """Return how far commands from the one numbered `heard` on were from where the arm is [rad]."""
        return max(float(np.abs(np.array(one.values) - self.place).max()) for one in self.commands[heard:])


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


def test_a_blocked_arm_is_not_led_on_and_goes_on_where_it_is_when_it_is_released(
    arm: Arm, on_page: Callable[..., None]
) -> None:
    with arm._changed:
        arm.blocked, heard, since = True, len(arm.commands), time.monotonic()
    arm.holds(f"at most {LEAD} is allowed")
    lead = arm.lead(heard)
    on_page(arm.commands[-1].sent - since, text=f"{{:.2f}} s, {lead:.2f} rad ahead at most")
    assert lead <= LEAD + RATE * arm.period + 1e-3  # noise of the encoders
    with arm._changed:
        place = np.array(arm.commands[-1].values) * 0.9
        arm.blocked, heard, arm.place = False, len(arm.commands), place
        arm.judge.forget()
    arm.is_commanded()
    assert np.abs(np.array(arm.commands[heard].values) - place).max() <= RATE * arm.period + 1e-3
    arm.hears("commanding", level=0)


def test_an_encoder_that_is_stuck_under_fresh_stamps_is_a_hold_that_names_the_joint_until_it_moves(
    arm: Arm, on_page: Callable[..., None]
) -> None:
    with arm._changed:
        arm.stuck, heard, since = arm.place.tolist(), len(arm.commands), time.monotonic()
        stuck = np.array(arm.stuck)
    arm.holds("has not changed by one bit")
    lead = max(float(np.abs(np.array(one.values) - stuck).max()) for one in arm.commands[heard:])
    on_page(arm.commands[-1].sent - since, text=f"{{:.2f}} s, {lead:.2f} rad away at most")
    assert lead <= LEAD + RATE * arm.period + 1e-9
    with arm._changed:
        heard, place = len(arm.commands), arm.place.copy()
        arm.stuck = None
        arm.judge.forget()  # what follows begins where the arm is measured, noise and all
    arm.is_commanded()
    assert (
        np.abs(np.array(arm.commands[heard].values) - place).max() <= RATE * arm.period + 1e-3
    )  # noise of the encoders
    arm.hears("commanding", level=0)


@pytest.mark.parametrize("trigger", ["timer", pytest.param("observation", marks=pytest.mark.slow)])
def test_at_250_hz_a_node_answers_nearly_all_or_says_that_it_does_not(
    make_robot: Callable[..., Arm], trigger: str, on_page: Callable[..., None]
) -> None:
    """With acceleration and jerk limits, which used to take longer than the period."""
    limits = {"max_acceleration": 5.0, "max_jerk": 100.0, "max_tracking_error": 0.5}
    joints = tuple(joint(index, name, **limits) for index, name in enumerate(("shoulder", "elbow")))
    arm = make_robot(Arm, {"action": joints, "control_rate": 250.0})
    arm.start(trigger=trigger)
    arm.is_commanded(500)
    heard, sets, since = len(arm.commands), arm.sets, time.monotonic()
    arm.goes_on(1500)
    passed = time.monotonic() - since
    answered, published = (len(arm.commands) - heard) / passed, (arm.sets - sets) / passed
    level, said = arm.diagnostics[-1]
    on_page(answered, text="{:.0f} commands/s, " + f"of {published:.0f} observations/s")
    assert said == "commanding" or "of the last ticks were missed" in said
    assert level > 0 or answered > 0.75 * min(published, 250.0)
    assert arm.judge.wrong == []
