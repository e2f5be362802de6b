"""Observations that a policy meets in simulation, for analyses that need states and have no data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.inference import Chunk
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.results import critic_for_task
from qgf_ros.runtime.encoders import Images
from qgf_ros.runtime.policy import Policy
from qgf_sim.rollouts.evaluate import check_environment
from qgf_sim.rollouts.rollout import Vectors, WatchedPolicy, run_batch
from qgf_sim.worlds.environment import TaskEnvironment


def collect_states(
    bundle: Path, task: int, count: int, *, episodes: int = 4, seed: int = 0
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.uint8]]]:
    """Return observations of plain BC episodes, drawn at random.

    Args:
        bundle: Folder of the bundle.
        task: Single-task number.
        count: Observations wanted [N].
        episodes: Episodes played, with seeds from `seed` on.
        seed: Of the first episode, and of the draw.

    Returns:
        float32 [N, S], and what each camera of the bundle saw, uint8 [N, h, w, 3]; nothing without cameras.

    Raises:
        BundleError: The bundle is missing or damaged.
        SimulationError: It is not for simulation, has no critic for the task, or met fewer observations than wanted.
    """
    policy = Policy.load(bundle)
    manifest = policy.manifest
    name = check_environment(manifest)
    asked: list[Vectors] = []
    seen: list[Images] = []

    def keep(observations: Vectors, images: Images, chunks: list[Chunk]) -> None:
        asked.append(observations)
        seen.append({camera: pixels.copy() for camera, pixels in images.items()})

    options = RunOptions(0.0, critic_for_task(manifest, task)).resolve(manifest)
    environment = TaskEnvironment(name, task)
    try:
        for episode in range(episodes):
            for _ in run_batch(WatchedPolicy(policy, keep), [environment], options, [seed + episode]):
                pass
    finally:
        environment.close()
    met = np.concatenate(asked)
    if len(met) < count:
        raise SimulationError(
            f"{count} states were wanted and {episodes} episodes met {len(met)}; ask for fewer --states or more --episodes"
        )
    chosen = np.random.default_rng(seed).permutation(len(met))[:count]
    pictures = {camera: np.concatenate([images[camera] for images in seen])[chosen] for camera in manifest.cameras}
    return met[chosen], pictures
