"""The figure of the toy: where each gradient leads, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qgf_ros.analysis.toy import ESTIMATORS_SHOWN, ToyRun
from qgf_ros.reports.figures import LOOKS, label_ends, new_figure, style

_HIT, _MISS = "#0072B2", "#D55E00"
#: The last column of the figure.
_SUMMARIES = ("bc", "sweep", "size")


def draw_toy(numbers: Mapping[str, Any], runs: Mapping[tuple[str, float], ToyRun], paths: int = 90) -> Figure:
    """Draw noised actions over time, the share that reaches a* over the weight, and the size of the gradients.

    Args:
        numbers, runs: From `run_toy`.
        paths: Samples drawn in each panel.
    """
    setting = numbers["setting"]
    weights = setting["weights"]
    with style():
        figure = new_figure(11.0, 2.55 * max(len(weights), 3))
        rows = max(len(weights), 3)
        names = [
            [*(f"{method} {row}" for method in ESTIMATORS_SHOWN), *_SUMMARIES[row : row + 1]] for row in range(rows)
        ]
        known = {f"{method} {row}" for method in ESTIMATORS_SHOWN for row in range(len(weights))} | {*_SUMMARIES}
        width = len(ESTIMATORS_SHOWN) + 1
        axes = figure.subplot_mosaic(
            [[name if name in known else "." for name in (*row, ".")[:width]] for row in names]
        )
        for method in ESTIMATORS_SHOWN:
            for row, weight in enumerate(weights):
                title = f"{LOOKS[method].label}, weight {weight:g}"
                _draw_paths(axes[f"{method} {row}"], runs[method, weight], setting, paths, title)
            axes[f"{method} {len(weights) - 1}"].set_xlabel("flow time t")
        _draw_paths(axes["bc"], runs["bc", 0.0], setting, paths, "BC, no guidance")
        _draw_shares(axes["sweep"], numbers)
        _draw_sizes(axes["size"], numbers)
        figure.suptitle(
            f"Three modes, Q = −|a − a*| with a* = {setting['optimum']:g}: blue ends at a*, orange at another mode",
            x=0.01,
            ha="left",
        )
    return figure


def _draw_paths(axes: Axes, run: ToyRun, setting: Mapping[str, Any], paths: int, title: str) -> None:
    times = np.linspace(0.0, 1.0, len(run.path))
    modes = np.asarray(setting["modes"])
    drawn = run.path[:, :paths]
    hit = modes[np.abs(drawn[-1][:, None] - modes).argmin(axis=1)] == setting["optimum"]
    for chosen, colour in ((~hit, _MISS), (hit, _HIT)):
        axes.plot(times, drawn[:, chosen], color=colour, alpha=0.35, linewidth=0.7)
    axes.axhline(setting["optimum"], color="black", linewidth=0.9, linestyle=(0, (4, 2)))
    axes.set_title(title)
    axes.set_ylim(-0.45, 1.05)
    axes.set_xlim(0.0, 1.0)
    axes.text(0.03, 0.95, f"{100 * run.numbers['share_at_optimum']:.0f} % at a*", transform=axes.transAxes, va="top")
    axes.set_ylabel("noised action $a_t$")


def _draw_shares(axes: Axes, numbers: Mapping[str, Any]) -> None:
    ends = []
    for method in ESTIMATORS_SHOWN:
        runs = [run for run in numbers["sweep"] if run["method"] == method]
        if runs:
            weights, shares = [run["weight"] for run in runs], [100 * run["share_at_optimum"] for run in runs]
            look = LOOKS[method]
            axes.plot(weights, shares, color=look.colour, marker=look.marker)
            ends.append((weights[-1], shares[-1], look.label, look.colour))
    unguided, look = 100 * numbers["bc"]["share_at_optimum"], LOOKS["bc"]
    axes.axhline(unguided, color=look.colour, linestyle=":")
    ends.append((1.0, unguided, look.label, look.colour))
    axes.set_xscale("log")
    axes.set_ylim(-4, 104)
    axes.set_xlabel("guidance weight")
    axes.set_ylabel("samples at a* [%]")
    axes.set_title("Where samples end")
    label_ends(axes, ends, spacing=0.11)


def _draw_sizes(axes: Axes, numbers: Mapping[str, Any]) -> None:
    sizes, look = numbers["gradient_along_bc"]["bptt"], LOOKS["bptt"]
    times = np.arange(len(sizes["median"])) / len(sizes["median"])
    axes.axhline(1.0, color=LOOKS["noisy"].colour)
    axes.plot(times, sizes["median"], color=look.colour)
    axes.fill_between(times, sizes["p1"], sizes["p99"], color=look.colour, alpha=0.25, linewidth=0)
    axes.plot(times, sizes["max"], color=look.colour, linewidth=0.9, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("flow time t")
    axes.set_ylabel("size of the gradient")
    axes.set_title("BPTT: median, 1–99 %, largest")
    label_ends(axes, [(1.0, 1.0, "noisy, QGF", LOOKS["noisy"].colour)])
