"""Neighbours against brute force, and Q against the candidates and weights it came from."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_models import CurvedField, QuadraticCritic

from qgf_ros.analysis.inputs import Chunks
from qgf_ros.analysis.q_optimization import (
    Neighbourhoods,
    measure_q_optimization,
    nearest_rows,
    relative,
    rounds,
)
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.names import METHODS

N, M, S, C, T = 50, 8, 3, 2, 5
RANDOM = np.random.default_rng(3)
SCALES = np.array([1.0, 100.0, 0.01, 0.0])  # of very different units, and one that never changes
KNOWN = Chunks(
    (RANDOM.standard_normal((400, 4)) * SCALES + 7.0).astype(np.float32),
    RANDOM.uniform(-1.0, 1.0, (400, C)).astype(np.float32),
)
QUERIES = (RANDOM.standard_normal((N, 4)) * SCALES + 7.0).astype(np.float32)


def brute_force(k: int) -> list[set[int]]:
    deviation = KNOWN.observations.astype(np.float64).std(axis=0)[:3]
    found = []
    for query in QUERIES.astype(np.float64):
        distance = [sum(((row - query)[:3] / deviation) ** 2) for row in KNOWN.observations.astype(np.float64)]
        found.append({int(i) for i in np.argsort(distance)[:k]})
    return found


def test_neighbours_are_those_of_brute_force() -> None:
    got = nearest_rows(KNOWN.observations, QUERIES, 5)
    assert got.shape == (N, 5)
    assert [set(row.tolist()) for row in got] == brute_force(5)


def test_distance_is_to_the_nearest_of_their_actions() -> None:
    action = RANDOM.uniform(-1.0, 1.0, (N, C))
    got = Neighbourhoods.of(KNOWN, QUERIES, 5).distance(action)
    for i, rows in enumerate(brute_force(5)):
        assert got[i] == pytest.approx(min(np.sqrt(((KNOWN.actions[row] - action[i]) ** 2).mean()) for row in rows))


def test_an_action_of_the_data_is_at_distance_zero() -> None:
    near = Neighbourhoods.of(KNOWN, KNOWN.observations[:9], 1)
    np.testing.assert_allclose(near.distance(KNOWN.actions[:9]), 0.0, atol=1e-7)


@pytest.mark.parametrize("count", [0, 401])
def test_more_neighbours_than_chunks_are_refused(count: int) -> None:
    with pytest.raises(GuidanceError, match="expected 1 to 400"):
        Neighbourhoods.of(KNOWN, QUERIES, count)


def test_states_drawn_from_a_data_set_are_not_among_their_neighbours() -> None:
    drawn, rest = KNOWN.split(30, seed=1)
    assert (len(drawn.actions), len(rest.actions)) == (30, 370)
    both = np.concatenate([drawn.observations, rest.observations])
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, KNOWN.observations.tolist()))
    assert Neighbourhoods.of(rest, drawn.observations, 1).distance(drawn.actions).min() > 0.0


def measure(target: float, weights: tuple[float, ...] = (1e-9, 0.5)) -> dict[str, object]:
    observations = QUERIES[:, :S].astype(np.float64) / 100.0
    noise = np.random.default_rng(8).standard_normal((N, M, C))
    near = Neighbourhoods(np.zeros((N, 1, C)))
    calls: list[None] = []
    numbers = measure_q_optimization(
        CurvedField(S, C),
        QuadraticCritic(np.full(C, target)),
        *(observations, noise, np.zeros((N, C)), near),
        steps=T,
        weights=weights,
        progress=lambda: calls.append(None),
    )
    assert len(calls) == rounds(weights)
    return numbers


def test_more_candidates_never_lower_q_and_one_is_plain_cloning() -> None:
    oracle = measure(0.6)["bfn"]
    assert [entry["candidates"] for entry in oracle] == [1, 2, 4, 8]
    gains = [entry["gain"]["mean"] for entry in oracle]
    assert gains[0] == 0.0
    assert gains == sorted(gains)
    assert gains[-1] > gains[1] > 0.0


@pytest.mark.parametrize("method", METHODS)
def test_guidance_starts_from_plain_cloning_and_raises_q(method: str) -> None:
    numbers = measure(0.6)
    plain, (tiny, large) = numbers["bfn"][0], numbers[method]
    assert tiny["gain"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert tiny["distance"]["mean"] == pytest.approx(plain["distance"]["mean"], abs=1e-6)
    assert large["gain"]["mean"] > 0.01
    assert large["q"]["mean"] - plain["q"]["mean"] == pytest.approx(large["gain"]["mean"])


def test_the_data_s_own_action_is_judged_too() -> None:
    data = measure(0.6)["data"]
    assert data["q"]["mean"] == pytest.approx(-0.36)  # -|0 - 0.6|^2 / 2 in two components
    assert data["distance"]["mean"] == 0.0


def test_gains_are_in_units_of_the_oracle_s() -> None:
    parts = {"near": measure(0.1), "far": measure(0.9)}
    combined = relative(parts)
    assert combined["bfn"][0]["gain"]["mean"] == 0.0
    assert combined["bfn"][-1]["gain"]["mean"] == pytest.approx(1.0)
    expected = np.mean([part["qgf"][1]["gain"]["mean"] / part["bfn"][-1]["gain"]["mean"] for part in parts.values()])
    assert combined["qgf"][1]["gain"]["mean"] == pytest.approx(expected)
    assert combined["qgf"][1]["weight"] == 0.5


def test_a_single_candidate_is_no_oracle() -> None:
    noise, near = np.zeros((N, 1, C)), Neighbourhoods(np.zeros((N, 1, C)))
    with pytest.raises(GuidanceError, match="at least 2"):
        measure_q_optimization(
            CurvedField(S, C), QuadraticCritic(np.zeros(C)), QUERIES, noise, np.zeros((N, C)), near, steps=T
        )
