"""Models and states of a bundle, and the mistakes a user can make about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.analysis.inputs import load_chunks, load_primitives, load_states
from qgf_ros.bundle.store import load_manifest, read_bundle
from qgf_ros.errors import DatasetError, GuidanceError
from qgf_ros.runtime.encoders import OnnxEncoder
from qgf_ros.runtime.session import CPU


def write(path: Path, rows: int = 40, sizes: tuple[int, int] = (28, 5), seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    terminals = np.zeros(rows, bool)
    terminals[[rows // 2 - 1, rows - 1]] = True
    observations, actions = (random.uniform(-1.0, 1.0, (rows, size)).astype(np.float32) for size in sizes)
    np.savez(path, observations=observations, actions=actions, terminals=terminals)
    return path


def test_critics_are_chosen_by_task(tiny_bundle: Path) -> None:
    assert list(load_primitives(tiny_bundle).critics) == ["task1", "task2"]
    assert list(load_primitives(tiny_bundle, [2]).critics) == ["task2"]
    with pytest.raises(GuidanceError, match="task 3 was given; the critics of bundle tiny are for tasks 1, 2"):
        load_primitives(tiny_bundle, [2, 3])


def test_chunks_stay_inside_their_trajectory(tiny_bundle: Path, tmp_path: Path) -> None:
    chunks = load_chunks(write(tmp_path / "d.npz"), load_manifest(tiny_bundle))
    # 20 rows each, horizon 5 and a successor: 15 starts in each of two trajectories.
    assert (chunks.observations.shape, chunks.actions.shape) == ((30, 28), (30, 25))
    with np.load(tmp_path / "d.npz") as data:
        np.testing.assert_array_equal(chunks.actions[15], data["actions"][20:25].ravel())


def test_states_come_from_the_validation_set_where_there_is_one(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = load_manifest(tiny_bundle)
    path = write(tmp_path / "d.npz")
    states, known = load_states(path, manifest, 4, seed=0)
    assert (len(states.observations), len(known.observations)) == (4, 26)
    validation = load_chunks(write(tmp_path / "d-val.npz", seed=1), manifest)
    states, known = load_states(path, manifest, 4, seed=0)
    assert (len(states.observations), len(known.observations)) == (4, 30)
    rows = {row.tobytes() for row in validation.observations}
    assert all(row.tobytes() in rows for row in states.observations)


def test_a_data_set_of_other_sizes_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"of sizes \(27, 5\); bundle tiny needs \(28, 5\)"):
        load_chunks(write(tmp_path / "d.npz", sizes=(27, 5)), load_manifest(tiny_bundle))


@pytest.mark.parametrize("count", [0, 30])
def test_more_states_than_chunks_are_refused(tiny_bundle: Path, tmp_path: Path, count: int) -> None:
    with pytest.raises(DatasetError, match="expected 1 to 29"):
        load_states(write(tmp_path / "d.npz"), load_manifest(tiny_bundle), count, seed=0)


def test_of_states_that_are_seen_velocity_field_and_critic_are_each_given_features_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="building encoders needs onnx")
    from camera_bundles import CAMERAS, C, write_camera_bundle

    bundle = write_camera_bundle(tmp_path / "seeing", critics={"near": None, "far": 5})
    random, rows, data = np.random.default_rng(0), 60, tmp_path / "seen.npz"
    images = {name: random.integers(0, 256, (rows, *one.size, 3), dtype=np.uint8) for name, one in CAMERAS.items()}
    for pixels in images.values():
        pixels[:, 0, 0, 0] = np.arange(rows)
    np.savez_compressed(
        data,
        observations=np.repeat(np.arange(rows, dtype=np.float32)[:, None] / 100, 2, axis=1),
        actions=random.uniform(-1.0, 1.0, (rows, 2)).astype(np.float32),
        terminals=np.arange(rows) == rows - 1,
        **{f"images/{name}": pixels for name, pixels in images.items()},
    )
    primitives = load_primitives(bundle)
    drawn, rest = load_states(data, primitives.manifest, 40, 0)
    assert len(rest.observations) == rows - primitives.manifest.horizon - 40
    assert drawn.pictures is not None
    taken = drawn.pictures.take(np.arange(40))
    for name in CAMERAS:  # what is seen is of the row of what is measured
        np.testing.assert_allclose(taken[name][:, 0, 0, 0] / 100, drawn.observations[:, 0], rtol=1e-6)
    files = read_bundle(bundle)[1]
    z, own = (OnnxEncoder(files, whose, [CPU], 1)(taken, drawn.observations) for whose in (None, "far"))
    action = random.uniform(-1.0, 1.0, (40, C)).astype(np.float32)
    for critic, its in (("near", z), ("far", own)):
        _, asked, given = primitives.asked_about(critic, drawn.observations, drawn.pictures)
        np.testing.assert_allclose(given, z, atol=1e-6)
        expected = primitives.critics[critic].given(its)(action)
        np.testing.assert_allclose(asked.given(given)(action), expected, atol=1e-5)
