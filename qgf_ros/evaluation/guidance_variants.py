"""What may make guidance more careful where critics are unsure, as variants of the same run: gates, schedules, other bundles.

Each variant runs every guidance weight on the same seeds of environment and noise, which shows where success falls off; then
the weight that was best there runs on seeds that had no say in it. Trials are those of `qgf tune`: none runs twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qgf_ros.bundle.locate import is_bundle, locate_bundle
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.run_options import DEFAULTS, RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.halving import Found, Outcome, Steps, rank
from qgf_ros.evaluation.lockstep import Searcher, in_lockstep
from qgf_ros.evaluation.plan import EpisodePlan, environment_of
from qgf_ros.evaluation.results import critic_for_task, tasks_of
from qgf_ros.evaluation.trials import Execute, Trial, Trials, TrialStore
from qgf_ros.evaluation.tuning import Protocol

#: What every other variant is compared with: the first bundle, as it guides by default.
REFERENCE = "constant"


@dataclass(frozen=True)
class GuidanceVariant:
    """A way to guide that is compared at every weight.

    Attributes:
        name: In tables.
        bundle: Folder, absolute.
        manifest: Of the bundle.
        settings: Run options that are not at their default.
    """

    name: str
    bundle: Path
    manifest: Manifest = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def options(self, task: int, weights: Sequence[float]) -> tuple[RunOptions, ...]:
        """Return the runs on a task, plain behaviour cloning among them, in ascending order of their weights."""
        base = RunOptions(0.0, critic_for_task(self.manifest, task), **self.settings)
        tried = [replace(base, guidance_weight=weight) for weight in sorted({0.0, *weights})]
        return tuple(one if one.guidance_weight else one.without_guidance() for one in tried)


@dataclass(frozen=True)
class VariantComparison:
    """What to compare.

    Attributes:
        variants: The reference first.
        tasks: Single-task numbers.
        protocol: Weights, and the seeds that show the curve and those that report the best of it.
        batch_size: Episodes that share an inference.
    """

    variants: tuple[GuidanceVariant, ...]
    tasks: tuple[int, ...]
    protocol: Protocol
    batch_size: int = 8

    def check(self) -> None:
        """Raise SimulationError or GuidanceError, saying what is allowed, unless every run can be carried out."""
        first = environment_of(self.variants[0].manifest)
        for variant in self.variants:
            if environment_of(variant.manifest) != first:
                raise SimulationError(
                    f"{variant.bundle.name} is of {environment_of(variant.manifest)}, {self.variants[0].bundle.name} of {first}; "
                    "give bundles of one environment"
                )
            for task in self.tasks:
                for options in variant.options(task, self.protocol.guidance_weights):
                    EpisodePlan(variant.bundle, task, (options.guidance_weight,), 1, options).check(variant.manifest)

    @property
    def weights(self) -> tuple[float, ...]:
        """Every guidance weight, plain behaviour cloning included."""
        return tuple(sorted({0.0, *self.protocol.guidance_weights}))

    @property
    def most_episodes(self) -> int:
        """How many episodes it takes at most."""
        each = len(self.weights) * self.protocol.choosing_episodes + self.protocol.reporting_episodes
        return len(self.variants) * len(self.tasks) * each


@dataclass(frozen=True)
class VariantOutcomes:
    """What came of a variant on one task.

    Attributes:
        curve: Outcomes of every weight on the choosing seeds, in ascending order of the weights.
        chosen: The best of these by their success.
        reported: Its outcomes on the reporting seeds.
    """

    curve: tuple[tuple[Outcome, ...], ...]
    chosen: RunOptions
    reported: tuple[Outcome, ...]


def compared_variants(
    words: Sequence[str], disagreement_scales: Sequence[float], weight_schedules: Sequence[str]
) -> tuple[GuidanceVariant, ...]:
    """Return the variants: those of the first bundle, and one for each of the others.

    Args:
        words: Folders or names of bundles; NAME=BUNDLE for what one is called in tables.
        disagreement_scales: Gates to try [Q]; infinity is none.
        weight_schedules: Schedules to try; constant is none.

    Raises:
        BundleError: There is no such bundle, or it cannot be read.
        SimulationError: No bundle was given, or two variants have one name.
    """
    if not words:
        raise SimulationError("no bundle was given; give at least one, such as scene")
    (_, bundle, manifest), *others = [_named(word) for word in words]
    variants = [GuidanceVariant(REFERENCE, bundle, manifest)]
    variants += [
        GuidanceVariant(f"gate {scale:g}", bundle, manifest, {"disagreement_scale": scale})
        for scale in dict.fromkeys(disagreement_scales)
        if scale != DEFAULTS["disagreement_scale"]
    ]
    variants += [
        GuidanceVariant(name, bundle, manifest, {"weight_schedule": name})
        for name in dict.fromkeys(weight_schedules)
        if name != DEFAULTS["weight_schedule"]
    ]
    variants += [GuidanceVariant(name, path, found) for name, path, found in others]
    names = [variant.name for variant in variants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SimulationError(f"{', '.join(twice)} is there twice; call a bundle otherwise, as in other=BUNDLE")
    return tuple(variants)


def _named(word: str) -> tuple[str, Path, Manifest]:
    name, separator, bundle = word.partition("=")
    if not separator or is_bundle(Path(word)):
        name, bundle = "", word
    path = locate_bundle(bundle).absolute()  # processes elsewhere have another working directory
    return name or path.name, path, load_manifest(path)


def tasks_shared(variants: Sequence[GuidanceVariant], tasks: Sequence[int] | None) -> tuple[int, ...]:
    """Return the tasks to run: those given, or all that every bundle has a critic for; raises SimulationError for none."""
    if tasks is not None:
        found = tuple(dict.fromkeys(tasks))
    else:
        all_of = [tasks_of(variant.manifest) for variant in variants]
        found = tuple(task for task in all_of[0] if all(task in own for own in all_of))
    if not found:
        raise SimulationError("the bundles share no simulated task; give --tasks, or other bundles")
    return found


def run_variants(
    comparison: VariantComparison,
    kept: Path,
    execute: Execute,
    *,
    progress: Callable[[Trial, Sequence[Outcome]], None] = lambda trial, outcomes: None,
) -> dict[str, tuple[VariantOutcomes, ...]]:
    """Run every variant on every task, all of them at once.

    Args:
        comparison: What to compare; `check` has passed it.
        kept: File of finished trials.
        execute: What runs them.
        progress: Called with each trial that ran.

    Returns:
        By variant, in the order of the tasks.

    Raises:
        SimulationError: An episode cannot be run.
    """
    protocol, size = comparison.protocol, comparison.batch_size
    stores = {variant.bundle: TrialStore(kept, variant.manifest, "processes") for variant in comparison.variants}
    searchers = {
        (variant.name, task): Searcher(
            _curve_and_report(variant.options(task, protocol.guidance_weights), protocol),
            Trials(variant.bundle, (task,), size, 2 * size, stores[variant.bundle], execute),
        )
        for variant in comparison.variants
        for task in comparison.tasks
    }
    found = in_lockstep(searchers, execute, progress=progress)
    return {
        variant.name: tuple(found[variant.name, task] for task in comparison.tasks) for variant in comparison.variants
    }


def _curve_and_report(options: Sequence[RunOptions], protocol: Protocol) -> Steps[VariantOutcomes]:
    curve: Found = yield options, protocol.choosing_seeds
    chosen = min(options, key=lambda one: rank(one, curve[one]))
    report = yield (chosen,), protocol.reporting_seeds
    return VariantOutcomes(tuple(tuple(curve[one]) for one in options), chosen, tuple(report[chosen]))
