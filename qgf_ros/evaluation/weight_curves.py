"""Success over the guidance weight, and where it falls off: variants of guidance beside the one that they are to better.

The cliff is the weight at which success, beyond its highest, has come down to half of that. What lessens the weight moves it
and is no better for that; so the curve is one finding, and another one what the best weight of each variant is worth on
seeds that had no say in the choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.evaluation.guidance_variants import VariantComparison, VariantOutcomes
from qgf_ros.reports.statistics import (
    bootstrap_p_value,
    compare_paired,
    estimate,
    holm,
    resampled_scores,
    wilson_interval,
)

Array = NDArray[np.float64]
#: Chance that any variant without an effect is called better or worse.
LEVEL = 0.05
_REPLICATES = 2000


def variants_report(
    comparison: VariantComparison, found: Mapping[str, Sequence[VariantOutcomes]]
) -> list[dict[str, Any]]:
    """Return the numbers of each variant, the reference first.

    Args:
        comparison: What was compared.
        found: By variant, in the order of the tasks, from `guidance_variants.run_variants`.

    Returns:
        Per variant ``{"variant", "bundle", "settings", "curve", "tasks", "cliff", "mean_over_weights", "chosen"}``; rates are
        of all tasks together, differences from the reference, None for itself.
    """
    names = [variant.name for variant in comparison.variants]
    curves = {name: _successes(found[name]) for name in names}
    rows: list[dict[str, Any]] = [
        {
            "variant": variant.name,
            "bundle": variant.bundle.name,
            "settings": dict(variant.settings),
            "curve": _curve(comparison.weights, curves[variant.name], curves[names[0]], variant.name == names[0]),
            "tasks": _per_task(comparison, found[variant.name]),
            "cliff": _cliff(comparison.weights, curves[variant.name]),
            "mean_over_weights": _mean_over_weights(curves[variant.name], curves[names[0]]),
            "chosen": _chosen(found[variant.name], found[names[0]]),
        }
        for variant in comparison.variants
    ]
    rows[0]["mean_over_weights"]["versus"] = rows[0]["chosen"]["versus"] = None
    others = [row["chosen"]["versus"] for row in rows[1:]]
    for versus, corrected in zip(others, holm([versus["p_value"] for versus in others])):
        versus["p_holm"] = corrected
        sign = "better" if versus["difference"] > 0.0 else "worse"
        versus["verdict"] = sign if corrected <= LEVEL else "undecided"
    return rows


def _successes(outcomes: Sequence[VariantOutcomes]) -> Array:
    """Return successes [W, K, E] of W weights and K tasks."""
    solved = [[[one.success for one in weight] for weight in task.curve] for task in outcomes]
    successes: Array = np.asarray(solved, dtype=np.float64).swapaxes(0, 1)
    return successes


def _curve(weights: Sequence[float], curve: Array, reference: Array, itself: bool) -> list[dict[str, Any]]:
    lines = []
    for weight, mine, theirs in zip(weights, curve, reference):
        paired = compare_paired([bool(one) for one in theirs.ravel()], [bool(one) for one in mine.ravel()])
        versus = {"difference": paired.difference, "ci95": paired.ci95, "p_value": paired.p_value}
        counted = _counted(int(mine.sum()), mine.size)
        lines.append({"guidance_weight": weight, **counted, "versus": None if itself or not weight else versus})
    return lines


def _counted(successes: int, episodes: int) -> dict[str, Any]:
    rate, interval = successes / episodes, wilson_interval(successes, episodes)
    return {"successes": successes, "episodes": episodes, "success_rate": rate, "ci95": interval}


def _per_task(comparison: VariantComparison, outcomes: Sequence[VariantOutcomes]) -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "successes": [sum(one.success for one in weight) for weight in found.curve],
            "episodes": len(found.curve[0]),
            "chosen_weight": found.chosen.guidance_weight,
            "reported": _counted(sum(one.success for one in found.reported), len(found.reported)),
        }
        for task, found in zip(comparison.tasks, outcomes)
    ]


def _cliff(weights: Sequence[float], curve: Array) -> dict[str, Any]:
    """Return the cliff with its interval, over episodes drawn again; None stands for beyond the weights that were tried."""
    _, tasks, episodes = curve.shape
    drawn = np.random.default_rng(0).integers(episodes, size=(_REPLICATES, tasks, episodes))
    rates = np.stack([one[np.arange(tasks)[:, None], drawn].mean(axis=(1, 2)) for one in curve], axis=1)
    falls = [cliff_of(weights, replicate) for replicate in rates]
    low, high = np.quantile(falls, 0.025, method="lower"), np.quantile(falls, 0.975, method="higher")
    own = cliff_of(weights, curve.mean(axis=(1, 2)))
    finite = [value if math.isfinite(value) else None for value in (own, float(low), float(high))]
    return {"guidance_weight": finite[0], "ci95": finite[1:]}


def cliff_of(weights: Sequence[float], rates: Sequence[float] | Array) -> float:
    """Return the weight at which success has come down to half of its highest, on a straight line over log weight.

    Args:
        weights: Ascending, from 0 on.
        rates: Success at each.

    Returns:
        Infinity where it stays above half up to the largest weight, or is 0 throughout.
    """
    values = np.asarray(rates, dtype=np.float64)
    top = int(values.argmax())
    half = values[top] / 2.0
    beyond = [i for i in range(top + 1, len(values)) if values[i] <= half]
    if not beyond or not half:
        return math.inf
    after = beyond[0]
    before = after - 1
    if weights[before] == 0.0:  # log weight begins with the first weight above 0
        return float(weights[after])
    share = (values[before] - half) / (values[before] - values[after])
    return float(weights[before] * (weights[after] / weights[before]) ** share)


def _mean_over_weights(curve: Array, reference: Array) -> dict[str, Any]:
    """Return the success at a weight drawn from those above 0, and how it differs from the reference's, paired."""
    mine, theirs = curve[1:].mean(axis=0), reference[1:].mean(axis=0)
    drawn = resampled_scores([mine[None], theirs[None]], paired=True, replicates=_REPLICATES)
    own, other = (scores.mean(axis=(1, 2)) for scores in drawn)
    difference = estimate(float(mine.mean() - theirs.mean()), own - other)
    return {
        "value": float(mine.mean()),
        "ci95": estimate(float(mine.mean()), own).interval,
        "versus": {
            "difference": difference.value,
            "ci95": difference.interval,
            "p_value": bootstrap_p_value(own - other),
        },
    }


def _chosen(outcomes: Sequence[VariantOutcomes], reference: Sequence[VariantOutcomes]) -> dict[str, Any]:
    """Return what the chosen weights of all tasks do on the reporting seeds."""
    mine, theirs = ([one.success for task in found for one in task.reported] for found in (outcomes, reference))
    paired = compare_paired(theirs, mine)
    return {
        "weights": [task.chosen.guidance_weight for task in outcomes],
        **_counted(sum(mine), len(mine)),
        "versus": {
            "only_reference": paired.only_first,
            "only_variant": paired.only_second,
            "difference": paired.difference,
            "ci95": paired.ci95,
            "p_value": paired.p_value,
        },
    }
