"""Success over the weight: the cliff on curves that are known, variants on the same seeds, and no trial twice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from exploration import examples
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.guidance_variants import (
    VariantComparison,
    compared_variants,
    run_variants,
    tasks_shared,
)
from qgf_ros.evaluation.halving import Outcome
from qgf_ros.evaluation.trials import Trial
from qgf_ros.evaluation.tuning import Protocol
from qgf_ros.evaluation.weight_curves import cliff_of, variants_report

WEIGHTS = (0.1, 1.0, 10.0)


class Episodes:
    """Success falls off at weight 1, and with a gate at 10; a gate solves as many as constant guidance at its best."""

    def __init__(self) -> None:
        self.ran: list[Trial] = []

    def __call__(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
        for trial in trials:
            self.ran.append(trial)
            options = trial.options
            gated = math.isfinite(options.disagreement_scale)
            worse = options.weight_schedule == "falling"
            share = {0.0: 0.1, 0.1: 0.8, 1.0: 0.8 if gated else 0.2, 10.0: 0.1}[options.guidance_weight]
            solved = [seed * 37 % 100 < 100 * (share - 0.3 * worse) for seed in trial.seeds]
            yield trial, [Outcome(seed, won, 90) for seed, won in zip(trial.seeds, solved)]


@pytest.fixture
def comparison(tiny_bundle: Path) -> VariantComparison:
    variants = compared_variants([str(tiny_bundle)], (1.0,), ("falling",))
    protocol = Protocol(WEIGHTS, choosing_episodes=40, reporting_episodes=60)
    return VariantComparison(variants, tasks_shared(variants, (1, 2)), protocol)


def rows(comparison: VariantComparison, kept: Path, episodes: Episodes) -> dict[str, dict[str, Any]]:
    found = run_variants(comparison, kept, episodes)
    return {row["variant"]: row for row in variants_report(comparison, found)}


def test_a_cliff_is_where_success_has_come_down_to_half_beyond_its_highest() -> None:
    weights = (0.0, 0.01, 0.1, 1.0)
    assert cliff_of(weights, (0.1, 0.4, 0.8, 0.4)) == pytest.approx(1.0)
    assert cliff_of(weights, (0.1, 0.8, 0.6, 0.2)) == pytest.approx(0.1 * 10**0.5)
    assert cliff_of(weights, (0.8, 0.2, 0.2, 0.2)) == 0.01
    assert math.isinf(cliff_of(weights, (0.1, 0.2, 0.8, 0.5)))
    assert math.isinf(cliff_of(weights, (0.0, 0.0, 0.0, 0.0)))


@given(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4))
@examples(50)
def test_a_cliff_lies_beyond_the_weight_of_the_highest_success(rates: list[float]) -> None:
    weights = (0.0, 0.01, 0.1, 1.0)
    assert weights[max(range(4), key=lambda i: (rates[i], -i))] <= cliff_of(weights, rates)


def test_a_gate_that_moves_the_cliff_and_wins_nothing_is_said_to_be_undecided(
    comparison: VariantComparison, tmp_path: Path
) -> None:
    found = rows(comparison, tmp_path / "trials.jsonl", Episodes())
    assert list(found) == ["constant", "gate 1", "falling"]
    constant, gate, falling = found.values()
    assert constant["cliff"]["guidance_weight"] < 1.0 < gate["cliff"]["guidance_weight"]
    assert gate["mean_over_weights"]["versus"]["ci95"][0] > 0.0
    assert (gate["chosen"]["versus"]["verdict"], falling["chosen"]["versus"]["verdict"]) == ("undecided", "worse")
    assert constant["chosen"]["versus"] is None
    assert constant["chosen"]["weights"] == [0.1, 0.1]
    assert [line["episodes"] for line in constant["curve"]] == [80] * 4
    assert constant["chosen"]["episodes"] == 120
    (line,) = [line for line in gate["curve"] if line["guidance_weight"] == 1.0]
    assert line["versus"]["difference"] == pytest.approx(0.6, abs=0.05)
    assert [task["task"] for task in gate["tasks"]] == [1, 2]


def test_every_variant_has_the_same_seeds_and_no_trial_runs_twice(
    comparison: VariantComparison, tmp_path: Path
) -> None:
    episodes = Episodes()
    first = rows(comparison, tmp_path / "trials.jsonl", episodes)
    assert len(set(episodes.ran)) == len(episodes.ran)
    swept = {}
    for trial in episodes.ran:
        if trial.seeds[0] < 20_000:
            swept.setdefault((trial.task, trial.options), []).extend(trial.seeds)
    assert {tuple(sorted(seeds)) for seeds in swept.values()} == {tuple(range(10_000, 10_040))}
    assert sum(options.guidance_weight == 0.0 for _, options in swept) == 2  # plain BC, once for all variants
    again = Episodes()
    assert rows(comparison, tmp_path / "trials.jsonl", again) == first
    assert again.ran == []


def test_bundles_beside_the_first_are_variants_by_name(tiny_bundle: Path) -> None:
    variants = compared_variants([str(tiny_bundle), f"rho={tiny_bundle}"], (math.inf,), ("constant",))
    assert [(variant.name, variant.bundle) for variant in variants] == [("constant", tiny_bundle), ("rho", tiny_bundle)]
    with pytest.raises(SimulationError, match="rho is there twice; call a bundle otherwise"):
        compared_variants([str(tiny_bundle), f"rho={tiny_bundle}", f"rho={tiny_bundle}"], (), ())
    doubled = compared_variants([str(tiny_bundle)], (0.3, 0.3), ("falling", "falling"))
    assert [variant.name for variant in doubled] == ["constant", "gate 0.3", "falling"]
    with pytest.raises(SimulationError, match="no bundle was given"):
        compared_variants([], (), ())
