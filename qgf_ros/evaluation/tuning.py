"""Choosing each critic's guidance weight, and reporting what it is worth on seeds that had no say in the choice.

The choice may be greedy, and is (`qgf_ros.evaluation.halving`); what is claimed rests on the report alone. There the chosen
configuration and plain behaviour cloning run the same held-out seeds, as many as was said beforehand, and one exact
McNemar test decides. So whatever is tried, a weight that does not help is recommended with a probability of at most
2.5 % (one side of a two-sided test at 5 %).

Imports neither MuJoCo nor ROS: simulation and robot are tuned alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qgf_ros.bundle.manifest import Evaluation, Manifest, PairedTest
from qgf_ros.bundle.own_graphs import GRADIENT_WEIGHTS
from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.control.run_options import BC, OWN_HORIZON, ROWS, RunOptions
from qgf_ros.errors import BundleError, SimulationError
from qgf_ros.evaluation.guidance_limits import guidance_limits
from qgf_ros.evaluation.halving import Outcome, Run, Rung, halve
from qgf_ros.evaluation.recommendation import Recommendation, asked, decide
from qgf_ros.evaluation.results import critic_for_task, tasks_of
from qgf_ros.evaluation.trials import fingerprint
from qgf_ros.reports.numbers import plain
from qgf_ros.reports.statistics import wilson_interval


@dataclass(frozen=True)
class Protocol:
    """What is tried, and how it is chosen and reported; the two ranges of seeds must not meet.

    Attributes:
        guidance_weights: What is tried; 0 is always among them.
        choosing_episodes, choosing_seed: Episodes to choose on, of a configuration that lasts to the end, and the first of
            their seeds.
        reporting_episodes, reporting_seed: Episodes of plain BC and of the chosen configuration, to report.
        tried: What every weight is combined with: values by the name of an option.
        base: What else the episodes are run with.
    """

    guidance_weights: tuple[float, ...] = GRADIENT_WEIGHTS
    choosing_episodes: int = 64
    choosing_seed: int = 10_000
    reporting_episodes: int = 100
    reporting_seed: int = 20_000
    tried: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    base: RunOptions = BC

    def __post_init__(self) -> None:
        for name in ("choosing", "reporting"):
            if getattr(self, f"{name}_episodes") < 1:
                raise SimulationError(
                    f"{name}-episodes {getattr(self, f'{name}_episodes')} was given; it must be at least 1"
                )
        choosing, reporting = self.choosing_seeds, self.reporting_seeds
        if max(choosing.start, reporting.start) < min(choosing.stop, reporting.stop):
            raise SimulationError(
                f"seeds {choosing.start} to {choosing.stop - 1} for choosing and {reporting.start} to {reporting.stop - 1} "
                "for reporting overlap; move one of them, or the report is of the episodes the weight was chosen on"
            )

    @property
    def choosing_seeds(self) -> range:
        """Seeds to choose on."""
        return range(self.choosing_seed, self.choosing_seed + self.choosing_episodes)

    @property
    def reporting_seeds(self) -> range:
        """Seeds to report on."""
        return range(self.reporting_seed, self.reporting_seed + self.reporting_episodes)

    def configurations(self, manifest: Manifest, critic: str) -> tuple[RunOptions, ...]:
        """Return everything that is tried with a critic, each once, plain BC first; smaller weights before larger ones."""
        tried = [self.plain(critic)]
        for weight, *values in itertools.product(sorted({0.0, *self.guidance_weights}), *self.tried.values()):
            given = dict(zip(self.tried, values))
            if given.get("execution_horizon") == manifest.execution_horizon:
                given["execution_horizon"] = OWN_HORIZON
            options = replace(self.base, guidance_weight=weight, critic=critic, **given)
            tried.append(options if weight else options.without_guidance())
        return tuple(dict.fromkeys(tried))

    def plain(self, critic: str) -> RunOptions:
        """Return plain BC, which everything else is compared with; the critic judges where there are candidates."""
        return replace(self.base, critic=critic).without_guidance()


def critics_of(manifest: Manifest, tasks: Sequence[int] = ()) -> dict[str, tuple[int, ...]]:
    """Return the critics of simulated tasks, each with its tasks; that of a goal-conditioned bundle has all of them.

    Args:
        manifest: Of the bundle.
        tasks: Single-task numbers; for none, all that the bundle has critics for.

    Raises:
        SimulationError: A task has no critic, or no critic has a task.
    """
    critics: dict[str, tuple[int, ...]] = {}
    for task in tasks or tasks_of(manifest):
        name = critic_for_task(manifest, task)
        critics[name] = (*critics.get(name, ()), task)
    if not critics:
        raise SimulationError(
            f"no critic of {manifest.name} belongs to a simulated task; tune it on its robot with --ros"
        )
    return critics


def tune(manifest: Manifest, critic: str, protocol: Protocol, run: Run) -> dict[str, Any]:
    """Find the best configuration of one critic, and report it.

    Args:
        manifest: Of the bundle.
        critic: Name of the critic.
        protocol: What is tried, on which seeds.
        run: Runs episodes.

    Returns:
        ``{"fingerprint", "recommended_weight", "recommended_settings", "recommended_limits", "verdict", "choosing", "rungs",
        "reporting", "comparison"}``: the bundle's fingerprint, runs as in `summarise`, what each rung decided, and the
        paired comparison of the last run with the first on the reporting seeds; None where nothing was better than plain
        BC on the choosing seeds. Only a configuration that is better than plain BC with confidence is recommended, see
        `recommendation`; else the weight is 0, and settings and limits are empty. Where the best one on the choosing seeds
        was careful, ``careful`` is its comparison with the best one that was not.

    Raises:
        GuidanceError: The bundle cannot run a configuration.
        SimulationError: An episode cannot be run.
    """
    plain, configurations = protocol.plain(critic), protocol.configurations(manifest, critic)
    for configuration in configurations:
        ROWS["guidance_weight"].check("guidance_weight", configuration.guidance_weight, float)
        configuration.resolve(manifest)
    search = halve(configurations, protocol.choosing_seeds, run)
    wanted = asked(search, plain)
    outcomes = run(wanted, protocol.reporting_seeds)
    decision = decide(wanted, outcomes)
    recommended, comparison = decision.recommended, decision.comparison
    reporting = [summarise(configuration, outcomes[configuration]) for configuration in decision.reported]
    return {
        "fingerprint": fingerprint(manifest),
        "recommended_weight": recommended.guidance_weight,
        "recommended_settings": recommended.changed() if recommended != plain else {},
        "recommended_limits": guidance_limits(reporting[-1]) if recommended != plain else {},
        "verdict": _verdict(decision, reporting),
        "choosing": [summarise(configuration, found) for configuration, found in search.outcomes.items()],
        "rungs": [_rung(rung) for rung in search.rungs],
        "reporting": reporting,
        "comparison": None if comparison is None else asdict(comparison),
        **decision.record(),
    }


def _verdict(decision: Recommendation, reporting: Sequence[Mapping[str, Any]]) -> str:
    """Return what the report says, in one sentence."""
    bc, taken = f"behaviour cloning {rate(reporting[0])}", decision.reported[-1]
    if decision.comparison is None:
        return f"nothing was better than behaviour cloning on the choosing seeds ({bc}); weight 0 is recommended"
    found = f"{taken}: {rate(reporting[-1])}, {bc}, on the held-out seeds (p = {decision.comparison.p_value:.2g})"
    if decision.careful is not None:
        found += f", beside {decision.reported[1]}: {rate(reporting[1])} (p = {decision.careful.p_value:.2g})"
    if decision.recommended == taken:
        return f"{found}; it is recommended"
    return f"{found}; that is not better with confidence, weight 0 is recommended"


def rate(run: Mapping[str, Any]) -> str:
    """Return the success rate of a run with its interval, for people."""
    low, high = run["ci95"]
    return f"{100 * run['success_rate']:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def summarise(options: RunOptions, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the JSON record of episodes with the same options, at least one."""
    successes = sum(outcome.success for outcome in outcomes)
    return {
        "guidance_weight": options.guidance_weight,
        "settings": options.changed(),
        "episodes": len(outcomes),
        "successes": successes,
        "success_rate": successes / len(outcomes),
        "ci95": list(wilson_interval(successes, len(outcomes))),
        "mean_length": sum(outcome.length for outcome in outcomes) / len(outcomes),
        "start_q": _mean([outcome.start_q for outcome in outcomes]),
        "guidance_distance": max((o.distance for o in outcomes if o.distance is not None), default=None),
        "first_seed": min(outcome.seed for outcome in outcomes),
        "last_seed": max(outcome.seed for outcome in outcomes),
        "outcomes": {
            name: [getattr(outcome, name) for outcome in outcomes] for name in ("seed", "success", "length", "start_q")
        },
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    mean: float | None = plain(float(np.mean(known)) if known else math.nan)
    return mean


def _rung(rung: Rung) -> dict[str, Any]:
    return {
        "episodes": rung.episodes,
        "leader": str(rung.leader),
        "separated": [str(configuration) for configuration in rung.separated],
        "halved": [str(configuration) for configuration in rung.halved],
    }


def choose(runs: Sequence[Mapping[str, Any]]) -> float:
    """Return the weight of the highest success; among equals, of the shortest episodes."""
    best = max(runs, key=lambda run: (run["success_rate"], -run["mean_length"]))
    return float(best["guidance_weight"])


def write_evidence(
    bundle: Path,
    critic: str,
    found: Mapping[str, Any],
    source: Literal["simulation", "robot"] = "simulation",
    tasks: Sequence[int | None] = (),
) -> None:
    """Write a recommendation and the evidence behind it into the manifest, in one move.

    Args:
        bundle: Folder of the bundle.
        critic: The critic that was tuned.
        found: From `tune`.
        source: Where the episodes were run.
        tasks: Single-task numbers that they took turns with.

    Raises:
        BundleError: The manifest cannot be read or written, or is of another bundle than the one that was tuned.
    """
    # Read anew: another critic may have been tuned meanwhile.
    manifest = load_manifest(bundle)
    if fingerprint(manifest) != found["fingerprint"]:
        raise BundleError(
            f"{bundle} was replaced while it was tuned, nothing was written into it; run the same command again"
        )
    weights = [run["guidance_weight"] for run in found["choosing"]]
    goals = [] if manifest.goal is None else [task for task in tasks if task is not None]
    card = manifest.critics[critic].model_copy(
        update={
            "recommended_weight": found["recommended_weight"],
            "recommended_settings": found["recommended_settings"],
            "recommended_limits": found["recommended_limits"],
            "tested_range": (min(weights), max(weights)),
            "evaluations": tuple(
                _evaluation(run, purpose=purpose, source=source, goals=tuple(goals))
                for purpose in ("choosing", "reporting")
                for run in found[purpose]
            ),
            "versus_bc": _paired_test(found["comparison"]),
        }
    )
    update_manifest(bundle, manifest.model_copy(update={"critics": {**manifest.critics, critic: card}}))


def _evaluation(run: Mapping[str, Any], **where: Any) -> Evaluation:
    keys = ("guidance_weight", "settings", "episodes", "successes", "ci95", "mean_length", "first_seed", "last_seed")
    return Evaluation(**{key: run[key] for key in keys}, guidance_distance=run["guidance_distance"], **where)


def _paired_test(comparison: Mapping[str, Any] | None) -> PairedTest | None:
    if comparison is None:
        return None
    return PairedTest(
        only_bc=comparison["only_first"],
        only_guided=comparison["only_second"],
        difference=comparison["difference"],
        difference_ci95=comparison["ci95"],
        p_value=comparison["p_value"],
    )
