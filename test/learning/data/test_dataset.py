"""Chunks never leave their trajectory, and returns equal their definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.errors import DatasetError
from qgf_ros.learning.data.dataset import Dataset, chunk_actions, chunk_returns, load_dataset, validation_path


def dataset(lengths: list[int]) -> Dataset:
    rows = sum(lengths)
    terminals = np.zeros(rows, dtype=bool)
    terminals[np.cumsum(lengths) - 1] = True
    numbers = np.arange(rows, dtype=np.float32)
    return Dataset(numbers[:, None], np.stack([numbers, -numbers], axis=1) / rows, terminals, {})


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(1, 5))
@examples(60)
def test_every_chunk_and_its_successor_stay_in_one_trajectory(lengths: list[int], horizon: int) -> None:
    data = dataset(lengths)
    trajectory = np.repeat(np.arange(len(lengths)), lengths)
    rows = len(trajectory)
    expected = [i for i in range(rows) if i + horizon < rows and trajectory[i] == trajectory[i + horizon]]
    if not expected:
        with pytest.raises(DatasetError, match="shorter horizon"):
            data.chunk_starts(horizon)
    else:
        np.testing.assert_array_equal(data.chunk_starts(horizon), expected)


@given(st.integers(1, 6), st.floats(0.5, 1.0), st.integers(0, 2**31))
@examples(60)
def test_returns_stop_at_the_first_solved_state(horizon: int, discount: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 2, 12).astype(np.float32)
    rewards = masks * rng.standard_normal(12).astype(np.float32) - (1.0 - masks) * 0.5
    starts = np.arange(12 - horizon)
    returns, bootstraps = chunk_returns(starts, rewards, masks, horizon, discount)
    for i in starts:
        total, factor = 0.0, 1.0
        for row in range(i, i + horizon):
            total += factor * rewards[row]
            factor *= discount
            if masks[row] == 0.0:
                factor = 0.0
                break
        assert returns[i] == pytest.approx(total, abs=1e-5)
        assert bootstraps[i] == pytest.approx(factor, abs=1e-5)


def test_actions_of_a_chunk_are_flattened_in_time_order() -> None:
    data = dataset([6])
    chunks = chunk_actions(np.array([1]), data.actions, 3)
    np.testing.assert_array_equal(chunks, data.actions[1:4].reshape(1, 6))


def test_validation_file_follows_ogbench_s_name() -> None:
    assert validation_path(Path("data/cube.npz")) == Path("data/cube-val.npz")


def save(path: Path, **change: Any) -> Path:
    arrays: dict[str, Any] = {
        "observations": np.zeros((4, 3), np.float32),
        "actions": np.zeros((4, 2), np.float32),
        "terminals": np.array([False, False, False, True]),
        **change,
    }
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_a_sound_file_loads(tmp_path: Path) -> None:
    data = load_dataset(save(tmp_path / "d.npz", qpos=np.zeros((4, 9))))
    assert data.observations.shape == (4, 3)
    assert set(data.extras) == {"qpos"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": None}, "lacks actions"),
        ({"actions": np.zeros((3, 2), np.float32)}, "actions has 3 rows, terminals has 4"),
        ({"actions": np.full((4, 2), 1.5, np.float32)}, "leaves \\[-1, 1\\]"),
        ({"observations": np.full((4, 3), np.nan, np.float32)}, "not finite"),
        ({"observations": np.zeros(4, np.float32)}, "must be matrices"),
        ({"terminals": np.zeros(4, bool)}, "last row is not terminal"),
        ({"qpos": np.zeros((2, 9))}, "qpos has 2 rows"),
        ({"observations": np.array([{"a": 1}] * 4, dtype=object)}, "not a readable"),
    ],
)
def test_an_unsound_file_says_what_is_wrong(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dataset(save(tmp_path / "d.npz", **change))


def test_a_missing_or_broken_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        load_dataset(tmp_path / "no.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 rubbish")
    with pytest.raises(DatasetError, match="not a readable"):
        load_dataset(tmp_path / "broken.npz")
