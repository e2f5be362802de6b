"""The methods that are compared in closed loop, and what a comparison of them is: bundles, tasks, seeds.

Whatever a method leaves open, its guidance weight or step size, is chosen for each bundle and task on one range of seeds and
reported on another. Episode i of every method has the same seed for the environment and for the noise, so that methods can
be compared episode by episode.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qgf_ros.bundle.own_graphs import DIFFERENCE_WEIGHTS, estimator_meant, guided_by_difference, own_estimators
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.bundle_families import TrainedBundle
from qgf_ros.evaluation.halving import most_episodes, rung_sizes
from qgf_ros.evaluation.results import critic_for_task, tasks_of
from qgf_ros.evaluation.tuning import Protocol
from qgf_ros.guidance.names import CLASSIFIER_FREE, ROBUST
from qgf_sim.rollouts.evaluate import EvaluationPlan

#: Weights tried for methods that guide while denoising: the published sweep, 0.004 to 0.12, and a decade around it.
WEIGHTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
#: Step sizes tried for ``grad_step``.
STEP_SIZES = (0.01, 0.03, 0.1, 0.3)
#: The method that every other is compared with.
REFERENCE = "qgf"


@dataclass(frozen=True)
class Method:
    """One method of the comparison.

    Attributes:
        name: In the table and on the command line.
        weights: Guidance weights to choose from; with a single one there is nothing to choose.
        num_samples: Candidates N of which the best is kept.
        estimator: Gradient estimator.
    """

    name: str
    weights: tuple[float, ...]
    num_samples: int = 1
    estimator: str = "qgf"

    def options(self, critic: str) -> tuple[RunOptions, ...]:
        """Return everything that may be chosen, with a critic, in ascending order of the weights."""
        tried = [
            RunOptions(weight, critic, num_samples=self.num_samples, estimator=self.estimator)
            for weight in sorted(self.weights)
        ]
        return tuple(dict.fromkeys(one if one.guidance_weight else one.without_guidance() for one in tried))


#: Every method by its name; best-of-N at weight 0 is BFN.
METHODS = {
    method.name: method
    for method in (
        Method("bc", (0.0,)),
        Method("bfn4", (0.0,), num_samples=4),
        Method("bfn16", (0.0,), num_samples=16),
        Method("bfn32", (0.0,), num_samples=32),
        Method("qgf", WEIGHTS),
        Method("qgf_bfn4", WEIGHTS, num_samples=4),
        Method("qgf_bfn16", WEIGHTS, num_samples=16),
        Method("noisy", WEIGHTS, estimator="noisy"),
        Method("qgf_jacobian", WEIGHTS, estimator="qgf_jacobian"),
        Method("qgf_chain", WEIGHTS, estimator="qgf_chain"),
        Method("bptt", WEIGHTS, estimator="bptt"),
        Method("grad_step", STEP_SIZES, estimator="grad_step"),
    )
}
#: Other names of methods.
ALIASES = {"qfql": "noisy"}
#: Methods that run on the first training seed of each family alone, unless asked otherwise.
FIRST_SEED_ONLY = ("qgf_jacobian", "qgf_chain", "bptt", "grad_step")


def methods_named(words: str) -> tuple[Method, ...]:
    """Return the methods of a list of names separated by commas; all of them for an empty one.

    Raises:
        SimulationError: There is no method of a name.
    """
    names = [name.strip() for name in words.split(",") if name.strip()] or list(METHODS)
    names = [ALIASES.get(name, name) for name in names]
    for name in names:
        if name not in METHODS:
            raise SimulationError(
                f"method {name!r} was given; expected some of {', '.join(METHODS)}, or qfql, which is noisy"
            )
    return tuple(METHODS[name] for name in dict.fromkeys(names))


def method_of_row(bundle: TrainedBundle) -> Method:
    """Return what a bundle does that is one method of its family, from what it is.

    A policy that was trained against its critic acts by itself, at weight 0; two velocity fields are guided by their difference, a
    bundle with critics of noised actions by these, and a flow that imitates by its critics, as ``qgf``.
    """
    manifest = bundle.manifest
    if guided_by_difference(manifest):
        return Method(bundle.row, DIFFERENCE_WEIGHTS, estimator=CLASSIFIER_FREE)
    if ROBUST in own_estimators(manifest):
        return Method(bundle.row, WEIGHTS, estimator=ROBUST)
    imitates = str(manifest.training.get("policy", "")).startswith("one behaviour-cloned velocity field")
    return Method(bundle.row, WEIGHTS if imitates else (0.0,))


def with_weights(
    methods: Sequence[Method], weights: tuple[float, ...] | None, step_sizes: tuple[float, ...] | None
) -> tuple[Method, ...]:
    """Return methods that choose from other weights or step sizes; None leaves them, and what has no choice stays."""

    def of(method: Method) -> Method:
        tried = step_sizes if method.estimator == "grad_step" else weights
        return method if tried is None or len(method.weights) < 2 else replace(method, weights=tried)

    return tuple(of(method) for method in methods)


@dataclass(frozen=True)
class MethodComparison:
    """What to compare.

    Attributes:
        bundles: Family by family, from `trained_bundles`.
        tasks: Single-task numbers; None for all that each bundle has critics for.
        methods: In the order of the table.
        first_seed_only: Names of the methods that run on the first training seed of each family alone.
        choosing_episodes, choosing_seed: Episodes to choose on, of a setting that lasts to the end, and the first of their
            seeds.
        episodes, seed: Held-out episodes per method, bundle and task, and the first of their seeds.
        early_choices: Whether the settings that led after fewer choosing episodes are reported, too.
        batch_size: Episodes that share an inference.
    """

    bundles: tuple[TrainedBundle, ...]
    tasks: tuple[int, ...] | None = None
    methods: tuple[Method, ...] = tuple(METHODS.values())
    first_seed_only: tuple[str, ...] = FIRST_SEED_ONLY
    choosing_episodes: int = 40
    choosing_seed: int = 10_000
    episodes: int = 50
    seed: int = 20_000
    early_choices: bool = True
    batch_size: int = 8

    @property
    def protocol(self) -> Protocol:
        """Choosing and reporting seeds; raises SimulationError where they overlap."""
        return Protocol((), self.choosing_episodes, self.choosing_seed, self.episodes, self.seed)

    def check(self) -> None:
        """Raise SimulationError or GuidanceError, saying what is allowed, unless every run can be carried out."""
        _ = self.protocol
        if self.tasks == ():
            raise SimulationError("no task was given; give at least one, such as --tasks 2")
        for bundle in self.bundles:
            for task in self.tasks_of(bundle):
                for method in self.methods_of(bundle, on_any_seed=True):
                    self._check(bundle, task, method)

    def _check(self, bundle: TrainedBundle, task: int, method: Method) -> None:
        if any(method.weights) and estimator_meant(bundle.manifest, method.estimator) != method.estimator:
            raise SimulationError(
                f"method {method.name} was given, but bundle {bundle.manifest.name} is guided by the difference of two "
                "velocity fields, which is none of the methods compared here; give --methods bc, or try its weights with qgf tune"
            )
        options = RunOptions(num_samples=method.num_samples, estimator=method.estimator)
        plan = EvaluationPlan(bundle.path, task, method.weights, 1, options, batch_size=self.batch_size)
        plan.check(bundle.manifest)

    def tasks_of(self, bundle: TrainedBundle) -> tuple[int, ...]:
        """Return the tasks that a bundle is compared on; raises SimulationError where it has none."""
        if bundle.row:
            return tuple(task for task in bundle.tasks if self.tasks is None or task in self.tasks)
        if self.tasks is not None:
            return tuple(dict.fromkeys(self.tasks))
        found = tasks_of(bundle.manifest)
        if not found:
            raise SimulationError(
                f"no critic of {bundle.manifest.name} belongs to a simulated task; give another bundle"
            )
        return found

    def methods_of(self, bundle: TrainedBundle, *, on_any_seed: bool = False) -> tuple[Method, ...]:
        """Return the methods that run on a bundle, or would if its training seed were the first."""
        if bundle.row:
            return (method_of_row(bundle),)
        family = [other for other in self.bundles if other.family == bundle.family and not other.row]
        if on_any_seed or bundle.training_seed == min(other.training_seed for other in family):
            return self.methods
        return tuple(method for method in self.methods if method.name not in self.first_seed_only)

    def options_of(self, bundle: TrainedBundle, task: int, method: Method) -> tuple[RunOptions, ...]:
        """Return everything that a method may choose from on a bundle and a task."""
        return method.options(critic_for_task(bundle.manifest, task))

    def weights_of_records(self) -> dict[tuple[str, int, str], list[float]]:
        """Return what each record is chosen among, by the bundle's fingerprint, task and method."""
        return {
            (bundle.fingerprint, task, method.name): sorted(method.weights)
            for bundle in self.bundles
            for task in self.tasks_of(bundle)
            for method in self.methods_of(bundle)
        }

    def most_episodes(self, method: Method) -> int:
        """Return how many episodes a method takes at most, per bundle and task."""
        count = len(method.options(""))
        if count == 1:
            return self.episodes
        sizes = rung_sizes(self.choosing_episodes)
        leaders = min(count, len(sizes)) if self.early_choices else 1
        return most_episodes(count, sizes) + leaders * self.episodes

    def most_episodes_of(self, bundle: TrainedBundle) -> int:
        """Return how many episodes a bundle takes at most."""
        return len(self.tasks_of(bundle)) * sum(map(self.most_episodes, self.methods_of(bundle)))

    def bundles_in_turn(self) -> tuple[TrainedBundle, ...]:
        """Return the first training seed of every family, then the second of each, so that all have something early."""
        families = dict.fromkeys(bundle.family for bundle in self.bundles)
        turns = itertools.zip_longest(*([b for b in self.bundles if b.family == name] for name in families))
        return tuple(bundle for turn in turns for bundle in turn if bundle is not None)

    def settings(self) -> dict[str, object]:
        """Return what every record of one table shares; must be equal for a table to be added to."""
        shared = ("choosing_episodes", "choosing_seed", "episodes", "seed", "early_choices", "batch_size")
        return {**{name: getattr(self, name) for name in shared}, "reference": REFERENCE}
