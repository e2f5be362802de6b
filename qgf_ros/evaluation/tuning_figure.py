"""The figure of a tuning: success over the guidance weight, and below it what the critic promised."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from qgf_ros.reports.figures import LOOKS, new_figure, style

#: Colours of the combinations of settings, one curve each; more are not drawn. After those of Okabe and Ito (2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

#: Room that a character, the handle beside a label and a line of labels take in a legend [in].
_CHARACTER, _HANDLE, _LINE = 0.068, 0.7, 0.17


def draw_tuning(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw success and Q over the guidance weight, a column per critic.

    Over-optimisation is where the upper curve falls while the lower one goes on rising: the critic promises more and
    more for actions that solve less and less. Of many combinations of settings the chosen and the best ones are drawn.

    Args:
        records: From `qgf_ros.evaluation.tuning.tune`, each with its ``critic``.
    """
    ranking = _ranking(records)
    colours = dict(zip(ranking, _COLOURS))
    with style():
        figure = new_figure(1.2 + 2.6 * len(records), 4.4)
        rows = figure.subplots(2, len(records), sharex="col", sharey="row", squeeze=False, height_ratios=(3, 2))
        for (upper, lower), record in zip(rows.T, records):
            _draw_success(upper, record, colours)
            _draw_values(lower, record, colours)
            upper.set_title(record["critic"])
            lower.set_xlabel("guidance weight")
        rows[0, 0].set_ylabel("success [%]")
        rows[1, 0].set_ylabel("Q of the first action")
        handles = {label: handle for axes in rows[0] for handle, label in zip(*axes.get_legend_handles_labels())}
        hidden = len(ranking) - len(colours)
        title = f"{hidden} more combinations of settings, which did worse, are not shown" if hidden else ""
        _add_legend(figure, handles, title)
    return figure


def _add_legend(figure: Figure, handles: Mapping[str, Any], title: str) -> None:
    """Put the legend below, in as many columns as there is room for, and make the figure higher by it."""
    width = figure.get_figwidth()
    letters = int((width - _HANDLE) / _CHARACTER)
    labels = [fill(label, letters) for label in handles]
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = max(1, min(len(labels), int(width / (_HANDLE + _CHARACTER * longest))))
    lines = math.ceil(len(labels) / columns) * max(label.count("\n") + 1 for label in labels)
    figure.set_figheight(figure.get_figheight() + _LINE * lines)
    title = fill(title, letters)
    figure.legend(handles.values(), labels, loc="outside lower center", ncols=columns, title=title or None)


def _ranking(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the labels of all curves: first those chosen, then those that lasted longest and solved most."""
    chosen = [_label(run) for record in records for run in record["reporting"][1:] if run["guidance_weight"] > 0.0]
    runs = [run for record in records for run in record["choosing"] if run["guidance_weight"] > 0.0]
    best_first = sorted(runs, key=lambda run: (-run["episodes"], -run["success_rate"]))
    return list(dict.fromkeys([*chosen, *map(_label, best_first)]))


def _label(run: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in run["settings"].items())


def _curves(
    runs: Sequence[Mapping[str, Any]], colours: Mapping[str, str]
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yield each label that has a colour with its runs with guidance, in the order of their weights."""
    guided = sorted(
        (run for run in runs if run["guidance_weight"] > 0.0), key=lambda run: float(run["guidance_weight"])
    )
    for label in colours:
        if curve := [run for run in guided if _label(run) == label]:
            yield label, curve


def _draw_success(axes: Axes, record: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    bc, look = record["reporting"][0], LOOKS["bc"]
    axes.axhline(100 * bc["success_rate"], color=look.colour, linestyle=":", label="BC, held-out seeds")
    axes.axhspan(*(100 * bound for bound in bc["ci95"]), color=look.colour, alpha=0.15, linewidth=0)
    for label, runs in _curves(record["choosing"], colours):
        _draw_rates(axes, runs, colours[label], LOOKS["qgf"].marker, "-", f"{label or 'guided'}, choosing seeds")
    _draw_rates(axes, record["reporting"][1:], "black", "D", "none", "chosen, held-out seeds")
    for run in (
        run for run in record["reporting"][1:] if run["guidance_weight"] == 0.0
    ):  # the best of several candidates
        label = f"chosen without guidance: {_label(run)}, held-out seeds"
        axes.axhline(100 * run["success_rate"], color="black", linestyle="--", label=label)
        axes.axhspan(*(100 * bound for bound in run["ci95"]), color="black", alpha=0.1, linewidth=0)
    axes.set_xscale("log")
    axes.set_ylim(-4, 104)


def _draw_rates(axes: Axes, runs: Sequence[Mapping[str, Any]], colour: str, marker: str, line: str, label: str) -> None:
    runs = [run for run in runs if run["guidance_weight"] > 0.0]  # a logarithm has no place for the others
    if runs:
        rates = [100 * run["success_rate"] for run in runs]
        lower = [max(rate - 100 * run["ci95"][0], 0.0) for rate, run in zip(rates, runs)]
        upper = [max(100 * run["ci95"][1] - rate, 0.0) for rate, run in zip(rates, runs)]
        axes.errorbar(
            [run["guidance_weight"] for run in runs],
            rates,
            yerr=[lower, upper],
            color=colour,
            marker=marker,
            linestyle=line,
            elinewidth=0.8,
            label=label,
        )


def _draw_values(axes: Axes, record: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    # Of the seeds that all have run: those of a weight that was dropped early are the first ones.
    common = min(run["episodes"] for run in record["choosing"])
    for label, runs in _curves(record["choosing"], colours):
        values = [[q for q in run["outcomes"]["start_q"][:common] if q is not None] for run in runs]
        means = [sum(known) / len(known) if known else float("nan") for known in values]
        axes.plot([run["guidance_weight"] for run in runs], means, color=colours[label], marker="o")
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
