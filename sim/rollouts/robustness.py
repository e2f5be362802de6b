"""How success decays under domain shift: every guidance weight beside behaviour cloning, on the same shifted seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qgf_ros.evaluation.results import Episode, summaries
from qgf_ros.reports.statistics import compare_paired
from qgf_sim.worlds.shift import NONE, Shift, parse_shifts


def levels(text: str) -> tuple[Shift, ...]:
    """Return the shifts that a text names, after no shift at all, which the others are seen against.

    Raises:
        SimulationError: See `parse_shifts`.
    """
    return (NONE, *(shift for shift in dict.fromkeys(parse_shifts(text)) if shift != NONE))


def level_record(shift: Shift, task: int, results: Mapping[float, Sequence[Episode]]) -> dict[str, Any]:
    """Return the JSON record of one level: its runs, and each weight's difference to the first one.

    Args:
        shift: What is shifted.
        task: Single-task number.
        results: Episodes of each weight, of the same seeds in the same order.
    """
    baseline, *others = results
    comparisons = []
    for weight in others:
        paired = compare_paired(*([episode.success for episode in results[key]] for key in (baseline, weight)))
        comparisons.append(
            {
                "guidance_weight": weight,
                "against": baseline,
                "difference": paired.difference,
                "ci95": list(paired.ci95),
                "p_value": paired.p_value,
            }
        )
    runs = summaries(task, results)
    return {"shift": shift.changed, "label": shift.label, "runs": runs, "comparisons": comparisons}
