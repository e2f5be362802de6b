"""The robot must follow: the command is held to what is measured, and a reading that stands still is a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import Phase, given
from hypothesis import strategies as st
from pydantic import ValidationError

from qgf_ros.bundle.fields import ActionField, Measurement
from qgf_ros.control.motion.tracking import STUCK_AFTER, largest_tracking_error
from qgf_ros.control.safety import LONGEST_STOP, SafetyEnvelope
from qgf_ros.errors import SafetyError
from qgf_ros.loop.command_stream import WAY_BACK

PERIOD = 0.05
RATE = 1.0


def joint(name: str = "elbow", **changes: Any) -> ActionField:
    values = {
        "unit": "rad",
        "scale": 3.0,
        "lower": -3.0,
        "upper": 3.0,
        "hold": None,
        "measured": Measurement(field="angle"),
        "max_rate": RATE,
    }
    return ActionField(name=name, **{**values, **changes})


def act(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32) / np.float32(3.0)


def run(
    envelope: SafetyEnvelope, wanted: list[float], measure: Callable[[list[float]], float]
) -> tuple[list[float], list[str]]:
    """Return commands and refusals of one joint that is at 0, each measured by what was commanded before."""
    commands, refusals = [0.0], []
    for value in wanted:
        try:
            commands.append(float(envelope.command(act(value), np.array([measure(commands)]))[0]))
        except SafetyError as error:
            refusals.append(str(error))
            envelope.hold()
    return commands, refusals


@pytest.mark.parametrize(
    ("changes", "period", "most"),
    [
        ({}, 0.05, 0.25),  # 0.25 s
        ({}, 0.1, 0.5),  # five periods
        ({"max_rate": 0.2}, 0.002, 0.05),
        ({"max_tracking_error": 0.7}, 0.05, 0.7),
        ({"max_rate": None}, 0.05, np.inf),
        ({"max_rate": None, "max_tracking_error": 0.7}, 0.05, 0.7),
        ({"measured": None}, 0.05, np.inf),
        ({"hold": 0.0}, 0.05, np.inf),
    ],
)
def test_the_command_may_lead_by_a_quarter_second_or_five_periods_unless_the_manifest_says_otherwise(
    changes: dict[str, Any], period: float, most: float
) -> None:
    assert largest_tracking_error(joint(**changes), period) == pytest.approx(most)


@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_a_robot_that_follows_with_a_lag_is_never_held(seed: int, lag: int) -> None:
    wanted = np.random.default_rng(seed).uniform(-3.0, 3.0, 40).repeat(5).tolist()
    _, refusals = run(SafetyEnvelope([joint()], PERIOD), wanted, lambda sent: sent[max(len(sent) - 1 - lag, 0)])
    assert refusals == []


def test_a_blocked_arm_is_not_led_on_and_does_not_jump_when_it_is_released() -> None:
    envelope = SafetyEnvelope([joint("shoulder", max_rate=9.0), joint()], PERIOD)
    place = np.array([0.0, 0.1])
    sent, refusals = [], []
    for _ in range(40):
        try:
            sent.append(envelope.command(act(0.0, 2.0), place)[1])
        except SafetyError as error:
            refusals.append(str(error))
            held = envelope.hold()
    assert max(sent) <= 0.1 + 0.25 + RATE * PERIOD + 1e-9
    assert len(sent) + len(refusals) == 40
    assert len(refusals) > 30
    assert refusals[0].startswith("action elbow is measured 0.3 rad from its command 0.4, at most 0.25 is allowed")
    assert held is not None
    assert held[1] == sent[-1]  # nothing moves a robot whose sensor is stuck rather than its arm
    assert envelope.counts["tracking"] + envelope.counts["stuck"] == len(refusals)
    released = np.array([0.0, 0.2])
    assert envelope.command(act(0.0, 2.0), released)[1] == pytest.approx(0.2 + RATE * PERIOD)


def test_a_blocked_arm_that_was_moved_elsewhere_waits_until_all_begins_anew() -> None:
    envelope = SafetyEnvelope([joint()], PERIOD)
    _, refusals = run(envelope, [2.0] * 10, lambda _: 0.0)
    assert refusals
    with pytest.raises(SafetyError, match="at most 0.25 is allowed"):
        envelope.command(act(2.0), np.array([-1.0]))
    envelope.clear()
    assert envelope.command(act(2.0), np.array([-1.0]))[0] == pytest.approx(-1.0 + RATE * PERIOD)


limits = st.fixed_dictionaries(
    {
        "max_rate": st.floats(0.2, 3.0),
        "max_acceleration": st.one_of(st.none(), st.floats(3.0, 30.0)),
        "max_jerk": st.one_of(st.none(), st.floats(60.0, 600.0)),
    }
)


@examples(25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(limits, st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.05, 0.1]), st.booleans(), st.floats(0.0, 1e-3))
def test_the_command_of_a_blocked_arm_is_led_back_inside_the_limits_and_stays_until_it_has_moved(
    limits: dict[str, float | None], seed: int, period: float, held: bool, noise: float
) -> None:
    """From the motion of its last command on, or from its hold; the other joint has the same limits, and follows."""
    random = np.random.default_rng(seed)
    fields = [joint("shoulder", **limits), joint(measured=Measurement(field="angle", component=1), **limits)]
    try:
        envelope = SafetyEnvelope(fields, period)
    except SafetyError:  # limits that stop too slowly
        return
    sent = [np.zeros(2)]
    place = np.zeros(2)
    blocked, refusal = int(random.integers(5, 30)), ""
    wanted = random.uniform(-3.0, 3.0, 2)
    for step in range(300):
        if random.random() < 0.1 and step < blocked:
            wanted = random.uniform(-3.0, 3.0, 2)
        if step == blocked:
            wanted[0] = -3.0 if sent[-1][0] > 0.0 else 3.0  # far enough to be noticed
        place = np.array([place[0] if step >= blocked else sent[-1][0], sent[-1][1]])
        try:
            seen = place + random.uniform(-noise, noise, 2) * [step >= blocked, 0.0]
            sent.append(envelope.command(act(*wanted), seen))
        except SafetyError as error:
            refusal = str(error)
            envelope.hold()
            break
    assert "action shoulder is measured" in refusal
    assert envelope.tracking.stands
    if held:
        sent += [sent[-1]] * 3  # a robot that stands still has no velocity
    end = len(sent)
    envelope.give_way(held=held, fades=False)
    while (values := envelope.brake()) is not None:
        sent.append(values)
    hold = envelope.hold()
    assert hold is not None
    assert np.abs(hold - place).max() <= noise + 1e-9
    assert len(sent) - end <= WAY_BACK * LONGEST_STOP
    slack = 1e-6
    sent += [hold] * 2
    motion = np.array(sent[0:1] * 2 + sent)
    for order, limit in enumerate(("max_rate", "max_acceleration", "max_jerk"), start=1):
        if (most := limits[limit]) is not None:
            steps = np.abs(np.diff(motion, order, axis=0))[end:] if held else np.abs(np.diff(motion, order, axis=0))
            assert steps.max() <= most * period**order * (1.0 + slack) + 1e-9
    assert not envelope.tracking.stands
    far = 0.5 * largest_tracking_error(fields[0], period)
    for moved in (0.0, 0.9 * far):
        with pytest.raises(
            SafetyError, match="the command was led back, and goes on from where the robot is once that"
        ):
            envelope.command(act(3.0, 3.0), place + moved)
    with pytest.raises(SafetyError, match=f"moved by {far:.4g} rad, or after ~/resume"):
        envelope.command(act(3.0, 3.0), place)
    there = place - [(1.1 * far + 2.0 * noise) * np.sign(place[0]), 0.0]
    assert np.abs(envelope.command(act(3.0, 3.0), there) - there).max() <= (limits["max_rate"] or 0.0) * period + 1e-9


def given_way(*fields: ActionField, reading: float = 0.0) -> tuple[SafetyEnvelope, list[float]]:
    """Return the envelope of a robot that was blocked at 0 and given way, and where its command was led."""
    envelope = SafetyEnvelope(fields, PERIOD)
    for _ in range(20):
        try:
            envelope.command(act(*([2.0] * len(fields))), np.full(len(fields), reading))
        except SafetyError:
            envelope.hold()
            break
    envelope.give_way(held=False, fades=False)
    while envelope.brake() is not None:
        pass
    hold = envelope.hold()
    assert hold is not None
    return envelope, hold.tolist()


def test_a_gripper_that_nobody_minds_to_lag_keeps_its_command_and_so_its_force() -> None:
    _, hold = given_way(joint(), joint("gripper", max_tracking_error=1e9))
    assert hold == [0.0, pytest.approx(0.3)]


def test_displacements_stop_at_once_where_a_fault_is_a_hold_and_fade_where_it_is_a_deceleration() -> None:
    for fades in (False, True):
        envelope = SafetyEnvelope([joint(), joint("dx", hold=0.0, measured=None)], PERIOD)
        for _ in range(6):
            envelope.command(act(2.0, 2.0), np.array([0.0, np.nan]))
        with pytest.raises(SafetyError):
            envelope.command(act(2.0, 2.0), np.array([0.0, np.nan]))
        envelope.hold()
        envelope.give_way(held=False, fades=fades)
        values = envelope.brake()
        assert values is not None
        assert bool(values[1] > 0.0) is fades


def test_a_robot_that_only_lags_is_not_given_way_until_it_stands() -> None:
    envelope, place, moving, held = SafetyEnvelope([joint()], PERIOD), 0.0, [], False
    for step in range(60):
        place += 0.3 * RATE * PERIOD if step < 12 else 0.0
        try:
            envelope.command(act(2.0), np.array([place]))
        except SafetyError:
            envelope.hold()
            held = True
        if held:
            moving.append(envelope.tracking.stands)
    assert moving[:3] == [False] * 3
    assert moving[-1]


def test_a_frozen_reading_of_a_robot_that_was_given_way_is_called_stuck_after_a_while() -> None:
    envelope, _ = given_way(joint())
    said = []
    for _ in range(30):
        with pytest.raises(SafetyError) as caught:
            envelope.command(act(2.0), np.array([0.0]))
        said.append(str(caught.value))
    assert "at most 0.25 is allowed" in said[0]
    assert "has not changed by one bit for 1" in said[-1]
    assert all("the command was led back" in one for one in said)


def test_a_robot_that_was_given_way_goes_on_when_it_is_excused_but_not_because_all_begins_anew() -> None:
    envelope, _ = given_way(joint())
    envelope.clear()  # as after a restart of the clock
    with pytest.raises(SafetyError, match="the command was led back"):
        envelope.command(act(2.0), np.array([0.0]))
    envelope.tracking.excuse()
    assert envelope.command(act(2.0), np.array([0.0]))[0] == pytest.approx(RATE * PERIOD)


def test_a_robot_that_is_held_for_another_reason_may_be_moved() -> None:
    envelope = SafetyEnvelope([joint()], PERIOD)
    envelope.command(act(0.0), np.array([0.0]))
    envelope.hold()
    assert envelope.command(act(2.0), np.array([-1.0]))[0] == pytest.approx(-1.0 + RATE * PERIOD)


def test_shadows_are_followed_by_nobody() -> None:
    envelope = SafetyEnvelope([joint()], PERIOD)
    envelope.followed = False
    commands, refusals = run(envelope, [2.0] * 60, lambda _: 0.0)
    assert refusals == []
    assert commands[-1] == pytest.approx(2.0)


def test_what_is_relative_or_not_measured_is_not_watched() -> None:
    envelope = SafetyEnvelope([joint("dx", hold=0.0, max_rate=None), joint("grip", measured=None)], PERIOD)
    for _ in range(60):
        envelope.command(act(2.0, 2.0), np.array([0.0, np.nan]))


def test_a_preview_leaves_the_guard_as_it_is() -> None:
    envelope = SafetyEnvelope([joint()], PERIOD)
    envelope.command(act(2.0), np.array([0.0]))
    envelope.preview(np.repeat(act(2.0)[None], 30, axis=0))
    assert envelope.command(act(2.0), np.array([0.05]))[0] == pytest.approx(2 * RATE * PERIOD)


def stuck(tenths: float, **changes: Any) -> tuple[SafetyEnvelope, list[str]]:
    """Return the refusals of a joint whose reading stays at 0 while it is commanded tenths of its largest error away."""
    envelope = SafetyEnvelope([joint(**changes)], PERIOD)
    return envelope, run(envelope, [0.025 * tenths] * 60, lambda _: 0.0)[1]


def test_a_reading_that_has_not_changed_by_a_bit_while_commanded_away_is_a_fault_until_it_changes() -> None:
    envelope, refusals = stuck(6)
    assert len(refusals) == pytest.approx(60 - STUCK_AFTER / PERIOD, abs=6)
    assert refusals[0].startswith(
        "action elbow is measured 0.15 rad from its command 0.15 and has not changed by one bit for 1"
    )
    assert envelope.counts["stuck"] == len(refusals)
    assert envelope.command(act(0.15), np.array([np.nextafter(0.0, 1.0)]))[0] == pytest.approx(RATE * PERIOD)


def test_one_joint_of_several_that_is_stuck_is_a_fault_and_named() -> None:
    envelope = SafetyEnvelope([joint("shoulder"), joint("elbow")], PERIOD)
    place, refusals = 0.0, []
    for _ in range(60):
        try:
            place = float(envelope.command(act(0.15, 0.15), np.array([place, 0.0]))[0])
        except SafetyError as error:
            refusals.append(str(error))
            envelope.hold()
    assert refusals and all(
        text.startswith("action elbow is measured 0.15 rad from its command 0.15") for text in refusals
    )
    assert envelope.counts["stuck"] == len(refusals)


@pytest.mark.parametrize(("after", "told"), [(0.5, "0.50"), (0.55, "0.55"), (0.51, "0.55"), (0.35, "0.35")])
def test_a_stuck_reading_is_told_after_as_many_periods_as_the_time_fills(after: float, told: str) -> None:
    """However the quotient is rounded."""
    _, refusals = stuck(6, stuck_after=after)
    assert f"has not changed by one bit for {told} s" in refusals[0]


def test_a_reading_that_stands_still_where_it_is_commanded_is_none() -> None:
    assert stuck(4)[1] == []
    assert stuck(4, stuck_distance=0.08)[1] != []
    assert stuck(6, stuck_after=5.0)[1] == []
    assert stuck(6, max_tracking_error=1e9)[1] == []  # which switches both off


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0015, 0.006, 0.025, 0.05]), st.floats(0.02, 1.0))
def test_a_coarse_encoder_is_not_taken_for_stuck(seed: int, step: float, speed: float) -> None:
    """Of a robot that follows with a lag of two periods and stops a little short of its goal, as servos do."""
    random = np.random.default_rng(seed)
    wanted = np.cumsum(random.choice([-1.0, 0.0, 1.0], 20).repeat(20) * speed * PERIOD).clip(-3.0, 3.0)
    wanted[200:] = wanted[200]

    def measure(sent: list[float]) -> float:
        return float(np.round((sent[max(len(sent) - 3, 0)] - 0.03) / step) * step)

    envelope = SafetyEnvelope([joint()], PERIOD)
    _, refusals = run(envelope, wanted.tolist(), measure)
    assert refusals == []


@pytest.mark.parametrize("name", ["max_tracking_error", "stuck_after", "stuck_distance"])
def test_only_an_absolute_action_that_is_measured_can_be_watched(name: str) -> None:
    for changes in ({"measured": None}, {"hold": 0.0}):
        with pytest.raises(ValidationError, match=f"{name} is for an absolute action"):
            joint(**{name: 0.1}, **changes)
