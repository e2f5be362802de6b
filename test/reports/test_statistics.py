"""Intervals and comparisons, against textbook numbers and their own definitions."""

import itertools
import math

import numpy as np
import pytest

from qgf_ros.reports.statistics import Z95, compare_paired, percentiles, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "lower", "upper"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, "Interval estimation for the single proportion", table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_matches_published_values(successes, trials, lower, upper):
    assert wilson_interval(successes, trials) == pytest.approx((lower, upper), abs=5e-5)


@pytest.mark.parametrize(("successes", "trials"), [(1, 3), (7, 50), (47, 50), (299, 300)])
def test_wilson_bounds_solve_the_score_equation(successes, trials):
    for p in wilson_interval(successes, trials):
        assert abs(p - successes / trials) == pytest.approx(Z95 * math.sqrt(p * (1 - p) / trials))


@pytest.mark.parametrize("trials", [1, 10, 1000])
def test_wilson_interval_is_exact_at_the_ends_and_symmetric(trials):
    low, high = wilson_interval(0, trials)
    assert low == 0.0 < high < 1.0
    mirrored = wilson_interval(trials, trials)
    assert mirrored[1] == 1.0
    assert mirrored[0] == pytest.approx(1.0 - high)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_interval_refuses_impossible_counts(successes, trials):
    with pytest.raises(ValueError, match="trials"):
        wilson_interval(successes, trials)


def test_wilson_interval_covers_the_true_rate_about_95_percent_of_the_time():
    n = 50
    for p in (0.1, 0.5, 0.9):
        mass = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        intervals = [wilson_interval(k, n) for k in range(n + 1)]
        covered = sum(m for m, (low, high) in zip(mass, intervals, strict=True) if low <= p <= high)
        assert 0.93 < covered < 0.98


def test_paired_comparison_counts_each_kind_of_pair():
    result = compare_paired([True, True, False, False, False], [True, False, True, True, False])
    assert (result.both, result.only_first, result.only_second, result.neither) == (1, 1, 2, 1)
    assert result.difference == pytest.approx(0.2)


def test_paired_p_value_is_the_share_of_coin_flips_as_uneven():
    result = compare_paired([False] * 6 + [True], [True] * 6 + [False])
    flips = [sum(flip) for flip in itertools.product((0, 1), repeat=7)]
    assert result.p_value == pytest.approx(sum(k <= 1 or k >= 6 for k in flips) / 2**7)
    assert compare_paired([True] * 4, [True] * 4).p_value == 1.0


@pytest.mark.parametrize(
    ("cells", "interval"),
    [
        ((36, 12, 2, 0), (0.0569, 0.3404)),  # Newcombe 1998, "Improved confidence intervals ... paired data", method 10
        ((0, 0, 0, 10), (-0.2775, 0.2775)),
    ],
)
def test_difference_interval_matches_published_values(cells, interval):
    both, gain, loss, neither = cells
    first = [True] * both + [False] * gain + [True] * loss + [False] * neither
    second = [True] * both + [True] * gain + [False] * loss + [False] * neither
    assert compare_paired(first, second).ci95 == pytest.approx(interval, abs=5e-5)


def test_difference_interval_is_antisymmetric_and_contains_the_difference():
    random = np.random.default_rng(0)
    first, second = random.random(40) < 0.3, random.random(40) < 0.7
    forth, back = compare_paired(first, second), compare_paired(second, first)
    assert forth.ci95[0] < forth.difference < forth.ci95[1]
    assert forth.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]))
    assert forth.p_value == back.p_value


def test_paired_comparison_refuses_different_lengths():
    with pytest.raises(ValueError, match="2 and 1 outcomes"):
        compare_paired([True, False], [True])


def test_percentiles_interpolate_and_ignore_what_is_not_finite():
    assert percentiles([1.0, math.nan, 2.0, 3.0, math.inf], (0, 50, 75)) == (1.0, 2.0, 2.5)
    assert all(math.isnan(value) for value in percentiles([math.nan]))
