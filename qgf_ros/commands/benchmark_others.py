"""`qgf benchmark --ros`, `--evaluation`, `--training` and `--growth`: everything but the time of one tick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.table import Table

Progress = Callable[[str], None]


def benchmark_ros(
    bundle: Path | None,
    rates: tuple[int, ...],
    neighbour: bool,
    executor: str,
    threads: int,
    rounds: int,
    ticks: int,
    seed: int,
    out: Path,
) -> None:
    """Measure the loop over DDS, print it and write ros.json; the arguments are those of `qgf benchmark`."""
    from qgf_sim.benchmark.ros import Plan, measure

    plan = Plan(_located(bundle), rates, neighbour, executor, threads, rounds, ticks, seed)
    _run(lambda progress: measure(plan, progress), 2 * len(rates) + rounds, ros_table, out / "ros.json")


def ros_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `sim.benchmark.ros.measure`."""
    from qgf_ros.commands.show.display import number

    table = _table(
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


def benchmark_evaluation(
    bundle: Path | None, weight: float | None, critic: str | None, rounds: int, seed: int, out: Path
) -> None:
    """Measure an evaluation of the critic's task, print it and write evaluation.json."""
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.errors import GuidanceError
    from qgf_sim.benchmark.evaluation import measure
    from qgf_sim.rollouts.evaluate import Plan, all_cores

    path = _located(bundle)
    critics = load_manifest(path).critics
    name = next(iter(critics), None) if critic is None else critic
    if name is None or critics.get(name) is None or critics[name].task_id is None:
        known = ", ".join(key for key, card in critics.items() if card.task_id is not None)
        raise GuidanceError(
            f"critic {name!r} was given; expected one of a simulated task, {path.name} has {known or 'none'}"
        )
    card = critics[name]
    assert card.task_id is not None
    guidance_weight = card.recommended_weight if weight is None else weight
    plan = Plan(path, card.task_id, (guidance_weight,), 1, seed, critic=name)
    workers = sorted({1, all_cores()})
    _run(
        lambda progress: measure(plan, rounds, workers, progress),
        rounds + len(workers),
        evaluation_table,
        out / "evaluation.json",
    )


def evaluation_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `sim.benchmark.evaluation.measure`."""
    table = _table(
        f"The policy adds {100 * numbers['policy_share']:.0f} % to the time of the bare environments",
        ("", "episodes/s", "control steps/s"),
    )
    for name, key in (("under the policy, one process", "seconds"), ("bare environments, one process", "bare_seconds")):
        episodes, steps, seconds = (sum(r[of] for r in numbers["rounds"]) for of in ("episodes", "steps", key))
        table.add_row(name, f"{episodes / seconds:.2f}", f"{steps / seconds:.0f}")
    for record in numbers["scaling"]:
        name = f"qgf evaluate from start to end, --workers {record['workers']}"
        table.add_row(name, f"{record['episodes_per_second']:.2f}", f"{record['steps_per_second']:.0f}")
    return table


def benchmark_training(
    shapes: str,
    backends: tuple[str, ...],
    peers: bool,
    tasks: int,
    sizes: tuple[int, int, int],
    threads: int,
    rounds: int,
    updates: int,
    seed: int,
    out: Path,
) -> None:
    """Measure one training update, print it and write training.json; `sizes` are observation, action and horizon."""
    from qgf_ros.benchmark.training import BACKENDS, Plan, measure

    chosen = backends or (BACKENDS if peers else BACKENDS[:2])
    names = tuple(name.strip() for name in shapes.split(",")) if shapes else Plan.shapes
    plan = Plan(names, chosen, tasks, *sizes, threads=threads, rounds=rounds, updates=updates, seed=seed)
    steps = len(plan.shapes) * len(chosen) + rounds
    _run(lambda progress: measure(plan, progress), steps, training_table, out / "training.json")


def training_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `benchmark.training.measure`."""
    from qgf_ros.commands.show.display import number

    table = _table(
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


def benchmark_growth(
    networks: Mapping[str, Path],
    growth_ticks: int,
    providers: tuple[str, ...],
    threads: int,
    rounds: int,
    ticks: int,
    seed: int,
    out: Path,
) -> None:
    """Measure how a tick grows, print it and write growth.json; the arguments are those of `qgf benchmark`."""
    from qgf_ros.benchmark.growth import READINGS, Plan, measure
    from qgf_ros.benchmark.latency import Schedule

    plan = Plan(ticks=growth_ticks, threads=threads, providers=providers, schedule=Schedule(rounds, ticks, seed=seed))
    steps = len(networks) * (rounds + READINGS)
    _run(lambda progress: measure(networks, plan, progress), steps, growth_table, out / "growth.json")


def growth_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `benchmark.growth.measure`."""
    from qgf_ros.commands.show.display import number

    table = _table(
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


def _located(bundle: Path | None) -> Path:
    from qgf_ros.bundle.locate import DEFAULT_BUNDLE, locate_bundle

    return locate_bundle(DEFAULT_BUNDLE if bundle is None else bundle)


def _table(title: str, headings: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place and heading else "left", no_wrap=True)
    return table


def _run(
    measure: Callable[[Progress], dict[str, Any]], steps: int, table: Callable[[Mapping[str, Any]], Table], path: Path
) -> None:
    """Measure with a progress bar, say how idle the machine was, print the table and write the numbers."""
    from qgf_ros.commands.show.display import plain_console, progress_bar
    from qgf_ros.reports.machine import IDLE
    from qgf_ros.reports.numbers import write_json
    from qgf_ros.reports.origin import origin

    console = plain_console()
    with progress_bar(console, "steps") as bar:
        row = bar.add_task("starting", total=steps)
        numbers = {**origin(), **measure(lambda note: bar.update(row, advance=1, description=note))}
    load = numbers["load"]["before"]
    if load is not None and load > IDLE:
        console.print(
            f"the machine is not idle, others keep {load:.1f} cores busy: times are too long; stop what else runs and repeat",
            style="yellow",
            soft_wrap=True,
        )
    console.print(table(numbers))
    write_json(path, numbers)
    console.print(str(path), highlight=False, soft_wrap=True)
