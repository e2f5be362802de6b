"""Every family the whole way: oracle data, training, bundle, evaluation, replay, and an episode over the bridge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="families need the sim extra")
pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main
from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.learning.data.dataset import load_dataset
from qgf_sim.bridge.recorded_world import RecordedWorld
from qgf_sim.worlds import environment, oracle_data
from qgf_sim.worlds.families import ENVIRONMENTS, action_fields, observation_fields


def qgf(*arguments: Any) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def make_bundle(name: str, data: Path, out: Path, *options: Any) -> Path:
    """Train for a moment, and export."""
    run = out.with_suffix(".run")
    qgf("train", "--dataset", data, "--env", name, "--smoke", "--threads", 1, "--out", run, *options)
    qgf("export", run, "--out", out)
    return out


def check_replay(name: str, data: Path) -> None:
    """The recording as a world: what a policy would observe is what was recorded."""
    recording, fields = load_dataset(data), observation_fields(name)
    world = RecordedWorld(recording, fields, action_fields())
    readings, assembler = world.start(1, 0), ObservationAssembler(fields, environment.CONTROL_PERIOD)
    for row in range(20):
        for topic, reading in readings.items():
            assembler.update(topic, row, reading)
        np.testing.assert_allclose(assembler.assemble(row).vector, recording.observations[row], atol=1e-5)
        readings = world.step(np.zeros(5)).readings


def lengths(report: Path) -> list[int]:
    (run,) = json.loads(report.read_text())["runs"]
    return list(run["outcomes"]["length"])


# The others are slow: of these, one has more cubes than any bundle that is shipped, one has buttons alone.
@pytest.mark.parametrize(("name", "options"), [("cube-triple", ["--tasks", 2]), ("puzzle-3x3", ["--goal-conditioned"])])
def test_short_episodes_of_a_family_become_a_bundle_that_acts(
    name: str, options: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, report = tmp_path / "play.npz", tmp_path / "report.json"
    oracle_data.generate(name, "play", 2, 0, data, workers=1, steps=40)
    bundle = make_bundle(name, data, tmp_path / "mine", "--horizon", 5, *options)
    make = environment._make
    monkeypatch.setattr(environment, "_make", lambda gymnasium_id: make(gymnasium_id, max_episode_steps=12))
    evaluation = ("--task", 2, "--episodes", 2, "--guidance-weights", "0.1", "--workers", 1)
    qgf("evaluate", bundle, *evaluation, "--json", report)
    assert lengths(report) == [12, 12]
    check_replay(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_family_goes_the_whole_way(name: str, tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="needs the ros extra or a ROS 2 installation")
    data, report = tmp_path / "play.npz", tmp_path / "report.json"
    qgf("generate", name, "--episodes", 2, "--out", data)
    check_replay(name, data)
    bundle = make_bundle(name, data, tmp_path / "mine", "--tasks", "1,3", "--horizon", 5)
    assert list(load_manifest(bundle).critics) == ["task1", "task3"]
    once = ("--task", 3, "--guidance-weights", "0.1", "--json", report, "--force")
    qgf("evaluate", bundle, *once, "--episodes", 2)
    assert len(lengths(report)) == 2
    qgf("demo", "--bundle", bundle, *once, "--episodes", 1)
    assert len(lengths(report)) == 1
    goal_bundle = make_bundle(name, data, tmp_path / "goals", "--goal-conditioned")
    assert list(load_manifest(goal_bundle).critics) == ["goal"]
    qgf("evaluate", goal_bundle, *once, "--episodes", 2)
    assert len(lengths(report)) == 2
