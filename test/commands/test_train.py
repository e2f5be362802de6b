"""`qgf train` says in one sentence what is wrong with its options, and trains nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.cli import main


def record(path: Path, rows: int) -> Path:
    """Write one trajectory with rewards."""
    observations = np.random.default_rng(0).standard_normal((rows, 3)).astype(np.float32)
    done = np.arange(rows) == rows - 1
    rewards, actions = done - np.float32(1.0), np.tanh(observations[:, :2])
    masks = np.ones(rows, np.float32)
    np.savez(path, observations=observations, actions=actions, terminals=done, rewards=rewards, masks=masks)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return record(tmp_path / "robot.npz", 60)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--save-every", "0"], "save 0 were given; each must be 1 update or more"),
        (["--threads=-1"], "-1 threads were given; give 1 or more"),
        (["--threads", "0"], "0 threads were given; give 1 or more"),
        (["--learning-rate", "nan"], "learning_rate nan was given"),
        (["--learning-rate", "inf"], "learning_rate inf was given"),
        (["--final-learning-rate", "nan"], "final_learning_rate nan was given"),
        (["--final-learning-rate=-1"], "final_learning_rate -1.0 was given"),
        (["--expectile", "1"], "expectile 1.0 was given"),
        (["--algorithm", "astrology"], "algorithm 'astrology' was given; expected"),
        (["--critics-from", "nowhere"], "nowhere holds no checkpoint to take critics from"),
        (
            ["--critics-from", "nowhere", "--ensemble", "3", "--expectile", "0.8"],
            "--expectile and --ensemble was given with --critics-from, whose critics are as they are; leave it out",
        ),
        (["--reward", "sparse"], "--reward sparse was given, but the data set's own rewards are taken as they are"),
        (["--reward", "dense", "--goal-conditioned"], "--reward dense was given, but goals reward themselves"),
        (["--reward", "sparse", "--goal-conditioned", "--env", "scene"], "but goals reward themselves"),
        (["--aggregate", "median"], "aggregation 'median' was given; expected min, mean, or mean - RHO std"),
        (
            ["--algorithm", "td_flow", "--candidates", "16"],
            "--candidates was given, but backup sarsa has no use for it, best_of_n has; leave it out",
        ),
        (
            ["--algorithm", "qam", "--backup", "actor", "--expectile", "0.95"],
            "--expectile was given, but backup actor has no use for it, iql has; leave it out",
        ),
        (
            ["--env", "cube-single", "--contract", "mine.json"],
            "--contract mine.json was given with --env cube-single, which has one; leave one of them out",
        ),
        (["--velocity-field", "trained"], "--velocity-field trained was given, but"),
        (["--critic-encoder", "own"], "--critic-encoder own was given, but"),
        (["--restart-at", "9,9"], "restart_at (9, 9) was given"),
        (["--horizon", "60"], "robot.npz: no trajectory has more than 60 rows"),
    ],
)
def test_an_option_out_of_range_is_refused(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    out = tmp_path / "run"
    assert main(["train", "--dataset", str(recording), "--out", str(out), "--device", "cpu", *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()


def test_a_run_that_is_finished_says_that_there_is_nothing_to_do(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--dataset", str(recording), "--out", str(tmp_path / "run"), "--device", "cpu", "--smoke"]
    assert main(command) == 0
    assert f"saved {tmp_path}" in capsys.readouterr().out
    assert main(command) == 0
    assert f"nothing to do, all 20 updates are in {tmp_path}" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_refused(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--smoke", "--threads", "1", "--device", "cpu"]
    assert main(["train", "--dataset", str(recording), "--out", str(recording / "run"), *options]) == 2
    assert "choose another --out folder" in capsys.readouterr().err


def test_a_validation_file_that_is_too_short_is_named(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "robot-val.npz", 4)
    options = ["--horizon", "5", "--smoke", "--threads", "1", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert main(["train", "--dataset", str(recording), *options]) == 2
    assert "robot-val.npz: no trajectory has more than 5 rows" in capsys.readouterr().err
