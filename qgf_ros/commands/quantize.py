"""`qgf quantize`: a variant of a bundle in another precision, with what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qgf_ros.commands.show.arguments import Integers

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.progress import TaskID

    from qgf_ros.bundle.manifest import Manifest, PrecisionEvidence
    from qgf_ros.evaluation.results import Episode
    from qgf_ros.runtime.policy import Policy


def quantize(
    bundle: Path,
    /,
    precision: Literal["int8", "fp16"],
    *,
    tasks: Annotated[Integers | None, tyro.conf.arg(aliases=["--task"])] = None,
    guidance_weight: float | None = None,
    episodes: int = 50,
    seed: int = 30_000,
    data: Path | None = None,
    ticks: int = 1000,
) -> None:
    """Measure a bundle in another precision, and write the evidence into its manifest.

    The variant is made from the bundle's own weights whenever it is loaded; without evidence the node refuses it. Each
    episode runs in both precisions with the same seed and noise, and at each tick of the float32 one the variant infers
    from the same observation and noise. Run it on the robot's computer, while that is idle: the speed is measured too.

    Args:
        bundle: Folder or name of the bundle, such as cube-single.
        precision: Of the variant.
        tasks: Single-task numbers, separated by commas; all of the bundle by default. With a goal-conditioned bundle the
            episodes take turns with them.
        guidance_weight: The recommended one of each critic by default.
        episodes: Episodes per critic and precision.
        seed: Seed of the first episode.
        data: Data set (.npz) whose observations to compare on, instead of rollouts; for a bundle without a simulator.
            Goals are other rows of it.
        ticks: Observations drawn from the data set.
    """
    from rich.console import Console

    from qgf_ros.analysis.precision_cost import load_pair, record_evidence
    from qgf_ros.bundle.locate import MANIFEST_NAME, locate_bundle
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.commands.show.card import precision_table
    from qgf_ros.errors import GuidanceError
    from qgf_ros.files.destination import check_destination

    bundle = locate_bundle(bundle)
    manifest = load_manifest(bundle)
    critics = _critics(manifest, tasks, simulated=data is None)
    if not critics:
        raise GuidanceError(f"no critic of {bundle} belongs to a simulated task; give --data to compare on")
    check_destination((bundle / MANIFEST_NAME).resolve(), force=True, option="bundle")
    pair = load_pair(bundle, precision, list(critics))
    if data is None:
        evidence = _in_closed_loop(pair, critics, guidance_weight, episodes, seed)
    else:
        evidence = _on_data(pair, critics, guidance_weight, data, ticks, seed)
    manifest = record_evidence(bundle, manifest, precision, evidence)
    console = Console()
    console.print(precision_table(manifest))
    largest = max(each.action_error.largest for each in evidence.values())
    tolerance = manifest.precision_tolerance
    verdict = "inside" if largest <= tolerance else "outside"
    console.print(f"largest action error {largest:.2g}: {verdict} the tolerance of {tolerance:g}", highlight=False)


def _critics(manifest: Manifest, tasks: tuple[int, ...] | None, *, simulated: bool) -> dict[str, tuple[int, ...]]:
    """Return the critics to measure, each with its simulated tasks."""
    from qgf_ros.evaluation.results import tasks_of
    from qgf_ros.evaluation.tuning import critics_of

    if tasks is None and not simulated:
        return {name: () for name in manifest.critics}
    tasks = tasks or tasks_of(manifest)
    critics: dict[str, tuple[int, ...]] = critics_of(manifest, tasks) if tasks else {}
    return critics


def _in_closed_loop(
    pair: tuple[Policy, Policy], critics: dict[str, tuple[int, ...]], weight: float | None, episodes: int, seed: int
) -> dict[str, PrecisionEvidence]:
    from functools import partial

    from rich.console import Console

    from qgf_ros.analysis.precision_cost import weight_of
    from qgf_ros.commands.show.display import progress_bar
    from qgf_sim.rollouts.quantization import compare_in_closed_loop

    def advance(row: TaskID, episode: Episode) -> None:
        bar.advance(row)

    weights = {critic: weight_of(pair[0].manifest, critic, weight) for critic in critics}
    evidence = {}
    with progress_bar(Console(), "episodes") as bar:
        for critic, tasks in critics.items():
            row = bar.add_task(critic, total=2 * episodes)
            evidence[critic] = compare_in_closed_loop(
                *(pair, tasks, weights[critic], episodes, seed), progress=partial(advance, row)
            )
    return evidence


def _on_data(
    pair: tuple[Policy, Policy],
    critics: dict[str, tuple[int, ...]],
    weight: float | None,
    data: Path,
    ticks: int,
    seed: int,
) -> dict[str, PrecisionEvidence]:
    import numpy as np

    from qgf_ros.analysis.inputs import open_pictures
    from qgf_ros.analysis.precision_cost import compare_on_data, weight_of
    from qgf_ros.bundle.goal_fields import goal_columns
    from qgf_ros.learning.data.dataset import load_dataset
    from qgf_ros.learning.data.normalisation import as_seen
    from qgf_ros.learning.data.picture_files import Pictures

    manifest = pair[0].manifest
    random = np.random.default_rng(seed)
    dataset = as_seen(load_dataset(data, bounded=False), manifest, str(data))
    rows, seen = dataset.observations, open_pictures(dataset)
    drawn = random.permutation(len(rows))[:ticks]
    observations = rows[drawn]
    pictures = None if seen is None else Pictures(seen.cameras, seen.rows[drawn])
    if manifest.goal is not None:
        goals = rows[random.integers(len(rows), size=len(observations))]
        columns = goal_columns(manifest.observation, manifest.goal_fields, manifest.goal)
        observations = np.concatenate([observations, goals[:, columns]], axis=1)
    return {
        critic: compare_on_data(pair, critic, weight_of(manifest, critic, weight), observations, seed, pictures)
        for critic in critics
    }
