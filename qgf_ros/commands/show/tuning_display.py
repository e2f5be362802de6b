"""What `qgf tune` shows while it runs, and of what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from qgf_ros.commands.show.display import number


class Stages:
    """Two bars for each critic: the choice, of which nobody knows how soon it ends, and the report.

    Args:
        bar: Where they are.
        title: What is tuned.
        choosing, reporting: Most episodes of each.
    """

    def __init__(self, bar: Progress, title: str, choosing: int, reporting: int) -> None:
        self._bar = bar
        self._choosing = bar.add_task(f"{title}, choosing", total=choosing)
        self._reporting = bar.add_task(f"{title}, reporting", total=reporting, start=False)

    def add(self, episodes: int, *, reporting: bool) -> None:
        """Count finished episodes."""
        if reporting and not self._bar.tasks[self._reporting].started:
            self._bar.update(self._choosing, total=self._bar.tasks[self._choosing].completed)
            self._bar.start_task(self._reporting)
        self._bar.advance(self._reporting if reporting else self._choosing, episodes)

    def finish(self) -> None:
        """Count what was not needed as done."""
        for task in (self._choosing, self._reporting):
            self._bar.update(task, total=self._bar.tasks[task].completed)


def show(console: Console, title: str, found: Mapping[str, Any]) -> None:
    """Print what a search found, from `qgf_ros.evaluation.tuning.tune`."""
    console.print(_table(found["choosing"], f"{title}, choosing seeds"))
    console.print(_table(found["reporting"], f"{title}, held-out seeds"))
    console.print(f"{title}: {found['verdict']}", highlight=False, soft_wrap=True)
    if found["recommended_limits"]:
        limits = ", ".join(f"{name} {value:g}" for name, value in found["recommended_limits"].items())
        console.print(f"{title}: on a robot, with {limits}", highlight=False, soft_wrap=True)


def _table(runs: Sequence[Mapping[str, Any]], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    settled = any(run["settings"] for run in runs)
    for heading in (
        "weight",
        *(("settings",) if settled else ()),
        "success",
        "95 % interval",
        "mean length",
        "start Q",
    ):
        table.add_column(heading, justify="right", no_wrap=heading != "settings")
    for run in runs:
        low, high = run["ci95"]
        settings = ", ".join(f"{name} {value}" for name, value in run["settings"].items())
        table.add_row(
            f"{run['guidance_weight']:g}",
            *((settings,) if settled else ()),
            f"{run['successes']}/{run['episodes']}  {100 * run['success_rate']:.0f} %",
            f"{100 * low:.0f} - {100 * high:.0f} %",
            f"{run['mean_length']:.0f} steps",
            number(run["start_q"]),
        )
    return table


def write_table(path: Path, report: Mapping[str, Any]) -> None:
    """Write what was found as JSON, and its figure beside it.

    Raises:
        QgfError: A file cannot be written.
    """
    from qgf_ros.evaluation.results import write_report
    from qgf_ros.evaluation.tuning_figure import draw_tuning
    from qgf_ros.reports.figures import write_figure

    write_report(path, report)
    write_figure(draw_tuning(report["tasks"]), path.parent, path.stem)
