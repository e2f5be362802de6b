"""The figure of `qgf analyze uncertainty`: success over the guidance weight, and what the best weight of each is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qgf_ros.reports.figures import new_figure, style

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#666666", "#000000")
_MARKERS = "osX^DvP*"


def draw_uncertainty(numbers: Mapping[str, Any]) -> Figure:
    """Draw the curve of every variant with 95 % intervals and its cliff, and beside them what was reported.

    Args:
        numbers: ``variants``, from `qgf_ros.evaluation.weight_curves.variants_report`.
    """
    variants = numbers["variants"]
    with style():
        figure = new_figure(9.0, 3.6)
        curves, reported = figure.subplots(1, 2, width_ratios=(1.7, 1.0))
        _draw_curves(curves, variants)
        _draw_reported(reported, variants)
        figure.legend(*curves.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def look(number: int) -> dict[str, Any]:
    """Return colour and marker of a line by its number."""
    return {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}


def _draw_curves(axes: Axes, variants: Sequence[Mapping[str, Any]]) -> None:
    for number, variant in enumerate(variants):
        lines = [line for line in variant["curve"] if line["guidance_weight"] > 0.0]
        # Apart by a little, so that the intervals can be told from each other.
        weights = np.array([line["guidance_weight"] for line in lines]) * 1.03 ** (number - len(variants) / 2)
        rates = np.array([[line["success_rate"], *line["ci95"]] for line in lines])
        spread = np.abs(rates[:, 1:] - rates[:, :1]).T
        drawn = look(number)
        axes.errorbar(
            weights, 100 * rates[:, 0], yerr=100 * spread, capsize=2, elinewidth=0.8, label=variant["variant"], **drawn
        )
        cliff = variant["cliff"]["guidance_weight"]
        if cliff is not None:
            axes.axvline(cliff, color=drawn["color"], linestyle=":", linewidth=1.0)
    plain = variants[0]["curve"][0]
    axes.axhline(100 * plain["success_rate"], color="#666666", linestyle="--", linewidth=1.0)
    axes.set_xscale("log")
    axes.set_ylim(0.0, 100.0)
    axes.set_xlabel("guidance weight; dotted: the cliff, dashed: plain behaviour cloning")
    axes.set_ylabel("success [%]")


def _draw_reported(axes: Axes, variants: Sequence[Mapping[str, Any]]) -> None:
    for number, variant in enumerate(variants):
        rate, (low, high) = variant["chosen"]["success_rate"], variant["chosen"]["ci95"]
        error = [[100 * max(rate - low, 0.0)], [100 * max(high - rate, 0.0)]]
        axes.errorbar(100 * rate, number, xerr=error, capsize=2.5, linestyle="none", **look(number))
    axes.set_yticks(range(len(variants)), [variant["variant"] for variant in variants])
    axes.invert_yaxis()
    axes.set_xlim(0.0, 100.0)
    axes.set_xlabel("success on other seeds, best weight of each [%]")
