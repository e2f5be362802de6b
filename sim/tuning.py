"""Choosing each critic's guidance weight, and reporting what it is worth on seeds that had no say in the choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qgf_ros.bundle.manifest import CriticCard, Evaluation
from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.errors import SimulationError
from qgf_sim.evaluation import Plan, evaluate
from qgf_sim.results import Episode, critic_for_task, summarise

#: Guidance weights tried by default: the published sweep's range, about evenly in the logarithm.
WEIGHTS = (0.0, 0.004, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.3, 1.0)

Purpose = Literal["choosing", "reporting"]


@dataclass(frozen=True)
class Protocol:
    """How a weight is chosen and reported; the two ranges of seeds must not meet.

    Attributes:
        weights: Weights tried; 0 is always among them.
        choosing_episodes, choosing_seed: Episodes per weight and their first seed, to choose on.
        reporting_episodes, reporting_seed: Episodes of plain BC and of the chosen weight, to report.
        workers: Processes.
        batch_size: Episodes that share an inference.
    """

    weights: tuple[float, ...] = WEIGHTS
    choosing_episodes: int = 40
    choosing_seed: int = 10_000
    reporting_episodes: int = 100
    reporting_seed: int = 20_000
    workers: int = 1
    batch_size: int = 8

    def __post_init__(self) -> None:
        choosing = range(self.choosing_seed, self.choosing_seed + self.choosing_episodes)
        reporting = range(self.reporting_seed, self.reporting_seed + self.reporting_episodes)
        if max(choosing.start, reporting.start) < min(choosing.stop, reporting.stop):
            raise SimulationError(
                f"seeds {choosing.start} to {choosing.stop - 1} for choosing and {reporting.start} to {reporting.stop - 1} "
                "for reporting overlap; move one of them, or the report is of the episodes the weight was chosen on"
            )


def tune(
    bundle: Path, task: int, protocol: Protocol, progress: Callable[[str, Episode], None] = lambda stage, episode: None
) -> dict[str, Any]:
    """Find the guidance weight of one task, report it, and write both into the manifest.

    Args:
        bundle: Folder of the bundle.
        task: Single-task number.
        protocol: Weights and seeds.
        progress: Called with the stage ("choosing" or "reporting") and each finished episode.

    Returns:
        ``{"task", "recommended_weight", "choosing": runs, "reporting": runs}`` with runs as in `results.summarise`.
        The recommended weight is 0 when the chosen one is not better than plain BC with confidence: when the two
        Wilson intervals on the reporting seeds overlap.
    """
    weights = tuple(sorted({0.0, *protocol.weights}))

    def runs(stage: Purpose, weights: tuple[float, ...], episodes: int, seed: int) -> list[dict[str, Any]]:
        plan = Plan(bundle, task, weights, episodes, seed, batch_size=protocol.batch_size, workers=protocol.workers)
        results = evaluate(plan, lambda episode: progress(stage, episode))
        return [summarise(weight, task, results[weight]) for weight in weights]

    choosing = runs("choosing", weights, protocol.choosing_episodes, protocol.choosing_seed)
    best = choose(choosing)
    reported = (0.0, best) if best else (0.0,)
    reporting = runs("reporting", reported, protocol.reporting_episodes, protocol.reporting_seed)
    recommended = best if best and reporting[1]["ci95"][0] > reporting[0]["ci95"][1] else 0.0
    _record(bundle, task, recommended, choosing, reporting)
    return {"task": task, "recommended_weight": recommended, "choosing": choosing, "reporting": reporting}


def choose(runs: Sequence[Mapping[str, Any]]) -> float:
    """Return the weight of the highest success; among equals, of the shortest episodes."""
    best = max(runs, key=lambda run: (run["success_rate"], -run["mean_length"]))
    return float(best["guidance_weight"])


def _record(
    bundle: Path, task: int, recommended: float, choosing: list[dict[str, Any]], reporting: list[dict[str, Any]]
) -> None:
    # The manifest may have been written to since, by the tuning of another task.
    manifest = load_manifest(bundle)
    name = critic_for_task(manifest, task)
    weights = [run["guidance_weight"] for run in choosing]
    card: CriticCard = manifest.critics[name].model_copy(
        update={
            "recommended_weight": recommended,
            "tested_range": (min(weights), max(weights)),
            "evaluations": tuple(
                _evaluation(run, purpose)
                for purpose, stage in (("choosing", choosing), ("reporting", reporting))
                for run in stage
            ),
        }
    )
    update_manifest(bundle, manifest.model_copy(update={"critics": {**manifest.critics, name: card}}))


def _evaluation(run: Mapping[str, Any], purpose: Any) -> Evaluation:
    keys = ("guidance_weight", "episodes", "successes", "mean_length", "first_seed", "last_seed")
    return Evaluation(ci95=tuple(run["ci95"]), purpose=purpose, **{key: run[key] for key in keys})
