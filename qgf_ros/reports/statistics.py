"""How sure one may be of a success rate, and of a difference between two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Two-sided 95 % quantile of the standard normal distribution.
Z95 = 1.959963984540054


def wilson_interval(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate (Wilson 1927).

    The interval solves (p - s/n)^2 = z^2 p (1 - p) / n for p, so it stays inside [0, 1] and is honest at 0 and n.

    Args:
        successes: Number of successes s, in 0 .. trials.
        trials: Number of independent trials n, at least 1.
        z: Normal quantile of the confidence; the default gives 95 %.

    Returns:
        Lower and upper bound.

    Raises:
        ValueError: The counts are impossible.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials were given; expected 0 to n of n >= 1")
    rate = successes / trials
    scale = 1.0 + z * z / trials
    centre = (rate + z * z / (2.0 * trials)) / scale
    half = z / scale * math.sqrt(rate * (1.0 - rate) / trials + z * z / (4.0 * trials * trials))
    # At the ends the bound is 0 or 1 exactly; rounding must not say otherwise.
    lower = 0.0 if successes == 0 else centre - half
    upper = 1.0 if successes == trials else centre + half
    return lower, upper


@dataclass(frozen=True)
class PairedComparison:
    """Two policies on the same seeds.

    Attributes:
        both, neither: Seeds on which both or neither succeeded.
        only_first, only_second: Seeds on which one alone succeeded; only these tell the two apart.
        difference: Success rate of the second minus that of the first.
        ci95: 95 % interval of the difference (Newcombe 1998, method 10).
        p_value: Two-sided exact McNemar test of "no difference".
    """

    both: int
    neither: int
    only_first: int
    only_second: int
    difference: float
    ci95: tuple[float, float]
    p_value: float


def compare_paired(first: Sequence[bool], second: Sequence[bool]) -> PairedComparison:
    """Compare the outcomes of two policies, seed by seed.

    Args:
        first, second: Successes; entry i of both belongs to the same seed.

    Raises:
        ValueError: Nothing was given, or the lengths differ.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} outcomes were given; expected as many, at least one")
    pairs = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
    both, neither = pairs.count((True, True)), pairs.count((False, False))
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    return PairedComparison(
        both,
        neither,
        only_first,
        only_second,
        (only_second - only_first) / len(pairs),
        _difference_interval(both, only_first, only_second, neither),
        _mcnemar(only_first, only_second),
    )


def _mcnemar(only_first: int, only_second: int) -> float:
    """Return the chance of discordant pairs at least as uneven as these, were each a fair coin."""
    total = only_first + only_second
    tail = sum(math.comb(total, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**total))


def _difference_interval(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """Return Newcombe's interval of the second rate minus the first, from the two Wilson intervals and phi."""
    n = both + only_first + only_second + neither
    wins1, wins2 = both + only_first, both + only_second
    (low1, high1), (low2, high2) = wilson_interval(wins1, n), wilson_interval(wins2, n)
    p1, p2 = wins1 / n, wins2 / n
    margins = wins1 * (n - wins1) * wins2 * (n - wins2)
    numerator = float(both * neither - only_first * only_second)
    if numerator > 0:  # continuity correction, which must not change the sign
        numerator = max(numerator - n / 2, 0.0)
    phi = numerator / math.sqrt(margins) if margins else 0.0
    down, up = p2 - low2, high1 - p1
    lower = math.sqrt(max(down * down - 2 * phi * down * up + up * up, 0.0))
    down, up = high2 - p2, p1 - low1
    upper = math.sqrt(max(down * down - 2 * phi * down * up + up * up, 0.0))
    return p2 - p1 - lower, p2 - p1 + upper


def percentiles(values: Sequence[float], ranks: Sequence[float] = (50.0, 99.0)) -> tuple[float, ...]:
    """Return percentiles of the finite values, by linear interpolation; nan where there are none.

    Args:
        values: Measurements; nan and infinity are left out.
        ranks: Percentiles wanted, in [0, 100].
    """
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    if not array.size:
        return tuple(math.nan for _ in ranks)
    return tuple(float(value) for value in np.percentile(array, list(ranks)))
