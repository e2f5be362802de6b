"""How the critic's gradient becomes a pull on the flow: the estimator and the options around it, all off by default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.estimators import Estimate
from qgf_ros.guidance.names import CLASSIFIER_FREE, EVERY_METHOD, GRAD_STEP, MOST_ASCENT_STEPS, ROBUST, SCHEDULES
from qgf_ros.guidance.protocols import Array

# What norms and scales, and factors, may be, so that float32 holds every product.
_NUMBERS = (1e-6, 1e6)
_LARGEST_FACTOR = 1000.0


@dataclass(frozen=True)
class Guidance:
    """A way to guide; the guidance weight comes on top.

    Attributes:
        estimator: One of `EVERY_METHOD`.
        ascent_steps: Steps L of ``grad_step``, whose step size alpha is the guidance weight.
        ascent_sign: Whether ``grad_step`` follows the sign of each component instead of the gradient.
        max_gradient_norm: Longer gradients are shortened to this Euclidean norm; infinity for none.
        disagreement_scale: The weight is multiplied by d / (d + |Q_max - Q_min|), d being this scale in units of Q, so
            that critics that disagree guide less; infinity for none.
        schedule: Factor on the weight at t = k/T: "constant" (1), "linear" (t), "cosine" ((1 - cos(pi t))/2), "falling" (1 - t),
            or T factors.
        mask: Factor on each component of an action [A], repeated along the chunk, such as 0 for a gripper that is
            never to be guided; empty for none.
    """

    estimator: str = "qgf"
    ascent_steps: int = 1
    ascent_sign: bool = False
    max_gradient_norm: float = math.inf
    disagreement_scale: float = math.inf
    schedule: str | tuple[float, ...] = "constant"
    mask: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.estimator not in EVERY_METHOD:
            raise GuidanceError(f"estimator {self.estimator!r} was given; expected one of {', '.join(EVERY_METHOD)}")
        if not 1 <= self.ascent_steps <= MOST_ASCENT_STEPS:
            raise GuidanceError(
                f"ascent_steps {self.ascent_steps} was given; it must be at least 1 and at most {MOST_ASCENT_STEPS}"
            )
        for name in ("max_gradient_norm", "disagreement_scale"):
            value = getattr(self, name)
            if not (_NUMBERS[0] <= value <= _NUMBERS[1] or value == math.inf):
                raise GuidanceError(
                    f"{name} {value} was given; it must be above 0, or infinity to switch it off "
                    f"(numbers go from {_NUMBERS[0]:g} to {_NUMBERS[1]:g})"
                )
        if self.estimator in (ROBUST, CLASSIFIER_FREE) and self.disagreement_scale < math.inf:
            raise GuidanceError(
                f"disagreement_scale {self.disagreement_scale} was given with {self.estimator}, which asks no ensemble; "
                "leave it at infinity"
            )
        factors = [] if isinstance(self.schedule, str) else self.schedule
        if isinstance(self.schedule, str) and self.schedule not in SCHEDULES:
            raise GuidanceError(
                f"weight_schedule {self.schedule!r} was given; expected {', '.join(SCHEDULES)}, or one factor per denoising step"
            )
        if not all(0.0 <= value <= _LARGEST_FACTOR for value in (*factors, *self.mask)):
            raise GuidanceError(
                "a factor of weight_schedule or of the action mask is negative or not finite, or too large; "
                f"give numbers from 0 to {_LARGEST_FACTOR:g}"
            )
        if self.estimator == GRAD_STEP and self.schedule != "constant":
            raise GuidanceError(
                f"weight_schedule {self.schedule} was given with {GRAD_STEP}, which does not guide while denoising"
            )

    def check(self, steps: int, action_size: int) -> None:
        """Raise GuidanceError unless schedule and mask fit T denoising steps and actions of A components."""
        if not isinstance(self.schedule, str) and len(self.schedule) != steps:
            raise GuidanceError(
                f"a weight_schedule of {len(self.schedule)} factors was given; expected {steps}, one per denoising step"
            )
        if self.mask and len(self.mask) != action_size:
            raise GuidanceError(
                f"a mask of {len(self.mask)} factors was given; expected {action_size}, one per action component"
            )

    def factor(self, k: int, steps: int) -> float:
        """Return the schedule's factor on the guidance weight at denoising step k of T."""
        if not isinstance(self.schedule, str):
            return self.schedule[k]
        t = k / steps
        named = {"constant": 1.0, "linear": t, "cosine": 0.5 - 0.5 * math.cos(math.pi * t), "falling": 1.0 - t}
        return named[self.schedule]

    def pull(self, estimate: Estimate, weight: Array, factor: float = 1.0) -> Array:
        """Return what is added to the velocity (or, for ``grad_step``, to the action).

        Args:
            estimate: Gradient [N, C] and values [E, N].
            weight: Guidance weights [N, 1].
            factor: Of the schedule.

        Returns:
            [N, C], in the dtype of the gradient.
        """
        gradient = estimate.gradient
        if self.mask:
            repeats = gradient.shape[1] // len(self.mask)
            gradient = gradient * np.tile(np.asarray(self.mask, dtype=gradient.dtype), repeats)
        if self.max_gradient_norm < math.inf:
            norm = np.sqrt(np.square(gradient).sum(axis=1, keepdims=True))
            gradient = gradient * np.minimum(1.0, self.max_gradient_norm / np.maximum(norm, 1e-30)).astype(norm.dtype)
        if factor != 1.0:
            weight = weight * weight.dtype.type(factor)
        if self.disagreement_scale < math.inf:
            spread = estimate.q.max(axis=0) - estimate.q.min(axis=0)
            weight = weight * (self.disagreement_scale / (self.disagreement_scale + spread))[:, None]
        return weight * gradient


#: Algorithm 1 as it stands.
QGF = Guidance()


def parse_schedule(text: str) -> str | tuple[float, ...]:
    """Return the schedule that a text means: one of `SCHEDULES`, or factors separated by commas.

    Raises:
        GuidanceError: It is neither.
    """
    if text in SCHEDULES:
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise GuidanceError(
            f"weight_schedule {text!r} was given; expected {', '.join(SCHEDULES)}, or a factor per denoising step"
        ) from None


def mask_without(unguided: Sequence[str], action_names: Sequence[str]) -> tuple[float, ...]:
    """Return the mask that leaves some components of an action unguided; empty if none are named.

    Raises:
        GuidanceError: There is no component of that name.
    """
    for name in unguided:
        if name not in action_names:
            raise GuidanceError(f"unguided_actions {name!r} was given; the bundle has {', '.join(action_names)}")
    return tuple(float(name not in unguided) for name in action_names) if unguided else ()
