"""Pictures of data sets: mapped where they are stored, unpacked once where they are not, and always those of their row."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgf_ros.errors import DatasetError
from qgf_ros.learning.data.conventions import KEYS
from qgf_ros.learning.data.dataset import Dataset, check_alike, load_dataset

ROWS = 12


def pictures(rows: int = ROWS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, 6, 8, 3), dtype=np.uint8)


def arrays(**changes: Any) -> dict[str, Any]:
    """Two trajectories of a robot with one camera; None takes an array away."""
    random = np.random.default_rng(1)
    every = {
        "observations": random.standard_normal((ROWS, 4)).astype(np.float32),
        "actions": random.uniform(-1.0, 1.0, (ROWS, 2)).astype(np.float32),
        "terminals": np.isin(np.arange(ROWS), (4, ROWS - 1)),
        "images/wrist": pictures(),
        **changes,
    }
    return {key: value for key, value in every.items() if value is not None}


def save(path: Path, compress: bool = False, **changes: Any) -> Path:
    (np.savez_compressed if compress else np.savez)(path, **arrays(**changes))
    return path


def taken(dataset: Dataset, cache: Path, rows: np.ndarray) -> dict[str, np.ndarray]:
    assert dataset.pictures is not None
    return dataset.pictures.opened(cache).take(rows)


@pytest.mark.parametrize("compress", [False, True])
def test_a_row_has_its_picture_beside_its_state(tmp_path: Path, compress: bool) -> None:
    dataset = load_dataset(save(tmp_path / "robot.npz", compress))
    assert dataset.observations.shape == (ROWS, 4)
    assert dataset.pictures is not None
    assert dataset.pictures.sizes == {"wrist": (6, 8)}
    rows = np.array([7, 0, 7, 11])
    assert np.array_equal(taken(dataset, tmp_path / "cache", rows)["wrist"], pictures()[rows])
    for first in (0, 7):
        found = dataset.pictures.kept(np.arange(first, ROWS)).first()
        assert np.array_equal(found["wrist"], pictures()[first])


def test_what_is_stored_as_it_is_is_mapped_and_what_is_compressed_is_unpacked_once(tmp_path: Path) -> None:
    stored, packed = (save(tmp_path / f"{name}.npz", name == "packed") for name in ("stored", "packed"))
    cache = tmp_path / "cache"
    opened = load_dataset(stored).pictures.opened(cache)  # type: ignore[union-attr]
    assert isinstance(opened.cameras["wrist"], np.memmap)
    assert not cache.exists()
    for _ in range(2):
        opened = load_dataset(packed).pictures.opened(cache)  # type: ignore[union-attr]
        assert isinstance(opened.cameras["wrist"], np.memmap)
        (file,) = cache.iterdir()
        assert file.stat().st_size == pictures().nbytes
        stamp = file.stat().st_mtime_ns
    assert file.stat().st_mtime_ns == stamp
    file.write_bytes(b"cut short")
    assert np.array_equal(taken(load_dataset(packed), cache, np.arange(ROWS))["wrist"], pictures())


def test_where_nothing_can_be_unpacked_the_refusal_is_one_sentence(tmp_path: Path) -> None:
    packed = load_dataset(save(tmp_path / "packed.npz", compress=True))
    (tmp_path / "cache").touch()
    with pytest.raises(
        DatasetError, match=r"packed.npz are compressed, and .*cache, where .*cannot be made \(File exists\)"
    ):
        packed.pictures.opened(tmp_path / "cache")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images/wrist": None}, r"other.npz has no pictures, the data set pictures \(wrist of 6 x 8 pixels\)"),
        ({"images/wrist": None, "images/front": pictures()}, r"pictures \(front of 6 x 8 pixels\), the data set"),
        ({"images/wrist": pictures().repeat(2, axis=1)}, r"pictures \(wrist of 12 x 8 pixels\), the data set"),
        ({"rendering": np.array('{"samples": 4}')}, "or they were rendered otherwise; make both in one way"),
    ],
)
def test_a_validation_file_of_other_pictures_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    training = load_dataset(save(tmp_path / "robot.npz", rendering=np.array('{"samples": 0}')))
    alike = load_dataset(save(tmp_path / "alike.npz"))  # which does not say how its pictures were made
    assert check_alike(alike, training, "alike.npz") is alike
    with pytest.raises(DatasetError, match=sentence):
        check_alike(load_dataset(save(tmp_path / "other.npz", **changes)), training, "other.npz")


@pytest.mark.parametrize("compress", [False, True])
def test_files_of_ogbench_have_the_pictures_as_observations_and_no_state(tmp_path: Path, compress: bool) -> None:
    path = save(
        tmp_path / "visual.npz", compress, **{"observations": pictures(), "images/wrist": None, "qpos": np.eye(ROWS)}
    )
    dataset = load_dataset(path)
    assert dataset.observations.shape == (ROWS, 0)
    assert dataset.extras["qpos"].shape == (ROWS, ROWS)
    assert np.array_equal(taken(dataset, tmp_path, np.arange(ROWS))["camera"], pictures())


def test_a_robot_without_a_state_needs_no_observations(tmp_path: Path) -> None:
    dataset = load_dataset(save(tmp_path / "robot.npz", observations=None))
    assert dataset.observations.shape == (ROWS, 0)
    assert dataset.pictures is not None


def test_rows_that_a_convention_adds_and_goals_take_away_keep_their_pictures(tmp_path: Path) -> None:
    """Transitions whose last one is solved get a closing row, at which nobody looks; without masks it goes again."""
    ends = np.isin(np.arange(ROWS), (4, ROWS - 1))
    path = save(
        tmp_path / "robot.npz",
        terminals=ends,
        timeouts=np.zeros(ROWS),
        rewards=ends - 1.0,
        masks=1.0 - ends,
    )
    dataset = load_dataset(path)
    assert len(dataset.terminals) == ROWS + 2
    assert np.array_equal(taken(dataset, tmp_path, np.arange(6))["wrist"], pictures()[[0, 1, 2, 3, 4, 4]])
    seen = dataset.observed()
    assert np.array_equal(taken(seen, tmp_path, np.arange(ROWS))["wrist"], pictures())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images/wrist": pictures(ROWS - 1)}, "images has 11 rows, terminals has 12"),
        ({"images/front": pictures(3)}, r"different numbers of pictures \(wrist 12, front 3\)"),
        ({"images/wrist": pictures().astype(np.float32)}, "float32 of shape .12, 6, 8, 3., expected uint8"),
        ({"images/wrist": pictures()[..., :1]}, "uint8 of shape .12, 6, 8, 1., expected uint8 .R, h, w, 3., red"),
        ({"images/wrist": np.zeros((ROWS, 1, 1025, 3), np.uint8)}, "at most 1024 pixels each way"),
        ({"images/a b": pictures()}, "a camera is named 'a b'"),
        ({"images/state": pictures()}, "a camera is named state, as the rest of the observation is"),
        ({f"images/c{number}": pictures() for number in range(16)}, "pictures of 17 cameras, expected at most 16"),
        ({"observations": pictures(), "images/camera": pictures()}, "there is images/camera; keep one of them"),
        ({"next_observations": np.zeros((ROWS, 4), np.float32)}, "has pictures and next_observations"),
        ({"images/wrist": np.asfortranarray(pictures())}, "in the order of C"),
        ({"rendering": np.array("[1")}, "rendering is no JSON object"),
    ],
)
def test_what_cannot_be_the_pictures_of_the_rows_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DatasetError, match=reason):
        load_dataset(save(tmp_path / "robot.npz", **changes))


def test_damaged_pictures_are_noticed_when_they_are_unpacked(tmp_path: Path) -> None:
    large = np.random.default_rng(2).integers(0, 256, (ROWS, 40, 40, 3), dtype=np.uint8)
    path = save(tmp_path / "robot.npz", compress=True, **{"images/wrist": large})
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("images/wrist.npy")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 30 + 40_000] ^= 0xFF
    path.write_bytes(content)
    dataset, cache = load_dataset(path), tmp_path / "cache"
    with pytest.raises(DatasetError, match=r"robot\.npz is not a readable \.npz file"):
        taken(dataset, cache, np.arange(2))
    assert list(cache.iterdir()) == []


def test_the_setting_of_the_renderer_travels_with_the_pictures(tmp_path: Path) -> None:
    assert load_dataset(save(tmp_path / "a.npz", rendering=np.array('{"samples": 0}'))).rendering == {"samples": 0}
    assert load_dataset(save(tmp_path / "b.npz")).rendering == {}
    assert "rendering" not in KEYS
