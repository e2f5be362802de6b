"""`qgf analyze size`: what larger networks are worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qgf_ros.commands.analyses.output import at_least_one, running_trials, settings_of, write
from qgf_ros.commands.show.arguments import Integers, Numbers

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console

    from qgf_sim.rollouts.methods import MethodComparison


def is_run(source: str) -> bool:
    """Return whether this is a folder of `qgf train`."""
    return any(Path(source).glob("checkpoint-*.safetensors"))


@dataclass(frozen=True)
class Size:
    """Compare success and held-out loss of the critics over the number of parameters.

    Every bundle of a series, an algorithm's at several widths, chooses its guidance weight on the same seeds and reports on the
    same others. Every block of episodes is kept as it ends: the same command goes on where it was ended.

    Attributes:
        sources: Folders of qgf train, each of whose policies becomes a bundle in OUT/bundles, or bundles. Best trained
            alike but for --hidden, such as 128,128,128 and 256,256,256 and 512,512,512,512.
        tasks: Single-task numbers, separated by commas, of which each bundle runs those it has critics for; all by default.
        methods: Some of those of qgf analyze success; bc is the policy alone, which is what a trained actor is meant for.
        guidance_weights: Weights to choose from; 0.003 to 1, half a decade apart, by default.
        choosing_episodes: Episodes to choose on, for a weight that lasts to the end.
        choosing_seed: First of their seeds.
        episodes: Held-out episodes per bundle, task and method to report.
        seed: First of their seeds.
        workers: Processes; every core by default.
        batch_size: Episodes that share an inference.
        ray: Ray cluster to run on: auto, local, HOST:PORT or ray://HOST:10001.
        trials: File of finished trials, JSON lines, which qgf tune shares; runs/size.jsonl by default.
        out: Folder for size.json, .png and .svg.
    """

    sources: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN_OR_BUNDLE [RUN_OR_BUNDLE ...]")]
    ]
    tasks: Integers | None = None
    methods: str = "bc,qgf"
    guidance_weights: Numbers | None = None
    choosing_episodes: int = 40
    choosing_seed: int = 10_000
    episodes: int = 100
    seed: int = 20_000
    workers: int | None = None
    batch_size: int = 8
    ray: str | None = None
    trials: Path | None = None
    out: Path = Path("results/size")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        from qgf_ros.analysis.model_sizes import SizedBundle, check_apart, sizes_report
        from qgf_ros.analysis.size_figure import draw_sizes
        from qgf_ros.commands.show.arguments import here_or_on_a_cluster
        from qgf_ros.commands.show.success_tables import size_table
        from qgf_ros.reports.numbers import plain

        at_least_one(batch_size=self.batch_size, workers=1 if self.workers is None else self.workers)
        here_or_on_a_cluster(self.workers, self.ray)
        comparisons = self._comparisons()
        bundles = [bundle for comparison in comparisons for bundle in comparison.bundles]
        sizes = [SizedBundle.read(bundle.path, bundle.fingerprint) for bundle in bundles]
        check_apart([(one, b.training_seed, c.tasks or ()) for one, b, c in zip(sizes, bundles, comparisons)])
        records = self._run_episodes(console, comparisons)
        points = sizes_report(sizes, records)
        settings = settings_of(self, bundles[0].path)
        numbers = plain({**settings, "points": points, "bundles": [vars(size) for size in sizes], "records": records})
        console.print(size_table(numbers))
        write(console, self.out, "size", numbers, draw_sizes(numbers))

    def _comparisons(self) -> list[MethodComparison]:
        """Return one for each bundle, as each has tasks of its own; bundles without any of those asked for are left out."""
        from qgf_ros.errors import SimulationError
        from qgf_ros.evaluation.bundle_families import trained_bundles
        from qgf_ros.evaluation.results import tasks_of
        from qgf_sim.rollouts.methods import MethodComparison, methods_named, with_weights

        if not self.sources:
            raise SimulationError("neither run nor bundle was given; give some of several widths")
        runs = [Path(source).absolute() for source in self.sources if is_run(source)]
        if twice := [run.name for place, run in enumerate(runs) if run.name in {other.name for other in runs[:place]}]:
            raise SimulationError(
                f"several runs are called {twice[0]}, after which their bundles are called; give each run once, under a "
                "name of its own"
            )
        methods = with_weights(methods_named(self.methods), self.guidance_weights, None)
        seeds = (self.choosing_episodes, self.choosing_seed, self.episodes, self.seed)
        comparisons = []
        for bundle in trained_bundles([str(path) for source in self.sources for path in self._bundles_of(source)]):
            own = tasks_of(bundle.manifest)
            tasks = own if self.tasks is None else tuple(task for task in self.tasks if task in own)
            if tasks:
                one = MethodComparison(
                    (bundle,), tasks, methods, (), *seeds, early_choices=False, batch_size=self.batch_size
                )
                one.check()
                comparisons.append(one)
        if not comparisons:
            raise SimulationError("no bundle has a critic for the tasks; give other --tasks, or other bundles")
        return comparisons

    def _bundles_of(self, source: str) -> list[Path | str]:
        """Return a bundle, or those of a run, which are made unless they are there from the same checkpoint."""
        if not is_run(source):
            return [source]
        from qgf_ros.bundle.locate import is_bundle
        from qgf_ros.bundle.store import load_manifest
        from qgf_ros.learning.export.export import export_bundle, is_export, policy_names

        run = Path(source).absolute()
        names, folder = policy_names(run), self.out / "bundles"
        made: list[Path | str] = []
        for name in names:
            path = folder / (run.name if len(names) == 1 else f"{run.name}-{name}")
            if not is_bundle(path) or not is_export(load_manifest(path), run):
                folder.mkdir(parents=True, exist_ok=True)
                export_bundle(run, path, policy=name)
            made.append(path)
        return made

    def _run_episodes(self, console: Console, comparisons: list[MethodComparison]) -> list[dict[str, Any]]:
        from qgf_ros.commands.show.success_tables import BundleBar
        from qgf_sim.rollouts.method_trials import open_store, run_bundle

        kept = self.trials or Path("runs") / "size.jsonl"
        records: list[dict[str, Any]] = []
        with running_trials(console, kept, self.workers, self.ray) as (bar, execute):
            for comparison in comparisons:
                (bundle,) = comparison.bundles
                shown = BundleBar(bar, console, bundle, comparison.most_episodes_of(bundle))
                store = open_store(kept, bundle)
                records += run_bundle(comparison, bundle, store, execute, progress=shown.add, finished=shown.tell)
                shown.finish()
        return records
