"""The tables that `qgf benchmark` prints."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from qgf_ros.benchmark.targets import BENCHMARKS
from qgf_ros.benchmark.tick_plan import PEERS
from qgf_ros.commands.show.display import number


def latency_tables(numbers: Mapping[str, Any]) -> Iterator[Table]:
    """Yield a table for each network, method and N, a column for each backend, so that six fit a terminal of 80 columns.

    ``off by`` is the largest difference from the action of ``guidance/`` (in int8, best-of-N may pick another candidate);
    ``x floor`` is the median over the memory-traffic floor; the last lines are it over the median of each peer. Where the bundle
    sees, decoding and encoding have a line each, in ms and as a share of the median, and how often encoders ran.
    """
    results = numbers["results"]
    peers = [name for name in PEERS if any(name in result["ratios"] for result in results)]
    for setting in dict.fromkeys((r["network"], r["method"], r["candidates"]) for r in results):
        mine = [r for r in results if (r["network"], r["method"], r["candidates"]) == setting]
        network, method, candidates = setting
        floor = mine[0]["floor"]
        table = Table(
            title=f"{network}, {method}, N = {candidates}   floor {floor['bytes'] / 1e6:.1f} MB, {floor['ms']:.2f} ms; "
            f"guidance moves actions by up to {mine[0]['guidance_distance']:.2g}",
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("", no_wrap=True)
        for result in mine:
            plain = result["precision"] == "fp32"
            name = result["backend"] if plain else f"{result['backend']} {result['precision']}"
            table.add_column(name.replace(".", "\n."), justify="right", min_width=7)
        table.add_row("off by", *(f"{result['difference']:.0e}" for result in mine))
        for key in ("p50", "p90", "p99", "max", "jitter"):
            table.add_row(f"{key} ms", *(number(result["latency_ms"][key]) for result in mine))
        if "sight" in mine[0]:
            for part in ("decode", "encode"):
                times = ((one["sight"][f"{part}_ms"], one["sight"][f"{part}_share"]) for one in mine)
                table.add_row(f"{part} ms", *(f"{number(time)} ({100 * share:.0f} %)" for time, share in times))
            table.add_row("encoder runs", *(f"{one['sight']['encoder_runs']:g}" for one in mine))
        table.add_row("ticks/s", *(f"{result['throughput']:.0f}" for result in mine))
        table.add_row("cores", *(number(result["cores"], 1) for result in mine))
        table.add_row("x floor", *(number(result["floor"]["multiple"]) for result in mine))
        for peer in peers:
            table.add_row(f"x {peer}", *(number(result["ratios"].get(peer)) for result in mine))
        yield table


def targets_table(folder: Path) -> Table:
    """Return every target with what the benchmarks that wrote to a folder measured.

    A dash stands where a run does not show it; below are the commands of the runs that are missing.
    """
    table = Table(title="Targets", title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("", "at most", "measured", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    missing = []
    for kind, benchmark in BENCHMARKS.items():
        numbers = _read(folder / f"{kind}.json")
        if numbers is None:
            missing.append(f"{benchmark.title}: {benchmark.command}")
        for target in benchmark.targets:
            measured = math.nan if numbers is None else target.measure(numbers)
            verdict = "not measured" if math.isnan(measured) else "met" if measured <= target.limit else "missed"
            table.add_row(f"{benchmark.title}, {target.name}", f"{target.limit:g}", number(measured), verdict)
    table.caption = "\n".join(missing) or None
    return table


def _read(path: Path) -> Mapping[str, Any] | None:
    """Return the numbers of a benchmark; None where there are none, or none that this version writes."""
    try:
        numbers: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return numbers if numbers["schema"] == 1 else None
    except (OSError, ValueError, KeyError):
        return None
