"""Relabelled rewards against a computation of our own from the cube's position."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="rewards need the sim extra")

from qgf_ros.errors import DatasetError, SimulationError
from qgf_ros.learning.data.dataset import Dataset
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import ENVIRONMENTS
from qgf_sim.worlds.rewards import task_rewards

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


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ENVIRONMENTS if name not in ("cube-single", "scene")]


@pytest.mark.parametrize("name", ["scene", *SLOW])
def test_every_family_s_rewards_agree_with_what_the_environment_itself_says(name: str) -> None:
    """With each object at random in its place or out of it."""
    env = TaskEnvironment(name, 4)
    env.reset(0)
    inner, random, joints = env.unwrapped, np.random.default_rng(0), env.unwrapped.data.joint
    states: dict[str, list[np.ndarray]] = {key: [] for key in env.family.state_keys}
    outcomes, observations = [], []
    for i in range(40):
        wrong = random.random(env.family.cubes + env.family.buttons + 2) < i / 40
        for cube in range(env.family.cubes):
            goal = inner.data.mocap_pos[inner._cube_target_mocap_ids[cube]]
            joints(f"object_joint_{cube}").qpos[:3] = goal + 0.1 * wrong[cube]
        for button in range(env.family.buttons):
            inner._cur_button_states[button] = inner._target_button_states[button] ^ wrong[env.family.cubes + button]
        for slide, off in zip(env.family.slides, wrong[-2:]):
            joints(slide.joint).qpos[0] = getattr(inner, f"_target_{slide.name}_pos") + 0.06 * off
        outcomes.append(inner.compute_reward())
        observations.append(env.observation())
        for key, value in zip(states, (inner.data.qpos, inner.data.qvel, getattr(inner, "_cur_button_states", None))):
            states[key].append(value.copy())
    env.close()
    extras = {key: np.array(rows, dtype=rows[0].dtype) for key, rows in states.items()}
    dataset = Dataset(np.array(observations, dtype=np.float32), np.zeros((40, 5)), np.arange(40) == 39, extras)
    rewards, masks = task_rewards(name, [4], dataset)["task4"]
    assert rewards.tolist() == outcomes
    assert masks.tolist() == [float(outcome < 0) for outcome in outcomes]
    sparse, sparse_masks = task_rewards(name, [4], dataset, "sparse")["task4"]
    assert sparse.tolist() == [-1.0 if outcome < 0 else 0.0 for outcome in outcomes]
    assert sparse_masks.tolist() == masks.tolist()
    assert sparse.dtype == np.float32
    assert len(set(outcomes)) > 2
    assert 0.0 in outcomes


def test_a_data_set_without_the_states_of_the_buttons_is_refused() -> None:
    rows = np.zeros((3, 40), dtype=np.float32)
    dataset = Dataset(rows, np.zeros((3, 5), dtype=np.float32), np.arange(3) == 2, {"qpos": rows[:, :25]})
    with pytest.raises(
        DatasetError, match="has no button_states, from which .* use one made with qpos and button_states"
    ):
        task_rewards("scene", [1], dataset)


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


@pytest.mark.parametrize("width", [1, 16, 20, 22])
def test_states_of_another_environment_are_refused(width: int) -> None:
    dataset = dataset_with_cube_at(np.zeros((3, 3)))
    extras = {**dataset.extras, "qpos": np.zeros((3, width), np.float32)}
    with pytest.raises(DatasetError, match=f"qpos has {width} columns, cube-single has 21; check --env and --dataset"):
        task_rewards("cube-single", [1], replace(dataset, extras=extras))
