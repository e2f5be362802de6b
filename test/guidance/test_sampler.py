"""Algorithm 1 against closed forms, and the promises about weight 0."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_models import BrokenCritic, LinearField, QuadraticCritic
from exploration import examples
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.estimators import clean_action, qgf
from qgf_ros.guidance.sampler import best_candidate, sample

NOISE = np.random.default_rng(1).standard_normal((4, 2)) * 0.1


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_weight_zero_is_euler_integration_of_the_field(steps: int) -> None:
    # a_{k+1} = (1 + m/T) a_k + o/T, so a_T = r^T a_0 + o/T (r^T - 1)/(r - 1) with r = 1 + m/T.
    slope, offset = -0.7, np.array([0.1, -0.2])
    r = 1.0 + slope / steps
    expected = r**steps * NOISE + offset / steps * (r**steps - 1.0) / (r - 1.0)
    result = sample(LinearField(slope, offset), None, NOISE, 0.0, steps=steps)
    np.testing.assert_allclose(result.action, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("weight", [0.02, 0.3, 1.0])
def test_guided_flow_matches_its_affine_closed_form(weight: float) -> None:
    # With v = o and Q = -|a1 - c|^2/2 a step is affine: a' = a + (o + w (c - a - (1-t) o))/T. Its solution is the
    # product of the slopes applied to a_0 plus every offset carried through the slopes after it.
    steps, offset, target = 10, np.array([0.05, -0.1]), np.array([0.3, 0.2])
    slope = 1.0 - weight / steps
    expected = slope**steps * NOISE
    for k in range(steps):
        push = (offset + weight * (target - (1.0 - k / steps) * offset)) / steps
        expected = expected + slope ** (steps - 1 - k) * push
    result = sample(LinearField(0.0, offset), QuadraticCritic(target), NOISE, weight, steps=steps)
    np.testing.assert_allclose(result.action, expected, rtol=0, atol=1e-14)


def test_gradient_is_that_of_the_smallest_member() -> None:
    near, far = np.zeros(2), np.array([0.9, 0.9])
    a, v, t = np.full((1, 2), 0.1), np.zeros((1, 2)), np.zeros(1)
    gradient, _ = qgf(LinearField(0.0, v), QuadraticCritic(near, far), a, t, v, 10)
    np.testing.assert_allclose(gradient, far - a)


def test_clean_action_is_clipped_to_the_action_range() -> None:
    estimate = clean_action(np.array([[0.9, -0.2]]), np.array([0.5]), np.array([[1.0, -4.0]]))
    np.testing.assert_array_equal(estimate, [[1.0, -1.0]])


def test_weight_zero_never_calls_the_critic() -> None:
    sample(LinearField(0.3, np.zeros(2)), BrokenCritic(), NOISE, 0.0)
    sample(LinearField(0.3, np.zeros(2)), BrokenCritic(), NOISE, np.zeros(4))


def test_guided_action_calls_the_critic_once_a_step() -> None:
    critic = QuadraticCritic(np.zeros(2))
    sample(LinearField(0.3, np.zeros(2)), critic, NOISE, 0.1, steps=7)
    assert critic.calls == 7


@given(st.lists(st.sampled_from([0.0, 0.05, 0.8]), min_size=4, max_size=4))
@examples(30)
def test_rows_of_weight_zero_are_bit_identical_to_plain_cloning(weights: list[float]) -> None:
    field, critic = LinearField(0.4, np.array([0.2, -0.3])), QuadraticCritic(np.array([0.5, 0.5]))
    mixed = sample(field, critic, NOISE, np.array(weights))
    plain = sample(field, None, NOISE, 0.0)
    rows = np.array(weights) == 0.0
    assert (mixed.action[rows] == plain.action[rows]).all()
    assert (mixed.gradient_norm[rows] == 0.0).all()
    assert (mixed.gradient_norm[~rows] > 0.0).all()


@given(st.permutations(range(4)))
@examples(20)
def test_rows_do_not_influence_each_other(order: list[int]) -> None:
    field, critic = LinearField(0.4, np.zeros(2)), QuadraticCritic(np.array([0.5, 0.5]), np.array([-0.5, 0.1]))
    weight = np.array([0.0, 0.1, 0.5, 2.0])
    straight = sample(field, critic, NOISE, weight).action
    permuted = sample(field, critic, NOISE[order], weight[order]).action
    assert (permuted == straight[order]).all()


def test_noise_is_left_unchanged() -> None:
    noise = NOISE.copy()
    sample(LinearField(0.4, np.zeros(2)), QuadraticCritic(np.ones(2)), noise, 1.0)
    np.testing.assert_array_equal(noise, NOISE)


def test_clip_fraction_counts_the_components_the_last_clip_moved() -> None:
    noise = 0.1 * np.random.default_rng(2).standard_normal((4, 3))
    noise[1, 1] = -3.0  # of which nothing leads back
    result = sample(LinearField(0.0, np.array([5.0, 0.0, 0.0])), None, noise)
    np.testing.assert_allclose(result.clip_fraction, [1 / 3, 2 / 3, 1 / 3, 1 / 3])
    assert np.abs(result.action).max() <= 1.0


@pytest.mark.parametrize("weight", [-0.1, np.nan, np.inf])
def test_a_weight_outside_its_domain_is_refused(weight: float) -> None:
    with pytest.raises(GuidanceError, match="finite and at least 0"):
        sample(LinearField(0.0, np.zeros(2)), QuadraticCritic(np.zeros(2)), NOISE, weight)


def test_guidance_without_a_critic_is_refused() -> None:
    with pytest.raises(GuidanceError, match="without a critic"):
        sample(LinearField(0.0, np.zeros(2)), None, NOISE, 0.1)


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    with pytest.raises(GuidanceError, match="gradient is not finite"):
        sample(LinearField(0.0, np.zeros(2)), QuadraticCritic(np.full(2, np.nan)), NOISE, 0.1)


def test_a_velocity_that_is_not_finite_is_refused() -> None:
    with pytest.raises(GuidanceError, match="velocity field"):
        sample(LinearField(0.0, np.full(2, np.nan)), None, NOISE)


def test_best_candidate_is_the_one_of_highest_value() -> None:
    np.testing.assert_array_equal(best_candidate(np.array([[1.0, 3.0, 2.0], [-1.0, -1.0, -2.0]])), [1, 0])
