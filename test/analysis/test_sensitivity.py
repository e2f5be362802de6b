"""Cosines of shifted gradients, on models whose gradients are known."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_models import CurvedField, LinearField, QuadraticCritic

from qgf_ros.analysis.sensitivity import combine, cosine, measure_sensitivity
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.estimators import ESTIMATORS

N, C, T = 7, 3, 4
RANDOM = np.random.default_rng(5)
OBSERVATION, NOISE, SHIFT = (RANDOM.standard_normal((N, size)) for size in (2, C, C))
CRITIC = QuadraticCritic(np.array([0.4, -0.2, 0.7]), np.array([-0.5, 0.3, 0.1]))


def test_no_shift_turns_nothing() -> None:
    measured = measure_sensitivity(CurvedField(2, C), CRITIC, OBSERVATION, NOISE, SHIFT, steps=T, deviations=(0.0, 0.5))
    assert measured.keys() == ESTIMATORS.keys()
    for name, values in measured.items():
        assert np.shape(values["cosine"]) == (T, 2)
        np.testing.assert_allclose(np.asarray(values["cosine"])[:, 0], 1.0, rtol=0, atol=1e-12)
        assert values["by_deviation"]["mean"][0] == pytest.approx(1.0)
        assert values["by_deviation"]["mean"][1] < 0.99
        # Where every component is clipped, nothing comes back through the clip.
        assert (values["without_gradient"] > 0.0) == (name in ("qgf_jacobian", "bptt"))


def test_cosines_of_the_noisy_estimator_are_those_of_its_closed_form() -> None:
    # v = m a + o, Q = -|a - c|^2 / 2: the gradient at a_t is c - a_t, and a_t follows a geometric series.
    m, o, c = -0.5, np.array([0.1, 0.2, -0.1]), np.array([0.6, -0.4, 0.2])
    measured = measure_sensitivity(
        LinearField(m, o), QuadraticCritic(c), OBSERVATION, NOISE, SHIFT, steps=T, deviations=(0.3,)
    )
    fixed = -o / m
    rows = []
    for k in range(T):
        a = fixed + (1.0 + m / T) ** k * (NOISE - fixed)
        g, moved = c - a, c - a - 0.3 * SHIFT
        rows.append((g * moved).sum(axis=1) / np.sqrt((g**2).sum(axis=1) * (moved**2).sum(axis=1)))
    expected = np.asarray(rows)
    np.testing.assert_allclose(np.asarray(measured["noisy"]["cosine"])[:, 0], expected.mean(axis=1))
    summary = measured["noisy"]["by_deviation"]
    assert summary["mean"][0] == pytest.approx(expected.mean())
    assert summary["error"][0] == pytest.approx(1.959964 * expected.mean(axis=0).std(ddof=1) / np.sqrt(N))


def test_rows_without_a_gradient_are_left_out_and_counted() -> None:
    # Every component ends far outside [-1, 1], where the clip passes nothing.
    field = LinearField(0.0, np.full(C, 50.0))
    measured = measure_sensitivity(field, CRITIC, OBSERVATION, NOISE, SHIFT, steps=2, deviations=(0.1,))
    assert measured["bptt"]["without_gradient"] == 1.0
    assert np.isnan(measured["bptt"]["by_deviation"]["mean"]).all()
    assert measured["qgf"]["without_gradient"] == 0.0


def test_cosine_of_opposite_orthogonal_and_missing_directions() -> None:
    x = np.array([[1.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
    y = np.array([[-2.0, -4.0], [0.0, 3.0], [1.0, 1.0]])
    np.testing.assert_allclose(cosine(x, y), [-1.0, 0.0, np.nan], atol=1e-15)


def test_critics_count_alike_in_the_average() -> None:
    def part(value: float) -> dict[str, dict[str, object]]:
        summary = {"mean": np.array([value]), "error": np.array([0.3])}
        return {
            name: {"cosine": np.full((T, 1), value), "by_deviation": summary, "without_gradient": 0.0}
            for name in ESTIMATORS
        }

    combined = combine({"a": part(0.2), "b": part(0.6)})["qgf"]
    np.testing.assert_allclose(combined["cosine"], 0.4)
    np.testing.assert_allclose(combined["by_deviation"]["mean"], [0.4])
    np.testing.assert_allclose(combined["by_deviation"]["error"], [0.3 / np.sqrt(2)])


def test_a_negative_deviation_is_refused() -> None:
    with pytest.raises(GuidanceError, match="at least 0"):
        measure_sensitivity(CurvedField(2, C), CRITIC, OBSERVATION, NOISE, SHIFT, steps=T, deviations=(-0.1,))
