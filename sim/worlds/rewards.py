"""Single-task rewards, by OGBench's own relabelling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from ogbench.relabel_utils import relabel_dataset

from qgf_ros.errors import DatasetError
from qgf_ros.learning.data.dataset import Dataset
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import Reward, family_of, observation_fields

Float = NDArray[np.float32]


def task_rewards(
    name: str, tasks: Sequence[int], dataset: Dataset, reward: Reward = "dense"
) -> dict[str, tuple[Float, Float]]:
    """Return rewards and masks of single tasks.

    Args:
        name: Environment, such as ``cube-single``.
        tasks: Single-task numbers.
        dataset: Must carry qpos and, for an environment with buttons, button_states.
        reward: dense is minus the number of objects that are not where the task wants them, as OGBench has it; sparse is -1
            as long as there is one.

    Returns:
        By critic name (``task1``, ...): float32 rewards [R], and masks [R], 0 where all objects are where the task wants
        them and 1 elsewhere.

    Raises:
        DatasetError: The data set has no such states, or another environment's observations or states.
        SimulationError: The environment or a task does not exist.
    """
    expected = sum(field.size for field in observation_fields(name))
    blind = dataset.pictures is not None and dataset.observations.shape[1] == 0  # as in OGBench's visual files
    if dataset.observations.shape[1] != expected and not (family_of(name).visual and blind):
        raise DatasetError(
            f"observations of size {dataset.observations.shape[1]} were given, {name} has {expected}; "
            "check --env and --dataset"
        )
    needed = [key for key in family_of(name).state_keys if key != "qvel"]
    missing = [key for key in needed if key not in dataset.extras]
    if missing:
        raise DatasetError(
            f"the data set has no {' and no '.join(missing)}, from which rewards are computed; use one made with "
            f"{' and '.join(needed)}"
        )
    relabelled = {}
    env = TaskEnvironment(name, tasks[0])
    try:
        for task in tasks:
            env.task = task
            arrays = dict(dataset.extras)
            _relabel(env, arrays)
            rewards, masks = arrays["rewards"].astype(np.float32), arrays["masks"].astype(np.float32)
            if reward == "sparse":
                rewards = np.where(rewards != 0.0, np.float32(-1.0), np.float32(0.0))
            relabelled[f"task{task}"] = rewards, masks
    finally:
        env.close()
    return relabelled


def _relabel(env: TaskEnvironment, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Put OGBench's rewards and masks into the arrays; DatasetError where their states are another environment's."""
    given = {key: arrays[key].shape[1] for key in ("qpos", "button_states") if key in env.family.state_keys}
    failure = None
    try:
        relabel_dataset(env.name, env.gymnasium_env, arrays)
    except (IndexError, ValueError) as error:  # too narrow to take the state of every object from
        failure = error
    expected = {"qpos": env.unwrapped.model.nq, "button_states": env.family.buttons}  # known after relabelling
    for key, width in given.items():
        if width != expected[key]:
            raise DatasetError(
                f"{key} has {width} columns, {env.name} has {expected[key]}; check --env and --dataset"
            ) from failure
    if failure is not None:
        raise failure
