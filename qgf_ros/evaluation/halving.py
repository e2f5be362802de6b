"""Successive halving: which of several configurations succeeds most often, with few episodes for the bad ones.

Every configuration runs the same seeds (common random numbers), so that any two are compared episode by episode. After
each rung the worse half goes, and before that whatever the leader is better than with confidence; the rest runs twice
the episodes (Jamieson and Talwalkar 2016). When nobody but the leader remains, the search ends early.

Imports neither MuJoCo nor ROS: whoever can run episodes can be searched over.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.reports.statistics import compare_paired

#: Chance of dropping the best configuration because another seemed to be better with confidence; see `halve`.
ALPHA = 0.05
#: Episodes of the first rung, at least.
SMALLEST_RUNG = 8


@dataclass(frozen=True)
class Outcome:
    """How an episode ended.

    Attributes:
        seed: Of environment and noise; on a robot, which has no seeds, the number of the round.
        success: Whether the task was solved.
        length: Control steps.
        start_q: Q of the first action; every configuration decides it in the same state. None where no critic ran.
        distance: Farthest that guidance moved an action, largest component [normalised]; None where nobody looked.
    """

    seed: int
    success: bool
    length: int
    start_q: float | None = None
    distance: float | None = None


Outcomes = dict[RunOptions, list[Outcome]]
#: Outcomes of every configuration that was asked for, in the order of their seeds.
Found = Mapping[RunOptions, Sequence[Outcome]]
#: Runs every configuration on every seed of a range.
Run = Callable[[Sequence[RunOptions], range], Found]
Result = TypeVar("Result")
#: Work that says what it wants to be run next, is sent the outcomes, and returns something in the end.
Steps = Generator[tuple[Sequence[RunOptions], range], Found, Result]


@dataclass(frozen=True)
class Rung:
    """What a rung decided.

    Attributes:
        episodes: Episodes that each of its configurations has had by its end.
        leader: The best so far.
        separated: Dropped, because the leader is better with confidence.
        halved: Dropped with the worse half.
    """

    episodes: int
    leader: RunOptions
    separated: tuple[RunOptions, ...]
    halved: tuple[RunOptions, ...]


@dataclass(frozen=True)
class Search:
    """A finished search: the best configuration, every outcome and what each rung decided."""

    best: RunOptions
    outcomes: Outcomes
    rungs: tuple[Rung, ...]


def rung_sizes(episodes: int) -> tuple[int, ...]:
    """Return how many episodes a configuration has had by the end of each rung: `episodes`, halved while there are enough."""
    sizes = [episodes]
    while sizes[0] >= 2 * SMALLEST_RUNG:
        sizes.insert(0, (sizes[0] + 1) // 2)
    return tuple(sizes)


def most_episodes(configurations: int, sizes: Sequence[int]) -> int:
    """Return how many episodes a search takes at most: where nothing separates."""
    total = done = 0
    for size in sizes:
        total += configurations * (size - done)
        configurations, done = min(configurations, _half(configurations)), size
    return total


def _half(count: int) -> int:
    # Two are left to the last rung: which of them is better is not settled by having been halved.
    return max(2, (count + 1) // 2)


def halve(configurations: Sequence[RunOptions], seeds: range, run: Run) -> Search:
    """Search for the configuration of the highest success; see `halving`, which this carries out.

    Args:
        configurations: Each once, at least one.
        seeds: Those of a configuration that lasts to the end.
        run: Runs episodes.

    Raises:
        SimulationError: There is nothing to choose from.
    """
    return carry_out(halving(configurations, seeds), run)


def carry_out(steps: Steps[Result], run: Run) -> Result:
    """Run whatever some work asks for, one request after the other, and return what it returns."""
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(run(*wanted))
    except StopIteration as end:
        result: Result = end.value
        return result


def halving(configurations: Sequence[RunOptions], seeds: range) -> Steps[Search]:
    """Search for the configuration of the highest success, a request for episodes a rung.

    Two configurations are separated where the exact McNemar test on their common seeds gives p <= ALPHA / (number of
    configurations x number of rungs): however often it is asked, the best one is dropped for that reason with a
    probability of at most ALPHA. Halving itself promises nothing of the kind. It saves episodes, and what it chose is
    worth what other seeds say.

    Args:
        configurations: Each once, at least one.
        seeds: Those of a configuration that lasts to the end.

    Raises:
        SimulationError: There is nothing to choose from.
    """
    if not configurations or not len(seeds):
        raise SimulationError(
            f"{len(configurations)} configurations and {len(seeds)} episodes were given; expected some"
        )
    sizes = rung_sizes(len(seeds))
    level = ALPHA / (len(configurations) * len(sizes))
    outcomes: Outcomes = {configuration: [] for configuration in configurations}
    remaining = list(configurations)
    rungs: list[Rung] = []
    done = 0
    for size in sizes:
        for configuration, found in (yield remaining, seeds[done:size]).items():
            outcomes[configuration].extend(found)
        done = size
        ranking = sorted(remaining, key=lambda configuration: rank(configuration, outcomes[configuration]))
        leader, *others = ranking
        separated = [other for other in others if _separated(outcomes[leader], outcomes[other], level)]
        kept = [configuration for configuration in ranking if configuration not in separated]
        half = kept[_half(len(ranking)) :] if size < sizes[-1] else []
        rungs.append(Rung(size, leader, tuple(separated), tuple(half)))
        remaining = [configuration for configuration in kept if configuration not in half]
        if len(remaining) == 1:
            break
    return Search(remaining[0], outcomes, tuple(rungs))


def rank(configuration: RunOptions, outcomes: Sequence[Outcome]) -> tuple[float, float, float]:
    """Return what configurations are sorted by: high success first, then short episodes, then small weights."""
    successes = sum(outcome.success for outcome in outcomes)
    steps = sum(outcome.length for outcome in outcomes)
    return -successes / len(outcomes), steps / len(outcomes), configuration.guidance_weight


def _separated(leader: Sequence[Outcome], other: Sequence[Outcome], level: float) -> bool:
    paired = compare_paired([outcome.success for outcome in other], [outcome.success for outcome in leader])
    return paired.difference > 0.0 and paired.p_value <= level
