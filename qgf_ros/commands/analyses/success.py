"""`qgf analyze success`: which method solves the tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qgf_ros.commands.analyses.output import at_least_one, running_trials, write
from qgf_ros.commands.show.arguments import Integers, Numbers

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console

    from qgf_ros.evaluation.method_table import MethodTable
    from qgf_sim.rollouts.methods import MethodComparison


@dataclass(frozen=True)
class Success:
    """Compare the closed-loop success of every method over bundles, training seeds and tasks.

    Successive halving chooses the setting of each method for each bundle and task; held-out seeds report it. Every block of
    episodes is kept as it ends: the same command goes on where it was ended, and runs nothing twice.

    Attributes:
        bundles: Folders or names of bundles, such as cube-single. Those of one recipe and several training seeds are a
            family; FAMILY:SEED=BUNDLE says what a manifest does not. ROW@FAMILY=BUNDLE is one method of a family: a policy that
            was trained against its critic, such as edp@scene=models/edp-task1, or another kind of critic.
        tasks: Single-task numbers, separated by commas; all of each bundle by default.
        methods: Some of bc, bfn4, bfn16, bfn32, qgf, qgf_bfn4, qgf_bfn16, noisy (or qfql), qgf_jacobian, qgf_chain, bptt,
            grad_step, separated by commas; all by default.
        first_seed_only: Methods that run on the first training seed of each family alone, "" for none; qgf_jacobian,
            qgf_chain, bptt and grad_step by default.
        guidance_weights: Weights to choose from; 0.003 to 1, half a decade apart, by default.
        step_sizes: Step sizes of grad_step to choose from; 0.01 to 0.3 by default.
        choosing_episodes: Episodes to choose on, for a setting that lasts to the end.
        choosing_seed: First of their seeds.
        episodes: Held-out episodes per method, bundle and task to report.
        seed: First of their seeds.
        early_choices: Report the settings that led after fewer choosing episodes, too.
        workers: Processes; every core by default.
        batch_size: Episodes that share an inference.
        ray: Ray cluster to run on: auto, local, HOST:PORT or ray://HOST:10001.
        timed: Actions of each method to time on each bundle, once all episodes are there; 0 for none.
        trials: File of finished trials, JSON lines, which qgf tune shares; runs/success.jsonl by default.
        out: Folder for success.json, .png and .svg.
    """

    bundles: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="BUNDLE [BUNDLE ...]")]]
    tasks: Integers | None = None
    methods: str = ""
    first_seed_only: str | None = None
    guidance_weights: Numbers | None = None
    step_sizes: Numbers | None = None
    choosing_episodes: int = 40
    choosing_seed: int = 10_000
    episodes: int = 50
    seed: int = 20_000
    early_choices: bool = True
    workers: int | None = None
    batch_size: int = 8
    ray: str | None = None
    timed: int = 200
    trials: Path | None = None
    out: Path = Path("results/success")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        from qgf_ros.analysis.method_costs import HOW  # what is missing is to be noticed before the work
        from qgf_ros.analysis.success_figure import draw_success
        from qgf_ros.commands.show.arguments import here_or_on_a_cluster
        from qgf_ros.commands.show.success_tables import success_tables
        from qgf_ros.errors import SimulationError
        from qgf_ros.evaluation.method_table import MethodTable
        from qgf_ros.files.destination import check_destination
        from qgf_ros.reports.origin import origin
        from qgf_sim.rollouts.methods import METHODS

        at_least_one(batch_size=self.batch_size, workers=1 if self.workers is None else self.workers)
        here_or_on_a_cluster(self.workers, self.ray)
        if self.timed < 0:
            raise SimulationError(f"timed {self.timed} was given; it must be at least 0")
        comparison = self._comparison()
        comparison.check()
        path = self.out / "success.json"
        check_destination(path, force=True)  # which a comparison that goes on writes again
        table = MethodTable(path, comparison.settings(), list(METHODS))
        table.expect(comparison.bundles)
        table.expect_weights(comparison.weights_of_records())

        def write_table() -> dict[str, Any]:
            return table.write(origin(), {"times": HOW})

        def keep(records: list[dict[str, Any]]) -> None:
            table.add(records)
            write_table()

        self._run_episodes(console, comparison, keep)
        self._count_and_time(console, comparison, table)
        numbers = write_table()
        for shown in success_tables(numbers):
            console.print(shown)
        write(console, self.out, "success", None, draw_success(numbers))

    def _comparison(self) -> MethodComparison:
        from qgf_ros.evaluation.bundle_families import trained_bundles
        from qgf_sim.rollouts.methods import FIRST_SEED_ONLY, MethodComparison, methods_named, with_weights

        first_seed_only: tuple[str, ...] = FIRST_SEED_ONLY
        if self.first_seed_only is not None:
            named = methods_named(self.first_seed_only) if self.first_seed_only.strip() else ()
            first_seed_only = tuple(method.name for method in named)
        return MethodComparison(
            trained_bundles(self.bundles),
            self.tasks,
            with_weights(methods_named(self.methods), self.guidance_weights, self.step_sizes),
            first_seed_only,
            *(self.choosing_episodes, self.choosing_seed, self.episodes, self.seed),
            early_choices=self.early_choices,
            batch_size=self.batch_size,
        )

    def _run_episodes(
        self, console: Console, comparison: MethodComparison, keep: Callable[[list[dict[str, Any]]], None]
    ) -> None:
        """Call `keep` with the records of one bundle after the other."""
        from qgf_ros.commands.show.success_tables import BundleBar
        from qgf_sim.rollouts.method_trials import open_store, run_bundle

        kept = self.trials or Path("runs") / "success.jsonl"
        with running_trials(console, kept, self.workers, self.ray) as (bar, execute):
            for bundle in comparison.bundles_in_turn():
                shown = BundleBar(bar, console, bundle, comparison.most_episodes_of(bundle))
                store = open_store(kept, bundle)
                records = run_bundle(comparison, bundle, store, execute, progress=shown.add, finished=shown.tell)
                shown.finish()
                keep(records)

    def _count_and_time(self, console: Console, comparison: MethodComparison, table: MethodTable) -> None:
        """Count operations, and time actions now that no episode runs beside them; what is known already stays."""
        from qgf_ros.analysis.compute import Case
        from qgf_ros.analysis.method_costs import method_costs
        from qgf_ros.guidance.names import METHODS as COUNTED
        from qgf_sim.rollouts.methods import METHODS

        for bundle in comparison.bundles:
            known = {**METHODS, **{method.name: method for method in comparison.methods_of(bundle)}}
            wanted = [known[name] for name in table.without_cost(bundle, timed=self.timed > 0)]
            missing = [method for method in wanted if not any(method.weights) or method.estimator in COUNTED]
            if missing:
                console.print(f"costs of {bundle.path.name}", highlight=False, soft_wrap=True)
                chosen = {
                    method.name: Case("bc" if not any(method.weights) else method.estimator, method.num_samples)
                    for method in missing
                }
                table.add_costs(bundle, method_costs(bundle.path, chosen, rounds=self.timed))
