"""An evaluation beside its own environments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")
pytest.importorskip("ogbench", reason="the simulation needs the sim extra")

from qgf_ros.control.run_options import RunOptions
from qgf_ros.reports.numbers import write_json
from qgf_sim.benchmark import evaluation as evaluation_benchmark
from qgf_sim.rollouts.evaluate import EvaluationPlan, evaluate
from qgf_sim.worlds.environment import TaskEnvironment


def test_the_bare_environment_does_the_same_episodes(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last state of the physics is the same bits; a step more or less, or another command, would change it."""
    ends: list[np.ndarray] = []
    bare = evaluation_benchmark._step_bare

    def compare(env: TaskEnvironment, episode: object) -> None:
        ends.append(env.unwrapped.data.qpos.copy())
        bare(env, episode)  # type: ignore[arg-type]
        ends.append(env.unwrapped.data.qpos.copy())

    monkeypatch.setattr(evaluation_benchmark, "_step_bare", compare)
    plan = EvaluationPlan(tiny_bundle, 1, (0.1,), 2, RunOptions(seed=3), batch_size=1)
    numbers = evaluation_benchmark.measure(plan, 1, ())
    write_json(tmp_path / "evaluation.json", numbers)
    under_the_policy, first, _, second = ends
    assert np.array_equal(second, under_the_policy)
    assert not np.array_equal(first, under_the_policy), "the episode before"
    (record,) = numbers["rounds"]
    assert record["episodes"] == 2
    assert numbers["policy_share"] == pytest.approx(record["seconds"] / record["bare_seconds"] - 1.0)
    episodes = evaluate(plan)[0.1]
    assert sum(episode.length for episode in episodes) == record["steps"]
