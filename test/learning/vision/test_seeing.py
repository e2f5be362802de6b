"""A run that sees: what only pictures tell is learned, nothing is computed twice, and resumption is exact to the bit."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning import run as runs  # noqa: E402
from qgf_ros.learning.algorithms.iql_flow import IqlFlowConfig  # noqa: E402
from qgf_ros.learning.checkpoint import load_checkpoint  # noqa: E402
from qgf_ros.learning.course import Intervals  # noqa: E402
from qgf_ros.learning.data.contract import plain_contract  # noqa: E402
from qgf_ros.learning.data.dataset import Dataset, load_dataset  # noqa: E402
from qgf_ros.learning.run import Rewarded, dataset_record, own_rewards  # noqa: E402
from qgf_ros.learning.trainer import TrainingConfig  # noqa: E402
from qgf_ros.learning.vision import features as features_module  # noqa: E402
from qgf_ros.learning.vision.encoder import PictureEncoder  # noqa: E402
from qgf_ros.learning.vision.features import with_features  # noqa: E402
from qgf_ros.learning.vision.picture_flow import PictureFlowConfig  # noqa: E402
from qgf_ros.learning.vision.seeing import ENCODER_KEY, Seen, encoder_of, see, train_encoder  # noqa: E402

CPU = torch.device("cpu")
OPTIONS = PictureFlowConfig(features=8, shift=1, hidden=(32, 32))
CONFIG = TrainingConfig(updates=12, batch_size=16, seed=4)


def header_of(path: Path, dataset: Dataset) -> dict[str, Any]:
    about = {"environment": None, "tasks": ["reach"], "task_ids": [None], "dataset": dataset_record(path, dataset)}
    return {**about, **plain_contract(dataset, 10.0).header()}


def look(path: Path, out: Path, config: TrainingConfig = CONFIG, stop_at: int = 0, **options: Any) -> Path:
    """Train the encoder of a data set, until an interruption after some updates if there is one."""
    dataset, count = load_dataset(path), [0]

    def interrupted() -> bool:
        count[0] += 1
        return count[0] == stop_at

    return train_encoder(
        config,
        OPTIONS,
        dataset,
        load_dataset(path.with_name("scene-val.npz")),
        header_of(path, dataset),
        out,
        device=CPU,
        intervals=Intervals(log=1, validate=5, save=5),
        interrupted=interrupted,
        **options,
    )


def seen(path: Path, checkpoint: Path, out: Path) -> Seen:
    dataset = load_dataset(path)
    return see(checkpoint, Rewarded(dataset, own_rewards(dataset, "reach")), None, out, device=CPU)


def critics(path: Path, out: Path, found: Seen, updates: int = 10) -> Path:
    header = {**header_of(path, load_dataset(path)), ENCODER_KEY: found.record}
    return runs.train(
        TrainingConfig(updates=updates, batch_size=16, seed=4),
        found.training,
        None,
        header,
        out,
        device=CPU,
        options=IqlFlowConfig(hidden=(32, 32)),
        given=found.velocity,
        intervals=Intervals(log=5, validate=5, save=5),
    )


def test_what_only_pictures_tell_is_learned(scene: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    config = TrainingConfig(updates=150, batch_size=64, seed=4, learning_rate=2e-3)
    look(scene, tmp_path / "run", config, report=lambda progress: losses.extend(progress.losses.values()))
    first, last = np.mean(losses[:10]), np.mean(losses[-20:])
    # The noise alone leaves a loss; without pictures it cannot fall much below the actions' own variance of a third.
    assert last < 0.75 * first


def test_an_interrupted_encoder_goes_on_to_the_same_bits(scene: Path, tmp_path: Path) -> None:
    whole, _ = load_checkpoint(look(scene, tmp_path / "whole"))
    look(scene, tmp_path / "parts", stop_at=7)
    parts, header = load_checkpoint(look(scene, tmp_path / "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    assert header["algorithm"] == "picture_flow"
    with pytest.raises(TrainingError, match=r"holds another run \(different: seed 4 -> 5\)"):
        look(scene, tmp_path / "parts", TrainingConfig(updates=12, batch_size=16, seed=5))


def test_features_are_those_of_the_encoder_and_are_computed_once(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    checkpoint = look(scene, out)
    monkeypatch.setattr(features_module, "ROWS_AT_ONCE", 50)
    found = seen(scene, checkpoint, out)
    z, dataset = found.training.dataset.observations, load_dataset(scene)
    assert z.shape == (120, 8 + 3)
    assert found.training.dataset.pictures is None
    encoder = encoder_of(out, found.record)
    pictures = dataset.pictures.opened(tmp_path).take(np.arange(120))["wrist"]  # type: ignore[union-attr]
    with torch.no_grad():
        expected = encoder({"wrist": torch.from_numpy(pictures)}, torch.from_numpy(dataset.observations))
    np.testing.assert_allclose(z, expected.numpy(), atol=1e-5)

    def never(*arguments: Any) -> None:
        raise AssertionError("computed again")

    with monkeypatch.context() as patched:
        patched.setattr(PictureEncoder, "forward", never)
        again = seen(scene, checkpoint, out)
    assert again.training.dataset.observations.tobytes() == z.tobytes()
    assert again.record == found.record
    (kept,) = (out / "cache").iterdir()
    content = kept.read_bytes()
    for left in (len(content) // 2, 0):  # as a power cut may leave it
        kept.write_bytes(content[:left])
        assert seen(scene, checkpoint, out).training.dataset.observations.tobytes() == z.tobytes()
        assert kept.read_bytes() == content


def test_critics_train_on_features_and_the_velocity_field_stays(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    checkpoint = look(scene, out)
    found = seen(scene, checkpoint, out)
    whole, header = load_checkpoint(critics(scene, out, found))
    encoded, _ = load_checkpoint(checkpoint)
    assert {
        name: value for name, value in whole.items() if name.startswith("velocity.")
    }.keys() == found.velocity.keys()
    assert all(torch.equal(whole[name], encoded[name]) for name in found.velocity)
    assert whole["critic.mlp.weights.0"].shape[1] == 8 + 3 + 2
    assert header["cameras"]["wrist"]["size"] == [16, 16]
    parts = tmp_path / "parts"
    found = seen(scene, look(scene, parts), parts)
    critics(scene, parts, found, updates=5)
    more, _ = load_checkpoint(critics(scene, parts, found))
    assert all(torch.equal(more[name], whole[name]) for name in whole)


def test_critics_do_not_go_on_with_the_features_of_another_encoder(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = seen(scene, look(scene, out), out)
    critics(scene, out, found, updates=5)
    other = seen(scene, look(scene, tmp_path / "other", TrainingConfig(updates=3, seed=8)), tmp_path / "other")
    with pytest.raises(TrainingError, match=r"holds another run \(different: .*encoder\)"):
        critics(scene, out, other)
    with pytest.raises(TrainingError, match="is another encoder than the critics were trained with"):
        encoder_of(tmp_path / "other", found.record)
    with pytest.raises(TrainingError, match="holds no checkpoint of the encoder"):
        encoder_of(tmp_path / "nowhere", found.record)


def test_an_encoder_that_critics_know_is_not_trained_on(scene: Path, tmp_path: Path) -> None:
    """Else hours would go into what the critics refuse, and the run could not even be exported any more."""
    out = tmp_path / "run"
    found = seen(scene, look(scene, out), out)
    critics(scene, out, found, updates=5)
    before = sorted((out / "encoder").glob("*.safetensors"))
    for updates in (CONFIG.updates - 1, CONFIG.updates + 1):
        with pytest.raises(TrainingError, match=f"encoder of 12 updates, {updates} were .* --encoder-updates 12, or"):
            look(scene, out, TrainingConfig(updates=updates, batch_size=16, seed=4))
    assert sorted((out / "encoder").glob("*.safetensors")) == before
    assert look(scene, out) == before[-1]


def test_pictures_are_never_in_memory_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, path = 16_000, tmp_path / "large.npz"
    few = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    pictures = np.tile(few, (rows // 100, 1, 1, 1))
    arrays = {"observations": pictures, "actions": np.zeros((rows, 1)), "terminals": np.arange(rows) == rows - 1}
    np.savez_compressed(path, **arrays)
    size = pictures.nbytes
    del pictures, arrays
    encoder = PictureEncoder({"camera": (32, 32)}, 4)
    monkeypatch.setattr(features_module, "ROWS_AT_ONCE", 64)
    sizes: list[int] = []

    def written() -> int:
        (file,) = tmp_path.glob(".*.npy")
        return file.stat().st_size

    tracemalloc.start()
    try:
        dataset = load_dataset(path)
        opened = dataset.pictures.opened(tmp_path / "cache")  # type: ignore[union-attr]
        with_features(
            dataset, opened, encoder, tmp_path / "z.npy", device=CPU, report=lambda *_: sizes.append(written())
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 4
    # The file grows with the rows: where the disk fills up below a file that is mapped, the process is killed.
    assert sizes[0] < sizes[len(sizes) // 2] < sizes[-1] <= (tmp_path / "z.npy").stat().st_size
