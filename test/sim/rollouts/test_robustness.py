"""Success under domain shift: the same seeds at every level and weight, and the report of `qgf evaluate --shift`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="evaluation needs the sim extra")

from rich.console import Console

from qgf_ros.cli import main
from qgf_ros.commands.show.shifts import decay_table
from qgf_ros.control.run_options import RunOptions
from qgf_ros.evaluation.results import Episode
from qgf_ros.reports.statistics import compare_paired, wilson_interval
from qgf_sim.rollouts.robustness import level_record, levels
from qgf_sim.rollouts.rollout import run_batch
from qgf_sim.worlds.shift import NONE, Shift
from qgf_sim.worlds.shifted_environment import ShiftedEnvironment

SETTINGS = RunOptions(0.1, "task2", execution_horizon=2, seed=11)


def run(policy, env, shift):
    env.shift = shift
    (episode,) = run_batch(policy, [env], SETTINGS, [11], record=True)
    return episode


def test_levels_begin_with_no_shift_and_name_each_once() -> None:
    assert levels("action_delay=0,1,2") == (NONE, Shift(action_delay=1), Shift(action_delay=2))
    assert levels("mass_factor=1") == (NONE,)


@pytest.mark.usefixtures("short")
def test_a_step_without_an_observation_is_stood_through_and_its_action_is_skipped(tiny_policy) -> None:
    env = ShiftedEnvironment("cube-single", 2)
    whole = run(tiny_policy, env, NONE)
    shift = Shift(observation_dropout=0.15)
    holed = run(tiny_policy, env, shift)
    again = run(tiny_policy, env, shift)
    assert np.array_equal(holed.commands, again.commands)
    still = (holed.commands == 0.0).all(axis=1)
    assert holed.waited == still.sum() > 0
    assert whole.waited == 0
    first = int(np.argmax(still))
    assert first > 0
    assert np.array_equal(holed.commands[:first], whole.commands[:first])
    env.close()


def test_a_record_has_rates_with_intervals_and_paired_differences_to_the_first_weight() -> None:
    plain, guided = [False, True, False, False], [True, True, True, False]
    results = {
        weight: [Episode(weight, seed, success, 10) for seed, success in enumerate(outcomes)]
        for weight, outcomes in ((0.0, plain), (0.1, guided))
    }
    record = json.loads(json.dumps(level_record(Shift(mass_factor=2.0), 1, results)))
    assert record["shift"] == {"mass_factor": 2.0}
    assert [run["success_rate"] for run in record["runs"]] == [0.25, 0.75]
    assert record["runs"][1]["ci95"] == pytest.approx(list(wilson_interval(3, 4)))
    (comparison,) = record["comparisons"]
    paired = compare_paired(plain, guided)
    assert (comparison["guidance_weight"], comparison["against"], comparison["difference"]) == (0.1, 0.0, 0.5)
    assert comparison["ci95"] == pytest.approx(list(paired.ci95))
    assert comparison["p_value"] == pytest.approx(paired.p_value)


def test_the_table_says_everything_on_80_columns() -> None:
    results = {
        weight: [Episode(weight, seed, seed % 10 < tenths, 200) for seed in range(200)]
        for weight, tenths in ((0.0, 0), (0.035, 9))
    }
    record = level_record(Shift(observation_dropout=0.05, friction_factor=0.5), 1, results)
    record["comparisons"][0] |= {"ci95": [0.84, 0.93], "p_value": 0.0009}
    console = Console(width=80)
    with console.capture() as capture:
        console.print(decay_table([record], "tiny, task 1"))
    lines = [" ".join(line.split()) for line in capture.get().splitlines()]
    assert lines[0] == "tiny, task 1"
    assert "observation_dropout 0.05" in lines and "friction_factor 0.5" in lines
    assert "weight 0 0/200 0 [0, 2] 200" in lines
    assert "weight 0.035 180/200 90 [85, 93] 200 +90 [+84, +93] <.001" in lines


@pytest.mark.usefixtures("short")
def test_evaluate_reports_every_level_beside_no_shift(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    shift = "action_delay=1,2,observation_noise=0.01"
    arguments = [
        "evaluate",
        str(tiny_bundle),
        "--task",
        "2",
        "--episodes",
        "2",
        "--workers",
        "1",
        "--shift",
        shift,
        "--json",
        str(out),
    ]
    assert main(arguments) == 0
    report = json.loads(out.read_text())
    assert [level["shift"] for level in report["levels"]] == [
        {},
        {"observation_noise": 0.01, "action_delay": 1},
        {"observation_noise": 0.01, "action_delay": 2},
    ]
    for level in report["levels"]:
        assert [run["outcomes"]["seed"] for run in level["runs"]] == [[0, 1], [0, 1]]
        assert [comparison["guidance_weight"] for comparison in level["comparisons"]] == [0.1]


def test_a_shift_that_is_none_is_refused_before_anything_runs(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tiny_bundle), "--shift", "gravity=2"]) == 2
    assert "with a name of observation_noise" in capsys.readouterr().err


def test_a_plan_of_another_shift_is_another_plan() -> None:
    from qgf_sim.rollouts.evaluate import EvaluationPlan

    plan = EvaluationPlan(Path("models/cube-single"), 2, (0.0,), 1)
    assert plan.shift == NONE
    assert replace(plan, shift=Shift(mass_factor=2.0)) != plan
