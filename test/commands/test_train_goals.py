"""`qgf train --goal-conditioned`: from any recording to a bundle that is told what to reach."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module", params=["scene", "puzzle-3x3"])
def play(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An environment whose goals hold no arm, and a small data set of it."""
    pytest.importorskip("ogbench", reason="making data needs the sim extra")
    from qgf_sim.worlds.oracle_data import generate

    out = tmp_path_factory.mktemp("data") / "play.npz"
    generate(request.param, "play", 2, 0, out, workers=1, steps=60)
    return request.param, out


OBJECTS = {
    "scene": ["object_0_position", "button_0_is_1", "button_1_is_1", "drawer_position", "window_position"],
    "puzzle-3x3": [f"button_{i}_is_1" for i in range(9)],
}


def test_goals_of_scene_and_puzzles_say_where_the_objects_are_to_be(
    play: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qgf_ros.control.run_options import RunOptions
    from qgf_sim.rollouts.evaluate import EvaluationPlan, evaluate
    from qgf_sim.worlds.environment import TaskEnvironment

    name, data = play
    run, bundle = str(tmp_path / "run"), tmp_path / "mine"
    command = ["train", "--dataset", str(data), "--env", name, "--goal-conditioned", "--out", run]
    command += ["--horizon", "5", "--discount", "0.995", "--smoke", "--threads", "1", "--device", "cpu"]
    assert main(command) == 0
    assert main(["export", run, "--out", str(bundle)]) == 0
    assert main(["inspect", str(bundle)]) == 0
    assert "object_goal" in capsys.readouterr().out
    manifest = load_manifest(bundle)
    goal = manifest.observation[-1]
    assert list(manifest.goal_fields) == list(manifest.training["goal_tolerances"]) == OBJECTS[name]
    assert (goal.name, goal.topic, goal.size) == ("goal", "object_goal", {"scene": 7, "puzzle-3x3": 9}[name])
    assert manifest.critics["goal"].discount == 0.995
    monkeypatch.setattr(TaskEnvironment, "__init__", shorter(TaskEnvironment.__init__))
    plan = EvaluationPlan(bundle, 4, (0.1,), 1, RunOptions(seed=3))
    (episode,) = evaluate(plan)[0.1]
    assert episode.length == 20
    monkeypatch.setattr("qgf_sim.worlds.families.goal_tolerances", lambda name: {})
    assert main(command) == 2
    assert "holds another run (different: goal_tolerances" in capsys.readouterr().err


def shorter(init: Callable[..., None]) -> Callable[..., None]:
    """Return what makes an environment whose episodes last 20 steps."""

    def wrapped(self: Any, *arguments: Any) -> None:
        init(self, *arguments)
        env = self.gymnasium_env
        while not hasattr(env, "_max_episode_steps"):
            env = env.env
        env._max_episode_steps = 20

    return wrapped
