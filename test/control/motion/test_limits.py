"""The motion limiter: every limit at once, whatever is wanted; nothing touched that is inside them; never stuck."""

from __future__ import annotations

import runpy
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import given
from hypothesis import strategies as st
from simulated_limiter import SimulatedLimiter

from qgf_ros.control.motion.braking import Braking, brake
from qgf_ros.control.motion.limits import KINDS, MotionLimiter

ROOT = Path(__file__).resolve().parents[3]
Array = np.ndarray[Any, np.dtype[np.float64]]
PERIOD = 0.05
#: Rounding of third differences of float64 commands of the order of 1.
ROUNDING = 1e-13

seeds = st.integers(0, 2**32 - 1)


class Limits:
    """Random limits of many components, of which a third has no limit of a kind."""

    def __init__(self, seed: int, size: int, period: float = PERIOD) -> None:
        random = np.random.default_rng(seed)
        magnitude = 10.0 ** random.uniform([-1.5, -1.0, -0.5, 1.0], [0.5, 0.5, 1.5, 2.5], (size, 4))
        unlimited = random.random((size, 4)) < [0.0, 0.33, 0.33, 0.33]
        self.half, self.rate, self.acceleration, self.jerk = np.where(unlimited, np.inf, magnitude).T
        self.period = period
        self.limiter = MotionLimiter(-self.half, self.half, self.rate, self.acceleration, self.jerk, period)
        self.limiter.restart(np.zeros(size))
        self.random = random

    def signal(self, kind: str, length: int) -> Array:
        """Return a wanted signal [length, size] that tries to break the limits."""
        size, random = len(self.half), self.random
        step = np.minimum(self.rate * self.period, self.half)
        if kind == "noise":
            return self.half * random.uniform(-1.5, 1.5, (length, size))
        if kind == "walk":
            return np.cumsum(random.normal(0.0, step / 2.0, (length, size)), axis=0)
        if kind == "jumps":
            return np.repeat(self.half * random.uniform(-1.5, 1.5, (1 + length // 9, size)), 9, axis=0)[:length]
        phase = np.arange(length)[:, None] / random.uniform(2.0, 20.0, size)
        return 2.0 * self.half * np.sign(np.sin(phase)) + random.normal(0.0, step / 100.0, (length, size))

    def check(self, commands: Array) -> None:
        first, second, third = differences(commands)
        assert (np.abs(commands) <= self.half).all()
        for values, limit in (
            (first, self.rate * self.period),
            (second, self.acceleration * self.period**2),
            (third, self.jerk * self.period**3),
        ):
            assert (np.abs(values) <= limit * (1.0 + 1e-6) + ROUNDING).all()


def differences(commands: Array) -> tuple[Array, Array, Array]:
    """Return the first three differences of commands that begin at rest at 0."""
    first = np.diff(np.concatenate([np.zeros((3, commands.shape[1])), commands]), axis=0)
    second = np.diff(first, axis=0)
    return first, second, np.diff(second, axis=0)


def single(half: float, rate: float, acceleration: float, jerk: float, size: int = 1) -> MotionLimiter:
    made = MotionLimiter(*(np.full(size, value) for value in (-half, half, rate, acceleration, jerk)), PERIOD)
    made.restart(np.zeros(size))
    return made


KINDS_OF_SIGNALS = ["noise", "walk", "jumps", "bang"]
KIND = st.sampled_from(KINDS_OF_SIGNALS)
CONTROL_RATES = [20.0, 100.0, 250.0, 500.0]


@given(KIND, seeds)
@examples(6)
def test_no_limit_is_ever_left_whatever_is_wanted(kind: str, seed: int) -> None:
    limits = Limits(seed, 24)
    limits.check(np.array([limits.limiter.step(wanted)[0] for wanted in limits.signal(kind, 20)]))


def run_chunks(count: int, kind: str, rate: float, seed: int) -> None:
    """Drive components of random limits through so many chunks of 5, one after the other for longer at higher rates [Hz]."""
    length = {20.0: 10, 100.0: 25, 250.0: 50, 500.0: 100}[rate]
    limits = Limits(seed, count // length, 1.0 / rate)
    limits.check(np.array([limits.limiter.step(wanted)[0] for wanted in limits.signal(kind, 5 * length)]))


@pytest.mark.parametrize("rate", CONTROL_RATES)
@pytest.mark.parametrize("kind", KINDS_OF_SIGNALS)
def test_a_thousand_random_chunks_of_every_kind_stay_inside_at_every_rate(kind: str, rate: float) -> None:
    run_chunks(1_000, kind, rate, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", CONTROL_RATES)
@pytest.mark.parametrize("kind", KINDS_OF_SIGNALS)
def test_ten_thousand_random_chunks_of_every_kind_stay_inside_at_every_rate(kind: str, rate: float, seed: int) -> None:
    run_chunks(10_000, kind, rate, seed)


@given(seeds)
@examples(10)
def test_a_signal_inside_the_limits_passes_bit_for_bit(seed: int) -> None:
    limits = Limits(seed, 30)
    phase = np.arange(60)[:, None] * PERIOD * limits.random.uniform(0.2, 2.0, 30)
    wanted = (1.0 - np.cos(phase)) ** 2  # begins at rest, and so smoothly that every difference does
    allowed = limits.half / 4.0, limits.rate * PERIOD, limits.acceleration * PERIOD**2, limits.jerk * PERIOD**3
    most = [np.abs(values).max(axis=0) for values in (wanted, *differences(wanted))]
    wanted = wanted * 0.2 * np.min([limit / value for limit, value in zip(allowed, most)], axis=0)
    for w in wanted:
        command, kinds = limits.limiter.step(w)
        assert kinds is None
        np.testing.assert_array_equal(command, w)


@given(KIND, seeds)
@examples(3)
def test_a_constant_wanted_value_is_reached_exactly_and_kept(kind: str, seed: int) -> None:
    limits = Limits(seed, 10)
    for wanted in limits.signal(kind, 10):
        limits.limiter.step(wanted)
    goal = limits.half * limits.random.uniform(-1.0, 1.0, 10)
    for _ in range(2_000):
        command, kinds = limits.limiter.step(goal)
        if kinds is None:
            break
    np.testing.assert_array_equal(command, goal)
    for _ in range(5):
        assert limits.limiter.step(goal)[1] is None


def test_without_a_limit_of_jerk_a_constant_wanted_value_is_not_overshot() -> None:
    """Arrived with more speed than one step can take away, the signal would have to come back."""
    made = MotionLimiter(*(np.full(1, value) for value in (-1.7, 1.7, 0.214, 1.8, np.inf)), PERIOD)
    for goal in np.linspace(0.5, 1.5, 100):
        made.restart(np.zeros(1))
        places = [float(made.step(np.array([goal]))[0][0]) for _ in range(200)]
        assert max(places) == places[-1] == goal


def test_a_moving_wanted_signal_is_caught_up_with() -> None:
    made = single(8.0, 1.0, 4.0, 80.0)
    ramp = 0.3 * PERIOD * np.arange(100)[:, None]
    kinds = [made.step(wanted + 0.05)[1] for wanted in ramp]  # a jump of 0.05, and then 0.3 a second
    assert kinds[0] is not None
    assert kinds[-60:] == [None] * 60


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((0.5, np.inf, np.inf, np.inf), "position"),
        ((2.0, 1.0, np.inf, np.inf), "velocity"),
        ((2.0, np.inf, 4.0, np.inf), "acceleration"),
        ((2.0, np.inf, np.inf, 80.0), "jerk"),
    ],
)
def test_what_intervened_is_told(values: tuple[float, float, float, float], kind: str) -> None:
    kinds = single(*values, size=4).step(np.array([0.0, 1.0, 0.0, -1.0]))[1]
    assert kinds is not None
    assert [KINDS[i] if i >= 0 else None for i in kinds] == [None, kind, None, kind]


def test_what_lies_at_one_limit_and_beyond_another_is_told_by_the_other() -> None:
    limiter = MotionLimiter(*(np.array([value]) for value in (-9.0, 9.0, 4.0, 0.5, 0.25)), 1.0)
    limiter.restart(np.zeros(1))
    kinds = limiter.step(np.array([0.5]))[1]  # from rest in one period, to its largest acceleration
    assert kinds is not None and KINDS[kinds[0]] == "jerk"
    limiter = MotionLimiter(*(np.array([value]) for value in (-9.0, 9.0, 0.5, 0.25, 9.0)), 1.0)
    limiter.restart(np.zeros(1))
    kinds = limiter.step(np.array([0.5]))[1]  # to its largest velocity
    assert kinds is not None and KINDS[kinds[0]] == "acceleration"


def test_braking_before_a_bound_is_told() -> None:
    made = single(0.3, 1.0, 4.0, 80.0)
    found = [made.step(np.array([wanted]))[1] for wanted in 0.4 * (1.0 - np.cos(np.arange(20) * 0.09)) ** 2]
    assert "braking" in {KINDS[kinds[0]] for kinds in found if kinds is not None}


def test_an_unknown_position_begins_with_the_first_command_at_rest() -> None:
    made = single(1.0, 1.0, 4.0, 80.0)
    made.restart(np.array([np.nan]))
    assert made.step(np.array([0.7])) == (pytest.approx([0.7]), None)
    assert abs(made.step(np.array([-0.7]))[0][0] - 0.7) <= 80.0 * PERIOD**3 * (1.0 + 1e-9)


def test_without_acceleration_and_jerk_limits_the_command_is_the_clipped_one() -> None:
    made = single(1.0, 2.0, np.inf, np.inf, size=4)
    previous = np.zeros(4)
    for wanted in np.random.default_rng(0).uniform(-1.5, 1.5, (50, 4)):
        previous = np.clip(np.clip(wanted, -1.0, 1.0), previous - 2.0 * PERIOD, previous + 2.0 * PERIOD)
        np.testing.assert_array_equal(made.step(wanted)[0], previous)


def test_a_component_that_is_stopped_goes_on_as_from_rest_there_and_the_others_as_they_were() -> None:
    def limiter() -> MotionLimiter:
        one = np.ones(2)
        return MotionLimiter(-one, one, 2.0 * one, 8.0 * one, 100.0 * one, PERIOD)

    moving, other, resting = limiter(), limiter(), limiter()
    for each in (moving, other):
        each.restart(np.zeros(2))
        for _ in range(4):
            each.step(np.array([1.0, -1.0]))
    place = np.array([0.1, 0.0])
    moving.stop(np.array([True, False]), place)
    resting.restart(place)
    for wanted in np.random.default_rng(0).uniform(-1.0, 1.0, (30, 2)):
        command = moving.step(wanted)[0]
        assert command[0] == resting.step(wanted)[0][0]
        assert command[1] == other.step(wanted)[0][1]


def test_braking_obeys_its_limits_and_ends_at_rest() -> None:
    random = np.random.default_rng(2)
    v, a = random.uniform(-3.0, 3.0, 500), random.uniform(-0.5, 0.5, 500)
    for _ in range(200):
        following = brake(v, a, np.full(500, 0.5), np.full(500, 0.03))
        assert (np.abs(following - a) <= 0.03 + 1e-12).all()
        assert (np.abs(following) <= 0.5).all()
        v, a = v + following, following
    assert not v.any()
    assert not a.any()


def test_what_does_not_brake_in_a_bounded_number_of_steps_may_not_be_sent() -> None:
    made = single(1.0, 1.0, 4.0, 80.0)
    made._v = np.array([1e6])  # from where it would take millions of steps
    assert not made._judge(made.position[None], made.position, np.zeros(1))[0].any()


@given(seeds)
@examples(10)
def test_the_closed_form_of_braking_is_what_the_simulation_comes_to(seed: int) -> None:
    random = np.random.default_rng(seed)
    jerk = 10.0 ** random.uniform(-6.0, 0.0, 300)
    acceleration = jerk * 10.0 ** random.uniform(-1.5, 1.5, 300)
    v = (
        np.minimum(jerk, acceleration)
        * 10.0 ** random.uniform(-1.0, 2.2, 300)
        * random.choice([-1.0, 0.0, 1.0, 1.0], 300)
    )
    a = random.uniform(-1.0, 1.0, 300) * np.minimum(acceleration, 30.0 * jerk)
    v[:50], a[50:100] = jerk[:50] * np.round(v[:50] / jerk[:50]), jerk[50:100] * np.round(a[50:100] / jerk[50:100])
    a[100:120] = acceleration[100:120]
    jerk[:20], acceleration[10:30] = 1e100, 1e100  # no limit
    a = np.clip(a, -acceleration, acceleration)
    way = Braking(acceleration, jerk)(v, a)
    x, moving, rising = np.zeros(300), v, a
    places, paces, periods = [x], [np.abs(v)], np.zeros(300)
    for period in range(1, 2_000):
        rising = brake(moving, rising, acceleration, jerk)
        periods[moving != 0.0] = period
        moving = moving + rising
        x = x + moving
        places.append(x)
        paces.append(np.abs(moving))
        if not (moving.any() or rising.any()):
            break
    assert not moving.any()
    rounding = 1e-12 * (np.abs(v) * (1.0 + periods) + np.abs(a) * (1.0 + periods))
    dip = np.zeros(300) if way.dip is None else way.dip
    for found, simulated in (
        (way.end, x),
        (np.minimum(np.minimum(way.end, dip), 0.0), np.min(places, axis=0)),
        (np.maximum(np.maximum(way.end, dip), 0.0), np.max(places, axis=0)),
        (way.pace, np.max(paces, axis=0)),
    ):
        assert (np.abs(found - simulated) <= rounding).all()
    assert (way.periods <= np.maximum(periods, 1.0)).all()


@pytest.mark.parametrize("rate", CONTROL_RATES)
@given(KIND, seeds)
@examples(2)
def test_every_command_is_that_of_the_simulation(rate: float, kind: str, seed: int) -> None:
    limits = Limits(seed, 30)
    made, simulated = (
        limiter(-limits.half, limits.half, limits.rate, limits.acceleration, limits.jerk, 1.0 / rate)
        for limiter in (MotionLimiter, SimulatedLimiter)
    )
    equal = []
    for wanted in limits.signal(kind, 12):
        command, kinds = made.step(wanted)
        expected, reasons = simulated.step(wanted)
        reach = np.minimum(2.0 * limits.half, 2.0 * simulated._jerk)
        assert (np.abs(command - expected) <= reach / 512.0).all()  # a candidate more or less, where rounding decides
        equal.append(np.abs(command - expected) <= 1e-9 * reach)
        if kinds is not None and equal[-1].all():
            np.testing.assert_array_equal(kinds, reasons)
        made.position, made._v, made._a, made._target = (
            simulated.position,
            simulated._v,
            simulated._a,
            simulated._target,
        )
    assert np.mean(equal) > 0.99


def test_a_tick_takes_as_long_however_many_periods_a_stop_takes() -> None:
    def median(periods: float) -> float:
        """Return the processor time of a tick of seven joints that are limited all the time [s]."""
        made = single(2.0, 1.0, 2.0 / (periods * PERIOD), 8.0 / (periods * PERIOD) ** 2, size=7)
        random = np.random.default_rng(0)
        took = []
        for tick in range(200):
            if tick % 20 == 0:
                wanted = random.uniform(-2.5, 2.5, 7)
            since = time.thread_time()
            made.step(wanted)
            took.append(time.thread_time() - since)
        return float(np.median(took))

    assert median(75.0) < 2.0 * median(5.0)


def test_the_table_of_times_is_the_one_that_the_script_prints() -> None:
    """But for the times themselves."""
    script = runpy.run_path(str(ROOT / "scripts" / "limiter_times.py"))
    page = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8").splitlines()
    begin = page.index(script["HEADER"].splitlines()[0])
    printed = [*script["HEADER"].splitlines(), *script["rows"](1)]
    cells = [[[cell.strip() for cell in line.split("|")[1:3]] for line in lines] for lines in (page[begin:], printed)]
    assert cells[0][: len(printed)] == cells[1]


def test_the_quick_answer_never_contradicts_the_braking_it_stands_for() -> None:
    random = np.random.default_rng(1)
    made = single(1.0, 1.0, 4.0, 80.0)
    quick = 0
    for _ in range(500):
        made.restart(random.uniform(-1.0, 1.0, 1))
        made._v = random.uniform(-0.05, 0.05, 1)
        made._a = random.uniform(-0.01, 0.01, 1)
        command = made.position + made._v + random.uniform(-0.01, 0.01, 1)
        if made._stops_early(command):
            quick += 1
            assert made._judge(command[None], command, np.zeros(1))[0].all()
    assert quick > 50
