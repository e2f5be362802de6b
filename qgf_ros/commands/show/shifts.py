"""The levels of `qgf evaluate --shift`: one run after the other, and a table of how success decays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from qgf_sim.cluster import RayCluster
    from qgf_sim.rollouts.evaluate import EvaluationPlan


def evaluate_levels(
    console: Console, title: str, plan: EvaluationPlan, text: str, cluster: RayCluster | None = None
) -> list[dict[str, Any]]:
    """Run a plan without shift and at each level of a text such as ``action_delay=1,2``.

    Args:
        console: Where progress and the table are shown.
        title: What is running.
        plan: What to run; its first weight is what the others are compared with.
        text: See `qgf_sim.worlds.shift.parse_shifts`.
        cluster: Where to run it instead of in processes of this machine.

    Returns:
        A record per level, from `qgf_sim.rollouts.robustness.level_record`.

    Raises:
        SimulationError: The text names no shifts; the message lists them.
    """
    from qgf_ros.commands.show.display import RunDisplay
    from qgf_sim.rollouts.evaluate import evaluate
    from qgf_sim.rollouts.robustness import level_record, levels

    records = []
    for shift in levels(text):
        heading = f"{title}, shift: {shift.label}"
        with RunDisplay(console, heading, plan.guidance_weights, plan.episodes) as display:
            results = evaluate(replace(plan, shift=shift), display.add, cluster)
        records.append(level_record(shift, plan.task, results))
    console.print(decay_table(records, title))
    return records


def decay_table(records: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return the table of `qgf evaluate --shift`, which fits a terminal of 80 columns.

    For each level and weight: success [%] and its lead over the first weight, each with its 95 % interval.
    """
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("shift", overflow="fold")
    for heading in ("success", "%", "steps", "lead", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for record in records:
        table.add_row(record["label"].replace(", ", "\n"))
        leads = {comparison["guidance_weight"]: comparison for comparison in record["comparisons"]}
        for run in record["runs"]:
            table.add_row(
                f"  weight {run['guidance_weight']:g}",
                f"{run['successes']}/{run['episodes']}",
                f"{100 * run['success_rate']:.0f} {_interval(run['ci95'])}",
                f"{run['mean_length']:.0f}",
                *_lead(leads.get(run["guidance_weight"])),
            )
        table.add_section()
    return table


def _lead(comparison: Mapping[str, Any] | None) -> tuple[str, str]:
    if comparison is None:
        return "", ""
    p_value = comparison["p_value"]
    chance = f"{p_value:.3f}" if p_value >= 0.001 else "<.001"
    return f"{100 * comparison['difference']:+.0f} {_interval(comparison['ci95'], '+')}", chance


def _interval(ci95: Sequence[float], sign: str = "") -> str:
    low, high = (f"{100 * bound:{sign}.0f}" for bound in ci95)
    return f"\\[{low}, {high}]"
