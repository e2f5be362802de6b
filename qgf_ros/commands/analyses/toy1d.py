"""`qgf analyze toy1d`: where each gradient leads when everything is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qgf_ros.commands.analyses.output import at_least_one, write
from qgf_ros.commands.show.arguments import Numbers

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console


@dataclass(frozen=True)
class Toy1d:
    """Guide a flow over three modes in one dimension, where the velocity field and the best action are known exactly.

    Attributes:
        guidance_weights: Guidance weights of the trajectories drawn, separated by commas.
        samples: Noises, the same for every method and weight.
        steps: Denoising steps.
        seed: Of the noises.
        out: Folder for toy1d.json, .png and .svg.
    """

    guidance_weights: Numbers = (0.1, 0.2, 0.4)
    samples: int = 1000
    steps: int = 50
    seed: int = 0
    out: Path = Path("results/toy1d")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        from qgf_ros.analysis.toy import ToySetting, run_toy, toy_runs
        from qgf_ros.analysis.toy_figure import draw_toy
        from qgf_ros.commands.show.analysis_tables import toy_table
        from qgf_ros.commands.show.display import progress_bar
        from qgf_ros.reports.origin import origin

        at_least_one(samples=self.samples, steps=self.steps)
        setting = ToySetting(weights=self.guidance_weights, samples=self.samples, steps=self.steps, seed=self.seed)
        with progress_bar(console, "runs") as bar:
            task = bar.add_task("toy1d", total=toy_runs(setting))
            numbers, runs = run_toy(setting, lambda: bar.advance(task))
        numbers = {**origin(), **numbers}
        console.print(toy_table(numbers))
        write(console, self.out, "toy1d", numbers, draw_toy(numbers, runs))
