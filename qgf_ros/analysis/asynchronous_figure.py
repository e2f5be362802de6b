"""The figure of asynchronous execution: success, jerk and waiting over the inference delay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qgf_ros.reports.figures import Look, new_figure, style

#: How each mode is drawn.
MODES = {
    "synchronous": Look("synchronous", "#666666", "o"),
    "switch": Look("asynchronous, switch", "#D55E00", "X"),
    "linear": Look("asynchronous, linear", "#E69F00", "D"),
    "ensemble": Look("asynchronous, ensemble", "#56B4E9", "s"),
    "rtc": Look("asynchronous, real-time chunking", "#0072B2", "^"),
}
#: Distance of two modes at the same delay, so that their intervals can be told apart [control steps].
_APART = 0.06


def draw_asynchronous(numbers: Mapping[str, Any]) -> Figure:
    """Draw success, jerk and the share of steps without an action over the delay, a row for each guidance weight.

    Args:
        numbers: From `qgf_sim.rollouts.asynchronous.compare`.
    """
    weights = list(dict.fromkeys(run["guidance_weight"] for run in numbers["runs"]))
    with style():
        figure = new_figure(10.0, 2.7 * len(weights) + 0.5)
        panels = figure.subplots(len(weights), 3, squeeze=False, sharex=True, sharey="col")
        for row, weight in zip(panels, weights):
            runs = [run for run in numbers["runs"] if run["guidance_weight"] == weight]
            for number, (mode, look) in enumerate(MODES.items()):
                mine = [run for run in runs if run["mode"] == mode]
                delays = [run["delay"] + _APART * (number - 2) for run in mine]
                rates = np.array([[100 * run["success_rate"], *(100 * bound for bound in run["ci95"])] for run in mine])
                jerk = np.array([[run["jerk"]["mean"], run["jerk"]["error"]] for run in mine], dtype=np.float64)
                drawn: dict[str, Any] = {"color": look.colour, "marker": look.marker, "label": look.label}
                spread = np.abs(rates[:, 1:] - rates[:, :1]).T
                row[0].errorbar(delays, rates[:, 0], yerr=spread, capsize=2, elinewidth=0.8, **drawn)
                row[1].errorbar(delays, jerk[:, 0], yerr=jerk[:, 1], capsize=2, elinewidth=0.8, **drawn)
                row[2].plot(delays, [100 * run["waited"] for run in mine], **drawn)
            row[0].set_title("plain behaviour cloning" if weight == 0.0 else f"guidance weight {weight:g}")
            for axes, label in zip(row, ("success [%]", "jerk [actions / step³]", "steps without an action [%]")):
                axes.set_ylabel(label)
                axes.xaxis.get_major_locator().set_params(integer=True)
        for axes in panels[-1]:  # whose limits are those of the column
            axes.set_xlabel("inference delay [control steps]")
            axes.set_ylim(bottom=0.0)
        panels[0, 0].set_ylim(0.0, 100.0)
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
