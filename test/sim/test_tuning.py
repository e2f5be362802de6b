"""Choosing and reporting: disjoint seeds, no weight recommended without evidence, all of it in the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("ogbench", reason="tuning needs the sim extra")

from qgf_ros.bundle.store import load_manifest
from qgf_ros.errors import SimulationError
from qgf_sim import tuning
from qgf_sim.evaluation import Plan
from qgf_sim.results import Episode

PROTOCOL = tuning.Protocol((0.1, 0.3), choosing_episodes=10, reporting_episodes=40)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


def scripted(
    rates: dict[float, float], plans: list[Plan], reported: dict[float, float] | None = None
) -> Callable[..., dict[float, list[Episode]]]:
    """An evaluation whose success rates are given, others on the reporting seeds if wanted."""

    def run(plan: Plan, progress: Callable[[Episode], None]) -> dict[float, list[Episode]]:
        plans.append(plan)
        now = reported if reported is not None and plan.seed == PROTOCOL.reporting_seed else rates
        return {
            weight: [
                Episode(weight, plan.seed + i, i < round(now[weight] * plan.episodes), 100)
                for i in range(plan.episodes)
            ]
            for weight in plan.weights
        }

    return run


def test_the_best_weight_is_recommended_with_its_evidence(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(tuning, "evaluate", scripted({0.0: 0.1, 0.1: 0.9, 0.3: 0.4}, plans))
    outcome = tuning.tune(bundle, 1, PROTOCOL)
    assert outcome["recommended_weight"] == 0.1
    assert [plan.weights for plan in plans] == [(0.0, 0.1, 0.3), (0.0, 0.1)]
    card = load_manifest(bundle).critics["task1"]
    assert card.recommended_weight == 0.1
    assert card.tested_range == (0.0, 0.3)
    assert [(e.purpose, e.guidance_weight, e.successes) for e in card.evaluations] == [
        ("choosing", 0.0, 1),
        ("choosing", 0.1, 9),
        ("choosing", 0.3, 4),
        ("reporting", 0.0, 4),
        ("reporting", 0.1, 36),
    ]
    seeds = {e.purpose: set(range(e.first_seed, e.last_seed + 1)) for e in card.evaluations}
    assert not seeds["choosing"] & seeds["reporting"]


def test_other_critics_keep_their_card(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_manifest(bundle).critics["task2"]
    monkeypatch.setattr(tuning, "evaluate", scripted({0.0: 0.1, 0.1: 0.9, 0.3: 0.4}, []))
    tuning.tune(bundle, 1, PROTOCOL)
    assert load_manifest(bundle).critics["task2"] == before


def test_a_weight_that_only_shone_on_the_choosing_seeds_is_not_recommended(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lucky = scripted({0.0: 0.3, 0.1: 0.6, 0.3: 0.5}, [], reported={0.0: 0.3, 0.1: 0.4})
    monkeypatch.setattr(tuning, "evaluate", lucky)
    assert tuning.tune(bundle, 1, PROTOCOL)["recommended_weight"] == 0.0
    assert load_manifest(bundle).critics["task1"].recommended_weight == 0.0


def test_plain_cloning_wins_when_it_is_best(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(tuning, "evaluate", scripted({0.0: 0.9, 0.1: 0.6, 0.3: 0.5}, plans))
    assert tuning.tune(bundle, 1, PROTOCOL)["recommended_weight"] == 0.0
    assert plans[1].weights == (0.0,)


def test_among_equals_the_faster_weight_is_chosen() -> None:
    runs = [
        {"guidance_weight": 0.1, "success_rate": 0.9, "mean_length": 120.0},
        {"guidance_weight": 0.3, "success_rate": 0.9, "mean_length": 80.0},
    ]
    assert tuning.choose(runs) == 0.3


def test_overlapping_seeds_are_refused() -> None:
    with pytest.raises(SimulationError, match="overlap"):
        tuning.Protocol(choosing_seed=0, choosing_episodes=30, reporting_seed=29)
