"""The motion limiter as it is without closed forms: it simulates the way to rest of every candidate, period by period.

What `qgf_ros.control.motion.limits` has to answer, in 4 to 60 times the time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Stands for no limit; finite, so that it can be multiplied by zero.
_NONE = 1e100
#: Rounding that a limit is allowed, relative to it.
_SLACK = 1e-9
#: Candidates per round of the search for a command, and rounds: 32^2 steps between braking and the limit.
_FRACTIONS = np.arange(1, 33)[:, None] / 32.0
_ROUNDS = 2


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
    return np.minimum(np.maximum(wanted, least), most)  # np.clip takes longer


class SimulatedLimiter:
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
        room = upper - lower  # which bounds the speed that can be stopped from
        self._pace = np.minimum(self._rate, self._acceleration + np.sqrt(2.0 * self._acceleration * room))
        self._pace = np.minimum(self._pace, self._jerk + 2.0 * np.cbrt(self._jerk * room**2))
        #: Periods it takes to stop, float64 [A], at most.
        self.stopping_periods = 2.0 * np.sqrt(self._pace / self._jerk) + self._pace / self._acceleration + 3.0
        # From twice the pace, after an acceleration that led there: what takes longer is refused.
        self._longest = int(min(1e9, 4.0 * self.stopping_periods.max()))
        self.restart(np.full_like(lower, np.nan))

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
        x, v, a = self.position, self._v, self._a
        for _ in range(self._longest):
            if not (v.any() or a.any()):
                break
            a = brake(v, a, self._acceleration, self._jerk)
            v = v + a
            x = x + v
        self._target = np.clip(np.where(components, position, x), self.lower, self.upper)  # and stands still
        return self._target

    def step(self, wanted: Array) -> tuple[Array, NDArray[np.int64] | None]:
        """Return the next command and what kept it from being the wanted one.

        Args:
            wanted: float64 [A], finite.

        Returns:
            The command, float64 [A], and per component an index of `KINDS` or -1; None if all is as wanted.
        """
        target = np.clip(wanted, self.lower, self.upper)
        if self._unknown:
            self.restart(np.where(np.isnan(self.position), target, self.position))
        x, v, a = self.position, self._v, self._a
        low = np.maximum(
            np.maximum(self.lower, x - self._rate), x + v + np.maximum(-self._acceleration, a - self._jerk)
        )
        high = np.minimum(
            np.minimum(self.upper, x + self._rate), x + v + np.minimum(self._acceleration, a + self._jerk)
        )
        command = np.clip(target, low, high)
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
        reasons = (
            command == wanted,
            command == target,
            np.abs(v) > self._rate,
            np.abs(a) > self._acceleration,
            np.abs(a - self._a) > self._jerk,
        )
        kinds: NDArray[np.int64] = np.select(reasons, (-1, 0, 1, 2, 3), 4)
        return kinds

    def _stops_early(self, command: Array) -> bool:
        """Whether a bound on the way to rest says without braking that `command` may be sent."""
        v = command - self.position
        a = np.abs(v - self._v)
        speed = np.abs(v) + 0.5 * a * a / self._jerk
        way = speed * (2.0 * np.sqrt(speed / self._jerk) + speed / self._acceleration + a / self._jerk + 3.0)
        inside = (speed <= self._rate) & (command + way <= self.upper) & (command - way >= self.lower)
        return bool((inside | self._direct).all())

    def _judge(self, command: Array, target: Array) -> tuple[NDArray[np.bool_], Array]:
        """Brake from candidates, float64 [..., A].

        Returns:
            Whether braking obeys the limits, and by how much braking to the velocity of the wanted signal would end
            above it.
        """
        pace = np.clip(target - self._target, -self._pace, self._pace)
        v = command - self.position
        a = np.stack([v - self._v, v - self._v])
        x, v = np.stack([command, command - target]), np.stack([v, v - pace])
        room = _SLACK * (self.upper - self.lower)
        lower, upper, rate = self.lower - room, self.upper + room, self._rate * (1.0 + _SLACK)
        inside = np.abs(v[0]) <= rate
        for _ in range(self._longest):
            if not (v.any() or a.any()):
                break
            a = brake(v, a, self._acceleration, self._jerk)
            v = v + a
            x = x + v
            inside &= (np.abs(v[0]) <= rate) & (x[0] >= lower) & (x[0] <= upper)
        return inside & (v[0] == 0.0) & (a[0] == 0.0), x[1]

    def _viable(self, command: Array, target: Array, low: Array, high: Array) -> Array:
        """Return the command nearest to the wanted one from which braking obeys the limits."""
        near = self.position + self._v + brake(self._v, self._a, self._acceleration, self._jerk)
        inside, beyond = self._judge(np.stack([command, near]), target)
        followed = (self.position == self._target) | (np.abs(beyond[0]) <= self._nearby)
        passes = self._direct | ((command == target) & inside[0] & followed)
        if passes.all():
            return command
        # From the next step of braking, which may be sent, towards the wanted signal.
        rising = beyond[1] < 0.0
        far = np.where(rising, high, low)
        for _ in range(_ROUNDS):
            inside, beyond = self._judge(near + _FRACTIONS * (far - near), target)
            good = inside & (np.where(rising, beyond, -beyond) <= 0.0)
            count = np.minimum.accumulate(good).sum(axis=0)
            step = (far - near) / len(_FRACTIONS)
            near, far = near + count * step, near + np.minimum(count + 1, len(_FRACTIONS)) * step
        return np.clip(np.where(passes, command, near), self.lower, self.upper)
