"""Braking: from any command to rest, inside every limit, in bounded time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import Phase, given
from hypothesis import strategies as st

from qgf_ros.bundle.fields import ActionField, Measurement
from qgf_ros.control.motion.braking import Braking, brake, longest_move
from qgf_ros.control.safety import LONGEST_STOP, SafetyEnvelope
from qgf_ros.errors import SafetyError

PERIOD = 0.05
Array = np.ndarray[Any, np.dtype[np.float64]]


def random_fields(random: np.random.Generator, size: int) -> list[ActionField]:
    """Return components with random limits, of which half are absolute and a third lacks a limit of a kind."""
    kinds = ("max_rate", "max_acceleration", "max_jerk")

    def limits() -> dict[str, float]:
        values = 10.0 ** random.uniform([-1.0, 0.0, 0.7], [0.5, 1.5, 2.5])
        return {kind: value for kind, value in zip(kinds, values) if random.random() > 0.33}

    return [
        ActionField(
            name=f"x{i}",
            unit="m",
            scale=1.0,
            lower=-1.0,
            upper=1.0,
            hold=None if random.random() < 0.5 else 0.0,
            **limits(),
        )
        for i in range(size)
    ]


def brake_to_rest(envelope: SafetyEnvelope) -> Array:
    """Return the commands on the way to rest, and the hold [K + 1, A]."""
    commands = []
    while (command := envelope.brake()) is not None:
        commands.append(command)
        assert len(commands) <= 10 * LONGEST_STOP
    hold = envelope.hold()
    assert hold is not None
    return np.array([*commands, hold])


@examples(25, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.sampled_from([0.0, 0.3, 1.0]))
def test_braking_keeps_every_limit_and_ends_at_rest(seed: int, ticks: int, roughness: float) -> None:
    random = np.random.default_rng(seed)
    fields = random_fields(random, 6)
    try:
        envelope = SafetyEnvelope(fields, PERIOD)
    except SafetyError:  # such limits take too long to stop, and are refused
        return
    walk = np.cumsum(random.normal(0.0, 0.1 + roughness, (ticks, len(fields))), axis=0)
    sent = [envelope.command(np.clip(row, -1.0, 1.0).astype(np.float32)) for row in walk]
    stop = brake_to_rest(envelope)
    still = np.array([np.nan if field.hold is None else field.hold for field in fields])
    np.testing.assert_array_equal(stop[-1], np.where(np.isnan(still), stop[max(len(stop) - 2, 0)], still))
    rest = np.repeat(stop[-1:], 3, axis=0)  # nor does standing still afterwards leave a limit
    first = np.where(np.isnan(still), sent[0], 0.0)  # absolute ones begin where the first command was
    signal = np.concatenate([np.repeat(first[None], 3, axis=0), sent, stop, rest])
    bound = np.array(
        [[getattr(f, kind) or np.inf for f in fields] for kind in ("max_rate", "max_acceleration", "max_jerk")]
    )
    for order in (1, 2, 3):
        changes = np.abs(np.diff(signal, n=order, axis=0))
        assert (changes <= bound[order - 1] * PERIOD**order * (1.0 + 1e-6) + 1e-12).all(), order
    assert (np.abs(stop) <= 1.0).all()


def test_without_limits_of_motion_there_is_nothing_to_brake_but_the_hold() -> None:
    fields = [ActionField(name="x", unit="m", scale=1.0, lower=-1.0, upper=1.0, hold=None)]
    envelope = SafetyEnvelope(fields, PERIOD)
    envelope.command(np.array([0.5], dtype=np.float32))
    assert brake_to_rest(envelope).tolist() == [[0.5]]


def test_before_the_first_command_there_is_nothing_to_brake() -> None:
    field = ActionField(name="x", unit="m", scale=1.0, lower=-1.0, upper=1.0, max_acceleration=1.0, hold=None)
    assert SafetyEnvelope([field], PERIOD).brake() is None


def test_a_displacement_fades_at_its_rate_and_keeps_the_workspace() -> None:
    field = ActionField(
        name="x",
        unit="m",
        scale=1.0,
        lower=-0.1,
        upper=0.1,
        max_rate=0.4,
        workspace=(0.0, 1.0),
        measured=Measurement(field="place"),
    )
    free = SafetyEnvelope([field], PERIOD)
    for place in (0.1, 0.12, 0.16):
        free.command(np.array([0.06], dtype=np.float32), np.array([place]))
    np.testing.assert_allclose(brake_to_rest(free)[:, 0], [0.04, 0.02, 0.0, 0.0], atol=1e-7)
    near = SafetyEnvelope([field], PERIOD)
    for place in (0.9, 0.92, 0.93):
        near.command(np.array([0.05], dtype=np.float32), np.array([place]))
    way = 0.93 + 0.05 + np.cumsum(brake_to_rest(near)[:, 0])
    assert way.max() <= 1.0 + 1e-12


def test_after_braking_an_absolute_action_begins_where_it_came_to_rest() -> None:
    field = ActionField(
        name="x", unit="rad", scale=1.0, lower=-1.0, upper=1.0, max_rate=1.0, max_acceleration=4.0, hold=None
    )
    envelope = SafetyEnvelope([field], PERIOD)
    last = [envelope.command(np.array([0.05 * k], dtype=np.float32))[0] for k in range(6)][-1]
    rest = brake_to_rest(envelope)[-1, 0]
    assert rest > last
    assert envelope.command(np.array([1.0], dtype=np.float32))[0] == pytest.approx(rest + 4.0 * PERIOD**2)


def limited(random: np.random.Generator, rate: float) -> ActionField:
    """Return a component with random limits, some of which are absent, that may take about as long as is allowed to stop."""
    size = 10.0 ** random.uniform(-2.0, 1.0)
    speed = 10.0 ** random.uniform(-1.5, 0.5) * size * min(1.0, rate / 50.0)
    acceleration = speed * rate / random.uniform(1.0, 25.0)
    jerk = acceleration * rate / random.uniform(1.0, 20.0)
    kinds = ("max_rate", "max_acceleration", "max_jerk")
    return ActionField(
        name="x",
        unit="m",
        scale=2.0 * size,
        lower=-size * random.uniform(0.2, 1.0),
        upper=size,
        hold=[None, 0.0, 0.9 * size][random.integers(3)],
        **{kind: value for kind, value in zip(kinds, (speed, acceleration, jerk)) if random.random() < 0.8},
    )


def accepted(seed: int, rate: float) -> tuple[SafetyEnvelope, ActionField, np.random.Generator]:
    """Return an envelope of one component whose random limits are accepted."""
    random = np.random.default_rng(seed)
    while True:
        field = limited(random, rate)
        try:
            return SafetyEnvelope([field], 1.0 / rate), field, random
        except SafetyError:
            continue


def periods_to_rest(envelope: SafetyEnvelope) -> int:
    for period in range(10 * LONGEST_STOP):
        if envelope.brake() is None:
            return period
    raise AssertionError("it never comes to rest")


RATES = st.sampled_from([10.0, 20.0, 50.0, 100.0, 250.0, 500.0])


@examples(25)
@given(st.integers(0, 2**32 - 1), RATES, st.sampled_from([0.02, 0.1, 0.4]))
def test_from_whatever_was_commanded_rest_is_reached_within_the_promise(seed: int, rate: float, often: float) -> None:
    envelope, _, random = accepted(seed, rate)
    for _ in range(3):
        wanted = 0.0
        for _ in range(random.integers(1, 150)):
            if random.random() < often:
                wanted = random.choice([-1.0, 1.0, random.uniform(-1.0, 1.0)])
            envelope.command(np.array([wanted], dtype=np.float32))
        assert periods_to_rest(envelope) <= LONGEST_STOP
        envelope.hold()


@examples(25)
@given(st.integers(0, 2**32 - 1), RATES)
def test_from_every_state_that_the_limits_allow_rest_is_reached_within_the_promise(seed: int, rate: float) -> None:
    """Those at the edge above all: full speed, full acceleration, and as near to a bound as can be stopped from."""
    envelope, field, random = accepted(seed, rate)
    limiter = envelope._limiter
    envelope.command(np.zeros(1, dtype=np.float32))
    for _ in range(20):
        a = random.choice([-1.0, 1.0, random.uniform(-1.0, 1.0)]) * np.minimum(
            limiter._acceleration, 30.0 * limiter._jerk
        )
        v = random.choice([-1.0, 1.0, random.uniform(-1.0, 1.0)]) * limiter._pace
        share = 0.7
        while (way := limiter._braking(v, a)).pace > limiter._rate or np.abs(way.end) > field.upper - field.lower:
            v, a, share = v * share, a * random.choice([1.0, share]), share * 0.99
        turn = np.zeros(1) if way.dip is None else way.dip
        first, last = np.minimum(np.minimum(way.end, turn), 0.0), np.maximum(np.maximum(way.end, turn), 0.0)
        low, high = field.lower - first, field.upper - last
        if (low > high).any():
            continue
        limiter.position = random.choice([low, high, random.uniform(low, high)])
        limiter._v, limiter._a, limiter._target = v, a, limiter.position
        envelope._started, envelope._rest = True, None
        assert periods_to_rest(envelope) <= LONGEST_STOP


def test_limits_from_which_rest_takes_longer_are_refused_with_what_helps() -> None:
    """Braking from full speed and full acceleration, and the way from the farthest displacement to the hold, count."""
    common = {"name": "x", "unit": "m", "scale": 1.0, "lower": -1.0, "upper": 1.0}
    joint = ActionField(**common, hold=None, max_rate=1.0, max_acceleration=0.15)
    with pytest.raises(SafetyError, match=r"raise its max_acceleration or max_jerk, or lower its max_rate$"):
        SafetyEnvelope([joint], 0.05)
    SafetyEnvelope([joint.model_copy(update={"max_rate": 0.7})], 0.05)
    step = ActionField(**common, max_rate=0.2)
    with pytest.raises(SafetyError, match=r"max_jerk or max_rate, or bring lower and upper nearer to hold$"):
        SafetyEnvelope([step], 0.05)
    SafetyEnvelope([step.model_copy(update={"max_rate": 0.25})], 0.05)


@given(st.floats(1e-3, 1e3), st.floats(1e-2, 1e2))
def test_the_steps_of_the_fastest_way_to_rest_add_up_to_what_is_left_of_the_speed(speed: float, jerk: float) -> None:
    steps = 1  # as few as can: 1 + 2 + ... of them, in units of the jerk, make the speed
    while jerk * steps * (steps + 1) / 2.0 < speed * (1.0 - 1e-9):
        steps += 1
    first = speed / steps + jerk * (steps - 1) / 2.0
    assert sum(first - jerk * k for k in range(steps)) == pytest.approx(speed)
    for sign in (1.0, -1.0):
        v, a, j = np.array([sign * speed]), np.array([-sign * first]), np.array([jerk])
        np.testing.assert_allclose(brake(v, a, np.array([1e9]), j), a, rtol=1e-6)
        np.testing.assert_allclose(brake(v, a + 3.0 * j, np.array([1e9]), j), np.maximum(a + 3.0 * j - j, a), rtol=1e-6)
        np.testing.assert_allclose(brake(v, a, np.array([first / 2.0]), np.array([1e9])), a / 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("distance", "pace", "acceleration", "jerk", "periods"),
    [
        # Times of the textbook's seven parts, in continuous time, and 9 for the rounding of each and the search.
        (0.1, 100.0, 1.0, 0.5, 2 + 9),  # neither pace nor acceleration is reached: 4 cbrt(d / 2 j) = 1.86
        (
            10.0,
            100.0,
            1.0,
            0.5,
            9 + 9,
        ),  # the acceleration is: v^2 / a + v a / j = d, so v = 2.32, and 2 (v / a + a / j) = 8.63
        (10.0, 1.0, 1.0, 0.5, 13 + 9),  # the pace is: d / v + 2 sqrt(v / j) = 12.83
        (10.0, 2.1, 1.0, 0.5, 9 + 9),  # both are: d / v + v / a + a / j = 8.86
        (1.0, 0.3, 1e100, 1e100, 4),  # at once at its pace, there are no parts
    ],
)
def test_a_move_from_rest_to_rest_takes_no_longer_than_its_time_rounded_up(
    distance: float, pace: float, acceleration: float, jerk: float, periods: int
) -> None:
    values = (np.array([value]) for value in (distance, pace, acceleration, jerk))
    assert longest_move(*values) == periods


@pytest.mark.parametrize("acceleration", [0.4, 1.0, 2.5, 7.3, 24.1, 43.2])
@pytest.mark.parametrize("pace", [0.5, 3.0, 40.0, 158.3, 900.0])
def test_no_state_that_can_be_reached_takes_longer_to_rest_than_is_said(acceleration: float, pace: float) -> None:
    """In units of the jerk. A state is reached if the way there, which is a way to rest run backwards, keeps the pace, too."""
    braking = Braking(np.array([acceleration]), np.array([1.0]))
    random = np.random.default_rng(0)
    v, a = random.uniform(-1.0, 1.0, (2, 40_000, 1)) * [[[pace]], [[acceleration]]]
    v[::4] = np.copysign(pace, v[::4])
    a[1::4] = np.copysign(acceleration, a[1::4])
    way = braking(v, a)
    reached = (way.pace <= pace * (1.0 + 1e-9)) & (braking(v - a, -a).pace <= pace * (1.0 + 1e-9))
    longest = way.periods[reached].max()
    said = braking.longest(np.array([pace]))[0] + 1.0
    assert longest <= said
    assert said <= 1.05 * longest + 3.0  # nor is much more said than was found


def test_braking_goes_on_without_the_workspace_when_the_place_is_no_longer_measured() -> None:
    field = ActionField(
        name="x",
        unit="m",
        scale=1.0,
        lower=-0.1,
        upper=0.1,
        max_rate=0.4,
        workspace=(0.0, 1.0),
        measured=Measurement(field="place"),
    )
    envelope = SafetyEnvelope([field], PERIOD)
    for place in (0.1, 0.12, 0.16):
        envelope.command(np.array([0.06], dtype=np.float32), np.array([place]))
    with pytest.raises(SafetyError, match="its position is not measured"):
        envelope.command(np.array([0.06], dtype=np.float32), np.array([np.nan]))
    np.testing.assert_allclose(brake_to_rest(envelope)[:, 0], [0.04, 0.02, 0.0, 0.0], atol=1e-7)
