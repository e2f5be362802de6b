"""Successive halving against episodes whose success rates are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.control.run_options import BC, RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.halving import (
    ALPHA,
    Outcome,
    Run,
    Search,
    halve,
    most_episodes,
    rank,
    rung_sizes,
)

#: A ridge and a cliff, as measured on cube-single.
WEIGHTS = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)
RIDGE = (0.06, 0.2, 0.4, 0.82, 0.93, 0.91, 0.8, 0.72, 0.62, 0.4, 0.2)
CONFIGURATIONS = tuple(RunOptions(weight) for weight in WEIGHTS)


def bernoulli(rates: Sequence[float], world: int, shared: float = 0.5) -> Run:
    """Run episodes of known success rates; `shared` is the part of luck that all configurations of a seed share."""
    generator = np.random.default_rng(world)
    common = generator.random(100_000)

    def run(configurations: Sequence[RunOptions], seeds: range) -> Mapping[RunOptions, Sequence[Outcome]]:
        places = np.array(seeds) % len(common)
        found = {}
        for configuration in configurations:
            own = generator.random(len(places))
            # With probability `shared` the seed alone decides; either way a success has the probability that was asked for.
            luck = np.where(generator.random(len(places)) < shared, common[places], own)
            rate = rates[WEIGHTS.index(configuration.guidance_weight)]
            found[configuration] = [Outcome(seed, bool(u < rate), 100) for seed, u in zip(seeds, luck)]
        return found

    return run


def search(rates: Sequence[float], world: int, episodes: int = 64) -> Search:
    return halve(CONFIGURATIONS[: len(rates)], range(10_000, 10_000 + episodes), bernoulli(rates, world))


def weights(configurations: Sequence[RunOptions]) -> list[float]:
    return [configuration.guidance_weight for configuration in configurations]


@pytest.mark.parametrize(
    ("episodes", "sizes"), [(1, (1,)), (15, (15,)), (16, (8, 16)), (20, (10, 20)), (64, (8, 16, 32, 64))]
)
def test_rungs_double_up_to_the_number_that_was_asked_for(episodes: int, sizes: tuple[int, ...]) -> None:
    assert rung_sizes(episodes) == sizes


def test_the_worse_half_goes_after_every_rung_and_what_stays_keeps_its_seeds() -> None:
    found = search([0.5] * 11, world=0)
    assert [len(outcomes) for outcomes in found.outcomes.values()].count(8) == 5
    assert sorted({len(outcomes) for outcomes in found.outcomes.values()}) == [8, 16, 32, 64]
    for outcomes in found.outcomes.values():
        assert [outcome.seed for outcome in outcomes] == list(range(10_000, 10_000 + len(outcomes)))
    assert sum(len(outcomes) for outcomes in found.outcomes.values()) == most_episodes(11, rung_sizes(64)) == 248


def test_a_search_ends_as_soon_as_only_the_leader_is_left() -> None:
    found = search([0.0, 1.0, 0.0, 0.0], world=0)
    assert found.best == CONFIGURATIONS[1]
    # 8 discordant pairs give p = 2 / 2^8, above the level; 16 give 2 / 2^16, below it.
    assert [rung.episodes for rung in found.rungs] == [8, 16]
    assert weights(found.rungs[-1].separated) == [0.0]


def test_every_configuration_is_dropped_once_or_is_the_best() -> None:
    found = search(RIDGE, world=1)
    dropped = [name for rung in found.rungs for name in (*rung.separated, *rung.halved)]
    assert len(set(dropped)) == len(dropped)
    assert found.best not in dropped


def test_among_equals_the_faster_goes_first_and_then_the_smaller_weight() -> None:
    slow, fast = [Outcome(0, True, 120)], [Outcome(0, True, 80)]
    ranking = [(RunOptions(0.1), slow), (RunOptions(0.3), fast), (RunOptions(0.2), fast)]
    assert [pair[0].guidance_weight for pair in sorted(ranking, key=lambda pair: rank(*pair))] == [0.2, 0.3, 0.1]


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(SimulationError, match="0 configurations and 8 episodes were given"):
        halve([], range(8), bernoulli([], 0))


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=11), st.integers(1, 70), st.integers(0, 999))
def test_whatever_the_rates_the_best_was_run_to_the_end_or_alone(rates: list[float], episodes: int, world: int) -> None:
    found = search(rates, world, episodes)
    assert len(found.outcomes[found.best]) == found.rungs[-1].episodes
    assert found.rungs[-1].leader == found.best
    assert sum(map(len, found.outcomes.values())) <= most_episodes(len(rates), rung_sizes(episodes))


def share(condition: Callable[[int], bool], worlds: int = 300) -> float:
    return sum(condition(world) for world in range(worlds)) / worlds


def test_the_best_is_seldom_dropped_for_seeming_worse_with_confidence() -> None:
    def dropped(world: int) -> bool:
        return any(BC in rung.separated for rung in search([0.55, *[0.5] * 10], world).rungs)

    assert share(dropped) <= ALPHA


def test_what_is_chosen_is_nearly_as_good_as_the_best() -> None:
    regrets = [max(RIDGE) - RIDGE[WEIGHTS.index(search(RIDGE, world).best.guidance_weight)] for world in range(300)]
    assert np.mean([regret > 0.15 for regret in regrets]) < 0.02
    assert np.mean(regrets) < 0.03


def test_a_configuration_that_stands_out_ends_the_search_early() -> None:
    spent = [sum(map(len, search([*[0.05] * 10, 0.95], world).outcomes.values())) for world in range(50)]
    assert np.mean(spent) < 0.65 * most_episodes(11, rung_sizes(64))


def test_a_configuration_names_what_is_not_at_its_default() -> None:
    plain = RunOptions(0.04)
    other = RunOptions(0.04, num_samples=4, execution_horizon=2, estimator="noisy", weight_schedule="linear")
    assert plain.changed() == {}
    assert str(plain) == "weight 0.04"
    assert other.changed() == {
        "estimator": "noisy",
        "num_samples": 4,
        "execution_horizon": 2,
        "weight_schedule": "linear",
    }
    assert str(other) == "weight 0.04, num_samples 4, execution_horizon 2, estimator noisy, weight_schedule linear"
