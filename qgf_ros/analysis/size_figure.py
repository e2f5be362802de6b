"""The figure of `qgf analyze size`: success and the critics' held-out loss over the number of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qgf_ros.analysis.uncertainty_figure import look
from qgf_ros.reports.figures import method_label, new_figure, style


def draw_sizes(numbers: Mapping[str, Any]) -> Figure:
    """Draw a line for each series and method, with 95 % intervals; losses beside it where there are any.

    Args:
        numbers: ``points``, from `qgf_ros.analysis.model_sizes.sizes_report`.
    """
    points = numbers["points"]
    lines = list(dict.fromkeys((point["series"], point["method"]) for point in points))
    with style():
        figure = new_figure(8.0, 3.4)
        success, losses = figure.subplots(1, 2)
        for number, line in enumerate(lines):
            mine = [point for point in points if (point["series"], point["method"]) == line]
            sizes = np.array([point["velocity"] for point in mine])
            rates = np.array([[point["success_rate"], *point["ci95"]] for point in mine])
            spread = np.abs(rates[:, 1:] - rates[:, :1]).T
            drawn: dict[str, Any] = {**look(number), "label": f"{line[0]}, {method_label(line[1])}"}
            success.errorbar(sizes, 100 * rates[:, 0], yerr=100 * spread, capsize=2, elinewidth=0.8, **drawn)
        for number, series in enumerate(dict.fromkeys(series for series, _ in lines)):
            known = {
                point["critic"]: point["held_out_loss"]
                for point in points
                if point["series"] == series and point["held_out_loss"] is not None
            }
            losses.plot(list(known), list(known.values()), **look(number), label=series)
        for axes in (success, losses):
            axes.set_xscale("log")
        success.set_ylim(0.0, 100.0)
        success.set_xlabel("parameters of the velocity field")
        success.set_ylabel("success [%]")
        losses.set_xlabel("parameters of a critic")
        losses.set_ylabel("held-out Bellman error, per task")
        figure.legend(*success.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
