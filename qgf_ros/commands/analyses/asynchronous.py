"""`qgf analyze asynchronous`: what becomes of success and smoothness when inference takes control steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from qgf_ros.commands.analyses.output import at_least_one, settings_of, write
from qgf_ros.commands.show.arguments import Integers, Numbers
from qgf_ros.control.run_options import RunOptions

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console


@dataclass(frozen=True)
class Asynchronous:
    """Compare synchronous execution, asynchronous execution and its seams under injected inference delays.

    Writes its record after every mode and delay.

    Attributes:
        bundle: Folder or name of the bundle; its horizon must be above every delay.
        task: Single-task number.
        delays: Inference delays [control steps], separated by commas; synchronous execution without any is always there.
        guidance_weights: Separated by commas; 0 and the recommended weight by default.
        execution_horizon: Actions after which asynchronous execution asks for the next chunk; synchronous execution has
            the bundle's own.
        episodes: Episodes per mode, delay and weight.
        seed: First of their seeds.
        workers: Processes; every core by default.
        batch_size: Episodes that share an inference.
        out: Folder for asynchronous.json, .png and .svg.
    """

    bundle: tyro.conf.Positional[Path]
    task: int = 2
    delays: Integers = (1, 2, 3, 4)
    guidance_weights: Numbers | None = None
    execution_horizon: int = 1
    episodes: int = 50
    seed: int = 20_000
    workers: int | None = None
    batch_size: int = 8
    out: Path = Path("results/asynchronous")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        from qgf_ros.analysis.asynchronous_figure import MODES, draw_asynchronous
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.bundle.store import load_manifest
        from qgf_ros.commands.show.analysis_tables import asynchronous_table
        from qgf_ros.commands.show.display import progress_bar
        from qgf_ros.evaluation.results import default_weights
        from qgf_ros.reports.machine import usable_cores
        from qgf_sim.rollouts.asynchronous import Study, compare

        at_least_one(episodes=self.episodes)
        bundle = locate_bundle(self.bundle)
        weights = self.guidance_weights
        if weights is None:
            weights = default_weights(load_manifest(bundle), self.task, RunOptions())
        study = Study(
            *(bundle, self.task, self.delays, weights, self.execution_horizon, self.episodes, self.seed),
            workers=usable_cores() if self.workers is None else self.workers,
            batch_size=self.batch_size,
            settings={**settings_of(self, bundle), "guidance_weights": weights},
            as_recommended=self.guidance_weights is None,
        )
        study.check()
        with progress_bar(console, "episodes") as bar:
            row = bar.add_task("starting", total=study.total)

            def advance(mode: str, delay: int) -> None:
                bar.update(row, advance=1, description=f"delay {delay}, {MODES[mode].label}")

            numbers = compare(study, self.out / "asynchronous.json", advance)
        console.print(asynchronous_table(numbers))
        write(console, self.out, "asynchronous", None, draw_asynchronous(numbers))
