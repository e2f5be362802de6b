"""The fastest way to rest with bounded acceleration and jerk: its next step, and in closed form where it leads.

Everything is in command units and control periods: v and a are the first and second difference of the commands.
"""

from __future__ import annotations

from types import EllipsisType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Accelerations at which the longest way to rest is looked for, as shares of the largest that leads to no more than a pace.
_SHARES = np.arange(65)[:, None] / 64.0


def brake(v: Array, a: Array, acceleration: Array, jerk: Array) -> Array:
    """Return the next second difference on the fastest way to rest.

    From the returned a on, the steps a, a - j, a - 2 j, ... to zero add up to -v, unless a limit is in the way.

    Args:
        v: First difference of the commands.
        a: Second difference of the commands, of the shape of v.
        acceleration: Largest second difference.
        jerk: Largest third difference.
    """
    speed = np.abs(v)
    steps = np.maximum(np.ceil(0.5 * np.sqrt(1.0 + 8.0 * speed / jerk) - 0.5), 1.0)
    wanted = -np.copysign(speed / steps + 0.5 * jerk * (steps - 1.0), v)
    least, most = np.maximum(a - jerk, -acceleration), np.minimum(a + jerk, acceleration)
    return np.minimum(np.maximum(wanted, least), most)


class _Scales(NamedTuple):
    """What `Braking` multiplies and compares with, of the shape of what it is asked about: broadcasting takes twice the time."""

    jerk: Array
    inverse: Array
    most: Array
    inverse_most: Array
    curve: Array


class Way(NamedTuple):
    """The way to rest from somewhere, of the shape of its beginning.

    Attributes:
        periods: How many it takes at most, float64.
        end: Where it ends, counted from its beginning.
        dip: Where it turns around, if it begins on the way back, else 0; None for 0 everywhere. No place on it is beyond
            beginning, dip and end.
        pace: Largest speed on it, that of its beginning included.
    """

    periods: Array
    end: Array
    dip: Array | None
    pace: Array


class Braking:
    """Where `brake`, step by step to rest, leads: in closed form, so that it costs the same however long it takes.

    Counted in units of the jerk, and turned around so that `a` has to fall at first, the way has three parts: `a` falls by
    1 a step; it stays at its limit; and on the curve it rises by 1 a step, so that v and a end at 0 together. When each
    part ends is the root of a quadratic, rounded up to a step; one step more or less makes no difference where the
    rounding does.

    Args:
        acceleration, jerk: Largest second and third difference of the commands, float64 [A].
    """

    def __init__(self, acceleration: Array, jerk: Array) -> None:
        most = acceleration / jerk
        steps = np.maximum(np.ceil(most), 1.0)
        curve = steps * (most - 0.5 * (steps - 1.0))  # the speed that is left where a leaves its limit
        self._components = _Scales(jerk, 1.0 / jerk, most, jerk / acceleration, curve)
        self._scales: dict[tuple[int, ...], _Scales] = {}

    def __call__(self, v: Array, a: Array, *, extremes: int | EllipsisType = ...) -> Way:
        """Return the way to rest from first and second differences, float64 [..., A].

        Args:
            v: First differences.
            a: Second differences, of the shape of v or of one of its rows.
            extremes: Row of v whose dip and pace are wanted; all, if it is not given.
        """
        scales = self._scaled(v.shape)
        v = v * scales.inverse
        sign, v, a, falling = _falls(v, a * self._scaled(a.shape).inverse, scales)
        lost = falling + 1.0  # in place from here on, which takes half as long
        lost *= falling
        lost *= 0.5
        end = falling * v
        after = falling * a
        after += v
        after -= lost
        lost *= a - (falling + 2.0) * (1.0 / 3.0)
        end += lost
        limited = after - scales.curve
        limited *= scales.inverse_most
        limited = np.maximum(np.ceil(limited, out=limited), 0.0, out=limited)
        left = after - limited * scales.most
        rising = _steps_to_rest(np.abs(left))
        after += left
        after -= scales.most
        after *= limited
        turn = rising + 1.0
        turn *= rising
        turn *= 1.0 / 6.0
        left -= np.copysign(turn, left, out=turn)
        left *= rising - 1.0
        after += left
        after *= 0.5
        end += after
        dip = _dip(v[extremes], a[extremes], falling[extremes])
        pace = np.maximum(np.abs(v[extremes]), _peak(v[extremes], a[extremes]))
        pace *= scales.jerk[extremes]
        sign *= scales.jerk
        end *= sign
        rising += falling
        rising += limited
        return Way(rising, end, None if dip is None else dip * sign[extremes], pace)

    def longest(self, pace: Array) -> Array:
        """Return how many periods the way takes at most from where it is never faster than `pace`, float64 [A].

        The longest begins with the largest a from which v rises to that pace.
        """
        jerk = self._components.jerk
        most = np.minimum(self._components.most, np.sqrt(2.0 * pace / jerk) + 1.0)
        a = most * _SHARES
        whole = np.floor(a)
        v = np.maximum(pace - whole * (a - 0.5 * (whole + 1.0)) * jerk, -pace)
        longest: Array = self(v, a * jerk).periods.max(axis=0)
        return longest + 1.0  # between those looked at

    def _scaled(self, shape: tuple[int, ...]) -> _Scales:
        """Return the scales of a shape [..., A], made once: a limiter asks about two."""
        scales = self._scales.get(shape)
        if scales is None:
            scales = _Scales(*(np.broadcast_to(values, shape).copy() for values in self._components))
            self._scales[shape] = scales
        return scales


def _falls(v: Array, a: Array, scales: _Scales) -> tuple[Array, Array, Array, Array]:
    """Turn a way around, if need be, so that `a` has to fall at first; all in units of the jerk.

    Returns:
        -1 where it was turned around, else 1; v and a as they are then; and for how many steps a falls.
    """
    speed = np.abs(v)
    steps = _steps_to_rest(speed)
    curve = speed / steps
    steps -= 1.0
    steps *= 0.5
    curve += steps
    gap = a + np.copysign(curve, v)
    sign = np.copysign(1.0, gap)
    aside = np.abs(gap) > 1.0
    aside |= curve > scales.most  # the curve is not reached in the next step
    v, a = v * sign, a * sign
    whole = np.floor(a)
    above = whole + 1.0
    root = a - above
    root *= a
    root += 0.5 * whole * above
    root += v
    root = np.sqrt(np.maximum(root, 0.0, out=root), out=root)
    falling = np.minimum(root, scales.most, out=root)
    falling += a
    falling = np.ceil(falling, out=falling)
    falling -= 1.0
    falling = np.maximum(falling, np.maximum(whole, 0.0, out=whole), out=falling)
    falling *= aside
    return sign, v, a, falling


def _steps_to_rest(speed: Array) -> Array:
    """Return how many steps of the curve lead from a speed to rest, at least 1, in units of the jerk."""
    steps: Array = 2.0 * speed
    steps += 0.25
    steps = np.sqrt(steps, out=steps)
    steps -= 0.5
    steps = np.ceil(steps, out=steps)
    steps = np.maximum(steps, 1.0, out=steps)
    return steps


def _peak(v: Array, a: Array) -> Array:
    """Return the largest v while a falls to 0, in units of the jerk."""
    steps = np.maximum(np.floor(a), 0.0)
    peak = steps + 1.0
    peak *= -0.5
    peak += a
    peak *= steps
    peak += v
    return peak


def _dip(v: Array, a: Array, falling: Array) -> Array | None:
    """Return how far a way leads back before v, below 0, rises above it, in units of the jerk."""
    if not ((v < 0.0) & (falling > 0.0)).any():
        return None
    half = a - 0.5
    steps = np.ceil(half - np.sqrt(np.maximum(half * half + 2.0 * v, 0.0))) - 1.0
    steps = np.minimum(np.maximum(steps, 0.0), falling)
    dip: Array = steps * (v + (steps + 1.0) * (0.5 * a - (steps + 2.0) / 6.0))
    return dip


def longest_move(distance: Array, pace: Array, acceleration: Array, jerk: Array) -> Array:
    """Return how many periods it takes at most from rest to rest, float64 [A].

    Args:
        distance: How far, float64 [A].
        pace, acceleration, jerk: Largest first, second and third difference of the commands, float64 [A].
    """
    # Continuous time, where accelerating to a speed v takes v / a + a / j, or 2 sqrt(v / j) if a is not reached; up to a
    # step more for each of the seven parts, and two for the search of the limiter.
    ramp = acceleration / jerk
    slow = np.cbrt(distance * distance * jerk / 4.0)  # the top speed if neither pace nor acceleration is reached
    fast = 0.5 * acceleration * (np.sqrt(ramp * ramp + 4.0 * distance / acceleration) - ramp)
    top = np.minimum(np.where(slow <= acceleration * ramp, slow, fast), pace)
    rise = np.where(top <= acceleration * ramp, 2.0 * np.sqrt(top / jerk), top / acceleration + ramp)
    return np.ceil(distance / top + rise) + np.where(rise > 1e-9, 9.0, 0.0)
