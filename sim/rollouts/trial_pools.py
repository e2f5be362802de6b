"""Where trials run: in this process, in one process for each core, or on a Ray cluster. The same outcomes everywhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qgf_ros.errors import BundleError, SimulationError
from qgf_ros.evaluation.halving import Outcome
from qgf_ros.evaluation.trials import Execute, Trial, fingerprint, outcome_of
from qgf_sim.processes import worker_pool
from qgf_sim.rollouts.evaluate import EvaluationPlan, EvaluationWorker

#: Longest wait for a machine to take a connection [s].
CONNECT_TIMEOUT = 10.0

#: Of the bundle under way, by its place and fingerprint.
_workers: dict[tuple[Path, str], EvaluationWorker] = {}


def run_trial(trial: Trial) -> list[Outcome]:
    """Run a trial in this process, with the policy and the environments of the one before where they fit.

    Raises:
        BundleError: The bundle is damaged, or not the one that the trial is of.
        SimulationError: The trial is of no simulated task, or cannot be run.
    """
    if trial.task is None:
        raise SimulationError("a task is needed to simulate; give at least one, such as --tasks 2")
    place = (trial.bundle, trial.fingerprint)
    plan = EvaluationPlan(
        *(trial.bundle, trial.task, (trial.options.guidance_weight,), len(trial.seeds)),
        options=replace(trial.options, seed=trial.seeds[0]),
        batch_size=trial.batch_size,
    )
    for other in [other for other in _workers if other != place]:
        _workers.pop(other).close()
    if place not in _workers:
        worker = EvaluationWorker(plan)
        if fingerprint(worker.manifest) != trial.fingerprint:
            raise BundleError(
                f"{trial.bundle} is not the bundle whose tuning began; have the same one everywhere, and tune it again"
            )
        _workers[place] = worker
    _workers[place].plan = plan
    episodes = _workers[place].run((trial.options.guidance_weight, trial.seeds))
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
    # Ray goes on trying for a quarter of an hour otherwise; once takes it 40 s.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    import ray

    try:
        _connect(address)
        ray.init(address, log_to_driver=False, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise SimulationError(
            f"no Ray cluster can be joined at {address} ({_first_line(error)}); start one with 'ray start --head', "
            "and set RAY_AUTH_MODE=token where it asks for a token"
        ) from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=3)(run_trial)

        def execute(trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
            pending = {remote.remote(trial): trial for trial in trials}
            while pending:
                (done,), _ = ray.wait(list(pending))
                yield pending.pop(done), _result(done)

        yield execute
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    """Raise OSError or ValueError where an address names a machine and nothing listens there."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.port is not None:
        socket.create_connection((place.hostname, place.port), CONNECT_TIMEOUT).close()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _result(reference: Any) -> list[Outcome]:
    import ray

    try:
        outcomes: list[Outcome] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # as it would be raised here
    except ray.exceptions.RayError as error:
        raise SimulationError(
            f"a machine of the Ray cluster was lost ({_first_line(error)}); run the same command again"
        ) from error
    return outcomes
