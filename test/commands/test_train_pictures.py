"""`qgf train` of a data set with pictures: the same command, and beside it what only they have."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.cli import main
from qgf_ros.commands import train as command
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint

ROWS = 60


def record(path: Path, state: int = 3, **changes: Any) -> Path:
    """Write two trajectories of a robot with a camera; without a state, as OGBench's visual files are."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (ROWS, 12, 16, 3), dtype=np.uint8)
    ends = np.isin(np.arange(ROWS), (29, ROWS - 1))
    arrays = {
        "observations": random.standard_normal((ROWS, state)).astype(np.float32) if state else pictures,
        "actions": random.uniform(-1.0, 1.0, (ROWS, 2)).astype(np.float32),
        "terminals": ends,
        "rewards": ends - 1.0,
        "masks": np.ones(ROWS),
        **({"images/wrist": pictures} if state else {}),
        **changes,
    }
    np.savez_compressed(path, **arrays)
    return path


def train(data: Path, out: Path, *options: object) -> int:
    fixed = ("--critic", "reach", "--device", "cpu", "--threads", 1, "--smoke")
    return main(["train", "--dataset", str(data), "--out", str(out), *map(str, (*fixed, *options))])


@pytest.mark.parametrize(("state", "camera"), [(3, "wrist"), (0, "camera")])
def test_a_data_set_with_pictures_trains_an_encoder_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: int, camera: str
) -> None:
    data, out = record(tmp_path / "robot.npz", state, rendering=np.array('{"samples": 0}')), tmp_path / "run"
    record(tmp_path / "robot-val.npz", state)
    assert train(data, out, "--features", 8) == 0
    said = capsys.readouterr().out
    assert said.index("encoder") < said.index("features") < said.index("training")
    path = latest_checkpoint(out)
    assert path is not None
    tensors, header = load_checkpoint(path)
    assert tensors["value.mlp.weights.0"].shape[1] == 8 + state
    seen = CameraField(topic=f"{camera}/image_raw", width=16, height=12, size=(12, 16))
    assert header["cameras"] == {camera: seen.model_dump(mode="json")}
    assert header["encoder"]["features"] == 8
    assert header["encoder"]["updates"] == 20
    assert header["rendering"] == {"samples": 0}
    assert sum(field["size"] for field in header["observation"]) == state
    before = path.stat().st_mtime_ns
    assert train(data, out, "--features", 8) == 0
    assert "nothing to do, all 20 updates are in" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before
    assert train(data, out, "--features", 9) == 2
    assert "holds another run (different: features 8 -> 9)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--goal-conditioned"], "no policy is told one in pictures yet; leave --goal-conditioned out"),
        (
            ["--goal-conditioned", "--critic-encoder", "own"],
            "no policy is told one in pictures yet; leave --goal-conditioned out",
        ),
        (
            ["--critic-encoder", "own", "--critics-from", "nowhere"],
            "--critic-encoder own was given with --critics-from, whose critics are as they are; leave it out",
        ),
        (
            ["--critics-from", "nowhere"],
            "so that nothing is left to train; give --velocity-field trained",
        ),
        (
            ["--critics-from", "nowhere", "--velocity-field", "trained"],
            "nowhere holds no checkpoint to take critics from",
        ),
        (["--encoder-updates", "0"], "--encoder-updates 0 was given; there must be 1 or more"),
        (["--features", "0"], "features 0 and shift 4 were given"),
        (["--shift=-1"], "features 64 and shift -1 were given"),
        (
            ["--contract", "blind.json"],
            "the data set has pictures (wrist of 12 x 16 pixels), the contract expects no pictures",
        ),
        (["--contract", "other.json"], "the contract expects pictures (wrist of 12 x 12 pixels); check --env"),
        (["--contract", "sizeless.json"], "sizeless.json is not a contract"),
        (["--contract", "shared.json"], "camera wrist and field joints share topic observation; each needs its own"),
        (["--contract", "climbing.json"], "is not a contract (cameras.../x.[key]: String should match pattern"),
        (["--contract", "twice.json"], "is not a contract (observation field joints is named twice)"),
    ],
)
def test_what_does_not_fit_pictures_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    data = record(tmp_path / "robot.npz")
    observation = {
        "name": "joints",
        "topic": "observation",
        "message_type": "std_msgs/msg/Float64MultiArray",
        "extraction": "data",
        "size": 3,
        "unit": "1",
    }
    action = [{"name": f"a{i}", "unit": "1", "scale": 1.0, "lower": -1.0, "upper": 1.0} for i in range(2)]
    blind = {"observation": [observation], "action": action, "control_rate": 10.0}
    (tmp_path / "blind.json").write_text(json.dumps(blind))
    wrist = {"topic": "wrist/image_raw", "width": 16, "height": 12, "size": [12, 12]}
    (tmp_path / "other.json").write_text(json.dumps({**blind, "cameras": {"wrist": wrist}}))
    shared = {"cameras": {"wrist": {**wrist, "topic": "observation"}}}
    (tmp_path / "shared.json").write_text(json.dumps({**blind, **shared}))
    (tmp_path / "climbing.json").write_text(json.dumps({**blind, "cameras": {"../x": wrist}}))
    (tmp_path / "twice.json").write_text(json.dumps({**blind, "observation": [observation, observation]}))
    (tmp_path / "sizeless.json").write_text(json.dumps({**blind, "cameras": {"wrist": {"topic": "wrist"}}}))
    given = [str(tmp_path / option) if option.endswith(".json") else option for option in options]
    assert train(data, tmp_path / "run", *given) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run" / "encoder").exists()


def test_a_run_that_saw_becomes_a_bundle_that_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    from qgf_ros.bundle.store import load_manifest, update_bundle
    from qgf_ros.runtime.policy import Policy

    data, run, out = tmp_path / "robot.npz", tmp_path / "run", tmp_path / "seeing"
    assert train(record(data), run, "--features", 8) == 0
    assert main(["export", str(run), "--out", str(out)]) == 0
    manifest = load_manifest(out)
    assert manifest.cameras["wrist"].size == (12, 16)
    assert manifest.encoding.features == 8 + 3
    assert manifest.parity["encoder.onnx/z"] < 1e-4
    assert manifest.training["encoder"]["updates"] == 20
    kept = out / "pictures/wrist.png"
    with np.load(data) as arrays:
        np.testing.assert_array_equal(np.asarray(Image.open(kept)), arrays["images/wrist"][0])
    assert Policy.load(out).manifest == manifest

    content = {name: (out / name).read_bytes() for name in manifest.files if name != "pictures/wrist.png"}
    assert "pictures/wrist.png" not in update_bundle(out, manifest, content).files  # as bundles of before
    capsys.readouterr()
    assert main(["dataset", "describe", str(data), "--bundle", str(out)]) == 0
    assert "over 60 observations, and the first picture of wrist" in capsys.readouterr().out.replace("\n", " ")
    assert load_manifest(out) == manifest


def test_critics_with_an_encoder_of_their_own_become_a_bundle_that_gives_what_torch_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from qgf_ros.learning.algorithms.algorithm import Problem
    from qgf_ros.learning.vision.picture_critics import PictureCriticConfig, PictureCritics
    from qgf_ros.runtime.policy import Policy

    data, run, out = record(tmp_path / "robot.npz"), tmp_path / "run", tmp_path / "seeing"
    assert train(data, run, "--features", 8, "--critic-encoder", "own") == 0
    capsys.readouterr()
    (run / "pictures/wrist.png").unlink()  # as in runs of before
    assert main(["export", str(run), "--out", str(out)]) == 0
    policy = Policy.load(out)
    manifest = policy.manifest
    assert "pictures/wrist.png" not in manifest.files
    assert manifest.encoding.critics == {"reach": 8 + 3}
    assert manifest.training["critic_encoder"] == "own"
    assert manifest.parity["critics/reach/encoder.onnx/z"] < 1e-4
    assert (out / "critics/reach/encoder.onnx").read_bytes() != (out / "encoder.onnx").read_bytes()

    path = latest_checkpoint(run)
    assert path is not None
    tensors, header = load_checkpoint(path)
    problem = Problem(("reach",), 8 + 3, 2, pictures={"wrist": (12, 16)})
    networks = PictureCritics(PictureCriticConfig.from_dict(header["config"]), problem, torch.Generator())
    networks.load_tensors(tensors)
    random = np.random.default_rng(3)
    images = {"wrist": random.integers(0, 256, (5, 12, 16, 3), dtype=np.uint8)}
    s, noise = random.standard_normal((5, 3), dtype=np.float32), random.standard_normal((5, 1, 2), dtype=np.float32)
    chunks = policy.act(s, noise, "reach", 0.1, images=images)
    with torch.no_grad():
        z = networks.target_encoder({"wrist": torch.from_numpy(images["wrist"])}, torch.from_numpy(s))
        actions = torch.from_numpy(np.array([chunk.actions.ravel() for chunk in chunks]))
        q = networks.target(z, actions)[0].amin(dim=0)
    np.testing.assert_allclose([chunk.telemetry["q"] for chunk in chunks], q.numpy(), atol=1e-4)
    assert not any(chunk.telemetry["critic_failed"] for chunk in chunks)

    assert main(["inspect", str(out)]) == 0
    assert "critics/reach/encoder.onnx, once ──> z [11]" in capsys.readouterr().out


def test_what_only_pictures_have_is_refused_where_there_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    blind = {"observations": random.standard_normal((ROWS, 3)), "actions": random.uniform(-1.0, 1.0, (ROWS, 2))}
    ends = np.arange(ROWS) == ROWS - 1
    np.savez(tmp_path / "blind.npz", **blind, terminals=ends, rewards=ends - 1.0, masks=np.ones(ROWS))
    for options, told in (
        (["--critic-encoder", "own"], "--critic-encoder own"),
        (["--velocity-field", "trained", "--features", "16"], "--features 16, --velocity-field trained"),
        (["--shift", "2", "--encoder-updates", "7"], "--encoder-updates 7, --shift 2"),
    ):
        assert train(tmp_path / "blind.npz", tmp_path / "run", *options) == 2
        assert f"{told} was given, but {tmp_path}/blind.npz has no pictures" in capsys.readouterr().err


def test_what_pictures_alone_have_is_said_with_the_defaults_that_it_has() -> None:
    options = inspect.signature(command.train).parameters
    assert {name: options[name].default for name in command.OF_SIGHT} == command.OF_SIGHT


@pytest.mark.parametrize("critic_encoder", ["shared", "own"])
def test_a_velocity_field_is_trained_on_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], critic_encoder: str
) -> None:
    data, out = record(tmp_path / "robot.npz"), tmp_path / "run"
    options = ("--features", 8, "--critic-encoder", critic_encoder)
    assert train(data, out, *options, "--velocity-field", "trained") == 0
    (first, _), (then, header) = (
        load_checkpoint(path) for path in map(latest_checkpoint, (out / "encoder", out)) if path
    )
    moved = [not np.array_equal(then[name], value) for name, value in first.items() if name.startswith("velocity.")]
    assert moved
    assert all(moved)
    assert header["velocity_field"] == "trained"
    assert train(data, out, *options) == 2
    assert "holds another run (different: velocity_field trained -> kept)" in capsys.readouterr().err
