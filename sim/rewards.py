"""Single-task rewards, by OGBench's own relabelling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from ogbench.relabel_utils import relabel_dataset

from qgf_ros.errors import DatasetError
from qgf_ros.learning.dataset import Dataset
from qgf_sim.environment import TaskEnvironment

Float = NDArray[np.float32]


def task_rewards(name: str, tasks: Sequence[int], dataset: Dataset) -> dict[str, tuple[Float, Float]]:
    """Return rewards and masks of single tasks.

    Args:
        name: Environment, such as ``cube-single``.
        tasks: Single-task numbers.
        dataset: Must carry qpos and qvel.

    Returns:
        By critic name (``task1``, ...): float32 rewards [R], 0 where the task is solved and -1 elsewhere (for one
        object), and masks [R], 0 where it is solved.

    Raises:
        DatasetError: The data set has no qpos, or another environment's observations.
        SimulationError: The environment or a task does not exist.
    """
    if "qpos" not in dataset.extras:
        raise DatasetError("the data set has no qpos, from which rewards are computed; use one made with qpos and qvel")
    relabelled = {}
    for task in tasks:
        env = TaskEnvironment(name, task)
        try:
            expected = len(env.unwrapped.observation_space.low)
            if dataset.observations.shape[1] != expected:
                raise DatasetError(
                    f"observations of size {dataset.observations.shape[1]} were given, {name} has {expected}; "
                    "check --env and --dataset"
                )
            arrays = dict(dataset.extras)
            relabel_dataset(name, env.gymnasium_env, arrays)
        finally:
            env.close()
        relabelled[f"task{task}"] = (arrays["rewards"].astype(np.float32), arrays["masks"].astype(np.float32))
    return relabelled
