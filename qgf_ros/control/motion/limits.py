"""Position, velocity, acceleration and jerk limits of a command signal, all kept at once.

Everything is in command units and control periods: v, a and j are the first, second and third difference of the
commands, so that the sampled signal itself obeys the limits.

**Viability.** From a state (x, v, a) the signal can be *braked*: brought to rest by the discrete time-optimal feedback
of a double integrator (v, a) with bounded a and j. A command may be sent if it obeys the limits and braking from it
does, up to rest. The next step of that braking may then be sent too, because braking from there is the rest of the
same trajectory. So from rest on there is always a command that may be sent, whatever is wanted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.motion.braking import Braking, brake, longest_move

Array = NDArray[np.float64]

#: Stands for no limit; finite, so that it can be multiplied by zero.
_NONE = 1e100
#: Rounding that a limit is allowed, relative to it.
_SLACK = 1e-9
#: Candidates per round of the search for a command; two rounds: 32^2 steps between braking and the limit.
_COUNT = 32
_FRACTIONS = np.arange(1, _COUNT + 1)[:, None] / _COUNT

#: What may keep a command from being sent as it is wanted.
KINDS = ("position", "velocity", "acceleration", "jerk", "braking")


class MotionLimiter:
    """Follows a wanted signal as closely as the limits allow.

    A wanted signal inside the limits passes unchanged, to the bit. One that is not is followed as fast as the limits
    allow without shooting past it, taken to go on at its present velocity, and then passes unchanged again.

    Args:
        lower, upper: Limits of the command, float64 [A].
        rate, acceleration, jerk: Largest derivatives of the command [unit/s], [unit/s^2], [unit/s^3], float64 [A]; inf
            for no limit.
        period: Control period [s].
    """

    def __init__(
        self, lower: Array, upper: Array, rate: Array, acceleration: Array, jerk: Array, period: float
    ) -> None:
        self.lower, self.upper = lower, upper
        self._rate = np.minimum(rate * period, _NONE)
        self._acceleration = np.minimum(acceleration * period**2, _NONE)
        self._jerk = np.minimum(jerk * period**3, _NONE)
        self._direct = (self._acceleration == _NONE) & (self._jerk == _NONE)  # at rest one period after any command
        self._all_direct = bool(self._direct.all())
        self._nearby = _SLACK * np.minimum(self._acceleration, self._jerk)  # where one of them is a limit at all
        self._braking = Braking(self._acceleration, self._jerk)
        room = upper - lower  # which bounds the speed that can be stopped from
        self._pace = np.minimum(self._rate, self._acceleration + np.sqrt(2.0 * self._acceleration * room))
        self._pace = np.minimum(self._pace, self._jerk + 2.0 * np.cbrt(self._jerk * room**2))
        room = _SLACK * room
        self._lowest, self._highest, self._fastest = lower - room, upper + room, self._rate * (1.0 + _SLACK)
        self.restart(np.full_like(lower, np.nan))

    def longest_rest(self, still: Array) -> Array:
        """Return how many periods it takes at most to come to rest from wherever the limits allow to be, float64 [A].

        Args:
            still: Where to, float64 [A]; NaN for wherever it is reached soonest.
        """
        room = self.upper - self.lower  # a step more than the speed that can be stopped from in continuous time
        pace = self._jerk + np.cbrt(self._jerk * (room + self._jerk + np.cbrt(self._jerk * room**2)) ** 2)
        pace = np.minimum(np.minimum(pace, self._pace), self._rate)
        periods = self._braking.longest(pace) + 1.0
        distance = np.where(np.isnan(still), room, np.maximum(self.upper - still, still - self.lower))
        move = longest_move(distance, pace, self._acceleration, self._jerk)
        return periods + np.where(np.isnan(still), 0.0, move)

    def restart(self, position: Array) -> None:
        """Be at rest at `position`, float64 [A]; NaN for a component whose first command counts as the place of rest."""
        self.position = np.clip(position, self.lower, self.upper)
        self._v = np.zeros_like(self.position)
        self._a = np.zeros_like(self.position)
        self._target = self.position
        self._unknown = bool(np.isnan(position).any())

    def stop(self, components: NDArray[np.bool_], position: Array) -> None:
        """Be at rest at `position`, float64 [A], in some components, bool [A]."""
        self.position = np.where(components, position, self.position)
        self._target = np.where(components, position, self._target)
        self._v = np.where(components, 0.0, self._v)
        self._a = np.where(components, 0.0, self._a)

    def can_rest(self) -> bool:
        """Whether the last command may be repeated from now on."""
        v, a = np.abs(self._v), np.abs(self._v + self._a)
        return bool(((v <= np.minimum(self._acceleration, self._jerk)) & (a <= self._jerk)).all())

    def stop_at(self, components: NDArray[np.bool_], position: Array) -> Array:
        """Return what is to be wanted from now on to come to rest.

        Args:
            components: Those to bring to `position`, bool [A]; the others stop as soon as they can.
            position: float64 [A].
        """
        rest = self.position + self._braking(self._v, self._a).end
        self._target = np.clip(np.where(components, position, rest), self.lower, self.upper)  # and stands still
        return self._target

    def step(self, wanted: Array) -> tuple[Array, NDArray[np.int64] | None]:
        """Return the next command and what kept it from being the wanted one.

        Args:
            wanted: float64 [A], finite.

        Returns:
            The command, float64 [A], and per component an index of `KINDS` or -1; None if all is as wanted.
        """
        target = np.minimum(np.maximum(wanted, self.lower), self.upper)  # np.clip takes longer
        if self._unknown:
            self.restart(np.where(np.isnan(self.position), target, self.position))
        x, v, a = self.position, self._v, self._a
        low = np.maximum(
            np.maximum(self.lower, x - self._rate), x + v + np.maximum(-self._acceleration, a - self._jerk)
        )
        high = np.minimum(
            np.minimum(self.upper, x + self._rate), x + v + np.minimum(self._acceleration, a + self._jerk)
        )
        command = np.minimum(np.maximum(target, low), high)
        as_wanted = bool((command == wanted).all())
        if not (self._all_direct or (as_wanted and (x == self._target).all() and self._stops_early(command))):
            command = self._viable(command, target, low, high)
            as_wanted = bool((command == wanted).all())
        kinds = None if as_wanted else self._kinds(wanted, target, command)
        self.position, self._target = command, target
        self._v = command - x
        self._a = self._v - v
        return command, kinds

    def _kinds(self, wanted: Array, target: Array, command: Array) -> NDArray[np.int64]:
        v = target - self.position
        a = v - self._v
        kinds = np.where(np.abs(a - self._a) > self._jerk, 3, 4)
        kinds = np.where(np.abs(a) > self._acceleration, 2, kinds)
        kinds = np.where(np.abs(v) > self._rate, 1, kinds)
        kinds = np.where(command == target, 0, kinds)
        kinds = np.where(command == wanted, -1, kinds)
        return kinds

    def _stops_early(self, command: Array) -> bool:
        """Whether a bound on the way to rest says without braking that `command` may be sent."""
        v = command - self.position
        a = np.abs(v - self._v)
        speed = np.abs(v) + 0.5 * a * a / self._jerk
        way = speed * (2.0 * np.sqrt(speed / self._jerk) + speed / self._acceleration + a / self._jerk + 3.0)
        inside = (speed <= self._rate) & (command + way <= self.upper) & (command - way >= self.lower)
        return bool((inside | self._direct).all())

    def _judge(self, command: Array, target: Array, pace: Array) -> tuple[NDArray[np.bool_], Array]:
        """Brake from candidates, float64 [K, A].

        Args:
            command: The candidates.
            target: What is wanted, float64 [A].
            pace: Velocity of what is wanted, float64 [A].

        Returns:
            Whether braking obeys the limits, and by how much braking to that velocity would end above what is wanted.
        """
        v = np.empty((2, *command.shape))
        np.subtract(command, self.position, out=v[0])
        a = v[0] - self._v
        np.subtract(v[0], pace, out=v[1])
        way = self._braking(v, a, extremes=0)
        end = way.end[0] + command
        turn = end if way.dip is None else command + way.dip
        inside = way.pace <= self._fastest
        inside &= np.minimum(turn, end) >= self._lowest
        inside &= np.maximum(turn, end) <= self._highest
        return inside, way.end[1] + (command - target)

    def _viable(self, command: Array, target: Array, low: Array, high: Array) -> Array:
        """Return the command nearest to the wanted one from which braking obeys the limits."""
        pace = np.minimum(np.maximum(target - self._target, -self._pace), self._pace)
        near = self.position + self._v + brake(self._v, self._a, self._acceleration, self._jerk)
        # From the next step of braking, which may be sent, towards the wanted signal; on which side it is, is not known yet.
        up, down = high - near, low - near
        candidates = np.concatenate([command[None], near[None], near + _FRACTIONS * up, near + _FRACTIONS * down])
        inside, beyond = self._judge(candidates, target, pace)
        followed = (self.position == self._target) | (np.abs(beyond[0]) <= self._nearby)
        passes = self._direct | ((command == target) & inside[0] & followed)
        if passes.all():
            return command
        rising = beyond[1] < 0.0
        above, below = slice(2, 2 + _COUNT), slice(2 + _COUNT, None)
        good = np.where(rising, inside[above] & (beyond[above] <= 0.0), inside[below] & (beyond[below] >= 0.0))
        way = np.where(rising, up, down)
        near, way = _narrow(near, way, good)
        inside, beyond = self._judge(near + _FRACTIONS * way, target, pace)
        near, _ = _narrow(near, way, inside & np.where(rising, beyond <= 0.0, beyond >= 0.0))
        return np.minimum(np.maximum(np.where(passes, command, near), self.lower), self.upper)


def _narrow(near: Array, way: Array, good: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the last of the candidates on a way that are good up to it, and the way on to the next one."""
    count = np.minimum.accumulate(good).sum(axis=0)
    step = way / _COUNT
    last = near + count * step
    return last, near + np.minimum(count + 1, _COUNT) * step - last
