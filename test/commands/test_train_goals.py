"""`qgf train --goal-conditioned`: from any recording to a bundle that is told what to reach."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main
from qgf_ros.learning.data.contract import plain_contract
from qgf_ros.learning.data.dataset import load_dataset


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two trajectories without rewards."""
    random = np.random.default_rng(1)
    observations = random.standard_normal((80, 3)).astype(np.float32)
    terminals = np.isin(np.arange(80), [39, 79])
    np.savez(
        tmp_path / "robot.npz", observations=observations, actions=np.tanh(observations[:, :2]), terminals=terminals
    )
    return tmp_path / "robot.npz"


def test_a_recording_without_rewards_becomes_a_bundle_with_a_goal(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, bundle = str(tmp_path / "run"), str(tmp_path / "mine")
    options = ["--goal-conditioned", "--horizon", "3", "--smoke", "--threads", "1", "--device", "cpu"]
    assert main(["train", "--dataset", str(recording), "--out", run, *options]) == 0
    assert main(["export", run, "--out", bundle]) == 0
    assert main(["inspect", bundle]) == 0
    manifest = load_manifest(tmp_path / "mine")
    assert (manifest.goal, list(manifest.critics)) == ("goal", ["goal"])
    assert [(field.name, field.size, field.max_age) for field in manifest.observation] == [
        ("observation", 3, 0.2),
        ("goal", 3, None),
    ]
    assert manifest.observation[1].quality.durability == "transient_local"
    assert "field goal" in capsys.readouterr().out


def test_a_contract_that_has_a_goal_of_its_own_is_refused_before_anything_is_trained(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = plain_contract(load_dataset(recording), 10.0).header()
    header["observation"][0]["topic"] = "goal"
    (tmp_path / "contract.json").write_text(json.dumps(header))
    contract = ["--contract", str(tmp_path / "contract.json"), "--out", str(tmp_path / "run"), "--smoke"]
    assert main(["train", "--dataset", str(recording), "--goal-conditioned", *contract]) == 2
    assert "the contract has a field or topic goal of its own" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
