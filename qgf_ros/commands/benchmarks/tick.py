"""`qgf benchmark tick`: what a tick takes on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import tyro

from qgf_ros.commands.benchmarks.networks import RandomNetworks, RandomOptions, timed_networks
from qgf_ros.commands.benchmarks.output import names
from qgf_ros.commands.show.arguments import Integers

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console

    from qgf_ros.benchmark.tick_plan import TickPlan
    from qgf_ros.runtime.precision import Precision


@dataclass(frozen=True)
class TickBenchmark:
    """Measure the latency and throughput of the control tick.

    Before anything is timed, every backend must give the reference's action on the same noises, to 1e-4. Then all take
    turns, round by round, on the same inputs and with as many threads. Run it on an idle machine.

    Attributes:
        bundle: Folder or name of a bundle; cube-single by default, none where --random is given.
        networks: Random networks.
        num_samples: Candidates N, separated by commas.
        estimators: Gradient estimators, separated by commas; bc for none.
        backends: Some of reference, fused, torch, torch.compile, jax, separated by commas; all of our own by default.
        peers: Time the same sampler in torch, eager and compiled, and in JAX, too.
        precisions: Precisions of the fast path, separated by commas.
        providers: ONNX Runtime execution providers, in order of preference, separated by commas.
        threads: Threads per operator, of every backend.
        guidance_weight: Guidance weight; the critic's recommended one by default, or 1 where there is none.
        critic: Critic that guides; the first by default.
        rounds: Turns of each backend.
        ticks: Timed ticks in a turn, after one that is not timed.
        seed: Of random networks, noises, and the order within each round.
        out: Folder for benchmark.json, .png and .svg.
    """

    bundle: tyro.conf.Positional[Path | None] = None
    networks: RandomOptions = field(default_factory=RandomNetworks)
    num_samples: Integers = (1, 4, 16)
    estimators: str = "qgf"
    backends: str = ""
    peers: bool = False
    precisions: str = "fp32"
    providers: str = "cpu"
    threads: int = 2
    guidance_weight: float | None = None
    critic: str | None = None
    rounds: int = 40
    ticks: int = 5
    seed: int = 0
    out: Path = Path("results/benchmark")

    def run(self) -> None:
        """Measure the tick, print it and write benchmark.json with its figure."""
        plan = self.plan()
        with timed_networks(self.bundle, self.networks, self.seed) as networks:
            _measure(networks, plan, self.out)

    def plan(self) -> TickPlan:
        """Return what to time.

        Raises:
            GuidanceError: A name is unknown, or a number below 1.
        """
        from qgf_ros.benchmark.latency import Schedule
        from qgf_ros.benchmark.tick_plan import BACKENDS, PEERS, TickPlan

        chosen = names(self.backends) or BACKENDS
        return TickPlan(
            methods=names(self.estimators),
            candidates=self.num_samples,
            backends=tuple(dict.fromkeys((*chosen, *(PEERS if self.peers else ())))),
            precisions=cast("tuple[Precision, ...]", names(self.precisions)),  # which the plan checks
            providers=names(self.providers),
            threads=self.threads,
            weight=self.guidance_weight,
            critic=self.critic,
            schedule=Schedule(rounds=self.rounds, ticks=self.ticks, seed=self.seed),
        )


def _measure(networks: Mapping[str, Path], plan: TickPlan, out: Path) -> None:
    from qgf_ros.benchmark.figure import draw_benchmark
    from qgf_ros.benchmark.tick import measure
    from qgf_ros.commands.show.display import plain_console, progress_bar
    from qgf_ros.files.destination import check_folder
    from qgf_ros.reports.figures import write_figure
    from qgf_ros.reports.numbers import write_json
    from qgf_ros.reports.origin import origin

    check_folder(out)
    console = plain_console()
    checks = len(networks) * sum(len(plan.variants(case)) for case in plan.cases())
    with progress_bar(console, "steps") as bar:
        row = bar.add_task("checking", total=checks + plan.schedule.rounds)
        numbers = measure(networks, plan, lambda note: bar.update(row, advance=1, description=note))
    numbers = {**origin(), **numbers}
    _show(console, numbers)
    write_json(out / "benchmark.json", numbers)
    write_figure(draw_benchmark(numbers), out, "benchmark")
    console.print(f"{out / 'benchmark'}.json, .png and .svg", highlight=False, soft_wrap=True)


def _show(console: Console, numbers: Mapping[str, Any]) -> None:
    from qgf_ros.commands.show.benchmark_tables import latency_tables
    from qgf_ros.reports.machine import IDLE

    machine, schedule = numbers["machine"], numbers["plan"]["schedule"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    load = {when: "unknown" if cores is None else f"{cores:.2f}" for when, cores in numbers["load"].items()}
    for line in (
        f"{machine['processor']}, {machine['usable_cores']} of {machine['cores']} cores, {machine['system']}",
        versions,
        f"{schedule['rounds']} rounds of {schedule['ticks']} timed ticks, {machine['threads']} threads; "
        f"copy bandwidth {numbers['copy_bandwidth'] / 1e9:.1f} GB/s; "
        f"cores busy with other things: {load['before']} before, {load['during']} meanwhile",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    if any(cores is not None and cores > IDLE for cores in numbers["load"].values()):
        console.print(
            "the machine is not idle: times are too long and their tails mean nothing; stop what else runs and repeat",
            style="yellow",
            soft_wrap=True,
        )
    for table in latency_tables(numbers):
        console.print(table)
