"""`qgf benchmark cameras`: what pictures cost, from a message to a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from qgf_ros.commands.benchmarks.output import located, run_benchmark, table_of

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.table import Table


@dataclass(frozen=True)
class CamerasBenchmark:
    """Measure what cameras cost: decoding and encoding, the tick over DDS, the node's memory, and large messages.

    Two cameras send JPEG files of 640 x 480, of which random networks of the usual sizes see 64 x 64.

    Attributes:
        bundle: Folder or name of a bundle that sees, for the tick over DDS; the random one by default.
        rate: Observations a second of the tick.
        frames: Times that two pictures become features.
        rounds: Turns of the tick.
        ticks: Measured observations in a turn.
        minutes: How long the memory of a node with two cameras at 30 Hz is looked at.
        seconds: How long raw pictures of two cameras at 30 Hz are sent with each setting of DDS; 0 for not at all.
        threads: Threads per operator of the node.
        out: Folder for cameras.json.
    """

    bundle: tyro.conf.Positional[Path | None] = None
    rate: int = 20
    frames: int = 1000
    rounds: int = 10
    ticks: int = 100
    minutes: float = 10.0
    seconds: float = 10.0
    threads: int = 1
    out: Path = Path("results/benchmark")

    def run(self) -> None:
        """Measure, print the table and write cameras.json."""
        from qgf_sim.benchmark.picture_costs import CamerasPlan, measure

        plan = CamerasPlan(
            *(None if self.bundle is None else located(self.bundle), self.rate, self.frames, self.rounds, self.ticks),
            *(self.minutes, self.seconds, self.threads),
        )
        run_benchmark(lambda progress: measure(plan, progress), plan.steps, cameras_table, self.out / "cameras.json")


def cameras_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `sim.benchmark.picture_costs.measure`."""
    from qgf_ros.commands.show.display import number

    title = "What cameras cost, times in ms; of pictures that are sent, two cameras at 30 Hz, the age on arrival"
    table = table_of(title, ("", "p50", "p99", "goal", "beside it"))

    def row(name: str, times: Mapping[str, float], goal: str, more: str) -> None:
        table.add_row(name, number(times["p50"]), number(times["p99"]), goal, more)

    for way, one in numbers["pictures"].items():
        parts = ", ".join(f"{part} {number(one[f'{part}_ms']['p50'])}" for part in ("decode", "encode"))
        name = f"{one['pictures']} JPEG of 640 x 480 to features, {way}"
        row(name, one["ms"], "4", f"{parts}, {one['bytes'] / 1e3:.0f} KB a picture, one core")
    for one in numbers["loop"]:
        if one["subject"] == "node":
            more = f"{numbers['plan']['bundle']}, {one['missed']}/{one['ticks']} missed"
            row(f"tick at {one['rate']} Hz, stamp to command", one["answer_ms"], "12, 20", more)
    memory, calls = numbers["memory"], numbers["calls"]
    table.add_row(
        f"node at 30 Hz, MB, start and end of {memory['minutes']:g} min",
        *(number(memory[key], 1) for key in ("start_mb", "end_mb")),
        "flat",
        f"{memory['slope_mb_per_minute']:+.2f} MB/min, {memory['answered']}/{memory['observations']} answered",
    )
    for name, count in calls["calls"].items():
        beside = f"{calls['candidates']} candidates, {calls['denoising_steps']} steps each"
        table.add_row(f"calls of encoder {name}", str(count), "", str(calls["inferences"]), beside)
    for one in numbers["transports"]:
        if one["there"]:
            cores = f"{number(one['sender'])} + {number(one['taker'])} cores"
            row(one["name"], one["age_ms"], "", f"{100 * one['share']:.1f} % of {one['rate']:.0f}/s arrive, {cores}")
        else:
            table.add_row(one["name"], "", "", "", "not installed")
    return table
