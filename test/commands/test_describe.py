"""What the training data were like: kept by train and export, put in by describe, shown by inspect and contract check."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from rich.console import Console

from qgf_ros.bundle.expectation import expected_fields
from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.cli import main
from qgf_ros.control.extraction import JointReading, PoseReading

OBSERVATION = [
    {
        "name": "arm",
        "topic": "joint_states",
        "message_type": "sensor_msgs/msg/JointState",
        "extraction": "joint_position",
        "joints": ["a", "b"],
        "size": 2,
        "unit": "rad",
    },
    {
        "name": "cup",
        "topic": "cup_pose",
        "message_type": "geometry_msgs/msg/PoseStamped",
        "extraction": "quaternion_wxyz",
        "size": 4,
        "unit": "1",
    },
]
ACTION = [{"name": name, "unit": "m", "scale": 0.1, "lower": -0.1, "upper": 0.1} for name in ("dx", "dy")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """60 rows of an arm and a cup that is turned about z, always with z > 0, while w has both signs."""
    random = np.random.default_rng(0)
    half = random.uniform(0.3, 2.3, 60)
    zeros = np.zeros(60)
    arm = random.uniform(-1.0, 1.0, (60, 2))
    observations = np.column_stack([arm, np.cos(half), zeros, zeros, np.sin(half)]).astype(np.float32)
    done = np.arange(60) == 59
    path = tmp_path / "cup.npz"
    np.savez(
        path,
        observations=observations,
        actions=np.tanh(observations[:, :2]),
        terminals=done,
        rewards=done - np.float32(1.0),
        masks=np.ones(60, np.float32),
    )
    return path


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "contract.json"
    path.write_text(json.dumps({"observation": OBSERVATION, "action": ACTION, "control_rate": 20.0}))
    return path


def made(data: Path, contract: Path, out: Path, *options: str) -> Path:
    """Train for a moment, and export."""
    run = out.with_suffix(".run")
    small = ["--smoke", "--threads", "1", "--device", "cpu", *options]
    assert main(["train", "--dataset", str(data), "--contract", str(contract), "--out", str(run), *small]) == 0
    assert main(["export", str(run), "--out", str(out), "--force"]) == 0
    return out


def test_a_bundle_knows_the_data_it_was_trained_on(
    data: Path, contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    bundle = made(data, contract, tmp_path / "cup")
    manifest = load_manifest(bundle)
    assert manifest.demonstrations is not None
    assert (manifest.demonstrations.dataset, manifest.demonstrations.rows) == ("cup.npz", 60)
    arm = np.load(data)["observations"][:, :2]
    assert manifest.demonstrations.fields["arm"].maximum == pytest.approx(arm.max(axis=0).tolist(), rel=1e-6)
    mean = manifest.observation[1].mean_quaternion
    assert mean is not None
    assert mean[3] > 0.9
    capsys.readouterr()
    assert main(["inspect", str(bundle)]) == 0
    card = capsys.readouterr().out
    assert "demonstrations (cup.npz, 60 observations)" in card
    assert "cup: of q and -q the nearer to (" in card


def test_a_goal_is_like_the_observations(data: Path, contract: Path, tmp_path: Path) -> None:
    manifest = load_manifest(made(data, contract, tmp_path / "cup", "--goal-conditioned"))
    assert manifest.demonstrations is not None
    fields = manifest.demonstrations.fields
    assert fields["goal"].minimum == (*fields["arm"].minimum, *fields["cup"].minimum)


def test_describe_tells_an_older_bundle_and_touches_nothing_else(
    data: Path, contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = made(data, contract, tmp_path / "cup")
    told = load_manifest(bundle)
    older = told.model_copy(
        update={
            "demonstrations": None,
            "observation": tuple(field.model_copy(update={"mean_quaternion": None}) for field in told.observation),
        }
    )
    update_manifest(bundle, older)
    capsys.readouterr()
    assert main(["inspect", str(bundle)]) == 0
    card = capsys.readouterr().out
    assert "unknown: the bundle keeps no quantiles of its training data" in card
    assert "cup: as the topic has them; which ones the training data had is unknown" in card

    def digests() -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in bundle.rglob("*")
            if path.is_file() and path.name != "manifest.json"
        }

    before = digests()
    assert main(["dataset", "describe", str(data), "--bundle", str(bundle)]) == 0
    assert "quantiles of 2 fields over 60 observations" in capsys.readouterr().out
    assert load_manifest(bundle) == told
    assert digests() == before


def test_data_of_both_signs_are_said_to_have_no_hemisphere(
    data: Path, contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = made(data, contract, tmp_path / "cup")
    arrays = dict(np.load(data))
    arrays["observations"][::2, 2:] *= -1.0
    np.savez(tmp_path / "both.npz", **arrays)
    assert main(["dataset", "describe", str(tmp_path / "both.npz"), "--bundle", str(bundle)]) == 0
    assert load_manifest(bundle).observation[1].mean_quaternion is None
    capsys.readouterr()
    assert main(["inspect", str(bundle)]) == 0
    assert "cup: as the topic has them; the training data hold both signs" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["other size", "no bundle", "two files"])
def test_describe_refuses_in_one_sentence_and_changes_nothing(
    data: Path, contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    bundle = made(data, contract, tmp_path / "cup")
    before = (bundle / "manifest.json").read_bytes()
    arrays = dict(np.load(data))
    np.savez(tmp_path / "other.npz", **{**arrays, "observations": arrays["observations"][:, :3]})
    files, options, says = {
        "other size": (["other.npz"], ["--bundle", str(bundle)], "observations of size 3"),
        "no bundle": (["cup.npz"], [], "give one FILE.npz and --bundle BUNDLE"),
        "two files": (["cup.npz", "other.npz"], ["--bundle", str(bundle)], "2 data sets"),
    }[case]
    assert main(["dataset", "describe", *(str(tmp_path / name) for name in files), *options]) == 2
    assert says in capsys.readouterr().err
    assert (bundle / "manifest.json").read_bytes() == before


def test_a_run_from_before_there_were_quantiles_goes_on(data: Path, contract: Path, tmp_path: Path) -> None:
    from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint

    bundle = made(data, contract, tmp_path / "cup")
    run = tmp_path / "cup.run"
    path = latest_checkpoint(run)
    assert path is not None
    tensors, header = load_checkpoint(path)
    del header["demonstrations"]
    for field in header["observation"]:
        del field["mean_quaternion"], field["sign_follows"]
    save_checkpoint(run, int(tensors["step"]), tensors, header)
    shutil.rmtree(bundle)
    assert main(["export", str(run), "--out", str(bundle)]) == 0
    assert load_manifest(bundle).demonstrations is None
    made(data, contract, tmp_path / "cup")  # the same command, which finds the run


def test_contract_check_shows_each_value_beside_its_range(
    data: Path, contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rclpy", reason="listening to topics needs the ros extra or a ROS 2 installation")
    from qgf_ros.commands.contract import _value_table
    from qgf_ros.nodes.contract_check import Heard, judge

    manifest = load_manifest(made(data, contract, tmp_path / "cup"))
    assert manifest.demonstrations is not None
    upright = PoseReading(np.zeros(3), np.array([0.0, 0.0, 1.0, 0.0]))

    def listening(angle: float) -> dict[str, Heard | None]:
        arm = JointReading(("a", "b"), np.array([0.1, angle]), np.empty(0), np.empty(0))
        heard = {"arrivals": [0.0, 0.1], "ages": [0.0, 0.0]}
        return {"arm": Heard(newest=arm, **heard), "cup": Heard(newest=upright, **heard)}  # type: ignore[arg-type]

    expected = expected_fields(manifest, manifest.observation, 5.0)
    high = manifest.demonstrations.fields["arm"].maximum[1]
    capsys.readouterr()
    Console(width=150).print(_value_table(expected, listening(high + 0.31)))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if " b " in line]
    assert all(part in row for part in (f"{high + 0.31:.4g} rad", f".. {high:.4g}", "0.31 rad"))
    assert judge(manifest.observation[0], listening(high + 0.31)["arm"], 0.1, expected=expected[0]) is None
    complaint = judge(manifest.observation[0], listening(90.0)["arm"], 0.1, expected=expected[0])
    assert complaint is not None
    assert complaint.startswith("b is 90 rad, plausible is ")
