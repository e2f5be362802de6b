"""The figure of `qgf analyze success`: every method in every family, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qgf_ros.reports.figures import method_label, method_look, new_figure, style


def draw_success(numbers: Mapping[str, Any]) -> Figure:
    """Draw the mean success of every method with its 95 % interval, and a dot for each task.

    Args:
        numbers: ``families`` and ``overall``, from `qgf_ros.evaluation.method_report.report`; all together is drawn where there
            are several families.

    Raises:
        ValueError: There is no method.
    """
    parts = [(part["family"], part["methods"]) for part in numbers["families"]]
    if len(parts) > 1:
        parts.append(("all", numbers["overall"]["methods"]))
    names = list(dict.fromkeys(row["method"] for _, rows in parts for row in rows))
    if not names:
        raise ValueError("no method has run on every task of a family; there is nothing to draw")
    with style():
        figure = new_figure(max(5.0, 1.6 + 2.4 * len(parts)), 0.3 * len(names) + 1.3)
        panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
        for axes, (title, rows) in zip(panels, parts):
            _panel(axes, names, rows)
            axes.set_title(title)
        seeds = {name: _training_seeds(name, parts) for name in names}
        most = max(seeds.values(), default=0)
        labels = [
            method_label(name) + (f" ({_count(seeds[name], 'seed')})" if seeds[name] < most else "") for name in names
        ]
        panels[0].set_yticks(range(len(names)), labels)
        panels[0].invert_yaxis()
        for axes in panels:
            axes.set_xlabel("success [%]")
        gap = "\n" if len(parts) < 3 else " "
        figure.supxlabel(
            f"Mean over tasks and {_count(most, 'training seed')} with its 95 % bootstrap interval;{gap}a dot for each task.",
            size=8.5,
        )
    return figure


def _training_seeds(name: str, parts: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> int:
    """Return how many training seeds a method has in every panel."""
    rows = [row for _, rows in parts for row in rows if row["method"] == name]
    return min(len(seeds) for row in rows for seeds in row["training_seeds"].values())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _panel(axes: Axes, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        height, look = names.index(row["method"]), method_look(row["method"])
        rate, (low, high) = 100 * row["success_rate"], (100 * bound for bound in row["ci95"])
        axes.barh(height, rate, color=look.colour, alpha=0.4, height=0.7)
        # Rounding must not put a bound on the wrong side.
        error = [[max(rate - low, 0.0)], [max(high - rate, 0.0)]]
        axes.errorbar(rate, height, xerr=error, color="black", capsize=2.5, elinewidth=1.2)
        tasks = [100 * task["success_rate"] for task in row["tasks"]]
        axes.plot(tasks, [height + 0.22] * len(tasks), ".", color=look.colour, markersize=5.0)
        axes.text(1.5, height - 0.03, f"{rate:.0f}", va="center", size=8)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 100)
