"""How far a small shift of the noised action turns each estimator's gradient: the paper's Figure 3.

An estimator G is reported by cos(G(s, a_t), G(s, a_t + e)) with e ~ N(0, deviation^2 I). At 1 the shift changes nothing
about the direction; at 0 the two gradients have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.conditioning import Critic, VelocityField
from qgf_ros.guidance.estimators import ESTIMATORS
from qgf_ros.guidance.protocols import ActionValue, Array, Flow, Rows
from qgf_ros.guidance.sampler import sample
from qgf_ros.reports.numbers import mean_and_error

#: Standard deviations of the shift [normalised action].
DEVIATIONS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


def measure_sensitivity(
    velocity: VelocityField,
    critic: Critic,
    observations: Array,
    noise: Array,
    shift: Array,
    *,
    steps: int,
    deviations: tuple[float, ...] = DEVIATIONS,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure every estimator along the plain flow.

    Args:
        velocity: The velocity field.
        critic: The critic.
        observations: [N, S].
        noise: Starting points of the flow [N, C].
        shift: Standard normal directions [N, C], the same for every estimator, time and size.
        steps: Euler steps T.
        deviations: Sizes of the shift.
        progress: Called after each of the T * 5 pairs of time and estimator.

    Returns:
        By estimator: ``cosine`` [T][deviations], ``by_deviation`` (mean over time, and its 95 % half width over rows),
        ``without_gradient`` (share of pairs left out, because one of the two gradients is 0).

    Raises:
        GuidanceError: A deviation is negative.
    """
    if min(deviations) < 0.0:
        raise GuidanceError(f"deviations {deviations} were given; each must be at least 0")
    flow, value = velocity.given(observations), critic.given(observations)
    states = _plain_flow(flow, noise, steps)
    cosines = {name: np.full((steps, len(deviations), len(noise)), np.nan) for name in ESTIMATORS}
    for k, a in enumerate(states):
        t = np.full(len(a), k / steps, dtype=a.dtype)
        for name in ESTIMATORS:
            still = _gradient(name, flow, value, a, t, steps)
            for i, deviation in enumerate(deviations):
                moved = (a + deviation * shift).astype(a.dtype)
                turned = _gradient(name, flow, value, moved, t, steps)
                cosines[name][k, i] = cosine(still, turned)
            progress()
    return {name: _summary(values) for name, values in cosines.items()}


def cosine(x: Array, y: Array) -> Array:
    """Return the cosine of the angle between rows [N, C]; nan where a row is 0."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    product = (x * y).sum(axis=1)
    return np.asarray(np.divide(product, lengths, out=np.full(len(x), np.nan), where=lengths > 0.0))


def combine(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the average over critics of what `measure_sensitivity` returned for each."""
    combined = {}
    for name in ESTIMATORS:
        rows = [part[name] for part in parts.values()]
        errors = np.asarray([row["by_deviation"]["error"] for row in rows])
        combined[name] = {
            "cosine": np.mean([row["cosine"] for row in rows], axis=0),
            "by_deviation": {
                "mean": np.mean([row["by_deviation"]["mean"] for row in rows], axis=0),
                "error": np.sqrt(np.square(errors).sum(axis=0)) / len(rows),
            },
            "without_gradient": float(np.mean([row["without_gradient"] for row in rows])),
        }
    return combined


def _plain_flow(flow: Flow, noise: Array, steps: int) -> list[Array]:
    states: list[Array] = []

    class Watched:
        """The flow as the sampler sees it, each noised action kept."""

        def __call__(self, a: Array, t: Array) -> Array:
            states.append(a)
            return flow(a, t)

        def vjp(self, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
            return flow.vjp(a, t, u)

        def rows(self, rows: Rows) -> Flow:
            return flow.rows(rows)

    sample(Watched(), None, noise, steps=steps)
    return states


def _gradient(name: str, flow: Flow, value: ActionValue, a: Array, t: Array, steps: int) -> Array:
    return ESTIMATORS[name](flow, value, a, t, flow(a, t), steps).gradient


def _summary(cosines: Array) -> dict[str, Any]:
    """Summarise cosines [T, D, N]: rows are independent, the times of a row are not."""
    known = np.isfinite(cosines)
    with np.errstate(invalid="ignore"):
        rows = np.where(known, cosines, 0.0).sum(axis=0) / known.sum(axis=0)  # [D, N]
        over_time = np.where(known, cosines, 0.0).sum(axis=2) / known.sum(axis=2)
    summaries = [mean_and_error(row[np.isfinite(row)]) for row in rows]
    return {
        "cosine": over_time,
        "by_deviation": {key: np.asarray([summary[key] for summary in summaries]) for key in ("mean", "error")},
        "without_gradient": float(1.0 - known.mean()),
    }
