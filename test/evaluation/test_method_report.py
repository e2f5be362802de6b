"""What is claimed of compared methods: against counts by hand, closed forms, and formulas written down a second time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.evaluation.method_cells import Cells, outcomes_of
from qgf_ros.evaluation.method_report import MARGIN, report
from qgf_ros.reports.statistics import bootstrap_p_value, compare_paired, holm, wilson_interval


def record(
    method: str,
    outcomes: Iterable[Any],
    *,
    family: str = "cube",
    seed: int = 0,
    task: int = 1,
    early: Sequence[Any] = (),
) -> dict[str, Any]:
    """Return the record of one method, training seed and task; `early` has the outcomes of each earlier choice."""
    rungs = [
        {"choosing_episodes": 8 * 2**rung, "episodes_spent": 48, "weight": 0.3 if one else 0.1, "success": one}
        for rung, one in enumerate(early)
    ]
    return {
        "family": family,
        "training_seed": seed,
        "fingerprint": f"{family}{seed}",
        "task": task,
        "method": method,
        "weight": 0.1,
        "early": rungs,
        "reporting": {"mean_length": 50.0 * task, "outcomes": {"success": [bool(one) for one in outcomes]}},
    }


def ones(count: int, of: int) -> list[bool]:
    return [True] * count + [False] * (of - count)


def rows(numbers: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in numbers["methods"]}


def grid(method: str, counts: dict[tuple[str, int, int], int], of: int = 20) -> list[dict[str, Any]]:
    """Return a record for each family, training seed and task, with so many successes."""
    return [
        record(method, ones(count, of), family=family, seed=seed, task=task)
        for (family, seed, task), count in counts.items()
    ]


def test_a_mean_and_an_interquartile_mean_are_those_of_scores() -> None:
    counts = {("cube", seed, task): 2 * seed + task for seed in range(2) for task in range(1, 5)}
    found = rows(report(grid("qgf", counts), reference="qgf")["overall"])["qgf"]
    scores = sorted(count / 20 for count in counts.values())  # 1 2 3 3 4 4 5 6 of 20
    assert found["success_rate"] == pytest.approx(sum(scores) / 8)
    assert found["iqm"]["value"] == pytest.approx((3 + 3 + 4 + 4) / 4 / 20)
    assert (found["successes"], found["episodes"]) == (28, 160)
    assert tuple(found["wilson95"]) == wilson_interval(28, 160)
    assert found["training_seeds"] == {"cube": [0, 1]}
    assert [(task["task"], task["successes"], task["episodes"]) for task in found["tasks"]] == [
        (task, 2 * task + 2, 40) for task in range(1, 5)
    ]
    assert tuple(found["tasks"][0]["ci95"]) == wilson_interval(4, 40)
    assert found["mean_length"] == pytest.approx(125.0)
    assert found["versus"] is found["probability_of_improvement"] is None


def test_the_interval_of_one_training_seed_is_that_of_its_episodes() -> None:
    """A mean of K rates of E episodes each: variance sum p (1 - p) / (K^2 E), as the replicates have it."""
    counts = {("cube", 0, task): count for task, count in ((1, 50), (2, 100), (3, 150))}
    (row,) = report(grid("qgf", counts, of=200), reference="qgf", replicates=4000)["overall"]["methods"]
    deviation = math.sqrt(sum(p * (1 - p) for p in (0.25, 0.5, 0.75)) / (9 * 200))
    low, high = row["ci95"]
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.06)
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.01)


def test_a_difference_is_paired_and_the_larger_p_value_counts() -> None:
    first, second = ones(8, 10), ones(3, 10)
    records = [record("qgf", first), record("noisy", second), record("bptt", second)]
    found = rows(report(records, reference="qgf")["overall"])["noisy"]["versus"]
    by_hand = compare_paired(first, second)
    assert found["difference"] == by_hand.difference == pytest.approx(-0.5)
    assert found["p_mcnemar"] == pytest.approx(2 / 2**5)  # five seeds that QGF alone solved
    assert found["newcombe95"] == by_hand.ci95
    assert found["pairs"] == 10
    assert found["p_value"] == max(found["p_mcnemar"], found["p_bootstrap"]) == found["p_mcnemar"]
    assert found["p_holm"] == pytest.approx(2 * found["p_mcnemar"])  # two methods
    assert found["verdict"] == "undecided"


def test_the_difference_of_scores_has_the_spread_of_paired_episodes() -> None:
    """Of pairs that differ by d each, the mean has the deviation sqrt(var(d) / n)."""
    random = np.random.default_rng(3)
    first = random.random(400) < 0.6
    second = first ^ (random.random(400) < 0.1)
    records = [record("qgf", first), record("noisy", second)]
    versus = rows(report(records, reference="qgf", replicates=4000)["overall"])["noisy"]["versus"]
    differences = second.astype(float) - first
    deviation = differences.std() / math.sqrt(400)
    assert versus["ci95"][1] - versus["ci95"][0] == pytest.approx(2 * 1.96 * deviation, rel=0.06)


@pytest.mark.parametrize(
    ("solved", "of", "verdict"),
    [
        (100, 200, "better"),
        (10, 200, "worse"),
        (42, 200, "undecided"),
    ],
)
def test_a_method_is_better_or_worse_where_the_corrected_p_value_says_so(solved: int, of: int, verdict: str) -> None:
    """The reference solves the first 47 of 200 episodes; with 42 of them five tell the two apart, which is too few."""
    records = [record("qgf", ones(47, of)), record("noisy", ones(solved, of))]
    versus = rows(report(records, reference="qgf")["overall"])["noisy"]["versus"]
    assert versus["verdict"] == verdict
    assert versus["p_holm"] == versus["p_value"]  # a single method


def test_equivalence_wants_many_episodes_and_both_intervals() -> None:
    def verdict(of: int, apart: int) -> str:
        first, second = [True] * of, [index >= apart for index in range(of)]
        found: str = rows(report([record("qgf", first), record("noisy", second)], reference="qgf")["overall"])["noisy"][
            "versus"
        ]["verdict"]
        return found

    assert verdict(1000, 2) == "equivalent within ±5 points"
    # Where all episodes end alike the replicates do, too; Newcombe's interval knows that twenty prove nothing.
    assert verdict(20, 0) == "undecided"
    assert verdict(1000, 0) == "equivalent within ±5 points"
    assert MARGIN == 0.05


def test_a_small_difference_that_is_certain_is_called_one() -> None:
    first, second = [True] * 1000, [index >= 20 for index in range(1000)]
    versus = rows(report([record("qgf", first), record("noisy", second)], reference="qgf")["overall"])["noisy"][
        "versus"
    ]
    assert versus["difference"] == pytest.approx(-0.02)
    assert versus["verdict"] == "worse"


def test_p_values_are_corrected_over_the_methods_of_a_part() -> None:
    names = ["qgf", "bc", "noisy", "bptt", "grad_step"]
    records = [record(name, ones(40 - 6 * place, 60)) for place, name in enumerate(names)]
    found = [row["versus"] for row in report(records, reference="qgf")["overall"]["methods"] if row["versus"]]
    assert [versus["p_holm"] for versus in found] == list(holm([versus["p_value"] for versus in found]))


def test_the_probability_of_improvement_counts_training_seeds_task_by_task() -> None:
    """QGF 12 and 8 of 20 against 10 and 8: pairs (12, 10), (12, 8), (8, 10), (8, 8) give 1 + 1 + 0 + 1/2 of 4."""
    records = [
        *grid("qgf", {("cube", 0, 1): 12, ("cube", 1, 1): 8}),
        *grid("noisy", {("cube", 0, 1): 10, ("cube", 1, 1): 8}),
    ]
    found = rows(report(records, reference="qgf")["overall"])["noisy"]["probability_of_improvement"]
    assert found["of"] == "qgf"
    assert found["value"] == pytest.approx(2.5 / 4)
    assert 0.0 <= found["ci95"][0] <= 2.5 / 4 <= found["ci95"][1] <= 1.0


def test_a_method_of_one_training_seed_meets_the_reference_on_that_one() -> None:
    records = [
        *grid("qgf", {("cube", 0, 1): 10, ("cube", 1, 1): 20}),
        *grid("bptt", {("cube", 0, 1): 12}),
    ]
    found = rows(report(records, reference="qgf")["overall"])
    assert found["bptt"]["versus"]["difference"] == pytest.approx(0.1)
    assert found["bptt"]["versus"]["training_seeds"] == {"cube": [0]}
    assert found["qgf"]["success_rate"] == pytest.approx(0.75)


def test_all_families_together_have_equal_training_seeds_and_every_task_counts_the_same() -> None:
    records = [
        *grid("qgf", {("cube", seed, task): 10 for seed in (0, 1, 5) for task in (1, 2, 3)}),
        *grid("qgf", {("scene", seed, 1): 20 for seed in (3, 4)}),
    ]
    numbers = report(records, reference="qgf")
    together = rows(numbers["overall"])["qgf"]
    assert together["training_seeds"] == {"cube": [0, 1], "scene": [3, 4]}
    assert together["success_rate"] == pytest.approx((3 * 0.5 + 1.0) / 4)
    assert [part["family"] for part in numbers["families"]] == ["cube", "scene"]
    assert rows(numbers["families"][0])["qgf"]["training_seeds"] == {"cube": [0, 1, 5]}


def test_a_method_that_lacks_a_family_is_not_among_all_together() -> None:
    records = [*grid("qgf", {("cube", 0, 1): 10, ("scene", 0, 1): 10}), *grid("noisy", {("cube", 0, 1): 10})]
    numbers = report(records, reference="qgf")
    assert list(rows(numbers["overall"])) == ["qgf"]
    assert list(rows(numbers["families"][0])) == ["qgf", "noisy"]


def test_methods_are_compared_on_the_tasks_that_both_have_run() -> None:
    records = [*grid("qgf", {("cube", 0, 1): 10, ("cube", 0, 2): 20}), *grid("noisy", {("cube", 0, 2): 5})]
    versus = rows(report(records, reference="qgf")["overall"])["noisy"]["versus"]
    assert versus["difference"] == pytest.approx(-0.75)
    only = [*grid("qgf", {("cube", 0, 1): 10}), *grid("noisy", {("cube", 0, 2): 5})]
    assert rows(report(only, reference="qgf")["overall"])["noisy"]["versus"] is None


def test_fewer_choosing_episodes_are_compared_with_all_of_them_and_with_bc() -> None:
    records = [
        record("bc", ones(1, 10)),
        record("qgf", ones(9, 10), early=[ones(6, 10), None]),
        record("bc", ones(3, 10), task=2),
        record("qgf", ones(7, 10), task=2, early=[None, None]),
    ]
    found = rows(report(records, reference="qgf")["overall"])["qgf"]["fewer"]
    assert [line["choosing_episodes"] for line in found] == [8, 16]
    assert found[0]["success_rate"] == pytest.approx(0.65)
    assert found[0]["episodes"] == 20
    assert found[0]["versus_final"]["value"] == pytest.approx(-0.15)
    assert found[0]["gain_over_bc"]["value"] == pytest.approx(0.45)
    assert found[1]["versus_final"] == {"value": 0.0, "ci95": (0.0, 0.0)}
    assert found[1]["success_rate"] == pytest.approx(0.8)
    assert rows(report(records, reference="qgf")["overall"])["bc"]["fewer"] == []


def test_an_earlier_choice_that_nobody_reported_is_left_out() -> None:
    one = record("qgf", ones(9, 10), early=[None, None])
    one["early"][0]["weight"] = 0.3  # another one than the final choice
    (line,) = rows(report([one], reference="qgf")["overall"])["qgf"]["fewer"]
    assert line["choosing_episodes"] == 16
    assert line["gain_over_bc"] is None


def test_costs_are_means_over_bundles() -> None:
    cost = {"family": "cube", "method": "qgf", "gflops": 1.0, "time_ms": {"p50": 2.0}}
    costs = [cost, {**cost, "gflops": 3.0, "time_ms": None}, {**cost, "family": "scene", "gflops": 8.0}]
    records = grid("qgf", {("cube", 0, 1): 10, ("scene", 0, 1): 10})
    numbers = report(records, costs, reference="qgf")
    assert rows(numbers["families"][0])["qgf"]["cost"] == {"gflops": 2.0, "time_ms": 2.0, "bundles": 2}
    assert rows(numbers["overall"])["qgf"]["cost"]["gflops"] == pytest.approx(4.0)
    assert rows(report(records, reference="qgf")["overall"])["qgf"]["cost"] is None


def test_nothing_is_reported_of_nothing() -> None:
    assert report([], reference="qgf")["families"] == []
    assert report([], reference="qgf")["overall"] == {"methods": []}


def test_the_same_records_give_the_same_numbers_in_any_order() -> None:
    random = np.random.default_rng(0)
    records = [
        record(name, random.random(20) < 0.5, seed=seed, task=task)
        for name in ("qgf", "bc")
        for seed in range(2)
        for task in range(3)
    ]
    assert report(records, reference="qgf") == report(records, reference="qgf")
    mixed = [records[0], records[6], *records[1:6], *records[7:]]
    assert report(mixed, reference="qgf")["overall"] == report(records, reference="qgf")["overall"]


@examples(30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 4))
def test_every_rate_lies_in_its_intervals(seed: int, seeds: int, tasks: int) -> None:
    random = np.random.default_rng(seed)
    records = [
        record(name, random.random(12) < random.random(), seed=one, task=task)
        for name in ("qgf", "noisy")
        for one in range(seeds)
        for task in range(tasks)
    ]
    for row in report(records, reference="qgf", replicates=200)["overall"]["methods"]:
        low, high = row["ci95"]
        assert 0.0 <= low <= row["success_rate"] + 1e-9
        assert row["success_rate"] - 1e-9 <= high <= 1.0
        assert row["episodes"] == 12 * seeds * tasks
        if row["versus"]:
            assert row["versus"]["verdict"].split()[0] in ("better", "worse", "equivalent", "undecided")
            assert row["versus"]["p_value"] <= row["versus"]["p_holm"] <= 1.0


def test_the_p_value_belongs_to_the_interval() -> None:
    """It is below 5 % where the interval of 95 % leaves 0 out, to the resolution of the replicates."""
    random = np.random.default_rng(5)
    for shift in np.linspace(-3.0, 3.0, 25):
        replicates = shift + random.standard_normal(4000)
        low, high = np.quantile(replicates, [0.025, 0.975])
        p = bootstrap_p_value(replicates)
        if low > 0.02 or high < -0.02:
            assert p < 0.051
        elif low < -0.02 and high > 0.02:
            assert p > 0.05
    assert bootstrap_p_value(np.zeros(100)) == 1.0
    assert bootstrap_p_value(np.ones(99)) == pytest.approx(2 / 100)


def test_cells_find_what_is_shared() -> None:
    places = {("a", 1, 1): 3, ("a", 1, 2): 4, ("a", 2, 2): 5, ("a", 3, 1): 6, ("a", 3, 2): 7}
    cells = Cells.of([*grid("qgf", places), *grid("bc", {("a", 2, 2): 6, ("a", 3, 1): 1})])
    assert cells.places("a", ["qgf"]) == ((1, 3), (1, 2))  # the second has not all tasks of the first yet
    assert cells.places("a", ["qgf", "bc"]) == ((2,), (2,))
    assert cells.shared(["a"], ["bptt"]) is None
    shared = cells.shared(["a"], ["qgf"])
    assert shared is not None
    outcomes = outcomes_of(shared)
    assert outcomes is not None
    assert outcomes.shape == (2, 2, 20)
    assert outcomes.sum(axis=-1).tolist() == [[3.0, 4.0], [6.0, 7.0]]
    assert outcomes_of(shared, lambda record: None) is None


def world(number: int, worse_by: float = 0.0) -> dict[str, Any]:
    """Return the report of four methods in a world where the last three are as good as QGF, or worse by as much."""
    random = np.random.default_rng(number)
    records = []
    for seed in range(3):
        for task, rate in enumerate((0.3, 0.6, 0.9)):
            rate = float(np.clip(rate + random.normal(0.0, 0.05), 0.06, 0.97))
            for name in ("qgf", "noisy", "bptt", "grad_step"):
                mine = rate - (worse_by if name != "qgf" else 0.0)
                records.append(record(name, random.random(60) < mine, seed=seed, task=task))
    return {
        row["method"]: row["versus"] for row in report(records, reference="qgf", replicates=400)["overall"]["methods"]
    }


@pytest.mark.slow
def test_what_makes_no_difference_is_seldom_said_to_make_one() -> None:
    """Holm promises 5 % for all methods together; of 200 worlds 10, and a few more by chance."""
    wrong = sum(
        any(versus and versus["verdict"] in ("better", "worse") for versus in world(number).values())
        for number in range(200)
    )
    assert wrong <= 18


@pytest.mark.slow
def test_what_makes_a_difference_of_the_margin_is_seldom_called_equivalent() -> None:
    wrong = sum(
        versus["verdict"].startswith("equivalent")
        for number in range(200)
        for versus in world(number, worse_by=MARGIN).values()
        if versus
    )
    assert wrong <= 0.05 * 600
