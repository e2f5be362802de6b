"""How sure one may be of a success rate, of a difference between two, and of many tasks and training seeds together.

Of many tasks, the definitions are those of Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical
Precipice (2021), and of their library rliable: a score is that of one training seed on one task, tasks are the strata.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: Of scores [..., N, K] of N training seeds on K tasks, a number for each of the leading axes.
Statistic = Callable[[Array], Array]

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


def mean_score(scores: Array) -> Array:
    """Return the mean over training seeds and tasks of scores [..., N, K]."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def interquartile_mean(scores: Array) -> Array:
    """Return the mean of the middle half of all scores [..., N, K]; of n, floor(n / 4) fall away at either end."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def probability_of_improvement(first: Array, second: Array) -> Array:
    """Return the chance that a training seed of the second is better than one of the first on a task drawn at random.

    Args:
        first, second: Scores [..., N, K] and [..., M, K] on the same tasks; equal ones count a half.
    """
    ahead = second[..., :, None, :] - first[..., None, :, :]
    return np.asarray(((ahead > 0.0) + 0.5 * (ahead == 0.0)).mean(axis=(-3, -2, -1)))


@dataclass(frozen=True)
class BootstrapEstimate:
    """A statistic of scores.

    Attributes:
        value: Of the scores themselves.
        interval: Between the percentiles of its bootstrap replicates.
    """

    value: float
    interval: tuple[float, float]


def bootstrap(
    methods: Sequence[Array],
    statistic: Callable[..., Array],
    *,
    paired: bool = False,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> BootstrapEstimate:
    """Return a statistic of the scores of one or more methods with its stratified bootstrap interval.

    In every replicate each task draws as many training seeds as it has, with replacement, and each of them as many of its
    episodes; so both count. With one training seed, the interval says nothing of others.

    Args:
        methods: Of each method the outcomes of episodes [N, K, E], in training seeds, tasks and episodes; an episode of
            success is 1. With E = 1 they are scores, and the interval is rliable's.
        statistic: Of the scores [..., N, K] of each method.
        paired: Whether the same draws count for all methods, whose outcomes then belong together one by one.
        confidence: Share of the replicates between the bounds.
        replicates: How many there are.
        seed: Of the draws.

    Raises:
        ValueError: There are no outcomes, or paired ones are of different shapes.
    """
    values = statistic(*resampled_scores(methods, paired=paired, replicates=replicates, seed=seed))
    scores = [np.asarray(outcomes, dtype=np.float64).mean(axis=-1) for outcomes in methods]
    return estimate(float(statistic(*scores)), values, confidence)


def resampled_scores(
    methods: Sequence[Array], *, paired: bool = False, replicates: int = 2000, seed: int = 0
) -> list[Array]:
    """Return the scores [R, N, K] of each method in the replicates of `bootstrap`, for several statistics of the same ones.

    Raises:
        ValueError: As for `bootstrap`.
    """
    shapes = {np.shape(outcomes) for outcomes in methods}
    if not methods or any(len(shape) != 3 or 0 in shape for shape in shapes) or (paired and len(shapes) > 1):
        raise ValueError(
            f"outcomes of the shapes {sorted(shapes)} were given; expected [N, K, E], equal ones if paired"
        )
    random = np.random.default_rng(seed)
    arrays = [np.asarray(outcomes, dtype=np.float64) for outcomes in methods]
    if paired:
        return list(_resampled(np.stack(arrays), replicates, random))
    return [_resampled(outcomes[None], replicates, random)[0] for outcomes in arrays]


def _resampled(outcomes: Array, replicates: int, random: np.random.Generator) -> Array:
    """Return scores [M, R, N, K] of outcomes [M, N, K, E], the same draws for all M."""
    count, seeds, tasks, episodes = outcomes.shape
    rows, columns = random.integers(seeds, size=(replicates, seeds, tasks)), np.arange(tasks)
    if not np.isin(outcomes, (0.0, 1.0)).all():
        chosen = random.integers(episodes, size=(replicates, seeds, tasks, episodes))
        return np.asarray(outcomes[:, rows[..., None], columns[:, None], chosen].mean(axis=-1))
    # Of successes and failures only the number drawn of each pattern counts: as likely as one by one, and much faster.
    patterns = (outcomes * (2 ** np.arange(count))[:, None, None, None]).sum(axis=0)
    shares = (patterns[..., None] == np.arange(2**count)).mean(axis=-2)
    drawn = random.multinomial(episodes, shares[rows, columns]) / episodes
    successful = (np.arange(2**count) >> np.arange(count)[:, None]) & 1
    return np.asarray(np.moveaxis(drawn @ successful.T, -1, 0))


def estimate(value: float, replicates: Array, confidence: float = 0.95) -> BootstrapEstimate:
    """Return a statistic with the interval between the percentiles of its replicates [R]."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(replicates, [tail, 1.0 - tail])
    return BootstrapEstimate(value, (float(low), float(high)))


def bootstrap_p_value(replicates: Array) -> float:
    """Return the two-sided p-value of "the statistic is 0" that belongs to the percentile interval of its replicates [R].

    Twice the smaller share of replicates on either side of 0, itself on both; never below 2 / (R + 1), since no more was
    looked at (Davison and Hinkley 1997, section 4.2).
    """
    beyond = min(int((replicates <= 0.0).sum()), int((replicates >= 0.0).sum()))
    return min(1.0, 2.0 * (beyond + 1) / (len(replicates) + 1))


def difference_of(statistic: Statistic) -> Callable[[Array, Array], Array]:
    """Return the statistic of the second method minus that of the first."""
    return lambda first, second: statistic(second) - statistic(first)


def equivalent(difference: BootstrapEstimate, margin: float) -> bool:
    """Return whether a difference is known to be smaller than a margin either way: its whole interval lies within.

    With an interval of 90 % that is the two one-sided tests at 5 % (Schuirmann 1987), with one of 95 % at 2.5 %. An interval
    that holds 0 and is wider shows no equivalence, only that nothing was shown.

    Raises:
        ValueError: The margin is not positive.
    """
    if not margin > 0.0:
        raise ValueError(f"margin {margin} was given; expected a positive one")
    return -margin < difference.interval[0] and difference.interval[1] < margin


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values corrected for how many there are (Holm 1979), in the order given.

    One that stays below 0.05 is significant with at most a 5 % chance that any of those without an effect is.

    Raises:
        ValueError: One is outside 0 to 1.
    """
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError(f"p-values {list(p_values)} were given; expected numbers from 0 to 1")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return tuple(corrected)


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
