"""`qgf quantize`: evidence in the manifest, or a sentence that says why there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from qgf_ros.bundle.locate import MANIFEST_NAME
from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main

pytest.importorskip("onnx", reason="the fast path needs onnx")


MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Thirty random observations of the tiny bundle's size."""
    path = tmp_path / "data.npz"
    observations = np.random.default_rng(0).standard_normal((30, 28), dtype=np.float32)
    terminals = np.arange(30) == 29
    np.savez(path, observations=observations, actions=np.zeros((30, 5), np.float32), terminals=terminals)
    return path


def test_both_precisions_run_the_same_episodes(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["quantize", str(bundle), "--precision", "int8", "--task", "2", "--episodes", "1", "--seed", "7"]
    assert main(command) == 0
    manifest = load_manifest(bundle)
    (found,) = manifest.precisions["int8"].critics.values()
    assert set(manifest.precisions["int8"].critics) == {"task2"}
    assert found.observations == "rollouts"
    assert found.closed_loop is not None
    runs = found.closed_loop.fp32, found.closed_loop.variant
    assert [(run.episodes, run.first_seed, run.last_seed, run.guidance_weight) for run in runs] == [(1, 7, 7, 0.1)] * 2
    assert found.ticks == np.ceil(runs[0].mean_length / manifest.execution_horizon)
    assert 0.0 < found.action_error.largest < 0.1
    assert found.latency_ratio > 0.0
    printed = capsys.readouterr().out
    assert "success in both precisions" in printed
    assert "the tolerance of 0.05" in printed
    assert main(["inspect", str(bundle)]) == 0
    assert "success in both precisions" in capsys.readouterr().out


def test_a_bundle_without_a_simulator_is_measured_on_data(bundle: Path, data: Path) -> None:
    content = json.loads((bundle / MANIFEST_NAME).read_text())
    content["environment"] = None
    for critic in content["critics"].values():
        critic["task_id"] = None
    (bundle / MANIFEST_NAME).write_text(json.dumps(content))
    assert main(["quantize", str(bundle), "--precision", "fp16", "--data", str(data), "--ticks", "25"]) == 0
    found = load_manifest(bundle).precisions["fp16"].critics
    assert set(found) == {"task1", "task2"}
    for evidence in found.values():
        assert (evidence.observations, evidence.ticks, evidence.closed_loop) == ("data", 25, None)


def test_episodes_of_a_goal_conditioned_bundle_take_turns_with_the_tasks(tmp_path: Path, data: Path) -> None:
    bundle = Path(shutil.copytree(MODELS / "cube-single-goal", tmp_path / "goal"))
    assert main(["quantize", str(bundle), "--precision", "int8", "--tasks", "1,3", "--episodes", "2"]) == 0
    (found,) = load_manifest(bundle).precisions["int8"].critics.values()
    assert found.closed_loop is not None
    for run in (found.closed_loop.fp32, found.closed_loop.variant):
        assert (run.goals, run.episodes) == ((1, 3), 2)
    assert main(["quantize", str(bundle), "--precision", "int8", "--data", str(data), "--ticks", "25"]) == 0
    (found,) = load_manifest(bundle).precisions["int8"].critics.values()
    assert (found.observations, found.ticks) == ("data", 25)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--task", "5"], "bundle tiny has no critic for task 5; it has task1 (task 1), task2 (task 2)"),
        (
            ["--guidance-weight", "0"],
            "critic task1 would be measured at guidance weight 0; give a --guidance-weight above 0",
        ),
        (["--episodes", "0"], "episodes 0 was given; it must be at least 1"),
        (["--data", "nowhere.npz"], "nowhere.npz does not exist"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence_and_changes_nothing(
    bundle: Path, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    before = (bundle / MANIFEST_NAME).read_bytes()
    assert main(["quantize", str(bundle), "--precision", "int8", *options]) == 2
    assert reason in capsys.readouterr().err
    assert (bundle / MANIFEST_NAME).read_bytes() == before
