"""`qgf train --env` rewards the whole task where the dense reward would rest before it, and says what it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("ogbench", reason="relabelling needs the sim extra")

from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint
from qgf_sim.worlds.families import FAMILIES, VISUAL

ROWS = 60


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """States of `scene` in which nothing is where a task wants it."""
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "scene.npz",
        observations=random.standard_normal((ROWS, 40)).astype(np.float32),
        actions=random.uniform(-1.0, 1.0, (ROWS, 5)).astype(np.float32),
        terminals=np.arange(ROWS) == ROWS - 1,
        qpos=np.zeros((ROWS, 25), np.float32),
        qvel=np.zeros((ROWS, 24), np.float32),
        button_states=np.zeros((ROWS, 2), np.int64),
    )
    return tmp_path / "scene.npz"


def test_families_in_which_something_must_be_undone_have_the_sparse_reward() -> None:
    sparse = {name for name, family in FAMILIES.items() if family.reward == "sparse"}
    assert sparse == {name for name in FAMILIES if name.removeprefix(VISUAL).startswith(("scene", "puzzle"))}


def test_the_reward_is_said_warned_of_kept_and_not_changed_in_a_folder(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    files = ["train", "--dataset", str(recording), "--env", "scene", "--tasks", "1,4"]
    options = ["--out", str(run), "--smoke", "--threads", "1", "--device", "cpu"]
    assert main([*files, *options, "--reward", "dense"]) == 0
    said = capsys.readouterr().out
    assert (
        "with the dense reward and discount 0.99 the best policy rests before scene is solved (task 4 with 1 object"
        in said
    )
    assert "task 1" not in said.split("(task 4")[1]
    _, header = load_checkpoint(latest_checkpoint(run))
    assert header["reward"] == "dense"
    assert main([*files, *options]) == 2
    assert "reward dense -> sparse" in capsys.readouterr().err
    assert main(["export", str(run), "--out", str(tmp_path / "bundle"), "--members", "1"]) == 0
    assert main(["inspect", str(tmp_path / "bundle")]) == 0
    assert load_manifest(tmp_path / "bundle").training["reward"] == "dense"
    assert "reward" in capsys.readouterr().out


def test_nothing_is_warned_of_where_the_reward_is_sparse(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", str(tmp_path / "run"), "--smoke", "--threads", "1", "--device", "cpu"]
    assert main(["train", "--dataset", str(recording), "--env", "scene", "--tasks", "4", *options]) == 0
    assert "warning" not in capsys.readouterr().out
    assert load_checkpoint(latest_checkpoint(tmp_path / "run"))[1]["reward"] == "sparse"
