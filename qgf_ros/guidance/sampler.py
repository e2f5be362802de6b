"""Algorithm 1 of Q-Guided Flow: guided Euler integration from noise to action."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.estimators import ESTIMATORS, OWN_ESTIMATORS, Estimate
from qgf_ros.guidance.names import GRAD_STEP
from qgf_ros.guidance.prefix import MAX_CORRECTION_WEIGHT, Prefix
from qgf_ros.guidance.protocols import ActionValue, Array, Flow
from qgf_ros.guidance.shaping import QGF, Guidance


@dataclass(frozen=True)
class Sample:
    """Finished actions and what guidance did to them.

    Attributes:
        action: [N, C], in [-1, 1].
        gradient_norm: Euclidean norm of the guidance gradient, before any option, averaged over the denoising
            (or ascent) steps [N]; 0 where the weight is 0.
        clip_fraction: Share of the finished action's components that the last clip moved [N].
    """

    action: Array
    gradient_norm: Array
    clip_fraction: Array


def sample(
    flow: Flow,
    value: ActionValue | None,
    noise: Array,
    guidance_weight: float | Array = 0.0,
    *,
    steps: int = 10,
    guidance: Guidance = QGF,
    prefix: Prefix | None = None,
) -> Sample:
    """Integrate the guided flow given N observations.

    Rows of weight 0 are plain behaviour cloning: the critic never sees them, and they come out as if no other row
    were guided. Likewise for the prefix, whose correction and the critic's pull add up, as the gradients of the
    logarithms of two independent likelihoods do. Estimators see the plain velocity.

    Args:
        flow: The behaviour-cloned flow.
        value: Of the guiding critic, given the same observations; may be None when every weight is 0.
        noise: Starting points [N, C], standard normal; left unchanged.
        guidance_weight: 1/beta, one for all or one per row [N]; for ``grad_step`` the step size alpha.
        steps: Euler steps T; 1 for an actor of one step, whose velocity is its action less the noise.
        guidance: The estimator and its options.
        prefix: Actions that the chunks have to agree with, target and weight [N, C]; none by default. ``grad_step``
            climbs from the agreed action.

    Returns:
        Actions and telemetry of the N rows.

    Raises:
        GuidanceError: A weight is negative or not finite, a guided row has no critic, or a velocity or a gradient is
            not finite.
    """
    weight = np.broadcast_to(np.asarray(guidance_weight, dtype=noise.dtype), noise.shape[:1])
    if not np.isfinite(weight).all() or (weight < 0.0).any():
        raise GuidanceError(f"guidance_weight {guidance_weight} was given; it must be finite and at least 0")
    rows = np.flatnonzero(weight)
    if len(rows) and value is None:
        raise GuidanceError(
            f"guidance_weight {guidance_weight} was given without a critic; use weight 0 or load a critic"
        )
    guided = slice(None) if len(rows) == len(weight) else rows
    guided_flow, weight_guided = flow.rows(guided), weight[guided, None]
    guiding = value.rows(guided) if value is not None and len(rows) else None
    estimator = ESTIMATORS.get(guidance.estimator) or OWN_ESTIMATORS.get(guidance.estimator)
    bound = np.flatnonzero(prefix.weight.any(axis=1)) if prefix is not None else rows[:0]
    tied = prefix.rows(bound) if prefix is not None and len(bound) else None
    tied_flow = flow.rows(bound)
    most = min(MAX_CORRECTION_WEIGHT, float(steps))  # or one step of few would go beyond what is to be agreed with
    a = noise
    norm = np.zeros_like(weight)
    for k in range(steps):
        t = np.full(len(noise), k / steps, dtype=noise.dtype)
        plain = flow(a, t)
        v = plain.copy()
        if guiding is not None and estimator is not None:
            estimate = _finite(estimator(guided_flow, guiding, a[guided], t[guided], plain[guided], steps))
            norm[guided] += _norm(estimate) / steps
            v[guided] += guidance.pull(estimate, weight_guided, guidance.factor(k, steps))
        if tied is not None:
            v[bound] += tied.correction(tied_flow, a[bound], t[bound], plain[bound], most)
        a = a + v / steps
    if not np.isfinite(a).all():
        raise GuidanceError("the velocity field gave a value that is not finite; check the observation and the bundle")
    action = np.clip(a, -1.0, 1.0)
    clip_fraction = (action != a).mean(axis=1, dtype=noise.dtype)
    if guidance.estimator == GRAD_STEP and guiding is not None:
        action[guided], norm[guided] = _ascend(guiding, action[guided], weight_guided, guidance)
    return Sample(action, norm, clip_fraction)


def _ascend(value: ActionValue, action: Array, alpha: Array, guidance: Guidance) -> tuple[Array, Array]:
    """Return actions [N, C] after L steps a <- clip(a + alpha dQ/da, -1, 1), and the mean norm of the gradients [N]."""
    norm = np.zeros(len(action), dtype=action.dtype)
    for _ in range(guidance.ascent_steps):
        q, gradient = value.value_and_grad(action)
        estimate = _finite(Estimate(gradient, q))
        norm += _norm(estimate) / guidance.ascent_steps
        if guidance.ascent_sign:
            estimate = Estimate(np.sign(gradient), q)
        action = np.clip(action + guidance.pull(estimate, alpha), -1.0, 1.0)
    return action, norm


def _finite(estimate: Estimate) -> Estimate:
    if not np.isfinite(estimate.gradient).all():
        raise GuidanceError("the critic's gradient is not finite; check the observation and the critic")
    return estimate


def _norm(estimate: Estimate) -> Array:
    norm: Array = np.sqrt(np.square(estimate.gradient).sum(axis=1))
    return norm


def best_candidate(q: Array) -> Array:
    """Return the number of the best candidate of each group, for aggregated values q [B, N]; the first wins a tie."""
    best: Array = np.argmax(q, axis=1)
    return best
