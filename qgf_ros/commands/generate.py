"""`qgf generate`: record a data set with OGBench's oracles."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def generate(
    environment: str,
    /,
    out: Path,
    type: Literal["play", "noisy"] = "play",
    episodes: int = 300,
    seed: int = 0,
    workers: int | None = None,
    ray: str | None = None,
    force: bool = False,
) -> None:
    """Record a data set with OGBench's oracles.

    The same seed gives the same bytes for any number of workers, and on a cluster, pictures where its machines have the same
    GL driver. After Ctrl-C the same command goes on.

    Args:
        environment: cube-single, cube-double, cube-triple, cube-quadruple, cube-octuple, scene, puzzle-3x3, puzzle-4x4,
            puzzle-4x5 or puzzle-4x6. With visual- before any of these but cube-octuple, the robot sees the objects by a camera
            instead of being told where they are.
        out: Data set to write, FILE.npz; a validation set a tenth its size goes to FILE-val.npz.
        type: play (plan oracles) or noisy (Markov oracles with action noise).
        episodes: Training episodes of 1000 transitions.
        seed: Seed of the data set.
        workers: Processes; every core by default.
        ray: Ray cluster to run the oracles on: auto, local, HOST:PORT or ray://HOST:10001; the files are written here.
        force: Replace a data set that is there.
    """
    from contextlib import ExitStack

    from rich.console import Console

    from qgf_ros.commands.show.arguments import here_or_on_a_cluster
    from qgf_ros.commands.show.display import progress_bar
    from qgf_sim.worlds.oracle_data import generate as generate_dataset

    here_or_on_a_cluster(workers, ray)
    console = Console()
    bar = progress_bar(console, "episodes")
    row = bar.add_task(f"{environment} {type}", total=None)
    with ExitStack() as shown:

        def progress(done: int, total: int) -> None:
            if not bar.live.is_started:  # nothing is refused from here on
                shown.enter_context(bar)
            bar.update(row, completed=done, total=total)

        training, validation = generate_dataset(
            environment, type, episodes, seed, out, workers=workers, ray=ray, force=force, progress=progress
        )
    console.print(f"{training} and {validation}", highlight=False, soft_wrap=True)
