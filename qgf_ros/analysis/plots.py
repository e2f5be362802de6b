"""The figures of the analyses of a bundle, drawn from their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from qgf_ros.guidance.names import METHODS
from qgf_ros.guidance.protocols import Array
from qgf_ros.reports.figures import LOOKS, label_ends, new_figure, style


def draw_sensitivity(numbers: Mapping[str, Any]) -> Figure:
    """Draw the cosine over the size of the shift, and over flow time at each size.

    Args:
        numbers: ``deviations``, ``steps`` and ``mean``, from `sensitivity.combine`.
    """
    deviations, steps, mean = numbers["deviations"], numbers["steps"], numbers["mean"]
    with style():
        figure = new_figure(10.5, 3.6)
        left, *right = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
        ends = []
        for name in sorted(mean, key=lambda name: mean[name]["by_deviation"]["mean"][-1]):
            look = LOOKS[name]
            middle = np.asarray(mean[name]["by_deviation"]["mean"])
            error = np.asarray(mean[name]["by_deviation"]["error"])
            left.plot(deviations, middle, color=look.colour, marker=look.marker)
            left.fill_between(deviations, middle - error, middle + error, color=look.colour, alpha=0.2, linewidth=0)
            ends.append((deviations[-1], float(middle[-1]), look.label, look.colour))
        left.set_xscale("log")
        left.set_xlabel("deviation of the shift")
        left.set_ylabel("cosine similarity")
        left.set_title("Mean over time, 95 % interval")
        chosen = sorted({len(deviations) // 2, len(deviations) - 1})
        for axes, column in zip(right, chosen):
            for name, values in mean.items():
                look = LOOKS[name]
                cosines = np.asarray(values["cosine"], dtype=np.float64)[:, column]
                axes.plot(np.arange(steps) / steps, cosines, color=look.colour, marker=look.marker)
            axes.set_xlabel("flow time t")
            axes.set_title(f"Shift of {deviations[column]:g}")
        for axes in right[len(chosen) :]:
            axes.set_visible(False)
        lowest = min(axes.get_ylim()[0] for axes in (left, *right[: len(chosen)]))
        for axes in (left, *right):
            axes.set_ylim(lowest, 1.03)
        label_ends(left, ends)
    return figure


def draw_q_optimization(numbers: Mapping[str, Any]) -> Figure:
    """Draw the gain in Q over the weight, and over the distance to the data that it costs.

    Args:
        numbers: ``mean``, from `q_optimization.relative`.
    """
    mean = numbers["mean"]
    with style():
        figure = new_figure(10.5, 4.0)
        left, right = figure.subplots(1, 2)
        oracle = mean["bfn"]
        black = LOOKS["bfn"]
        ends = []
        for method in METHODS:
            look, entries = LOOKS[method], mean[method]
            weights = [entry["weight"] for entry in entries]
            gains, errors = _means(entries, "gain")
            left.plot(weights, gains, color=look.colour, marker=look.marker)
            left.fill_between(weights, gains - errors, gains + errors, color=look.colour, alpha=0.2, linewidth=0)
            ends.append((weights[-1], float(gains[-1]), look.label, look.colour))
            distances, widths = _means(entries, "distance")
            right.errorbar(
                *(distances, gains),
                xerr=widths,
                yerr=errors,
                color=look.colour,
                marker=look.marker,
                elinewidth=0.5,
            )
        for entry in oracle:
            if entry["candidates"] in (4, oracle[-1]["candidates"]):
                left.axhline(entry["gain"]["mean"], color=black.colour, linewidth=0.9, linestyle=":")
                left.text(
                    *(0.01, entry["gain"]["mean"], f"best of {entry['candidates']}"),
                    transform=left.get_yaxis_transform(),
                    va="bottom",
                    fontsize=8,
                )
        gains, errors = _means(oracle, "gain")
        distances, widths = _means(oracle, "distance")
        right.errorbar(
            *(distances, gains),
            xerr=widths,
            yerr=errors,
            color=black.colour,
            marker=black.marker,
            elinewidth=0.5,
            label=f"best of 1 to {oracle[-1]['candidates']}",
        )
        (data,) = mean["data"]
        right.errorbar(
            *(data["distance"]["mean"], data["gain"]["mean"]),
            xerr=data["distance"]["error"],
            yerr=data["gain"]["error"],
            color="black",
            marker="*",
            markersize=10,
            linestyle="none",
            label="the data's own action",
        )
        left.set_xscale("log")
        right.set_xscale("log")
        right.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        right.xaxis.set_major_formatter(ScalarFormatter())
        right.xaxis.set_minor_formatter(NullFormatter())
        for axes in (left, right):
            axes.set_ylabel(f"gain in Q (0: BC, 1: best of {oracle[-1]['candidates']})")
        left.set_xlabel("guidance weight, step size of gradient steps")
        left.set_title("Q that the critic promises")
        right.set_xlabel("distance to the nearest action of the data [RMS, normalised]")
        right.set_title("… and where the action lies")
        label_ends(left, ends)
        figure.legend(loc="outside lower right", ncols=2)
    return figure


def _means(entries: Sequence[Mapping[str, Any]], key: str) -> tuple[Array, Array]:
    return (
        np.asarray([entry[key]["mean"] for entry in entries], dtype=np.float64),
        np.asarray([entry[key]["error"] for entry in entries], dtype=np.float64),
    )


def draw_compute(numbers: Mapping[str, Any]) -> Figure:
    """Draw operations and latency of every method and N.

    Args:
        numbers: From `measure_compute`.
    """
    records = numbers["cases"]
    methods = list(dict.fromkeys(record["method"] for record in records))
    counts = sorted({record["candidates"] for record in records})
    shades = ["#0072B2", "#E69F00", "#000000", "#009E73", "#CC79A7"]
    with style():
        figure = new_figure(10.0, 0.45 * len(methods) + 1.6)
        left, right = figure.subplots(1, 2, sharey=True)
        for row, count in enumerate(counts):
            mine = {record["method"]: record for record in records if record["candidates"] == count}
            heights = np.arange(len(methods)) + 0.22 * (row - (len(counts) - 1) / 2)
            look = {"color": shades[row % len(shades)], "marker": "osD^v"[row % 5], "linestyle": "none"}
            left.plot(
                [mine[method]["algorithm"]["gflops"] for method in methods], heights, **look, label=f"N = {count}"
            )
            p50 = np.asarray([mine[method]["latency_ms"]["p50"] for method in methods])
            p99 = np.asarray([mine[method]["latency_ms"]["p99"] for method in methods])
            right.errorbar(p50, heights, xerr=[np.zeros_like(p50), p99 - p50], **look, elinewidth=1.2)
        labels = {"bc": "BC, best of N"}
        left.set_yticks(range(len(methods)), [labels.get(method, LOOKS[method].label) for method in methods])
        left.invert_yaxis()
        for axes in (left, right):
            axes.set_xscale("log")
            axes.grid(axis="y", visible=False)
        left.set_xlabel("GFLOPs per action")
        left.set_title("Operations of the algorithm")
        right.set_xlabel("latency [ms]")
        right.set_title("Latency: median, line to the 99th percentile")
        figure.legend(loc="outside lower center", ncols=len(counts))
    return figure
