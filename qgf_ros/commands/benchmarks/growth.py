"""`qgf benchmark growth`: how a tick grows, and whether its memory does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from qgf_ros.commands.benchmarks.networks import RandomNetworks, RandomOptions, timed_networks
from qgf_ros.commands.benchmarks.output import names, run_benchmark, table_of

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.table import Table


@dataclass(frozen=True)
class GrowthBenchmark:
    """Measure how a tick grows with denoising steps and candidates, and memory with the ticks.

    Attributes:
        bundle: Folder or name of a bundle; cube-single by default, none where --random is given.
        networks: Random networks.
        growth_ticks: Ticks over which the memory is watched.
        providers: ONNX Runtime execution providers, in order of preference, separated by commas.
        threads: Threads per operator.
        rounds: Turns of each size.
        ticks: Timed ticks in a turn, after one that is not timed.
        seed: Of random networks, noises, and the order within each round.
        out: Folder for growth.json.
    """

    bundle: tyro.conf.Positional[Path | None] = None
    networks: RandomOptions = field(default_factory=RandomNetworks)
    growth_ticks: int = 20_000
    providers: str = "cpu"
    threads: int = 2
    rounds: int = 40
    ticks: int = 5
    seed: int = 0
    out: Path = Path("results/benchmark")

    def run(self) -> None:
        """Measure how a tick grows, print it and write growth.json."""
        from qgf_ros.benchmark.growth import READINGS, GrowthPlan, measure
        from qgf_ros.benchmark.latency import Schedule

        plan = GrowthPlan(
            ticks=self.growth_ticks,
            threads=self.threads,
            providers=names(self.providers),
            schedule=Schedule(self.rounds, self.ticks, seed=self.seed),
        )
        with timed_networks(self.bundle, self.networks, self.seed) as networks:
            steps = len(networks) * (self.rounds + READINGS)
            run_benchmark(
                lambda progress: measure(networks, plan, progress), steps, growth_table, self.out / "growth.json"
            )


def growth_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `benchmark.growth.measure`."""
    from qgf_ros.commands.show.display import number

    table = table_of(
        "How a tick grows: median latency in ms, and the memory of the process; share: one of many over one alone",
        ("", "", "smallest", "largest", "fixed", "for each", "off that line", "share, gain"),
    )
    for result in numbers["results"]:
        for label, key in (("denoising steps T", "steps"), ("candidates N", "candidates")):
            grown = result[key]
            table.add_row(
                result["network"],
                f"{label} {grown['sizes'][0]} to {grown['sizes'][-1]}",
                *(number(grown["p50_ms"][place]) for place in (0, -1)),
                *(number(grown[name]) for name in ("fixed_ms", "each_ms")),
                f"{100 * grown['deviation']:.0f} %",
                number(grown["share"]),
            )
        memory = result["memory"]
        settled = memory["resident_mb"][len(memory["resident_mb"]) // 10]
        gained = f"{memory['growth_mb']:+.2f} MB, objects {memory['objects'][-1] - memory['objects'][0]:+d}"
        table.add_row(
            result["network"],
            f"{memory['ticks']} ticks, resident MB",
            number(settled, 1),
            number(memory["resident_mb"][-1], 1),
            *("", "", "", gained),
        )
    return table
