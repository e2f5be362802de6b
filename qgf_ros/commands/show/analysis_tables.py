"""The small tables that `qgf analyze` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from qgf_ros.commands.show.display import number
from qgf_ros.reports.figures import method_label


def toy_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `toy.run_toy`."""
    rows = (
        (
            method_label(run["method"]),
            f"{run['weight']:g}",
            percent(run["share_at_optimum"]),
            f"{run['commonest_mode']:g}",
            f"{run['q']['mean']:.3f}",
            percent(run.get("thrown", 0.0)),
        )
        for run in (numbers["bc"], *numbers["runs"])
    )
    return small_table(("method", "weight", "at a*", "commonest mode", "mean Q", "thrown"), rows)


def sensitivity_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `sensitivity.combine`: cosines by the size of the shift."""
    rows = (
        (method_label(name), *(f"{value:.3f}" for value in values["by_deviation"]["mean"]))
        for name, values in numbers["mean"].items()
    )
    return small_table(("cosine at a shift of", *(f"{deviation:g}" for deviation in numbers["deviations"])), rows)


def q_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `q_optimization.relative`, each method at the weight of its highest Q."""
    rows = []
    for method, entries in numbers["mean"].items():
        if method == "data":
            continue
        best = max(entries, key=lambda entry: float(entry["gain"]["mean"]))
        for entry in entries if method == "bfn" else [best]:
            rows.append(
                (
                    method_label(method),
                    f"N = {entry['candidates']}" if method == "bfn" else f"{entry['weight']:g}",
                    f"{entry['gain']['mean']:.2f} ± {entry['gain']['error']:.2f}",
                    f"{entry['distance']['mean']:.3f} ± {entry['distance']['error']:.3f}",
                )
            )
    return small_table(("method", "weight of highest Q", "gain in Q", "distance to data"), rows)


def compute_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `compute.measure_compute`; v, vjp, Q and dQ/da count the rows each primitive was asked for.

    So do z and z of Q, the encoders of policy and critic, where the bundle has them.
    """
    names = {"velocity": "v", "vjp": "vjp", "critic_value": "Q", "critic_gradient": "dQ/da"}
    names |= {"encoder": "z", "critic_encoder": "z of Q"}
    counted = [names[name] for name in numbers["cases"][0]["algorithm"]["calls"]]
    rows = (
        (
            method_label(case["method"]),
            str(case["candidates"]),
            *(str(count) for count in case["algorithm"]["calls"].values()),
            f"{case['algorithm']['gflops']:.4f}",
            number(case["latency_ms"]["p50"]),
            number(case["latency_ms"]["p99"]),
        )
        for case in numbers["cases"]
    )
    return small_table(("method", "N", *counted, "GFLOPs", "p50 [ms]", "p99 [ms]"), rows)


def asynchronous_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `qgf_sim.rollouts.asynchronous.compare`; versus synchronous execution at the same delay [%]."""
    rows = []
    for run in numbers["runs"]:
        rate, low, high = (100 * value for value in (run["success_rate"], *run["ci95"]))
        versus = run["versus"]
        rows.append(
            (
                run["mode"],
                str(run["delay"]),
                f"{run['guidance_weight']:g}",
                f"{rate:.0f} [{low:.0f}, {high:.0f}]",
                f"{number(run['jerk']['mean'], 3)} ± {number(run['jerk']['error'], 3)}",
                percent(run["waited"]),
                "" if versus is None else f"{100 * versus['difference']:+.0f}",
            )
        )
    headings = ("mode", "delay", "weight", "success [%]", "jerk", "still", "versus")
    return small_table(headings, rows)


def percent(share: float) -> str:
    """Return a share in per cent."""
    return f"{100 * share:.0f} %"


def small_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> Table:
    """Return a table of words and numbers, the first column for names."""
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    for heading in headings:
        first = heading == headings[0]
        table.add_column(heading, justify="left" if first else "right", no_wrap=True, min_width=len(heading))
    for row in rows:
        table.add_row(*row)
    return table
