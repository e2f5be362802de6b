"""The figure of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from qgf_ros.reports.figures import Look, method_label, new_figure, style

_LOOKS = {
    "reference": Look("reference", "#0072B2", "o"),
    "fused": Look("fused", "#D55E00", "s"),
    "torch": Look("torch", "#E69F00", "D"),
    "torch.compile": Look("torch.compile", "#CC79A7", "v"),
    "jax": Look("JAX, jitted", "#009E73", "^"),
}


def draw_benchmark(numbers: Mapping[str, Any]) -> Figure:
    """Draw the latency of every backend at every setting, and the memory-traffic floor.

    Args:
        numbers: From `benchmark.measure`.
    """
    results = numbers["results"]
    networks = list(dict.fromkeys(result["network"] for result in results))
    settings = list(dict.fromkeys((result["method"], result["candidates"]) for result in results))
    backends = list(dict.fromkeys((result["backend"], result["precision"]) for result in results))
    with style():
        height = 0.16 * len(backends) + 0.14
        figure = new_figure(1.5 + 4.2 * len(networks), height * len(settings) + 1.5)
        for axes, network in zip(figure.subplots(1, len(networks), sharey=True, squeeze=False)[0], networks):
            for row, setting in enumerate(settings):
                mine = [r for r in results if (r["network"], r["method"], r["candidates"]) == (network, *setting)]
                for result in mine:
                    place = backends.index((result["backend"], result["precision"]))
                    _draw_latency(axes, row + (place - (len(backends) - 1) / 2) * 0.7 / len(backends), result)
                axes.plot([mine[0]["floor"]["ms"]] * 2, [row - 0.42, row + 0.42], color="black", linewidth=1.0)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_title(network)
            axes.set_xlabel("latency [ms]")
            axes.grid(axis="y", visible=False)
        axes.set_yticks(range(len(settings)), [f"{_method(method)}, N = {n}" for method, n in settings])
        axes.invert_yaxis()  # shared
        title = "Median, line to the 99th percentile; black: memory-traffic floor"
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels())}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    return figure


def _method(name: str) -> str:
    return "BC" if name == "bc" else method_label(name)


def _draw_latency(axes: Axes, height: float, result: Mapping[str, Any]) -> None:
    look, latency = _LOOKS[result["backend"]], result["latency_ms"]
    plain = result["precision"] == "fp32"
    axes.errorbar(
        latency["p50"],
        height,
        xerr=[[0.0], [latency["p99"] - latency["p50"]]],
        label=look.label if plain else f"{look.label}, {result['precision']}",
        color=look.colour,
        marker=look.marker,
        markerfacecolor=look.colour if plain else "white",
        linestyle="none",
        elinewidth=1.2,
    )
