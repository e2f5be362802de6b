"""What is claimed of methods that were compared: success and its intervals, of each family and of all together.

The definitions are those of Agarwal et al. (2021), see `qgf_ros.reports.statistics`; a score is the success rate of one
training seed on one task. Imports neither MuJoCo nor ROS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from qgf_ros.evaluation.method_cells import Cells, Record, outcomes_of, reported
from qgf_ros.reports.statistics import (
    Array,
    BootstrapEstimate,
    bootstrap_p_value,
    compare_paired,
    equivalent,
    estimate,
    holm,
    interquartile_mean,
    mean_score,
    probability_of_improvement,
    resampled_scores,
    wilson_interval,
)

#: Differences that are smaller either way make no difference.
MARGIN = 0.05
#: Chance that any method without an effect is called better or worse.
LEVEL = 0.05


def report(
    records: Sequence[Record], costs: Sequence[Mapping[str, Any]] = (), *, reference: str, replicates: int = 2000
) -> dict[str, Any]:
    """Return the statistics of records.

    Args:
        records: Of a method, training seed and task each, from `qgf_sim.rollouts.method_trials.record_of`; the order of
            families and methods is that of the first ones.
        costs: Of a method and bundle each, from `qgf_ros.analysis.method_costs`.
        reference: Method that every other is compared with.
        replicates: Of each bootstrap.

    Returns:
        ``{"statistics", "families", "overall"}``: how it was counted, and per family and overall a row for each method that
        ran on all of it. Overall, families have equal training seeds: the first ones, as many as all of them have.
    """
    cells = Cells.of(records)
    describe = partial(_scope, cells, costs, reference=reference, replicates=replicates)
    return {
        "statistics": {
            "reference": reference,
            "margin": MARGIN,
            "level": LEVEL,
            "replicates": replicates,
            "score": "success rate of one training seed on one task",
            "p_value": "the larger one of the bootstrap's and McNemar's; p_holm is corrected for the number of methods",
        },
        "families": [{"family": family, **describe([family])} for family in cells.families],
        "overall": describe(cells.families),
    }


def _scope(
    cells: Cells, costs: Sequence[Mapping[str, Any]], families: Sequence[str], *, reference: str, replicates: int
) -> dict[str, Any]:
    rows = []
    for method in cells.methods_in(families) if families else ():
        row = _row(cells, families, method, replicates)
        row["cost"] = _cost(costs, families, method)
        row["versus"] = None
        row["probability_of_improvement"] = None
        if method != reference:
            row.update(_against(cells, families, method, reference, replicates))
        rows.append(row)
    compared = [row["versus"] for row in rows if row["versus"]]
    for versus, corrected in zip(compared, holm([versus["p_value"] for versus in compared])):
        versus["p_holm"] = corrected
        versus["verdict"] = _verdict(versus)
    return {"methods": rows}


def _row(cells: Cells, families: Sequence[str], method: str, replicates: int) -> dict[str, Any]:
    """Return the success of one method, and what other choices of its setting would have done."""
    records = cells.shared(families, [method])
    assert records is not None
    flat = [record for row in records for record in row]
    outcomes = _array(records)
    (scores,) = resampled_scores([outcomes], replicates=replicates)
    own = outcomes.mean(axis=-1)
    mean = estimate(float(mean_score(own)), mean_score(scores))
    successes, episodes = int(outcomes.sum()), outcomes.size
    tasks = [(record["family"], record["task"]) for record in records[0]]
    return {
        "method": method,
        "training_seeds": _seeds_of(flat),
        "tasks": [
            _task(family, task, outcomes[:, column].ravel(), [row[column] for row in records])
            for column, (family, task) in enumerate(tasks)
        ],
        "successes": successes,
        "episodes": episodes,
        "success_rate": mean.value,
        "ci95": mean.interval,
        "wilson95": wilson_interval(successes, episodes),
        "iqm": _with_interval(estimate(float(interquartile_mean(own)), interquartile_mean(scores))),
        "mean_length": float(np.mean([record["reporting"]["mean_length"] for record in flat])),
        "fewer": _fewer_choosing_episodes(cells, families, method, replicates),
    }


def _seeds_of(records: Sequence[Record]) -> dict[str, list[int]]:
    families = dict.fromkeys(record["family"] for record in records)
    return {
        family: sorted({record["training_seed"] for record in records if record["family"] == family})
        for family in families
    }


def _task(family: str, task: int, outcomes: Array, records: Sequence[Record]) -> dict[str, Any]:
    successes = int(outcomes.sum())
    return {
        "family": family,
        "task": task,
        "weights": [record["weight"] for record in records],
        "successes": successes,
        "episodes": len(outcomes),
        "success_rate": successes / len(outcomes),
        "ci95": wilson_interval(successes, len(outcomes)),
    }


def _against(cells: Cells, families: Sequence[str], method: str, reference: str, replicates: int) -> dict[str, Any]:
    """Return how a method differs from the reference where both have run, and how probably the reference is better."""
    mine, theirs = (cells.shared(families, pair) for pair in ([method, reference], [reference, method]))
    if mine is None or theirs is None:
        return {}
    own, other = _array(mine), _array(theirs)
    drawn = resampled_scores([own, other], paired=True, replicates=replicates)
    differences = mean_score(drawn[0]) - mean_score(drawn[1])
    difference = estimate(float(own.mean() - other.mean()), differences)
    pairs = compare_paired([bool(one) for one in other.ravel()], [bool(one) for one in own.ravel()])
    p_bootstrap = bootstrap_p_value(differences)
    scores = resampled_scores([own, other], replicates=replicates)
    ahead = estimate(
        float(probability_of_improvement(own.mean(axis=-1), other.mean(axis=-1))), probability_of_improvement(*scores)
    )
    return {
        "probability_of_improvement": {"of": reference, **_with_interval(ahead)},
        "versus": {
            "reference": reference,
            "training_seeds": _seeds_of([record for row in mine for record in row]),
            "pairs": own.size,
            "difference": difference.value,
            "ci95": difference.interval,
            "newcombe95": pairs.ci95,
            "p_bootstrap": p_bootstrap,
            "p_mcnemar": pairs.p_value,
            # A difference has to be one of training seeds and tasks, and one of episodes.
            "p_value": max(p_bootstrap, pairs.p_value),
        },
    }


def _verdict(versus: Mapping[str, Any]) -> str:
    """Return what is known of a method beside the reference: better, worse, equivalent within the margin, or undecided."""
    if versus["p_holm"] <= LEVEL:
        return "better" if versus["difference"] > 0.0 else "worse"
    # Newcombe's interval stays wide where a few episodes all ended alike, of which a bootstrap makes certainty.
    intervals = (versus["ci95"], versus["newcombe95"])
    if all(equivalent(BootstrapEstimate(versus["difference"], interval), MARGIN) for interval in intervals):
        return f"equivalent within ±{100 * MARGIN:g} points"
    return "undecided"


def _fewer_choosing_episodes(
    cells: Cells, families: Sequence[str], method: str, replicates: int
) -> list[dict[str, Any]]:
    """Return what a method does at the settings that led after fewer choosing episodes, which no search had to be run for."""
    records = cells.shared(families, [method])
    beside, bc = (cells.shared(families, pair) for pair in ([method, "bc"], ["bc", method]))
    assert records is not None
    flat = [record for row in records for record in row]
    final = _array(records)
    lines = []
    for rung in range(min(len(record["early"]) for record in flat)):
        successes = partial(_successes_at, rung)
        early = outcomes_of(records, successes)
        if early is None:
            continue
        (scores,) = resampled_scores([early], replicates=replicates)
        over_bc = (None, None) if beside is None or bc is None else (outcomes_of(beside, successes), outcomes_of(bc))
        lines.append(
            {
                "choosing_episodes": flat[0]["early"][rung]["choosing_episodes"],
                "episodes_spent": float(np.mean([record["early"][rung]["episodes_spent"] for record in flat])),
                "success_rate": float(early.mean()),
                "ci95": estimate(float(early.mean()), mean_score(scores)).interval,
                "episodes": early.size,
                "versus_final": _difference(early, final, replicates),
                "gain_over_bc": _difference(*over_bc, replicates),
            }
        )
    return lines


def _successes_at(rung: int, record: Record) -> list[bool] | None:
    """Return the held-out successes of the setting that led after a rung; None where nobody ran it."""
    early = record["early"][rung]
    if early["weight"] == record["weight"]:
        return reported(record)
    found: list[bool] | None = early["success"]
    return found


def _difference(first: Array | None, second: Array | None, replicates: int) -> dict[str, Any] | None:
    if first is None or second is None:
        return None
    drawn = resampled_scores([first, second], paired=True, replicates=replicates)
    return _with_interval(estimate(float(first.mean() - second.mean()), mean_score(drawn[0]) - mean_score(drawn[1])))


def _array(records: Sequence[Sequence[Record]]) -> Array:
    outcomes = outcomes_of(records, reported)
    assert outcomes is not None
    return outcomes


def _with_interval(found: BootstrapEstimate) -> dict[str, Any]:
    return {"value": found.value, "ci95": found.interval}


def _cost(costs: Sequence[Mapping[str, Any]], families: Sequence[str], method: str) -> dict[str, Any] | None:
    """Return the mean cost of an action over the bundles of some families; None where nobody counted."""
    mine = [cost for cost in costs if cost["method"] == method and cost["family"] in families]
    if not mine:
        return None
    times = [cost["time_ms"]["p50"] for cost in mine if cost["time_ms"] is not None]
    return {
        "gflops": float(np.mean([cost["gflops"] for cost in mine])),
        "time_ms": float(np.mean(times)) if times else None,
        "bundles": len(mine),
    }
