"""`qgf benchmark`: what a tick takes on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qgf_ros.commands.show.arguments import Integers
from qgf_ros.errors import GuidanceError

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console

    from qgf_ros.benchmark.tick import Plan
    from qgf_ros.runtime.precision import Precision


def benchmark(
    bundle: Path | None = None,
    /,
    random: str = "",
    obs: int = 46,
    action: int = 5,
    horizon: int = 5,
    denoising_steps: int = 10,
    num_samples: Integers = (1, 4, 16),
    estimators: str = "qgf",
    backends: str = "",
    peers: bool = False,
    precisions: str = "fp32",
    providers: str = "cpu",
    threads: int = 2,
    weight: float | None = None,
    critic: str | None = None,
    rounds: int = 40,
    ticks: int = 5,
    seed: int = 0,
    targets: bool = False,
    ros: bool = False,
    rates: Integers = (20, 50, 100, 200),
    neighbour: bool = False,
    executor: str = "single_threaded",
    evaluation: bool = False,
    training: bool = False,
    tasks: int = 1,
    growth: bool = False,
    growth_ticks: int = 20_000,
    out: Path = Path("results/benchmark"),
) -> None:
    """Measure the latency and throughput of the control tick; or the node, an evaluation, a training update, growth.

    Before anything is timed, every backend must give the reference's action on the same noises, to 1e-4. Then all take
    turns, round by round, on the same inputs and with as many threads. Run it on an idle machine.

    Args:
        bundle: Folder or name of a bundle; cube-single by default, none where --random is given.
        random: Random networks instead, or as well: hidden layers x width, such as 4x1024 or 3x256,4x1024.
        obs: Observation size of random networks.
        action: Action size of random networks.
        horizon: Actions per chunk of random networks.
        denoising_steps: Denoising steps of random networks.
        num_samples: Candidates N, separated by commas.
        estimators: Gradient estimators, separated by commas; bc for none.
        backends: Some of reference, fused, torch, torch.compile, jax, separated by commas; all of our own by default.
        peers: Time the same sampler in torch, eager and compiled, and in JAX, too.
        precisions: Precisions of the fast path, separated by commas.
        providers: ONNX Runtime execution providers, in order of preference, separated by commas.
        threads: Threads per operator, of every backend.
        weight: Guidance weight; the critic's recommended one by default, or 1 where there is none.
        critic: Critic that guides; the first by default.
        rounds: Turns of each backend.
        ticks: Timed ticks in a turn, after one that is not timed.
        seed: Of random networks, noises, and the order within each round.
        targets: Print all targets with what this run, and earlier ones that wrote to the same folder, measured.
        ros: Measure the policy node instead, over DDS, beside a node that only echoes; --ticks are those of a turn.
        rates: Observations a second of --ros, separated by commas.
        neighbour: Measure --ros beside a busy process, too.
        executor: What takes the messages in with --ros, single_threaded or events.
        evaluation: Measure instead what the policy adds to the time of an evaluation; a round is a job of 32.
        training: Measure one training update instead, of --random networks, beside JAX where --peers or --backends says so.
        tasks: Critics that --training trains side by side.
        growth: Measure instead how a tick grows with denoising steps and candidates, and memory with the ticks.
        growth_ticks: Ticks over which --growth watches the memory.
        out: Folder for benchmark.json, .png and .svg; ros.json, evaluation.json, training.json, growth.json of the others.
    """
    from qgf_ros.commands.benchmark_others import (
        benchmark_evaluation,
        benchmark_growth,
        benchmark_ros,
        benchmark_training,
    )

    if ros + evaluation + training + growth > 1:
        raise GuidanceError(
            "more than one of --ros, --evaluation, --training and --growth was given; run one after the other"
        )
    sizes = (obs, action, horizon)
    if ros:
        benchmark_ros(bundle, rates, neighbour, executor, threads, rounds, ticks, seed, out)
    elif evaluation:
        benchmark_evaluation(bundle, weight, critic, rounds, seed, out)
    elif training:
        benchmark_training(random, _names(backends), peers, tasks, sizes, threads, rounds, ticks, seed, out)
    elif growth:
        with _networks(bundle, random, (*sizes, denoising_steps), seed) as networks:
            benchmark_growth(networks, growth_ticks, _names(providers), threads, rounds, ticks, seed, out)
    else:
        from qgf_ros.benchmark.latency import Schedule
        from qgf_ros.benchmark.tick import BACKENDS, PEERS, Plan

        chosen = _names(backends) or BACKENDS
        plan = Plan(
            methods=_names(estimators),
            candidates=num_samples,
            backends=tuple(dict.fromkeys((*chosen, *(PEERS if peers else ())))),
            precisions=cast("tuple[Precision, ...]", _names(precisions)),  # which Plan checks
            providers=_names(providers),
            threads=threads,
            weight=weight,
            critic=critic,
            schedule=Schedule(rounds=rounds, ticks=ticks, seed=seed),
        )
        with _networks(bundle, random, (*sizes, denoising_steps), seed) as networks:
            _benchmark_tick(networks, plan, out)
    if targets:
        from qgf_ros.commands.show.benchmark_tables import targets_table
        from qgf_ros.commands.show.display import plain_console

        plain_console().print(targets_table(out))


def _benchmark_tick(networks: Mapping[str, Path], plan: Plan, out: Path) -> None:
    """Measure the tick, print it and write benchmark.json with its figure."""
    from qgf_ros.benchmark.figure import draw_benchmark
    from qgf_ros.benchmark.tick import measure
    from qgf_ros.commands.show.display import plain_console, progress_bar
    from qgf_ros.reports.figures import write_figure
    from qgf_ros.reports.numbers import write_json
    from qgf_ros.reports.origin import origin

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


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@contextmanager
def _networks(
    bundle: Path | None, random: str, sizes: tuple[int, int, int, int], seed: int
) -> Iterator[Mapping[str, Path]]:
    """Give the bundles to be timed by name, the random ones in a folder that goes away."""
    import tempfile

    from qgf_ros.bundle.locate import DEFAULT_BUNDLE, locate_bundle

    networks: dict[str, Path] = {}
    if bundle is not None or not random:
        path = locate_bundle(DEFAULT_BUNDLE if bundle is None else bundle)
        networks[path.name] = path
    with tempfile.TemporaryDirectory() as folder:
        if random:
            from qgf_ros.benchmark.random_bundle import parse_shapes, write_random_bundle

            for shape in parse_shapes(random, *sizes):
                networks[shape.name] = Path(folder, shape.name)
                write_random_bundle(networks[shape.name], shape, seed)
        yield networks


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
