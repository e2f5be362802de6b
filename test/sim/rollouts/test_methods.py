"""The comparison of all methods: weights chosen apart from the report, seeds shared, nothing lost, nothing mixed up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ogbench", reason="closed-loop runs need the sim extra")

from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.results import Episode
from qgf_ros.guidance.names import METHODS as ESTIMATORS
from qgf_ros.reports.statistics import wilson_interval
from qgf_sim.rollouts import methods
from qgf_sim.rollouts.evaluate import EvaluationPlan
from qgf_sim.rollouts.methods import METHODS, MethodComparison, compare, methods_named, pool

BEST = {"bc": 0.0, "bfn4": 0.0, "qgf": 0.03, "grad_step": 0.1}


def scripted(plans: list[EvaluationPlan], fail_after: int = 10**9) -> Callable[..., dict[float, list[Episode]]]:
    """An evaluation in which the best weight of each estimator is known and seeds alternate in difficulty."""

    def run(plan: EvaluationPlan, progress: Callable[[Episode], None]) -> dict[float, list[Episode]]:
        if len(plans) >= fail_after:
            raise KeyboardInterrupt
        plans.append(plan)
        results: dict[float, list[Episode]] = {}
        for weight in plan.guidance_weights:
            easy = weight == BEST[plan.options.estimator]
            results[weight] = [
                Episode(
                    weight,
                    plan.options.seed + i,
                    easy or (plan.options.num_samples == 4 and i % 2 == 0),
                    100,
                    values=(-3.0, -5.0),
                )
                for i in range(plan.episodes)
            ]
            for episode in results[weight]:
                progress(episode)
        return results

    return run


@pytest.fixture
def comparison(tiny_bundle: Path) -> MethodComparison:
    chosen = methods_named("bc,bfn4,qgf,grad_step")
    return MethodComparison(tiny_bundle, (1, 2), chosen, choosing_episodes=5, episodes=10, origin={"command": "qgf …"})


def test_each_weight_is_chosen_on_other_seeds_than_it_is_reported_on(
    comparison: MethodComparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[EvaluationPlan] = []
    monkeypatch.setattr(methods, "evaluate", scripted(plans))
    counted: list[int] = []
    report = compare(comparison, tmp_path / "s.json", lambda method, task, count: counted.append(count))
    assert sum(counted) == 2 * sum(comparison.episodes_of(method) for method in comparison.methods)
    for record in report["records"]:
        best = BEST["qgf"] if record["method"] == "qgf" else BEST.get(record["method"], 0.0)
        assert record["weight"] == best
        assert record["mean_q"] == -4.0
        assert (record["reporting"]["first_seed"], record["reporting"]["last_seed"]) == (20_000, 20_009)
        assert [run["guidance_weight"] for run in record["choosing"]] == (
            record["weights"] if len(record["weights"]) > 1 else []
        )
        assert all((run["first_seed"], run["last_seed"]) == (10_000, 10_004) for run in record["choosing"])
    reporting = [plan for plan in plans if plan.options.seed == 20_000]
    assert len(reporting) == 8
    assert all(len(plan.guidance_weights) == 1 for plan in reporting)
    assert {(plan.options.estimator, plan.options.num_samples) for plan in plans} == {
        ("qgf", 1),
        ("qgf", 4),
        ("grad_step", 1),
    }
    assert json.loads((tmp_path / "s.json").read_text())["command"] == "qgf …"


def test_after_an_interruption_the_same_command_goes_on(
    comparison: MethodComparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.json"
    second: list[EvaluationPlan] = []
    whole: list[EvaluationPlan] = []
    monkeypatch.setattr(methods, "evaluate", scripted([], fail_after=3))
    with pytest.raises(KeyboardInterrupt):
        compare(comparison, path)
    kept = json.loads(path.read_text())["records"]
    assert [record["method"] for record in kept] == ["bc", "bfn4"]  # the third plan chose a weight that is lost
    monkeypatch.setattr(methods, "evaluate", scripted(second))
    report = compare(comparison, path)
    monkeypatch.setattr(methods, "evaluate", scripted(whole))
    assert report["records"] == compare(comparison, tmp_path / "other.json")["records"]
    assert len(second) == len(whole) - 2
    third: list[EvaluationPlan] = []
    monkeypatch.setattr(methods, "evaluate", scripted(third))
    more = replace(comparison, tasks=(1,), methods=methods_named("qgf"))
    assert len(compare(more, path)["records"]) == 8  # what else is in the table stays
    assert third == []


def test_a_table_of_other_settings_is_not_overwritten(
    comparison: MethodComparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.json"
    monkeypatch.setattr(methods, "evaluate", scripted([]))
    compare(comparison, path)
    before = path.read_bytes()
    with pytest.raises(SimulationError, match="of other settings; remove it or choose another --out"):
        compare(replace(comparison, episodes=11), path)
    assert path.read_bytes() == before
    path.write_text("[]")
    with pytest.raises(SimulationError, match="is not a table of this analysis"):
        compare(comparison, path)


def record(name: str, task: int, outcomes: list[bool]) -> dict[str, Any]:
    return {
        "method": name,
        "task": task,
        "weight": 0.1,
        "reporting": {
            "successes": sum(outcomes),
            "episodes": len(outcomes),
            "success_rate": sum(outcomes) / len(outcomes),
            "mean_length": 50.0 * task,
            "outcomes": {"success": outcomes},
        },
    }


def test_methods_are_pooled_over_tasks_and_compared_seed_by_seed() -> None:
    yes, no = [True], [False]
    rows = pool(
        [
            record("qgf", 1, yes * 8 + no * 2),
            record("noisy", 1, yes * 4 + no * 6),
            record("qgf", 2, yes * 10),
            record("noisy", 2, yes * 10),
            record("bptt", 3, yes * 10),
        ]
    )
    by_name = {row["method"]: row for row in rows}
    assert (by_name["noisy"]["successes"], by_name["noisy"]["episodes"], by_name["noisy"]["tasks"]) == (14, 20, [1, 2])
    assert by_name["noisy"]["ci95"] == wilson_interval(14, 20)
    assert by_name["noisy"]["rates"] == [0.4, 1.0]
    assert by_name["noisy"]["mean_length"] == 75.0
    versus = by_name["noisy"]["versus"]
    assert versus["difference"] == pytest.approx(-0.2)
    # Four seeds on which QGF alone succeeded, none the other way: two-sided exact McNemar, 2 / 2^4.
    assert versus["p_value"] == pytest.approx(0.125)
    assert by_name["qgf"]["versus"] is None
    assert by_name["bptt"]["versus"] is None  # no task in common


def test_every_estimator_and_best_of_n_is_compared() -> None:
    assert {method.estimator for method in METHODS.values()} == set(ESTIMATORS)
    assert {(m.num_samples, m.weights == (0.0,)) for m in METHODS.values()} == {
        (1, True),
        (4, True),
        (16, True),
        (1, False),
        (4, False),
    }
    assert all(0.0 not in method.weights for method in METHODS.values() if len(method.weights) > 1)


def test_methods_are_named_in_the_order_given_and_once() -> None:
    assert [method.name for method in methods_named("qgf, bc,qgf")] == ["qgf", "bc"]
    assert [method.name for method in methods_named("")] == list(METHODS)
    with pytest.raises(SimulationError, match="method 'best' was given; expected some of bc, bfn4"):
        methods_named("bc,best")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": (9,)}, "no critic for task 9"),
        ({"tasks": ()}, "no task was given"),
        ({"episodes": 0}, "episodes 0"),
        ({"seed": 10_004}, "overlap"),
        ({"workers": 0}, "workers 0"),
    ],
)
def test_an_impossible_comparison_is_refused_before_anything_runs(
    comparison: MethodComparison, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SimulationError, match=message):
        compare(replace(comparison, **change), tmp_path / "s.json")
    assert list(tmp_path.iterdir()) == []


def test_methods_share_seeds_and_noise_in_real_episodes(tiny_bundle: Path, tmp_path: Path) -> None:
    """At weight 0 and N = 1 every method is plain BC, episode by episode."""
    chosen = (METHODS["bc"], replace(METHODS["bptt"], weights=(0.0,)))
    comparison = MethodComparison(tiny_bundle, (1,), chosen, choosing_episodes=1, episodes=1)
    report = compare(comparison, tmp_path / "s.json")
    first, second = (record["reporting"]["outcomes"] for record in report["records"])
    assert first == second
    assert first["seed"] == [20_000]
