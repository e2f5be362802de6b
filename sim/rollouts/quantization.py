"""What another precision costs in closed loop: the same seeds, the same noises, both precisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qgf_ros.analysis.precision_cost import PrecisionComparison
from qgf_ros.bundle.manifest import Evaluation, Manifest, PairedSuccess, PrecisionEvidence
from qgf_ros.control.inference import ChunkPolicy
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.results import Episode, critic_for_task, summarise
from qgf_ros.reports.statistics import compare_paired
from qgf_ros.runtime.policy import Policy
from qgf_sim.rollouts.evaluate import check_environment
from qgf_sim.rollouts.rollout import run_batch
from qgf_sim.worlds.environment import TaskEnvironment


def compare_in_closed_loop(
    pair: tuple[Policy, Policy],
    tasks: Sequence[int],
    weight: float,
    episodes: int,
    seed: int,
    progress: Callable[[Episode], None] = lambda episode: None,
) -> PrecisionEvidence:
    """Run every episode in both precisions; at each tick of the float32 one, compare what the variant would do.

    Args:
        pair: The bundle in float32 and in the other precision, from `analysis.precision_cost.load_pair`.
        tasks: Single-task numbers of one critic; seeds take turns with several.
        weight: Guidance weight, above 0.
        episodes: In each precision.
        seed: Of the first episode.
        progress: Called with each finished episode, of either precision.

    Raises:
        SimulationError: The bundle names no environment or has no critic for the task, or there are no episodes.
        GuidanceError: There were too few ticks to compare.
    """
    manifest = pair[0].manifest
    if episodes < 1:
        raise SimulationError(f"episodes {episodes} was given; it must be at least 1")
    options = RunOptions(weight, critic_for_task(manifest, tasks[0]), seed=seed).resolve(manifest)
    comparison = PrecisionComparison(*pair)
    policies: tuple[ChunkPolicy, ChunkPolicy] = (comparison, pair[1])
    outcomes: tuple[list[Episode], list[Episode]] = ([], [])
    env = TaskEnvironment(check_environment(manifest), tasks[0])
    try:
        for number in range(seed, seed + episodes):
            env.task = tasks[number % len(tasks)]
            for policy, results in zip(policies, outcomes):
                (episode,) = run_batch(policy, [env], options, [number])
                results.append(episode)
                progress(episode)
    finally:
        env.close()
    return comparison.evidence(weight, "rollouts", _success(manifest, weight, tasks, *outcomes))


def _success(
    manifest: Manifest, weight: float, tasks: Sequence[int], reference: Sequence[Episode], variant: Sequence[Episode]
) -> PairedSuccess:
    paired = compare_paired([episode.success for episode in reference], [episode.success for episode in variant])
    return PairedSuccess(
        fp32=_evaluation(manifest, weight, tasks, reference),
        variant=_evaluation(manifest, weight, tasks, variant),
        only_fp32=paired.only_first,
        only_variant=paired.only_second,
        difference=paired.difference,
        difference_ci95=paired.ci95,
        p_value=paired.p_value,
    )


def _evaluation(manifest: Manifest, weight: float, tasks: Sequence[int], episodes: Sequence[Episode]) -> Evaluation:
    goals = tuple(tasks) if manifest.goal is not None else ()
    run = summarise(weight, tasks[0], episodes)
    kept = ("guidance_weight", "episodes", "successes", "ci95", "mean_length", "first_seed", "last_seed")
    return Evaluation.model_validate({**{key: run[key] for key in kept}, "purpose": "reporting", "goals": goals})
