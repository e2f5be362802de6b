"""Observations that a policy meets in simulation, for analyses that need states and have no data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.inference import Chunk
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.results import critic_for_task
from qgf_ros.guidance.prefix import Prefix
from qgf_ros.guidance.shaping import QGF, Guidance
from qgf_ros.runtime.policy import Policy
from qgf_sim.rollouts.evaluate import check_environment
from qgf_sim.rollouts.rollout import run_batch
from qgf_sim.worlds.environment import TaskEnvironment


class _Watched:
    """A policy that keeps every observation it is asked about."""

    def __init__(self, policy: Policy) -> None:
        self.manifest: Manifest = policy.manifest
        self._policy = policy
        self.asked: list[NDArray[np.float32]] = []
        self.seen: list[Mapping[str, NDArray[np.uint8]]] = []

    def act(
        self,
        observations: NDArray[np.float32],
        noise: NDArray[np.float32],
        critic: str,
        guidance_weight: float,
        guidance: Guidance = QGF,
        prefix: Prefix | None = None,
        images: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> list[Chunk]:
        self.asked.append(observations)
        self.seen.append({name: pixels.copy() for name, pixels in (images or {}).items()})
        return self._policy.act(observations, noise, critic, guidance_weight, guidance, prefix, images)


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
    watched = _Watched(Policy.load(bundle))
    manifest = watched.manifest
    name = check_environment(manifest)
    options = RunOptions(0.0, critic_for_task(manifest, task)).resolve(manifest)
    environment = TaskEnvironment(name, task)
    try:
        for episode in range(episodes):
            for _ in run_batch(watched, [environment], options, [seed + episode]):
                pass
    finally:
        environment.close()
    met = np.concatenate(watched.asked)
    if len(met) < count:
        raise SimulationError(
            f"{count} states were wanted and {episodes} episodes met {len(met)}; ask for fewer --states or more --episodes"
        )
    chosen = np.random.default_rng(seed).permutation(len(met))[:count]
    seen = {name: np.concatenate([images[name] for images in watched.seen])[chosen] for name in manifest.cameras}
    return met[chosen], seen
