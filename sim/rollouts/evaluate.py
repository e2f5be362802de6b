"""Evaluation of a bundle in process: many episodes, in batches, on as many cores as wanted, the same for any number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.errors import BundleError, SimulationError
from qgf_ros.evaluation.plan import EpisodePlan, environment_of
from qgf_ros.evaluation.results import Episode
from qgf_ros.evaluation.trials import fingerprint
from qgf_ros.runtime.policy import Policy
from qgf_sim.cluster import RayCluster
from qgf_sim.processes import worker_pool
from qgf_sim.rollouts.rollout import run_batch
from qgf_sim.worlds.families import camera_fields, family_of, observation_fields
from qgf_sim.worlds.picture_setting import check_rendering
from qgf_sim.worlds.shift import NONE, Shift
from qgf_sim.worlds.shifted_environment import ShiftedEnvironment


def check_environment(manifest: Manifest) -> str:
    """Return the environment a bundle runs in.

    Raises:
        SimulationError: It names none, its observations or cameras are not that environment's, or its policy was trained
            on pictures that were made otherwise.
    """
    name = environment_of(manifest)
    # What follows from the training data is the bundle's own.
    own = {"mean_quaternion": None, "sign_follows": False}
    served = tuple(field.model_copy(update=own) for field in manifest.observation)
    goals = (), tuple(family_of(name).object_goal)
    told = (
        observation_fields(name, goal_conditioned=manifest.goal is not None, goal_fields=manifest.goal_fields)
        if manifest.goal_fields in goals
        else None
    )
    unseen = not served and family_of(name).visual  # pictures may be all that is observed
    drawn = {camera: _as_sent(field) for camera, field in camera_fields(name).items()}
    strange = any(_as_sent(field) != drawn.get(camera) for camera, field in manifest.cameras.items())
    if told is None or (served != told and not unseen) or strange:
        raise SimulationError(
            f"bundle {manifest.name} does not have the observation contract of {name}; export it again"
        )
    check_rendering(manifest.training.get("rendering"), f"bundle {manifest.name}")
    return name


def _as_sent(camera: CameraField) -> dict[str, Any]:
    """Return what of a camera's contract the simulation serves."""
    return camera.model_dump(include={"topic", "type", "encoding", "width", "height"})


@dataclass(frozen=True)
class EvaluationPlan(EpisodePlan):
    """What to evaluate, and how, beside what `EpisodePlan` says.

    Attributes:
        delay: Inference delay [control steps].
        batch_size: Episodes that share an inference.
        workers: Processes.
        shift: Domain shift.
    """

    delay: int = 0
    batch_size: int = 16
    workers: int = 1
    shift: Shift = NONE

    def check(self, manifest: Manifest) -> None:
        """Raise SimulationError or GuidanceError, saying what is allowed, unless the plan can be carried out."""
        super().check(manifest)
        check_environment(manifest)
        if self.delay < 0:
            raise SimulationError(f"delay {self.delay} was given; it must be at least 0")
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise SimulationError(f"{option} {getattr(self, name)} was given; it must be at least 1")


#: Guidance weight and seeds.
Job = tuple[float, tuple[int, ...]]
#: With more, fewer inferences run half empty at the end of a job; with fewer, there are jobs for more cores.
BATCHES_PER_JOB = 2


def evaluate(
    plan: EvaluationPlan, progress: Callable[[Episode], None] | None = None, cluster: RayCluster | None = None
) -> dict[float, list[Episode]]:
    """Carry out a plan.

    Episodes are cut into the same jobs whatever the number of workers, and so share the same inferences: the outcome does
    not depend on it, nor on where they run.

    Args:
        plan: What to evaluate.
        progress: Called with each finished episode.
        cluster: Where to run it instead of in processes of this machine; each of its machines needs the bundle at the same
            path.

    Returns:
        Episodes of each weight in the order of their seeds.

    Raises:
        BundleError: The bundle is missing or damaged, or another one on a machine of the cluster.
        SimulationError, GuidanceError: See `EvaluationPlan.check`, `run_batch` and `RayCluster.run`.
    """
    manifest = load_manifest(plan.bundle)
    plan.check(manifest)
    size = BATCHES_PER_JOB * plan.batch_size
    blocks = [tuple(plan.seeds[i : i + size]) for i in range(0, plan.episodes, size)]
    # Blocks of one seed range follow each other weight by weight, so that every run's rate settles early.
    jobs: list[Job] = [(weight, block) for block in blocks for weight in plan.guidance_weights]
    results: dict[float, list[Episode]] = {weight: [] for weight in plan.guidance_weights}
    episodes = _run_jobs(plan, jobs) if cluster is None else _on_cluster(plan, fingerprint(manifest), jobs, cluster)
    for episode in episodes:
        results[episode.guidance_weight].append(episode)
        if progress is not None:
            progress(episode)
    return {weight: sorted(episodes, key=lambda episode: episode.seed) for weight, episodes in results.items()}


class EvaluationWorker:
    """A policy and the environments it has needed so far; the first takes most of a second, each other a tenth of it.

    Attributes:
        plan: What it runs; may be replaced by another plan of the same bundle.
        manifest: Of the bundle that it has loaded.
        environments: Those it has.
    """

    def __init__(self, plan: EvaluationPlan) -> None:
        self.plan = plan
        self._policy = Policy.load(plan.bundle)
        self.manifest = self._policy.manifest
        for samples in sorted({plan.options_at(self.manifest, w).num_samples for w in plan.guidance_weights}):
            self._policy.warm_up(samples)
        self.environments: list[ShiftedEnvironment] = []

    def build(self, count: int) -> None:
        """Have at least `count` environments."""
        name = check_environment(self.manifest)
        if not self.environments:
            self.environments.append(ShiftedEnvironment(name, self.plan.task))
        while len(self.environments) < count:
            self.environments.append(self.environments[0].copy())

    def run(self, job: Job) -> Iterator[Episode]:
        """Run the episodes of a job, a batch at a time, and yield each as it ends."""
        weight, seeds = job
        self.build(min(self.plan.batch_size, len(seeds)))
        for env in self.environments:
            env.task, env.shift = self.plan.task, self.plan.shift
        options = self.plan.options_at(self.manifest, weight)
        return run_batch(
            self._policy, self.environments, options, seeds, delay=self.plan.delay, record=self.plan.record
        )

    def close(self) -> None:
        """Free the environments."""
        for env in self.environments:
            env.close()


#: Of the bundle under way in this process, by its place and fingerprint.
_kept: dict[tuple[Path, str], EvaluationWorker] = {}


def kept_worker(plan: EvaluationPlan, expected: str, remedy: str) -> EvaluationWorker:
    """Return a worker for a plan: the one before, with its policy and environments, where it was of the same bundle.

    Args:
        plan: What it is to run.
        expected: Fingerprint of the bundle.
        remedy: End of the sentence that begins "PATH is not the bundle".

    Raises:
        BundleError: The bundle is damaged, or another one.
    """
    place = (plan.bundle, expected)
    for other in [other for other in _kept if other != place]:
        _kept.pop(other).close()
    if place not in _kept:
        worker = EvaluationWorker(plan)
        if fingerprint(worker.manifest) != expected:
            raise BundleError(f"{plan.bundle} is not the bundle {remedy}")
        _kept[place] = worker
    _kept[place].plan = plan
    return _kept[place]


def _run_distant_job(job: tuple[EvaluationPlan, str, Job]) -> list[Episode]:
    plan, expected, (weight, seeds) = job
    remedy = "whose evaluation began; have the same one everywhere, and evaluate it again"
    return list(kept_worker(plan, expected, remedy).run((weight, seeds)))


def _on_cluster(plan: EvaluationPlan, expected: str, jobs: list[Job], cluster: RayCluster) -> Iterator[Episode]:
    for _, episodes in cluster.run(_run_distant_job, [(plan, expected, job) for job in jobs]):
        yield from episodes


_plan: EvaluationPlan
_worker: EvaluationWorker | None = None


def _start_worker(plan: EvaluationPlan) -> None:
    global _plan
    _plan = plan


def _run_job(job: Job) -> list[Episode]:
    global _worker
    if _worker is None:
        _worker = EvaluationWorker(_plan)
    return list(_worker.run(job))


def _run_jobs(plan: EvaluationPlan, jobs: list[Job]) -> Iterator[Episode]:
    count = min(plan.workers, len(jobs))
    if count == 1:
        worker = EvaluationWorker(plan)
        try:
            for job in jobs:
                yield from worker.run(job)
        finally:
            worker.close()
        return
    with worker_pool(count, _start_worker, plan) as pool:
        for done in as_completed([pool.submit(_run_job, job) for job in jobs]):
            yield from done.result()
