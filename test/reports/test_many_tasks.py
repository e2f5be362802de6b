"""Statistics over tasks and training seeds: closed forms, small examples by hand, and how often intervals are right."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.reports.statistics import (
    BootstrapEstimate,
    bootstrap,
    difference_of,
    equivalent,
    holm,
    interquartile_mean,
    mean_score,
    probability_of_improvement,
)


def scores(*rows: list[float]) -> Any:
    return np.array(rows, dtype=np.float64)


def test_mean_and_interquartile_mean_by_hand() -> None:
    table = scores([0.0, 1.0, 0.2, 0.5], [0.1, 0.9, 0.3, 0.6])  # 8 scores: 2 fall away at either end
    assert mean_score(table) == pytest.approx(3.6 / 8)
    assert interquartile_mean(table) == pytest.approx((0.2 + 0.3 + 0.5 + 0.6) / 4)
    odd = scores([5.0, 1.0, 2.0], [3.0, 100.0, 4.0])  # of 6 scores 1 falls away
    assert interquartile_mean(odd) == pytest.approx((2.0 + 3.0 + 4.0 + 5.0) / 4)
    assert interquartile_mean(scores([1.0, 2.0, 9.0])) == pytest.approx(4.0)  # of 3 none


def test_leading_axes_are_replicates() -> None:
    tables = np.random.default_rng(0).random((5, 3, 7))
    for statistic in (mean_score, interquartile_mean):
        assert statistic(tables) == pytest.approx([float(statistic(table)) for table in tables])


def test_probability_of_improvement_counts_pairs_task_by_task() -> None:
    first, second = scores([0.1, 0.5], [0.4, 0.5]), scores([0.3, 0.5], [0.6, 0.9], [0.0, 0.1])
    # task 1: (0.3, 0.6, 0.0) against (0.1, 0.4): 1 + 2 + 0 of 6; task 2: 2 ties, 2 wins, 2 losses of 6
    assert probability_of_improvement(first, second) == pytest.approx((3 / 6 + (2 + 2 * 0.5) / 6) / 2)
    assert probability_of_improvement(second, first) == pytest.approx(1.0 - 0.5)


@given(seed=st.integers(0, 2**32 - 1))
def test_either_is_better_or_they_are_equal(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.integers(0, 4, (3, 5)) / 3.0, random.integers(0, 4, (2, 5)) / 3.0
    there, back = probability_of_improvement(first, second), probability_of_improvement(second, first)
    assert there + back == pytest.approx(1.0)
    assert probability_of_improvement(first, first + 1.5) == 1.0


def test_the_bootstrap_draws_within_each_task() -> None:
    """Where the training seeds of a task agree, nothing varies, however much tasks differ."""
    same = np.broadcast_to(np.array([0.0, 1.0, 0.3])[:, None], (4, 3, 1))
    assert bootstrap([same], mean_score) == BootstrapEstimate(pytest.approx(1.3 / 3), (pytest.approx(1.3 / 3),) * 2)


def test_replicates_of_two_training_seeds_are_those_counted_by_hand() -> None:
    """One task, seeds 0 and 1: means 0, 1/2 and 1 with the chances 1/4, 1/2 and 1/4."""
    outcomes = np.array([[[0.0]], [[1.0]]])
    for confidence, expected in ((0.95, (0.0, 1.0)), (0.4, (0.5, 0.5))):
        found = bootstrap([outcomes], mean_score, confidence=confidence)
        assert (found.value, found.interval) == (0.5, expected)


def test_the_spread_is_that_of_seeds_and_episodes() -> None:
    """Of N seeds with rates p, each of E episodes: var = var(p) / N + mean(p (1 - p)) / (N E), as the replicates have it."""
    random, n, e = np.random.default_rng(1), 30, 50
    outcomes = (random.random((n, 1, e)) < random.uniform(0.2, 0.9, (n, 1, 1))).astype(float)
    p = outcomes.mean(axis=-1)
    deviation = math.sqrt(p.var() / n + (p * (1 - p)).mean() / (n * e))
    low, high = bootstrap([outcomes], mean_score, replicates=4000).interval
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.05)


def test_successes_are_drawn_as_any_other_outcomes() -> None:
    """Successes are drawn by how many there are; twice their size, they are drawn one by one."""
    random = np.random.default_rng(7)
    first = (random.random((3, 4, 20)) < random.uniform(0.1, 0.9, (3, 4, 1))).astype(float)
    second = np.where(random.random(first.shape) < 0.2, 1.0 - first, first)
    for statistic in (difference_of(mean_score), difference_of(interquartile_mean), probability_of_improvement):
        for paired in (True, False):
            once = bootstrap([first, second], statistic, paired=paired, replicates=10_000)
            twice = bootstrap([2.0 * first, 2.0 * second], statistic, paired=paired, replicates=10_000)
            # A probability comes in halves of 9 pairs on 4 tasks.
            scale, step = (1.0, 1 / 72) if statistic is probability_of_improvement else (2.0, 0.012)
            assert twice.value == pytest.approx(scale * once.value)
            assert twice.interval == pytest.approx([scale * bound for bound in once.interval], abs=step + 1e-9)


def test_a_paired_difference_knows_what_both_share() -> None:
    """The second solves what the first solves and one more episode in each cell: the difference is certain."""
    random = np.random.default_rng(2)
    first = (random.random((3, 4, 20)) < 0.5).astype(float)
    paired = bootstrap([first, first], difference_of(mean_score), paired=True)
    assert paired == BootstrapEstimate(0.0, (0.0, 0.0))
    apart = bootstrap([first, first], difference_of(mean_score))
    assert apart.interval[0] < -0.05
    assert apart.interval[1] > 0.05
    assert bootstrap([first, first], difference_of(mean_score), seed=3) != apart
    assert bootstrap([first, first], difference_of(mean_score)) == apart


def test_intervals_hold_the_true_mean_about_as_often_as_they_say() -> None:
    random, hits = np.random.default_rng(4), 0
    for repeat in range(200):
        rates = np.clip(random.normal([0.2, 0.5, 0.8], 0.05, (10, 3)), 0.0, 1.0)
        outcomes = (random.random((10, 3, 20)) < rates[..., None]).astype(float)
        low, high = bootstrap([outcomes], mean_score, replicates=200, seed=repeat).interval
        hits += low <= 0.5 <= high
    assert 0.9 < hits / 200 <= 1.0


@pytest.mark.parametrize(
    ("methods", "paired"), [([], False), ([np.zeros((3, 4))], False), ([np.zeros((0, 4, 1))], False)]
)
def test_outcomes_of_another_shape_are_refused(methods: list[Any], paired: bool) -> None:
    with pytest.raises(ValueError, match=r"expected \[N, K, E\]"):
        bootstrap(methods, mean_score, paired=paired)


def test_paired_outcomes_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="equal ones if paired"):
        bootstrap([np.zeros((3, 4, 5)), np.zeros((3, 4, 6))], difference_of(mean_score), paired=True)


@pytest.mark.parametrize(
    ("interval", "margin", "expected"),
    [
        ((-0.02, 0.03), 0.05, True),
        ((-0.02, 0.06), 0.05, False),
        ((-0.08, 0.01), 0.05, False),
        ((0.01, 0.03), 0.05, True),
    ],
)
def test_equivalence_wants_the_whole_interval_within_the_margin(
    interval: tuple[float, float], margin: float, expected: bool
) -> None:
    assert equivalent(BootstrapEstimate(0.0, interval), margin) is expected
    with pytest.raises(ValueError, match="margin 0"):
        equivalent(BootstrapEstimate(0.0, interval), 0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == (1.0, 1.0)
    assert holm([0.2]) == (0.2,)
    assert holm([]) == ()
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([0.5, math.nan])


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.049, 0.2, 1.0]), min_size=1, max_size=6))
def test_holm_rejects_as_the_step_down_procedure_does(p_values: list[float]) -> None:
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] * (len(p_values) - rank) > 0.05:
            break
        rejected[index] = True
    corrected = holm(p_values)
    assert [p <= 0.05 for p in corrected] == rejected
    assert all(after >= before for before, after in zip(p_values, corrected))
    for i, j in itertools.combinations(range(len(p_values)), 2):
        if p_values[i] <= p_values[j]:
            assert corrected[i] <= corrected[j]
