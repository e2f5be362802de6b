"""`qgf tune`: find and report the guidance weight of each task."""

from __future__ import annotations

from pathlib import Path

from qgf_ros.commands.arguments import Integers, Weights
from qgf_ros.commands.origin import origin


def tune(
    bundle: Path,
    /,
    tasks: Integers | None = None,
    weights: Weights | None = None,
    choosing_episodes: int = 40,
    choosing_seed: int = 10_000,
    reporting_episodes: int = 100,
    reporting_seed: int = 20_000,
    workers: int | None = None,
    batch_size: int = 8,
    json: Path | None = None,
) -> None:
    """Choose each task's guidance weight in closed loop, then report it on seeds that had no say in the choice.

    Writes the recommended weight and its evidence into the bundle's manifest. A weight that is not better than plain
    behaviour cloning with confidence (Wilson intervals apart) is never recommended; the recommendation is then 0.

    Args:
        bundle: Folder or name of the bundle, such as cube-single.
        tasks: Single-task numbers, separated by commas; all of the bundle by default.
        weights: Guidance weights to try; from 0 to 1, closest together around 0.03, by default.
        choosing_episodes: Episodes per weight to choose on.
        choosing_seed: First of their seeds.
        reporting_episodes: Episodes of plain BC and of the chosen weight to report.
        reporting_seed: First of their seeds.
        workers: Processes; every core by default.
        batch_size: Episodes that share an inference.
        json: Whole table to write, with the outcome of every episode.
    """
    from rich.console import Console

    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.commands.display import progress_bar, results_table
    from qgf_ros.errors import SimulationError
    from qgf_sim.evaluation import all_cores
    from qgf_sim.results import write_report
    from qgf_sim.tuning import WEIGHTS, Protocol
    from qgf_sim.tuning import tune as run

    bundle = locate_bundle(bundle)
    cards = load_manifest(bundle).critics
    chosen = tasks or tuple(card.task_id for card in cards.values() if card.task_id is not None)
    if not chosen:
        raise SimulationError(
            f"no critic of {bundle} belongs to a simulated task; there is nothing to tune in simulation"
        )
    weights = tuple(sorted({0.0, *(WEIGHTS if weights is None else weights)}))
    protocol = Protocol(
        weights,
        choosing_episodes,
        choosing_seed,
        reporting_episodes,
        reporting_seed,
        all_cores() if workers is None else workers,
        batch_size,
    )
    console = Console()
    table = []
    for task in chosen:
        with progress_bar(console, "episodes") as bar:
            totals = {"choosing": choosing_episodes * len(weights), "reporting": 2 * reporting_episodes}
            rows = {
                stage: bar.add_task(f"task {task}, {stage}", total=total, start=stage == "choosing")
                for stage, total in totals.items()
            }

            def advance(stage: str, episode: object, bar=bar, rows=rows) -> None:  # type: ignore[no-untyped-def]
                bar.start_task(rows[stage])
                bar.advance(rows[stage])

            outcome = run(bundle, task, protocol, advance)
        table.append(outcome)
        console.print(results_table(outcome["choosing"], f"task {task}, choosing seeds"))
        console.print(results_table(outcome["reporting"], f"task {task}, held-out seeds"))
        console.print(f"recommended weight of task {task}: {outcome['recommended_weight']:g}", highlight=False)
        if json is not None:
            write_report(json, {**origin(bundle), "tasks": table})
