"""`qgf analyze uncertainty`: whether careful guidance moves the weight at which success falls off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qgf_ros.commands.analyses.output import at_least_one, running_trials, settings_of, write
from qgf_ros.commands.show.arguments import Integers, Numbers, Words

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console

    from qgf_ros.evaluation.guidance_variants import VariantComparison, VariantOutcomes


@dataclass(frozen=True)
class Uncertainty:
    """Sweep the guidance weight with and without gates by the ensemble's disagreement, weight schedules, and other bundles.

    Every variant has the same seeds of environment and noise. Its best weight is then reported on other seeds, beside that of
    constant guidance. Every block of episodes is kept as it ends: the same command goes on where it was ended.

    Attributes:
        bundles: Folders or names of bundles. The first is run in every variant; each other one is a variant of its own, such
            as an export of the same run with another --aggregate. NAME=BUNDLE says what it is called.
        tasks: Single-task numbers, separated by commas; all that the bundles share by default.
        guidance_weights: Weights of the sweep; 0, plain behaviour cloning, is always among them.
        disagreement_scales: Gates d in units of Q: the weight is multiplied by d / (d + spread of the ensemble); inf for
            none.
        weight_schedules: Schedules of the weight over the denoising steps to try; constant for none.
        sweep_episodes: Episodes per weight, variant and task of the sweep.
        sweep_seed: First of their seeds.
        episodes: Episodes per variant and task that report the best weight.
        seed: First of their seeds.
        workers: Processes; every core by default.
        batch_size: Episodes that share an inference.
        ray: Ray cluster to run on: auto, local, HOST:PORT or ray://HOST:10001.
        trials: File of finished trials, JSON lines, which qgf tune shares; runs/uncertainty.jsonl by default.
        out: Folder for uncertainty.json, .png and .svg.
    """

    bundles: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="BUNDLE [BUNDLE ...]")]]
    tasks: Integers | None = None
    guidance_weights: Numbers = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    disagreement_scales: Numbers = (0.3, 1.0, 3.0)
    weight_schedules: Words = ("linear", "cosine", "falling")
    sweep_episodes: int = 50
    sweep_seed: int = 10_000
    episodes: int = 100
    seed: int = 20_000
    workers: int | None = None
    batch_size: int = 8
    ray: str | None = None
    trials: Path | None = None
    out: Path = Path("results/uncertainty")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        from qgf_ros.analysis.uncertainty_figure import draw_uncertainty  # what is missing is noticed before the work
        from qgf_ros.commands.show.arguments import here_or_on_a_cluster
        from qgf_ros.commands.show.success_tables import uncertainty_tables
        from qgf_ros.evaluation.weight_curves import variants_report
        from qgf_ros.reports.numbers import plain

        at_least_one(batch_size=self.batch_size, workers=1 if self.workers is None else self.workers)
        here_or_on_a_cluster(self.workers, self.ray)
        comparison = self._comparison()
        comparison.check()
        found = self._run_episodes(console, comparison)
        settings = settings_of(self, comparison.variants[0].bundle)
        numbers = plain({**settings, "variants": variants_report(comparison, found)})
        for shown in uncertainty_tables(numbers):
            console.print(shown)
        write(console, self.out, "uncertainty", numbers, draw_uncertainty(numbers))

    def _comparison(self) -> VariantComparison:
        from qgf_ros.errors import SimulationError
        from qgf_ros.evaluation.guidance_variants import VariantComparison, compared_variants, tasks_shared
        from qgf_ros.evaluation.tuning import Protocol

        if not any(self.guidance_weights):
            raise SimulationError("no guidance weight above 0 was given; give at least one, such as 0.1")
        variants = compared_variants(self.bundles, self.disagreement_scales, self.weight_schedules)
        seeds = (self.sweep_episodes, self.sweep_seed, self.episodes, self.seed)
        protocol = Protocol(self.guidance_weights, *seeds)
        return VariantComparison(variants, tasks_shared(variants, self.tasks), protocol, self.batch_size)

    def _run_episodes(self, console: Console, comparison: VariantComparison) -> dict[str, tuple[VariantOutcomes, ...]]:
        from qgf_ros.evaluation.guidance_variants import run_variants

        kept = self.trials or Path("runs") / "uncertainty.jsonl"
        with running_trials(console, kept, self.workers, self.ray) as (bar, execute):
            row = bar.add_task("variants and weights", total=comparison.most_episodes)
            found = run_variants(
                comparison, kept, execute, progress=lambda trial, outcomes: bar.advance(row, len(outcomes))
            )
            bar.update(row, total=bar.tasks[row].completed)
        return found
