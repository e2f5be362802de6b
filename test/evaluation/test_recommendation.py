"""What is recommended: nothing that is not better with confidence, and careful guidance only beside what does without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from qgf_ros.control.run_options import RunOptions
from qgf_ros.evaluation.halving import Outcome, Search
from qgf_ros.evaluation.recommendation import LEVEL, Recommendation, asked, decide

PLAIN, USUAL = RunOptions(0.0, "task1"), RunOptions(0.1, "task1")
GATE = RunOptions(0.3, "task1", disagreement_scale=1.0)
FALLING = RunOptions(0.3, "task1", weight_schedule="falling")


def episodes(solved: int, count: int = 100) -> list[Outcome]:
    return [Outcome(seed, seed < solved, 50) for seed in range(count)]


def decided(plain: int, usual: int, careful: int) -> Recommendation:
    """Return the decision where so many of a hundred held-out episodes were solved."""
    outcomes = {PLAIN: episodes(plain), USUAL: episodes(usual), GATE: episodes(careful)}
    return decide((PLAIN, USUAL, GATE), outcomes)


def search(best: RunOptions, tried: Sequence[tuple[RunOptions, int, int]]) -> Search:
    return Search(best, {options: episodes(solved, count) for options, solved, count in tried}, ())


def test_what_is_not_careful_is_asked_about_beside_behaviour_cloning_alone() -> None:
    tried = [(PLAIN, 1, 8), (USUAL, 7, 8), (GATE, 2, 8)]
    assert asked(search(USUAL, tried), PLAIN) == (PLAIN, USUAL)
    assert asked(search(PLAIN, tried), PLAIN) == (PLAIN,)


@pytest.mark.parametrize("careful", [GATE, FALLING])
def test_careful_guidance_is_asked_about_beside_the_best_without_it(careful: RunOptions) -> None:
    early, other = RunOptions(0.2, "task1"), RunOptions(0.05, "task1")
    tried = [(PLAIN, 0, 64), (early, 8, 8), (USUAL, 40, 64), (other, 30, 64), (careful, 50, 64)]
    assert asked(search(careful, tried), PLAIN) == (PLAIN, USUAL, careful)
    assert asked(search(careful, [(PLAIN, 0, 64), (careful, 50, 64)]), PLAIN) == (PLAIN, careful)


def test_the_best_of_many_without_guidance_is_a_rival_of_careful_guidance_too() -> None:
    many = RunOptions(0.0, "task1", num_samples=32)
    tried = [(PLAIN, 0, 64), (USUAL, 40, 64), (many, 48, 64), (GATE, 50, 64)]
    assert asked(search(GATE, tried), PLAIN) == (PLAIN, many, GATE)
    outcomes = {PLAIN: episodes(10), many: episodes(50), GATE: episodes(53)}
    assert decide((PLAIN, many, GATE), outcomes).recommended == many


def test_careful_guidance_is_recommended_where_it_is_better_with_confidence() -> None:
    found = decided(10, 50, 70)
    assert (found.recommended, found.reported) == (GATE, (PLAIN, USUAL, GATE))
    assert found.record()["careful"]["difference"] == pytest.approx(0.2)
    assert found.record()["careful"]["beside"] == str(USUAL)


def test_the_simpler_guidance_is_recommended_where_care_is_not_better_with_confidence() -> None:
    for careful in (53, 40):
        found = decided(10, 50, careful)
        assert (found.recommended, found.reported) == (USUAL, (PLAIN, GATE, USUAL))
        assert found.comparison is not None
        assert found.comparison.difference == pytest.approx(0.4)


def test_careful_guidance_is_recommended_where_nothing_else_helps() -> None:
    assert decided(10, 12, 30).recommended == GATE


def test_nothing_is_recommended_that_does_not_help() -> None:
    found = decided(10, 12, 14)
    assert (found.recommended, found.reported[0]) == (PLAIN, PLAIN)
    assert found.comparison is not None


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_where_nothing_helps_hardly_ever_something_is_recommended(share: float) -> None:
    random, worlds = np.random.default_rng(1), 400
    wrong = 0
    for solved in random.random((worlds, 3, 100)) < share:
        outcomes = {
            options: [Outcome(seed, bool(won), 50) for seed, won in enumerate(one)]
            for options, one in zip((PLAIN, USUAL, GATE), solved)
        }
        wrong += decide((PLAIN, USUAL, GATE), outcomes).recommended != PLAIN
    assert wrong / worlds <= LEVEL / 2.0  # one side of a test at 5 %


def test_two_chances_share_the_level() -> None:
    # Six more of a hundred: p = 0.031, which is enough for one question and too much for one of two.
    alone = decide((PLAIN, USUAL), {PLAIN: episodes(10), USUAL: episodes(16)})
    assert alone.recommended == USUAL
    assert decided(10, 16, 16).recommended == PLAIN
