"""Data of a robot that sees: the same oracles and states, a picture for every row, whatever was interrupted."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="making data needs the sim extra")

from qgf_ros.errors import DatasetError, SimulationError
from qgf_ros.learning.data.dataset import load_dataset
from qgf_sim.worlds import oracle_data
from qgf_sim.worlds.environment import TaskEnvironment, collection_environment
from qgf_sim.worlds.families import ENVIRONMENTS
from qgf_sim.worlds.oracle_data import generate, run_episode
from qgf_sim.worlds.picture_setting import OGBENCH_RENDERING, RENDERING
from qgf_sim.worlds.rendering import check_drawing
from qgf_sim.worlds.rewards import task_rewards
from qgf_sim.worlds.shards import merge, open_shards, shard_path, waits, write_shard

NAME, STEPS, SEED = "visual-cube-single", 6, 5


@pytest.fixture(autouse=True, scope="module")
def drawing() -> None:
    try:
        check_drawing()
    except SimulationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return generate(NAME, "play", 2, SEED, tmp_path_factory.mktemp("data") / "play.npz", workers=1, steps=STEPS)


def test_every_row_has_the_picture_of_its_state(files: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = load_dataset(files[0])
    assert dataset.rendering == RENDERING.record()
    assert dataset.pictures is not None
    assert dataset.pictures.sizes == {"camera": (RENDERING.height, RENDERING.width)}
    pictures = dataset.pictures.opened(tmp_path)
    assert isinstance(pictures.cameras["camera"], np.memmap)
    env = TaskEnvironment(NAME, 1)
    env.reset(0)
    for row in (0, STEPS - 1, STEPS + 2):
        env.set_state(dataset.extras["qpos"][row].astype(float), dataset.extras["qvel"][row].astype(float))
        (picture,) = pictures.take(np.array([row]))["camera"]
        # Data sets keep states in float32, which may move an edge by a pixel.
        different = np.abs(env.frames()["camera"].astype(int) - picture).max(axis=-1) > 8
        assert different.mean() < 0.005
        others = np.abs(env.frames()["camera"].astype(int) - pictures.take(np.array([5 - row % 6]))["camera"][0])
        assert others.max() > 8
    env.close()


def test_states_and_actions_are_those_of_the_robot_that_is_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    told, _ = generate(NAME.removeprefix("visual-"), "play", 2, SEED, tmp_path / "told.npz", workers=1, steps=STEPS)
    seeing, knowing = load_dataset(files[0]), load_dataset(told)
    assert np.array_equal(seeing.observations, knowing.observations[:, :19])
    assert np.array_equal(seeing.actions, knowing.actions)
    assert all(np.array_equal(seeing.extras[key], knowing.extras[key]) for key in ("qpos", "qvel"))
    rewards = (task_rewards(name, [2], data)["task2"] for name, data in ((NAME, seeing), ("cube-single", knowing)))
    for seen, known in zip(*rewards):
        assert np.array_equal(seen, known)


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, left = oracle_data._keep, [1]

    def interrupted(work: Any) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        keep(work)

    out = tmp_path / "play.npz"
    monkeypatch.setattr(oracle_data, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt, match="1 of 3 episodes are kept"):
        generate(NAME, "play", 2, SEED, out, workers=1, steps=STEPS)
    monkeypatch.setattr(oracle_data, "_keep", keep)
    monkeypatch.setattr(oracle_data, "RENDERING", OGBENCH_RENDERING)
    with pytest.raises(DatasetError, match="holds episodes of another data set"):
        generate(NAME, "play", 2, SEED, out, workers=1, steps=STEPS)
    monkeypatch.setattr(oracle_data, "RENDERING", RENDERING)
    again = generate(NAME, "play", 2, SEED, out, workers=1, steps=STEPS)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in files]


def test_rewards_of_pictures_without_a_state_come_from_the_simulator_s_own(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    """As in OGBench's published visual files."""
    with np.load(files[0]) as ours:
        published = {key: ours[key] for key in ("actions", "terminals", "qpos", "qvel")}
        published["observations"] = ours["images/camera"]
    np.savez_compressed(tmp_path / "published.npz", **published)
    dataset = load_dataset(tmp_path / "published.npz")
    assert dataset.observations.shape == (2 * STEPS, 0)
    rewards = [task_rewards(NAME, [1], data)["task1"][0] for data in (dataset, load_dataset(files[0]))]
    assert np.array_equal(*rewards)


def test_what_a_power_cut_left_of_an_episode_or_of_the_recipe_is_none(tmp_path: Path) -> None:
    open_shards(tmp_path, {"seed": 1})
    whole, empty = (shard_path(tmp_path, 0, number) for number in range(2))
    write_shard(whole, {"actions": np.zeros((2, 5))})
    empty.touch()
    assert [waits(path) for path in (whole, empty, shard_path(tmp_path, 0, 2))] == [True, False, False]
    (tmp_path / "recipe.json").write_text("")
    with pytest.raises(
        DatasetError, match=r"holds episodes of another data set \(\); finish that one or delete the folder"
    ):
        open_shards(tmp_path, {"seed": 1})


def test_a_merged_file_is_what_numpy_would_write_at_once(tmp_path: Path) -> None:
    env = collection_environment(ENVIRONMENTS[0], 8)
    episodes = [run_episode(env, "play", seed) for seed in (1, 2, 3)]
    env.close()
    shards = [tmp_path / f"{number}.npz" for number in range(3)]
    for shard, episode in zip(shards, episodes):
        write_shard(shard, episode)
    merge(shards, tmp_path / "all.npz", {"note": json.dumps({"a": 1})})
    expected = io.BytesIO()
    whole = {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
    np.savez_compressed(expected, **whole, note=np.array(json.dumps({"a": 1})))
    assert (tmp_path / "all.npz").read_bytes() == expected.getvalue()
