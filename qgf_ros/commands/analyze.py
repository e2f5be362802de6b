"""`qgf analyze`: the paper's analyses, each a figure and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro

from qgf_ros.commands.analyses.asynchronous import Asynchronous
from qgf_ros.commands.analyses.output import at_least_one, settings_of, write
from qgf_ros.commands.show.arguments import Integers, Weights

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console


@dataclass(frozen=True)
class Toy1d:
    """Guide a flow over three modes in one dimension, where the velocity field and the best action are known exactly.

    Attributes:
        weights: Guidance weights of the trajectories drawn, separated by commas.
        samples: Noises, the same for every method and weight.
        steps: Denoising steps.
        seed: Of the noises.
        out: Folder for toy1d.json, .png and .svg.
    """

    weights: Weights = (0.1, 0.2, 0.4)
    samples: int = 1000
    steps: int = 50
    seed: int = 0
    out: Path = Path("results/toy1d")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        from qgf_ros.analysis.plots import draw_toy
        from qgf_ros.analysis.toy import ToySetting, run_toy, toy_runs
        from qgf_ros.commands.show.analysis_tables import toy_table
        from qgf_ros.commands.show.display import progress_bar
        from qgf_ros.reports.origin import origin

        at_least_one(samples=self.samples, steps=self.steps)
        setting = ToySetting(weights=self.weights, samples=self.samples, steps=self.steps, seed=self.seed)
        with progress_bar(console, "runs") as bar:
            task = bar.add_task("toy1d", total=toy_runs(setting))
            numbers, runs = run_toy(setting, lambda: bar.advance(task))
        numbers = {**origin(), **numbers}
        console.print(toy_table(numbers))
        write(console, self.out, "toy1d", numbers, draw_toy(numbers, runs))


@dataclass(frozen=True)
class Sensitivity:
    """Measure how far a small shift of the noised action turns each estimator's gradient.

    Attributes:
        bundle: Folder or name of the bundle, such as cube-single.
        tasks: Single-task numbers whose critics are asked, separated by commas; all of the bundle by default.
        dataset: Data set to take states from; without one they come from simulated episodes.
        states: States per critic.
        deviations: Standard deviations of the shift, separated by commas [normalised action].
        episodes: Simulated episodes per task.
        seed: Of states, noises, shifts and episodes.
        out: Folder for sensitivity.json, .png and .svg.
    """

    bundle: tyro.conf.Positional[Path]
    tasks: Integers | None = None
    dataset: Path | None = None
    states: int = 256
    deviations: Weights = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    episodes: int = 4
    seed: int = 0
    out: Path = Path("results/sensitivity")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        import numpy as np

        from qgf_ros.analysis.inputs import load_primitives, load_states
        from qgf_ros.analysis.plots import draw_sensitivity
        from qgf_ros.analysis.sensitivity import combine, measure_sensitivity
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.commands.show.analysis_tables import sensitivity_table
        from qgf_ros.commands.show.display import progress_bar
        from qgf_ros.guidance.estimators import ESTIMATORS

        at_least_one(states=self.states, episodes=self.episodes)
        bundle = locate_bundle(self.bundle)
        primitives = load_primitives(bundle, self.tasks)
        manifest = primitives.manifest
        drawn = None if self.dataset is None else load_states(self.dataset, manifest, self.states, self.seed)[0]
        parts = {}
        with progress_bar(console, "gradients") as bar:
            for name, critic in primitives.critics.items():
                row = bar.add_task(name, total=manifest.denoising_steps * len(ESTIMATORS))
                observations = self._simulated(bundle, name) if drawn is None else drawn.observations
                random = np.random.default_rng(self.seed)
                noise, shift = random.standard_normal((2, self.states, manifest.chunk_size), dtype=np.float32)
                parts[name] = measure_sensitivity(
                    *(primitives.velocity, critic, observations, noise, shift),
                    steps=manifest.denoising_steps,
                    deviations=self.deviations,
                    progress=lambda row=row: bar.advance(row),  # type: ignore[misc]
                )
        numbers = {
            **settings_of(self, bundle),
            "steps": manifest.denoising_steps,
            "mean": combine(parts),
            "critics": parts,
        }
        console.print(sensitivity_table(numbers))
        write(console, self.out, "sensitivity", numbers, draw_sensitivity(numbers))

    def _simulated(self, bundle: Path, critic: str) -> Any:
        from qgf_ros.bundle.store import load_manifest
        from qgf_ros.errors import GuidanceError
        from qgf_sim.rollouts.states import collect_states

        task = load_manifest(bundle).critics[critic].task_id
        if task is None:
            raise GuidanceError(f"critic {critic} belongs to no simulated task; give --dataset to take states from")
        return collect_states(bundle, task, self.states, episodes=self.episodes, seed=self.seed)


@dataclass(frozen=True)
class QOptimization:
    """Compare the Q that each method reaches, and how far from the data set's actions it ends.

    Attributes:
        bundle: Folder or name of the bundle, such as cube-single.
        dataset: Data set the bundle was trained on; states come from its validation set where there is one.
        tasks: Single-task numbers whose critics are asked, separated by commas; all of the bundle by default.
        states: States per critic.
        weights: Guidance weights (step sizes of grad_step), separated by commas.
        candidates: Largest N of best-of-N.
        neighbours: Nearest observations whose actions count as the data set's.
        seed: Of states and noises.
        out: Folder for q-optimization.json, .png and .svg.
    """

    bundle: tyro.conf.Positional[Path]
    dataset: Path
    tasks: Integers | None = None
    states: int = 256
    weights: Weights = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    candidates: int = 32
    neighbours: int = 10
    seed: int = 0
    out: Path = Path("results/q-optimization")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        import numpy as np

        from qgf_ros.analysis.inputs import load_primitives, load_states
        from qgf_ros.analysis.plots import draw_q_optimization
        from qgf_ros.analysis.q_optimization import Neighbourhoods, measure_q_optimization, relative, rounds
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.commands.show.analysis_tables import q_table
        from qgf_ros.commands.show.display import progress_bar

        at_least_one(states=self.states, candidates=self.candidates, neighbours=self.neighbours)
        bundle = locate_bundle(self.bundle)
        primitives = load_primitives(bundle, self.tasks)
        manifest = primitives.manifest
        drawn, known = load_states(self.dataset, manifest, self.states, self.seed)
        neighbourhoods = Neighbourhoods.of(known, drawn.observations, self.neighbours)
        shape = (self.states, self.candidates, manifest.chunk_size)
        noise = np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32)
        parts = {}
        with progress_bar(console, "runs") as bar:
            for name, critic in primitives.critics.items():
                row = bar.add_task(name, total=rounds(self.weights))
                parts[name] = measure_q_optimization(
                    *(primitives.velocity, critic, drawn.observations, noise, drawn.actions, neighbourhoods),
                    steps=manifest.denoising_steps,
                    weights=self.weights,
                    progress=lambda row=row: bar.advance(row),  # type: ignore[misc]
                )
        numbers = {**settings_of(self, bundle), "mean": relative(parts), "critics": parts}
        console.print(q_table(numbers))
        write(console, self.out, "q-optimization", numbers, draw_q_optimization(numbers))


@dataclass(frozen=True)
class Compute:
    """Count the operations of an action, and measure its latency, for every method and N.

    Attributes:
        bundle: Folder or name of the bundle, such as cube-single.
        candidates: Values of N, separated by commas.
        rounds: Timed actions of each method and N; each round times all of them in turn.
        warm_up: Rounds before them that are not timed.
        out: Folder for compute.json, .png and .svg.
    """

    bundle: tyro.conf.Positional[Path]
    candidates: Integers = (1, 4, 16)
    rounds: int = 200
    warm_up: int = 10
    out: Path = Path("results/compute")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        from qgf_ros.analysis.compute import measure_compute
        from qgf_ros.analysis.inputs import load_primitives
        from qgf_ros.analysis.plots import draw_compute
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.commands.show.analysis_tables import compute_table
        from qgf_ros.commands.show.display import progress_bar

        at_least_one(rounds=self.rounds)
        bundle = locate_bundle(self.bundle)
        with progress_bar(console, "rounds") as bar:
            row = bar.add_task(bundle.name, total=self.rounds + self.warm_up)
            measured = measure_compute(
                *(bundle, load_primitives(bundle)),
                candidates=self.candidates,
                rounds=self.rounds,
                warm_up=self.warm_up,
                progress=lambda: bar.advance(row),
            )
        numbers = {**settings_of(self, bundle), **measured}
        console.print(compute_table(numbers))
        write(console, self.out, "compute", numbers, draw_compute(numbers))


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
        from qgf_ros.analysis.plots import draw_success, method_label
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.bundle.store import load_manifest
        from qgf_ros.commands.show.analysis_tables import success_table
        from qgf_ros.commands.show.display import progress_bar
        from qgf_ros.reports.origin import origin
        from qgf_sim.rollouts.evaluate import all_cores
        from qgf_sim.rollouts.methods import Comparison, Method, compare, methods_named

        bundle = locate_bundle(self.bundle)
        known = tuple(card.task_id for card in load_manifest(bundle).critics.values() if card.task_id is not None)
        comparison = Comparison(
            bundle,
            known if self.tasks is None else self.tasks,
            methods_named(self.methods),
            *(self.choosing_episodes, self.choosing_seed, self.episodes, self.seed),
            workers=all_cores() if self.workers is None else self.workers,
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


Analysis = Union[  # noqa: UP007  (tyro reads the names off the parts)
    Annotated[Toy1d, tyro.conf.subcommand("toy1d", prefix_name=False)],
    Annotated[Sensitivity, tyro.conf.subcommand("sensitivity", prefix_name=False)],
    Annotated[QOptimization, tyro.conf.subcommand("q-optimization", prefix_name=False)],
    Annotated[Compute, tyro.conf.subcommand("compute", prefix_name=False)],
    Annotated[Success, tyro.conf.subcommand("success", prefix_name=False)],
    Annotated[Asynchronous, tyro.conf.subcommand("asynchronous", prefix_name=False)],
]


def analyze(analysis: Annotated[Analysis, tyro.conf.arg(name="")]) -> None:
    """Run one of the analyses; each writes a figure (PNG and SVG) and its numbers (JSON).

    Args:
        analysis: Which one.
    """
    from rich.console import Console

    analysis.run(Console())
