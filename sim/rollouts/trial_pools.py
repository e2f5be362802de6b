"""Where trials run: in this process, in one process for each core, or on a Ray cluster. The same outcomes everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.halving import Outcome
from qgf_ros.evaluation.trials import Execute, Trial, outcome_of
from qgf_sim.cluster import join_cluster
from qgf_sim.processes import worker_pool
from qgf_sim.rollouts.evaluate import EvaluationPlan, kept_worker


def run_trial(trial: Trial) -> list[Outcome]:
    """Run a trial in this process, with the policy and the environments of the one before where they fit.

    Raises:
        BundleError: The bundle is damaged, or not the one that the trial is of.
        SimulationError: The trial is of no simulated task, or cannot be run.
    """
    if trial.task is None:
        raise SimulationError("a task is needed to simulate; give at least one, such as --tasks 2")
    plan = EvaluationPlan(
        *(trial.bundle, trial.task, (trial.options.guidance_weight,), len(trial.seeds)),
        options=replace(trial.options, seed=trial.seeds[0]),
        batch_size=trial.batch_size,
    )
    worker = kept_worker(plan, trial.fingerprint, "whose tuning began; have the same one everywhere, and tune it again")
    episodes = worker.run((trial.options.guidance_weight, trial.seeds))
    return sorted((outcome_of(episode) for episode in episodes), key=lambda outcome: outcome.seed)


@contextmanager
def local_processes(count: int) -> Iterator[Execute]:
    """Give what runs trials in `count` processes of this machine; with one, in this process.

    Raises:
        SimulationError: A process died.
    """
    if count == 1:
        yield lambda trials: ((trial, run_trial(trial)) for trial in trials)
        return
    with worker_pool(count) as pool:

        def execute(trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
            futures = {pool.submit(run_trial, trial): trial for trial in trials}
            for done in as_completed(futures):
                yield futures[done], done.result()

        yield execute


@contextmanager
def ray_cluster(address: str, **options: Any) -> Iterator[Execute]:
    """Give what runs trials on a Ray cluster, one on each of its cores.

    Every machine of the cluster needs this package, and the bundle at the same path.

    Args:
        address: As of ``ray.init``: ``auto``, ``local``, HOST:PORT or ``ray://HOST:10001``.
        options: Of ``ray.init``.

    Raises:
        SimulationError: There is no cluster at the address, or one of its machines was lost.
    """
    with join_cluster(address, **options) as cluster:
        yield lambda trials: cluster.run(run_trial, trials)
