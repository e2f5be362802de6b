"""`qgf benchmark ros`: the node over DDS, beside a node that only echoes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from qgf_ros.commands.benchmarks.output import located, run_benchmark, table_of
from qgf_ros.commands.show.arguments import Integers

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.table import Table


@dataclass(frozen=True)
class RosBenchmark:
    """Measure the policy node over DDS, beside a node that only echoes.

    Attributes:
        bundle: Folder or name of a bundle; cube-single by default.
        rates: Observations a second, separated by commas.
        neighbour: Measure beside a busy process, too.
        executor: What takes the messages in, single_threaded or events.
        threads: Threads per operator.
        rounds: Turns of each setting.
        ticks: Measured observations in a turn.
        seed: Of the order within each round.
        out: Folder for ros.json.
    """

    bundle: tyro.conf.Positional[Path | None] = None
    rates: Integers = (20, 50, 100, 200)
    neighbour: bool = False
    executor: str = "single_threaded"
    threads: int = 2
    rounds: int = 40
    ticks: int = 5
    seed: int = 0
    out: Path = Path("results/benchmark")

    def run(self) -> None:
        """Measure the loop over DDS, print it and write ros.json."""
        from qgf_sim.benchmark.ros import RosPlan, measure

        plan = RosPlan(
            *(located(self.bundle), self.rates, self.neighbour, self.executor),
            *(self.threads, self.rounds, self.ticks, self.seed),
        )
        steps = 2 * len(self.rates) + self.rounds
        run_benchmark(lambda progress: measure(plan, progress), steps, ros_table, self.out / "ros.json")


def ros_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `sim.benchmark.ros.measure`."""
    from qgf_ros.commands.show.display import number

    table = table_of(
        "Observation to command over DDS without inference, in ms; echo: a node that does nothing else",
        ("", "Hz", "p50", "p90", "p99", "max", "there and back", "inference", "missed", "CPU s/min"),
    )
    for result in numbers["results"]:
        table.add_row(
            result["subject"] + (", busy neighbour" if result["neighbour"] else ""),
            str(result["rate"]),
            *(number(result["overhead_ms"][key]) for key in ("p50", "p90", "p99", "max")),
            number(result["round_trip_ms"]["p50"]),
            number(result["inference_ms"]["p50"]),
            f"{result['missed']}/{result['ticks']}",
            number(result["processor_seconds_per_minute"]),
        )
    return table
