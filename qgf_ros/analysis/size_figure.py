"""The figure of `qgf analyze size`: success and the critics' held-out loss over the number of parameters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from qgf_ros.analysis.uncertainty_figure import look
from qgf_ros.reports.figures import method_label, new_figure, style


def draw_sizes(numbers: Mapping[str, Any]) -> Figure:
    """Draw success with its 95 % interval, a line for each series and method, and beside it losses where there are any.

    Args:
        numbers: ``points``, from `qgf_ros.analysis.model_sizes.sizes_report`.
    """
    points = numbers["points"]
    with style():
        validated = [point for point in points if point["held_out_loss"] is not None]
        figure = new_figure(8.0 if validated else 4.6, 3.4)
        success, *losses = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]
        _draw_success(success, points)
        for axes in losses:
            _draw_losses(axes, validated)
        figure.legend(*success.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_success(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    for number, (series, method) in enumerate(dict.fromkeys((point["series"], point["method"]) for point in points)):
        mine = [point for point in points if (point["series"], point["method"]) == (series, method)]
        rates = np.array([[point["success_rate"], *point["ci95"]] for point in mine])
        spread = np.abs(rates[:, 1:] - rates[:, :1]).T
        drawn: dict[str, Any] = {**look(number), "label": f"{series}, {method_label(method)}"}
        sizes = [
            point["velocity"] * 1.02**number for point in mine
        ]  # apart, so that intervals can be told from each other
        axes.errorbar(sizes, 100 * rates[:, 0], yerr=100 * spread, capsize=2, elinewidth=0.8, **drawn)
    _sizes(axes, [point["velocity"] for point in points])
    axes.set_ylim(0.0, 100.0)
    axes.set_xlabel("parameters of the velocity field")
    axes.set_ylabel("success [%]")


def _draw_losses(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    series = dict.fromkeys(point["series"] for point in points)
    for name, line in zip(series, itertools.cycle(("-", "--", ":", "-."))):
        known = {point["critic"]: point["held_out_loss"] for point in points if point["series"] == name}
        axes.plot(list(known), list(known.values()), line, color="black", marker="o", label=name)
    _sizes(axes, [point["critic"] for point in points])
    axes.set_xlabel("parameters of a critic")
    axes.set_ylabel("held-out Bellman error, per task")
    if len(series) > 1:
        axes.legend()


def _sizes(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    apart: list[int] = []
    for size in sorted(set(sizes)):  # labels of sizes that are almost the same would lie on each other
        if not apart or size > 1.3 * apart[-1]:
            apart.append(size)
    axes.set_xticks(apart, [f"{size / 1000:.0f}k" for size in apart])
