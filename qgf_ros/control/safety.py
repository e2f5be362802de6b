"""The last gate before a command leaves: scaled, finite, inside every limit of the manifest; see docs/safety.md."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ActionField
from qgf_ros.control.motion.limits import KINDS, MotionLimiter
from qgf_ros.control.motion.tracking import TrackingGuard
from qgf_ros.errors import SafetyError, StartError

Array = NDArray[np.float64]

#: Longest way to rest that is allowed [control periods], from wherever the limits allow to be.
LONGEST_STOP = 100
#: What a measured place may be outside the limits where there is no max_rate, relative to their distance: rounding.
_ROUNDING = 1e-6
#: What is counted: commands changed to keep a limit, and ticks answered with a hold.
COUNTED = (*KINDS, "workspace", "guidance", "start_pose", "tracking", "stuck", "not_finite")
#: The limit behind each kind, as people are told.
_LIMITS = {
    "position": "limits",
    "velocity": "max_rate",
    "acceleration": "max_acceleration",
    "jerk": "max_jerk",
    "braking": "braking in time",
    "workspace": "workspace",
    "guidance": "max_guidance_deviation",
}


class SafetyEnvelope:
    """Turns normalised actions into commands in physical units and keeps them inside every limit.

    Args:
        fields: The action contract.
        period: Control period [s].

    Attributes:
        counts: Interventions so far, by kind (see `COUNTED`).
        explanation: What was changed of the last command and why; empty if nothing was.
        followed: Whether the robot is to follow the commands; shadows it does not know.
        tracking: Whether it does.

    Raises:
        SafetyError: The limits of a component are so low that it might not come to rest in `LONGEST_STOP` control periods.
    """

    def __init__(self, fields: Sequence[ActionField], period: float) -> None:
        self._fields = tuple(fields)
        self._scale = np.array([field.scale for field in fields])
        self._offset = np.array([field.offset for field in fields])
        self._still = np.array([np.nan if field.hold is None else field.hold for field in fields])
        self._absolute = np.isnan(self._still)
        self._start_jump = np.array([field.max_start_jump or np.inf for field in fields])
        boxes = np.array([field.workspace or (-np.inf, np.inf) for field in fields])
        lower, upper = np.array([field.lower for field in fields]), np.array([field.upper for field in fields])
        # What an absolute action sets is the place itself, and its workspace one more limit of position.
        lower = np.where(self._absolute, np.maximum(lower, boxes[:, 0]), lower)
        upper = np.where(self._absolute, np.minimum(upper, boxes[:, 1]), upper)
        self._box = boxes
        self._boxed = np.isfinite(boxes).all(axis=1) & ~self._absolute
        self._limiter = MotionLimiter(
            lower,
            upper,
            np.array([field.max_rate or np.inf for field in fields]),
            np.array([field.max_acceleration or np.inf for field in fields]),
            np.array([field.max_jerk or np.inf for field in fields]),
            period,
        )
        # From as far outside, the way to the limit is no larger step than any other.
        self._start_outside = np.array([(field.max_rate or 0.0) * period for field in fields])
        self._start_outside = np.maximum(self._start_outside, _ROUNDING * (upper - lower))
        rest = self._limiter.longest_rest(self._still)
        i = int(np.argmax(rest))
        if not rest[i] <= LONGEST_STOP:
            mend = (
                ", or lower its max_rate"
                if self._absolute[i]
                else " or max_rate, or bring lower and upper nearer to hold"
            )
            raise SafetyError(
                f"action {fields[i].name} may take {rest[i]:.0f} control periods to stop, at most {LONGEST_STOP} "
                f"are allowed; raise its max_acceleration or max_jerk{mend}"
            )
        self.tracking = TrackingGuard(fields, period)
        self.followed = True
        self._previous: Array | None = None
        self._measured = np.full_like(self._scale, np.nan)
        self._started = False
        self._rest: Array | None = None  # where braking leads
        self.counts = dict.fromkeys(COUNTED, 0)
        self.explanation = ""
        self._guidance_explanation = ""

    @property
    def started(self) -> bool:
        """Whether a command was given since the last hold."""
        return self._started

    def clear(self) -> None:
        """Forget the previous command and where the robot was: the next command is the first."""
        self._previous = None
        self._measured = np.full_like(self._scale, np.nan)
        self._started = False
        self.tracking.clear()

    def command(self, action: NDArray[np.float32], measured: Array | None = None) -> Array:
        """Return the command of a normalised action.

        Args:
            action: float32 [A], in [-1, 1].
            measured: What `control.observation.MeasuredValues` found, float64 [A]; None where nothing is measured.

        Returns:
            float64 [A] in the units of the action contract.

        Raises:
            SafetyError: The action is not finite, has another length than the action contract, or, as the first, lies
                too far from the measured value, or that lies outside the limits; or the robot does not follow.
        """
        self.explanation, self._guidance_explanation = self._guidance_explanation, ""
        self.check(action[None])
        wanted = action.astype(np.float64) * self._scale + self._offset
        measured = self._measured = np.full_like(wanted, np.nan) if measured is None else measured
        unknown = self._boxed & ~np.isfinite(measured)
        if unknown.any():  # before anything changes: a command that is refused was never sent
            raise SafetyError(
                f"action {self._fields[int(np.argmax(unknown))].name} has a workspace, but its position is not measured"
            )
        if self.followed and (deviation := self.tracking.check(self._previous, measured, commanding=self._started)):
            self.counts[deviation.kind] += 1
            raise SafetyError(deviation.reason)
        if not self._started:
            self._start(wanted, measured)
        command, kinds = self._limiter.step(wanted)
        if kinds is not None:
            for kind in np.unique(kinds[kinds >= 0]):
                self._intervene(KINDS[kind], kinds == kind, wanted, command)
        if self._boxed.any():
            command = self._keep_in_workspace(command, measured)
        self._previous = command
        return np.array(command)

    def preview(self, actions: NDArray[np.float32]) -> Array:
        """Return the commands that will follow the last one, and change nothing.

        They are what `command` is going to answer, if relative actions move the robot as commanded until then.

        Args:
            actions: The next actions, float32 [K, A], in [-1, 1].

        Returns:
            float64 [K, A] in the units of the action contract.

        Raises:
            SafetyError: As `command`.
        """
        commands = np.empty(actions.shape)
        if not len(actions):
            return commands
        ahead = copy.copy(self)
        ahead._limiter = copy.copy(self._limiter)  # which replaces its arrays and never writes into them
        ahead.counts, ahead.followed = dict(self.counts), False
        place, last = self._measured, self._previous
        for k, action in enumerate(actions):
            if last is not None:
                place = np.where(self._absolute, last, place + last)
            commands[k] = last = ahead.command(action, place)
        return commands

    def hold(self) -> Array | None:
        """Return the command that keeps the robot still, at once and whatever the limits.

        Relative actions take their hold; absolute ones repeat the last command, or else the newest measured value.

        Returns:
            float64 [A] in the units of the action contract, or None when an absolute action has neither: a command
            has all components, and any value would move that one.
        """
        self._started, self._rest = False, None
        place = self._measured if self._previous is None else self._previous
        command = np.where(self._absolute, place, self._still)
        if not np.isfinite(command).all():
            return None
        self._previous = command
        return np.array(command)

    def brake(self) -> Array | None:
        """Return the next command on the way to rest inside the limits, or None at rest, where `hold` is due.

        Relative actions go to their hold, absolute ones to the nearest place where they can stop. The workspace is kept
        as far as relative actions have moved the robot as commanded since it was measured.

        Returns:
            float64 [A] in the units of the action contract.
        """
        last = self._limiter.position
        if not np.isfinite(last).all():
            return None
        if self._rest is None:
            self._rest = self._limiter.stop_at(~self._absolute, self._still)
        if (last == self._rest).all() and self._limiter.can_rest():
            return None
        self._measured = np.where(self._absolute, last, self._measured + last)
        command, _ = self._limiter.step(self._rest)
        if self._boxed.any() and np.isfinite(self._measured[self._boxed]).all():
            command = self._keep_in_workspace(command, self._measured)
        self._previous = command
        return np.array(command)

    def give_way(self, *, held: bool, fades: bool) -> None:
        """Let `brake` lead a robot that stands, maybe `held`, back to where it is measured; relative actions stop, or fade."""
        at_once = np.where(self._absolute, held, held or not fades)
        self._limiter.stop(at_once, np.where(self._absolute, self._limiter.position, self._still))
        place = self.tracking.give_way()
        led = self._absolute & np.isfinite(place)
        self._rest = self._limiter.stop_at(led | ~self._absolute, np.where(led, place, self._still))

    @property
    def place(self) -> Array:
        """Where the robot was measured, or must be if it moved as commanded since, float64 [A]; NaN if unknown."""
        return self._measured

    def limit_guidance(
        self, actions: NDArray[np.float32], unguided: NDArray[np.float32], distance: float
    ) -> NDArray[np.float32]:
        """Return guided actions [H, A] within `distance` [normalised] of unguided ones; the next command explains it."""
        largest = np.float32(distance)
        kept = np.clip(actions, unguided - largest, unguided + largest)
        changed = (kept != actions).any(axis=0)
        self._guidance_explanation = ""
        if changed.any():
            self.counts["guidance"] += 1
            farthest = np.abs(actions - unguided).max(axis=0)
            what = [f"{self._fields[i].name} guided by {farthest[i]:.4g}" for i in np.flatnonzero(changed)]
            self._guidance_explanation = f"{_LIMITS['guidance']}: {', '.join(what)}, {distance:g} kept"
        return kept

    def check(self, actions: NDArray[np.float32]) -> None:
        """Raise SafetyError if normalised actions, expected as float32 [H, A], have another length or are not finite."""
        if actions.shape[1:] != self._scale.shape:
            names = ", ".join(field.name for field in self._fields)
            raise SafetyError(
                f"an action of shape {actions.shape[1:]} was given, expected {self._scale.shape} for {names}; "
                "nothing was sent, export the bundle again"
            )
        finite = np.isfinite(actions)
        if not finite.all():
            self.counts["not_finite"] += 1
            bad = [self._fields[i].name for i in np.flatnonzero(~finite.all(axis=0))]
            raise SafetyError(
                f"action {', '.join(bad)} is not finite; nothing was sent, check the observation and the bundle"
            )

    def _start(self, wanted: Array, measured: Array) -> None:
        """Begin at rest: relative actions at their hold, absolute ones where the robot is, or else was held."""
        jump = np.abs(np.clip(wanted, self._limiter.lower, self._limiter.upper) - measured)
        for i in np.flatnonzero(~(jump <= self._start_jump) & np.isfinite(self._start_jump)):
            field = self._fields[i]
            self.counts["start_pose"] += 1
            raise StartError(
                f"action {field.name} would start {jump[i]:.4g} {field.unit} from the measured {measured[i]:.4g}, at most "
                f"{field.max_start_jump:g} is allowed; bring the robot nearer to where the policy starts"
            )
        outside = np.maximum(self._limiter.lower - measured, measured - self._limiter.upper)
        for i in np.flatnonzero(self._absolute & (outside > self._start_outside)):
            field = self._fields[i]
            self.counts["start_pose"] += 1
            raise SafetyError(
                f"action {field.name} would start from the measured {measured[i]:.4g} {field.unit}, outside its limits "
                f"{self._limiter.lower[i]:g} to {self._limiter.upper[i]:g}; bring the robot back inside"
            )
        before = np.full_like(wanted, np.nan) if self._previous is None else self._previous
        place = np.where(np.isnan(measured), before, measured)
        self._limiter.restart(np.where(self._absolute, place, self._still))
        self._started = True

    def _keep_in_workspace(self, command: Array, measured: Array) -> Array:
        """Shorten displacements that lead out of the workspace; from outside, only the way back is open."""
        low = np.where(self._boxed, np.minimum(self._box[:, 0] - measured, 0.0), -np.inf)
        high = np.where(self._boxed, np.maximum(self._box[:, 1] - measured, 0.0), np.inf)
        kept: Array = np.clip(command, low, high)
        shortened = kept != command
        if shortened.any():
            self._limiter.stop(shortened, kept)
            self._intervene("workspace", shortened, command, kept)
        return kept

    def _intervene(self, kind: str, where: NDArray[np.bool_], wanted: Array, sent: Array) -> None:
        self.counts[kind] += 1
        what = [
            f"{self._fields[i].name} {wanted[i]:.4g} wanted, {sent[i]:.4g} {self._fields[i].unit} sent"
            for i in np.flatnonzero(where)
        ]
        self.explanation += f"{'; ' if self.explanation else ''}{_LIMITS[kind]}: {', '.join(what)}"
