"""`qgf analyze success`: which method solves the task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from qgf_ros.commands.analyses.output import write
from qgf_ros.commands.show.arguments import Integers

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console


@dataclass(frozen=True)
class Success:
    """Compare the closed-loop success of every method, each at the weight that was best for it on other seeds.

    Writes its table after every method; the same command goes on where it was ended.

    Attributes:
        bundle: Folder or name of the bundle, such as cube-single.
        tasks: Single-task numbers, separated by commas; all of the bundle by default.
        methods: Some of bc, bfn4, bfn16, qgf, qgf_bfn4, qgf_jacobian, qgf_chain, noisy, bptt, grad_step, separated by
            commas; all by default.
        choosing_episodes: Episodes per weight to choose on.
        choosing_seed: First of their seeds.
        episodes: Episodes per method and task to report.
        seed: First of their seeds.
        workers: Processes; every core by default.
        batch_size: Episodes that share an inference.
        out: Folder for success.json, .png and .svg.
    """

    bundle: tyro.conf.Positional[Path]
    tasks: Integers | None = None
    methods: str = ""
    choosing_episodes: int = 40
    choosing_seed: int = 10_000
    episodes: int = 100
    seed: int = 20_000
    workers: int | None = None
    batch_size: int = 8
    out: Path = Path("results/success")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        from qgf_ros.analysis.plots import draw_success
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.bundle.store import load_manifest
        from qgf_ros.commands.show.analysis_tables import success_table
        from qgf_ros.commands.show.display import progress_bar
        from qgf_ros.reports.figures import method_label
        from qgf_ros.reports.machine import usable_cores
        from qgf_ros.reports.origin import origin
        from qgf_sim.rollouts.methods import Method, MethodComparison, compare, methods_named

        bundle = locate_bundle(self.bundle)
        known = tuple(card.task_id for card in load_manifest(bundle).critics.values() if card.task_id is not None)
        comparison = MethodComparison(
            bundle,
            known if self.tasks is None else self.tasks,
            methods_named(self.methods),
            *(self.choosing_episodes, self.choosing_seed, self.episodes, self.seed),
            workers=usable_cores() if self.workers is None else self.workers,
            batch_size=self.batch_size,
            origin={"bundle": bundle.name, **origin()},
        )
        comparison.check()
        with progress_bar(console, "episodes") as bar:
            per_task = sum(comparison.episodes_of(method) for method in comparison.methods)
            row = bar.add_task("starting", total=per_task * len(comparison.tasks))

            def advance(method: Method, task: int, count: int) -> None:
                bar.update(row, advance=count, description=f"task {task}, {method_label(method.name)}")

            numbers = compare(comparison, self.out / "success.json", advance)
        console.print(success_table(numbers))
        write(console, self.out, "success", None, draw_success(numbers))
