"""`qgf benchmark training`: what one training update takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qgf_ros.commands.benchmarks.output import names, run_benchmark, table_of

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.table import Table


@dataclass(frozen=True)
class TrainingBenchmark:
    """Measure one training update of random networks, beside JAX where --peers or --backends says so.

    Attributes:
        random: Hidden layers x width, separated by commas; 3x256 and 4x512 by default.
        obs: Observation size.
        action: Action size.
        horizon: Actions per chunk.
        backends: Some of torch, torch.compile, jax, separated by commas; those of torch by default.
        peers: Time the same update in JAX, too.
        tasks: Critics that train side by side.
        threads: Threads of every backend.
        rounds: Turns of each backend.
        updates: Timed updates in a turn, after one that is not timed.
        seed: Of weights, data, and the order within each round.
        out: Folder for training.json.
    """

    random: str = ""
    obs: int = 46
    action: int = 5
    horizon: int = 5
    backends: str = ""
    peers: bool = False
    tasks: int = 1
    threads: int = 2
    rounds: int = 40
    updates: int = 5
    seed: int = 0
    out: Path = Path("results/benchmark")

    def run(self) -> None:
        """Measure one training update, print it and write training.json."""
        from qgf_ros.benchmark.training import BACKENDS, UpdatePlan, measure

        chosen = names(self.backends) or (BACKENDS if self.peers else BACKENDS[:2])
        shapes = tuple(shape.strip() for shape in self.random.split(",")) if self.random else UpdatePlan.shapes
        plan = UpdatePlan(
            shapes,
            chosen,
            self.tasks,
            *(self.obs, self.action, self.horizon),
            threads=self.threads,
            rounds=self.rounds,
            updates=self.updates,
            seed=self.seed,
        )
        steps = len(plan.shapes) * len(chosen) + self.rounds
        run_benchmark(lambda progress: measure(plan, progress), steps, training_table, self.out / "training.json")


def training_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `benchmark.training.measure`."""
    from qgf_ros.commands.show.display import number

    table = table_of(
        f"One update, batch {numbers['plan']['batch']}, {numbers['plan']['tasks']} tasks",
        ("", "", "p50 ms", "p90", "p99", "cores", "x jax", "losses agree to"),
    )
    for result in numbers["results"]:
        table.add_row(
            result["shape"],
            result["backend"],
            *(number(result["update_ms"][key]) for key in ("p50", "p90", "p99")),
            number(result["update_ms"]["cores"], 1),
            number(result["ratio"]),
            f"{result['difference']:.0e}",
        )
    return table
