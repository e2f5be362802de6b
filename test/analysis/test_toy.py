"""The toy of the paper's Figure 2: its closed forms against quadrature, and its claims from the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from analytic_models import central_differences

from qgf_ros.analysis.toy import DistanceCritic, MixtureFlow, ToySetting, run_toy, toy_runs
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.protocols import Array
from qgf_ros.guidance.sampler import sample

MODES, DEVIATION, NOISE = (-0.7, 0.2, 0.6), 0.12, 0.3
FLOW = MixtureFlow(MODES, DEVIATION, NOISE)
A = np.linspace(-1.0, 1.0, 9)[:, None]


def expected_velocity(a: float, t: float) -> float:
    """E[a_1 - a_0 | a_t = a] by quadrature over a_1, with a_0 = (a - t a_1) / (1 - t)."""
    end = np.linspace(-3.0, 3.0, 60_001)
    start = (a - t * end) / (1.0 - t)
    density = sum(np.exp(-0.5 * ((end - mode) / DEVIATION) ** 2) for mode in MODES)
    density = density * np.exp(-0.5 * (start / NOISE) ** 2)
    return float((density * (end - start)).sum() / density.sum())


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.8])
def test_velocity_is_the_conditional_mean_of_the_displacement(t: float) -> None:
    got = FLOW(A, np.full(len(A), t))[:, 0]
    np.testing.assert_allclose(got, [expected_velocity(a, t) for a in A[:, 0]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_derivative_of_the_velocity_matches_central_differences(t: float) -> None:
    time, u = np.full(len(A), t), np.linspace(0.5, 2.0, len(A))[:, None]
    v, product = FLOW.vjp(A, time, u)
    np.testing.assert_array_equal(v, FLOW(A, time))
    numeric = central_differences(lambda a: (u * FLOW(a, time))[:, 0], A)
    np.testing.assert_allclose(product, numeric, rtol=1e-6, atol=1e-6)


def test_plain_flow_reproduces_the_mixture() -> None:
    noise = NOISE * np.random.default_rng(0).standard_normal((4000, 1))
    end = sample(FLOW, None, noise, steps=100).action[:, 0]
    shares = np.bincount(np.abs(end[:, None] - MODES).argmin(axis=1)) / len(end)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)
    assert end.mean() == pytest.approx(np.mean(MODES), abs=0.03)
    assert end.var() == pytest.approx(np.var(MODES) + DEVIATION**2, rel=0.05)


def test_critic_is_minus_the_distance_with_its_gradient() -> None:
    critic = DistanceCritic(0.2)
    a: Array = np.array([[-0.3], [0.9]])
    q, gradient = critic.value_and_grad(a)
    np.testing.assert_allclose(critic.aggregate(q), [-0.5, -0.7])
    np.testing.assert_array_equal(gradient, [[1.0], [-1.0]])


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    """Of the setting as it is, with fewer samples."""
    return run_toy(ToySetting(samples=300, sweep=()))[0]


def runs_of(numbers: dict[str, Any], method: str) -> list[dict[str, Any]]:
    found = [run for run in numbers["runs"] if run["method"] == method]
    assert [run["weight"] for run in found] == list(numbers["setting"]["weights"])
    assert len(found) == 3
    return found


def test_noisy_goes_to_the_wrong_mode_at_every_weight(numbers: dict[str, Any]) -> None:
    optimum = numbers["setting"]["optimum"]
    for run in runs_of(numbers, "noisy"):
        assert run["commonest_mode"] == max(numbers["setting"]["modes"]) != optimum
        assert run["share_at_optimum"] < 0.4
    assert runs_of(numbers, "noisy")[-1]["share_at_optimum"] < 0.6 * numbers["bc"]["share_at_optimum"]


@pytest.mark.parametrize("method", ["bptt", "qgf"])
def test_bptt_and_qgf_reach_the_best_mode_at_every_weight(numbers: dict[str, Any], method: str) -> None:
    found = runs_of(numbers, method)
    for run in found:
        assert run["commonest_mode"] == numbers["setting"]["optimum"]
        assert run["share_at_optimum"] > 0.55 > numbers["bc"]["share_at_optimum"] + 0.15
    assert found[-1]["share_at_optimum"] > 0.85


def test_the_gradient_of_bptt_is_uneven_where_that_of_qgf_is_not(numbers: dict[str, Any]) -> None:
    bptt, qgf = (numbers["gradient_along_bc"][method] for method in ("bptt", "qgf"))
    assert max(qgf["max"]) == 1.0
    assert max(bptt["max"]) > 50 * np.median(bptt["median"])
    for mine, other in zip(runs_of(numbers, "bptt"), runs_of(numbers, "qgf")):
        assert mine["gradient_deviation"] > 10 * other["gradient_deviation"]


def test_large_weights_throw_bptt_off_and_pin_noisy_to_the_optimum() -> None:
    setting = ToySetting(samples=100, steps=30, weights=(0.3, 6.0), sweep=(0.3, 6.0))
    numbers, _ = run_toy(setting)
    runs = {(run["method"], run["weight"]): run for run in numbers["runs"]}
    assert runs["bptt", 6.0]["share_at_optimum"] < 0.5 < runs["bptt", 0.3]["share_at_optimum"]
    assert runs["bptt", 6.0]["thrown"] > 0.5 > runs["bptt", 0.3]["thrown"]
    assert runs["qgf", 6.0]["share_at_optimum"] > 0.9
    assert numbers["holding_weight"] < 6.0
    assert runs["noisy", 6.0]["share_at_optimum"] > 0.9
    assert numbers["noisy_recovers_at"] == 6.0


def test_with_unit_noise_noisy_does_as_well_as_qgf() -> None:
    numbers, _ = run_toy(ToySetting(samples=200, noise=1.0, weights=(0.4, 2.0), sweep=()))
    shares = {(run["method"], run["weight"]): run["share_at_optimum"] for run in numbers["runs"]}
    for weight in (0.4, 2.0):
        assert shares["noisy", weight] == pytest.approx(shares["qgf", weight], abs=0.02)
        assert shares["noisy", weight] > numbers["bc"]["share_at_optimum"] + 0.2


def test_paths_begin_at_the_noise_and_end_at_the_action() -> None:
    setting = ToySetting(samples=20, steps=4, weights=(0.2,), sweep=())
    calls: list[None] = []
    _, runs = run_toy(setting, lambda: calls.append(None))
    assert len(calls) == toy_runs(setting)
    noise = setting.noise * np.random.default_rng(setting.seed).standard_normal((20, 1))
    for method in ("noisy", "bptt", "qgf"):
        path = runs[method, 0.2].path
        assert path.shape == (5, 20)
        np.testing.assert_array_equal(path[0], noise[:, 0])
        assert np.abs(path[-1]).max() <= 1.0
    # One Euler step of QGF, by hand.
    start = noise[:, 0]
    flow = MixtureFlow(setting.modes, setting.deviation, setting.noise)
    v = flow(noise, np.zeros(20))[:, 0]
    pull = np.sign(setting.optimum - np.clip(start + v, -1.0, 1.0))
    np.testing.assert_allclose(runs["qgf", 0.2].path[1], start + (v + 0.2 * pull) / 4, atol=1e-15)


def test_an_optimum_that_is_no_mode_is_refused() -> None:
    with pytest.raises(GuidanceError, match="expected one of the modes"):
        ToySetting(optimum=0.4)
