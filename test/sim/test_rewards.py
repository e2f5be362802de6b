"""Relabelled rewards against a computation of our own from the cube's position."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="rewards need the sim extra")

from qgf_ros.errors import DatasetError, SimulationError
from qgf_ros.learning.dataset import Dataset
from qgf_sim.environment import TaskEnvironment
from qgf_sim.rewards import task_rewards

#: Where each task wants the cube [m], read from OGBench's task table; solved within 4 cm.
TOLERANCE = 0.04


def goal(task: int) -> np.ndarray:
    env = TaskEnvironment("cube-single", task)
    goals = env.unwrapped.task_infos[task - 1]["goal_xyzs"][0]
    env.close()
    return np.asarray(goals)


def dataset_with_cube_at(positions: np.ndarray) -> Dataset:
    rows = len(positions)
    qpos = np.zeros((rows, 21), dtype=np.float32)
    qpos[:, 14:17] = positions
    terminals = np.zeros(rows, dtype=bool)
    terminals[-1] = True
    return Dataset(
        np.zeros((rows, 28), dtype=np.float32),
        np.zeros((rows, 5), dtype=np.float32),
        terminals,
        {"qpos": qpos, "qvel": np.zeros((rows, 20), dtype=np.float32)},
    )


@pytest.mark.parametrize("task", [1, 2, 3, 4, 5])
def test_rewards_and_masks_follow_from_the_distance_of_the_cube_to_the_goal(task: int) -> None:
    target = goal(task)
    random = np.random.default_rng(task)
    directions = random.normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distances = random.uniform(0.0, 2 * TOLERANCE, size=(200, 1))
    positions = target + directions * distances
    rewards, masks = task_rewards("cube-single", [task], dataset_with_cube_at(positions))[f"task{task}"]
    solved = np.linalg.norm(positions.astype(np.float32).astype(np.float64) - target, axis=1) <= TOLERANCE
    assert 0 < solved.sum() < 200
    np.testing.assert_array_equal(rewards, np.where(solved, 0.0, -1.0))
    np.testing.assert_array_equal(masks, np.where(solved, 0.0, 1.0))
    assert rewards.dtype == masks.dtype == np.float32


def test_each_task_has_its_own_rewards() -> None:
    dataset = dataset_with_cube_at(np.array([goal(1), goal(2), goal(3)]))
    rewards = task_rewards("cube-single", [1, 2, 3], dataset)
    assert list(rewards) == ["task1", "task2", "task3"]
    assert [reward.argmax() for reward, _ in rewards.values()] == [0, 1, 2]


def test_a_reward_agrees_with_what_the_environment_itself_says() -> None:
    env = TaskEnvironment("cube-single", 4)
    env.reset(0)
    state = env.unwrapped.data
    outcomes, positions = [], []
    for offset in (0.0, 0.03, 0.05):
        state.joint("object_joint_0").qpos[:3] = np.add(goal(4), [offset, 0.0, 0.0])
        outcomes.append(env.unwrapped.compute_reward())
        positions.append(state.qpos[14:17].copy())
    env.close()
    rewards, _ = task_rewards("cube-single", [4], dataset_with_cube_at(np.array(positions)))["task4"]
    assert rewards.tolist() == outcomes == [0.0, 0.0, -1.0]


def test_the_data_set_is_left_as_it_was() -> None:
    dataset = dataset_with_cube_at(np.zeros((3, 3)))
    task_rewards("cube-single", [1], dataset)
    assert set(dataset.extras) == {"qpos", "qvel"}


def test_a_data_set_without_states_or_of_another_environment_is_refused() -> None:
    dataset = dataset_with_cube_at(np.zeros((3, 3)))
    bare = Dataset(dataset.observations, dataset.actions, dataset.terminals, {})
    with pytest.raises(DatasetError, match="no qpos"):
        task_rewards("cube-single", [1], bare)
    wide = Dataset(np.zeros((3, 46), dtype=np.float32), dataset.actions, dataset.terminals, dataset.extras)
    with pytest.raises(DatasetError, match="46 were given, cube-single has 28"):
        task_rewards("cube-single", [1], wide)
    with pytest.raises(SimulationError, match="tasks 1 to 5"):
        task_rewards("cube-single", [6], dataset)
