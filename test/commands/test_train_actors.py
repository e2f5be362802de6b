"""From one run's critics to the bundles of several actors, by the commands that docs/training_algorithms.md gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main

TINY = ("--smoke", "--threads", "1", "--device", "cpu")


def run(*arguments: Any) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    observations = random.standard_normal((60, 3)).astype(np.float32)
    rest = {"actions": np.tanh(observations[:, :2]), "terminals": np.arange(60) % 30 == 29}
    np.savez(tmp_path / "robot.npz", observations=observations, **rest, rewards=-np.ones(60), masks=np.ones(60))
    return tmp_path / "robot.npz"


def test_two_actors_have_the_critics_of_one_run_and_options_of_their_own(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = ("--dataset", recording, "--critic", "fold", *TINY)
    run("train", *about, "--out", tmp_path / "critics", "--ensemble", "3")
    taken = ("--critics-from", tmp_path / "critics")
    run("train", "--algorithm", "edp", *about, *taken, "--bc-weight", "3", "--out", tmp_path / "edp")
    run("train", "--algorithm", "cfgrl", *about, *taken, "--plain-weight", "0.2", "--out", tmp_path / "cfgrl")
    for name in ("edp", "cfgrl"):
        run("export", tmp_path / name, "--out", tmp_path / f"towel_{name}")
    assert "towel_edp: 1 critic, 3 files" in capsys.readouterr().out
    edp, cfgrl = (load_manifest(tmp_path / f"towel_{name}") for name in ("edp", "cfgrl"))
    assert edp.training["config"]["bc_weight"] == 3.0
    assert cfgrl.training["config"]["plain_weight"] == 0.2
    assert edp.training["critics_from"] == cfgrl.training["critics_from"]
    assert edp.critics == cfgrl.critics
    assert edp.critics["fold"].ensemble_size == 3
    assert edp.files["critics/fold/q_grad.onnx"] == cfgrl.files["critics/fold/q_grad.onnx"]
    run("inspect", tmp_path / "towel_cfgrl")
    assert "classifier_free" in capsys.readouterr().out
    again = ["train", "--algorithm", "edp", *about, *taken, "--plain-weight", "0.2", "--out", tmp_path / "edp"]
    assert main([str(word) for word in again]) == 2
    assert "--plain-weight was given, which edp does not have; its own are --expectile" in capsys.readouterr().err


@pytest.mark.slow
def test_every_actor_runs_an_episode_of_its_task(tmp_path: Path) -> None:
    pytest.importorskip("ogbench")
    run("generate", "cube-single", "--episodes", 1, "--out", tmp_path / "play.npz")
    about = ("--dataset", tmp_path / "play.npz", "--env", "cube-single", "--tasks", "2,4", "--horizon", 5, *TINY)
    run("train", *about, "--out", tmp_path / "critics")
    for name, weights, options in (
        ("edp", "0", ()),
        ("cfgrl", "0,3", ()),
        ("robust_q", "0.05", ("--estimator", "robust")),
        ("fql", "0", ()),
        ("qam", "0", ()),
        ("dac", "0", ()),
        ("qsm", "0", ()),
    ):
        run("train", "--algorithm", name, *about, "--critics-from", tmp_path / "critics", "--out", tmp_path / name)
        run("export", tmp_path / name, "--out", tmp_path / f"cube_{name}")
        bundle = tmp_path / (f"cube_{name}" if name == "robust_q" else f"cube_{name}-task4")
        settings = ("--task", 4, "--episodes", 1, "--guidance-weights", weights, "--workers", 1, *options)
        run("evaluate", bundle, *settings, "--json", tmp_path / f"{name}.json")
        said = (tmp_path / f"{name}.json").read_text()
        expected = {"cfgrl": "classifier_free", "robust_q": "robust"}.get(name, "qgf")
        assert f'"estimator": "{expected}"' in said


def test_one_run_of_adjoint_matching_gives_its_policy_plain_cloning_and_what_its_critics_guide(
    recording: Path, tmp_path: Path
) -> None:
    """The commands of docs/training_algorithms.md for QGF with the critics of QAM; and those critics serve another actor."""
    about = ("--dataset", recording, "--critic", "fold", *TINY)
    critics = ("--backup", "actor", "--ensemble", "4", "--aggregate", "mean - 0.5 std")
    run("train", "--algorithm", "qam", *about, *critics, "--inverse-temperature", "1", "--out", tmp_path / "qam")
    run("export", tmp_path / "qam", "--out", tmp_path / "towel")
    policy, flow = (load_manifest(tmp_path / f"towel-{name}") for name in ("fold", "flow"))
    assert policy.critics == flow.critics
    assert (flow.critics["fold"].ensemble_size, flow.critics["fold"].aggregation) == (4, "mean - 0.5 std")
    assert policy.files["velocity.onnx"] != flow.files["velocity.onnx"]
    taken = ("--critics-from", tmp_path / "qam")
    run("train", "--algorithm", "fql", *about, *taken, "--distillation-weight", "3", "--out", tmp_path / "fql")
    run("export", tmp_path / "fql", "--policy", "fold", "--out", tmp_path / "towel_fql")
    actor = load_manifest(tmp_path / "towel_fql")
    assert actor.denoising_steps == 1
    assert actor.files["critics/fold/q_grad.onnx"] == flow.files["critics/fold/q_grad.onnx"]
    refused = ["train", "--algorithm", "dac", *about, *taken, "--backup", "actor", "--out", tmp_path / "dac"]
    assert main([str(word) for word in refused]) == 2
