"""Real-time chunking: the correction against finite differences and closed forms, and what no prefix leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from analytic_models import CurvedField, CurvedFlow, LinearField, QuadraticCritic, central_differences
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.guidance.conditioning import Unconditioned
from qgf_ros.guidance.prefix import Prefix, make_prefix, soft_mask
from qgf_ros.guidance.sampler import sample

N, S, C = 4, 3, 6
RANDOM = np.random.default_rng(2)
OBSERVATION = RANDOM.standard_normal((N, S))
NOISE = RANDOM.standard_normal((N, C))
TARGET = RANDOM.uniform(-0.8, 0.8, (N, C))


class GaussianField(Unconditioned):
    """The exact velocity of the flow from N(0, I) to N(mean, I) along a_t = (1 - t) noise + t action.

    Given a_t the action is normal with mean m + t/(t^2 + (1-t)^2) (a_t - t m) and variance r^2, equation 4, exactly.
    """

    def __init__(self, mean: Any) -> None:
        self.mean = mean

    def __call__(self, a: Any, t: Any) -> Any:
        t = t[:, None]
        # E[action - noise | a_t], with E[noise | a_t] = (1-t)/(t^2 + (1-t)^2) (a_t - t m).
        return self.mean + (2.0 * t - 1.0) / (t**2 + (1.0 - t) ** 2) * (a - t * self.mean)

    def vjp(self, a: Any, t: Any, u: Any) -> tuple[Any, Any]:
        slope = (2.0 * t - 1.0) / (t**2 + (1.0 - t) ** 2)
        return self(a, t), slope[:, None] * u


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.9])
def test_the_correction_is_the_gradient_of_the_weighted_distance_to_the_target(t: float) -> None:
    # (Y - a1)^T diag(W) da1/da is minus the gradient of |Y - a1|^2_W / 2, whatever the field.
    flow, weight = CurvedField(S, C).given(OBSERVATION), RANDOM.uniform(0.0, 1.0, (N, C))
    a, times = NOISE, np.full(N, t)

    def closeness(x: Any) -> Any:
        clean = x + (1.0 - t) * flow(x, times)
        return -0.5 * (weight * np.square(TARGET - clean)).sum(axis=1)

    beta = 3.0
    scale = beta if t == 0.0 else min(beta, (1.0 - t) / (t * ((1.0 - t) ** 2 / (t**2 + (1.0 - t) ** 2))))
    expected = scale * central_differences(closeness, a)
    got = Prefix(TARGET, weight).correction(flow, a, times, flow(a, times), beta)
    np.testing.assert_allclose(got, expected, atol=1e-8)


@pytest.mark.parametrize(
    ("t", "expected"), [(0.0, 5.0), (1e-9, 5.0), (0.1, 5.0), (0.25, 10 / 3), (0.5, 2.0), (0.9, 5.0)]
)
def test_the_weight_of_the_correction_is_clipped_at_beta(t: float, expected: float) -> None:
    # With a field of zeros a1 = a and the product is W (Y - a), so what is left is the weight itself.
    field = LinearField(0.0, np.zeros(C))
    prefix = Prefix(np.ones((1, C)), np.ones((1, C)))
    zeros = np.zeros((1, C))
    got = prefix.correction(field, zeros, np.array([t]), zeros)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("steps", [2, 5, 10])
def test_in_a_gaussian_flow_the_guided_path_is_the_straight_line_to_the_prefix(steps: int) -> None:
    # There r^2 is exact, and the corrected velocity is (Y - a)/(1 - t) (docs/asynchronous.md), whose last Euler step
    # ends at Y; the free components are independent of it, and stay what they were.
    field, weight = GaussianField(np.full(C, 0.1)), np.zeros((N, C))
    weight[:, :2] = 1.0
    prefix = Prefix(TARGET, weight)
    a = NOISE
    for k in range(steps):
        t = np.full(N, k / steps)
        v = field(a, t)
        v = v + prefix.correction(field, a, t, v, max_weight=1e9)
        if k:
            np.testing.assert_allclose(v[:, :2], ((TARGET - a) / (1.0 - k / steps))[:, :2], atol=1e-9)
        a = a + v / steps
    np.testing.assert_allclose(a[:, :2], TARGET[:, :2], atol=1e-9)
    plain = sample(field, None, NOISE, steps=steps).action
    np.testing.assert_array_equal(np.clip(a, -1.0, 1.0)[:, 2:], plain[:, 2:])


def test_a_flow_with_a_prefix_matches_its_affine_closed_form() -> None:
    # With v = o a step is affine, a' = a + (o + g_k W (Y - a - (1-t) o))/T: a product of slopes and carried offsets.
    steps, offset, weight = 10, np.array([0.05, -0.1]), np.array([1.0, 0.3])
    target = np.array([0.2, -0.3])
    noise = 0.1 * NOISE[:, :2]
    expected = noise
    for k in range(steps):
        t = k / steps
        gain = 5.0 if t == 0.0 else min(5.0, (t**2 + (1.0 - t) ** 2) / (t * (1.0 - t)))
        pull = gain * weight / steps
        expected = (1.0 - pull) * expected + offset / steps + pull * (target - (1.0 - t) * offset)
    prefix = Prefix(np.tile(target, (N, 1)), np.tile(weight, (N, 1)))
    result = sample(LinearField(0.0, offset), None, noise, steps=steps, prefix=prefix)
    np.testing.assert_allclose(result.action, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_with_few_steps_no_step_goes_beyond_the_prefix(steps: int) -> None:
    """A field of zeros: each step goes at most the whole way, where the weight 5 would go 5/T of it."""
    target = np.full((N, C), 0.5)
    prefix = Prefix(target, np.ones((N, C)))
    seen = [0.1 * NOISE]

    class Watched(LinearField):
        def __call__(self, a: Any, t: Any) -> Any:
            seen.append(a)
            return super().__call__(a, t)

    end = sample(Watched(0.0, np.zeros(C)), None, seen[0], steps=steps, prefix=prefix).action
    distances = [np.abs(target - a) for a in (*seen, end)]
    assert all((later <= earlier + 1e-12).all() for earlier, later in zip(distances, distances[1:]))
    assert all((np.sign(target - a) * np.sign(target - seen[0]) >= 0.0).all() for a in (*seen, end))


def test_an_actor_of_one_step_is_tied_by_the_slope_of_its_action() -> None:
    """For a linear actor mu(z) = M z + o the chunk is mu + M^T W (Y - mu)."""
    turn, offset = 0.3 * RANDOM.standard_normal((C, C)), np.full(C, 0.1)

    class LinearActor(Unconditioned):
        def __call__(self, a: Any, t: Any) -> Any:
            return a @ turn.T + offset - a

        def vjp(self, a: Any, t: Any, u: Any) -> tuple[Any, Any]:
            return self(a, t), u @ turn - u

    weight, noise = RANDOM.uniform(0.0, 1.0, (N, C)), 0.3 * NOISE
    mu = noise @ turn.T + offset
    got = sample(LinearActor(), None, noise, steps=1, prefix=Prefix(TARGET, weight)).action
    np.testing.assert_allclose(got, np.clip(mu + (weight * (TARGET - mu)) @ turn, -1.0, 1.0), atol=1e-12)


def test_the_prefix_and_the_critic_add_up_in_one_loop() -> None:
    flow, critic = CurvedField(S, C).given(OBSERVATION), QuadraticCritic(np.full(C, 0.4))
    prefix, weight, steps = Prefix(TARGET, RANDOM.uniform(0.0, 1.0, (N, C))), 0.3, 7
    a = NOISE
    for k in range(steps):
        t = np.full(N, k / steps)
        v = flow(a, t)
        clean = np.clip(a + (1.0 - t)[:, None] * v, -1.0, 1.0)
        pull = weight * (0.4 - clean)
        a = a + (v + pull + prefix.correction(flow, a, t, v)) / steps
    result = sample(flow, critic, NOISE, weight, steps=steps, prefix=prefix)
    np.testing.assert_allclose(result.action, np.clip(a, -1.0, 1.0), atol=1e-14)


@pytest.mark.parametrize("guidance_weight", [0.0, 0.3])
def test_a_prefix_of_weight_zero_changes_no_bit_and_asks_for_no_product(guidance_weight: float) -> None:
    class NoProduct(CurvedFlow):
        def vjp(self, *arguments: Any) -> Any:
            raise AssertionError("a product was asked for")

    field = CurvedField(S, C)
    flow, critic = NoProduct(field, field.given(OBSERVATION).offset), QuadraticCritic(np.full(C, 0.4))
    prefix = Prefix(TARGET, np.zeros((N, C)))
    without = sample(flow, critic, NOISE, guidance_weight)
    result = sample(flow, critic, NOISE, guidance_weight, prefix=prefix)
    for name in ("action", "gradient_norm", "clip_fraction"):
        assert np.array_equal(getattr(result, name), getattr(without, name))


@given(st.lists(st.booleans(), min_size=N, max_size=N), st.sampled_from([0.0, 0.3]))
def test_rows_without_a_prefix_are_bit_identical_to_a_run_without_any(
    bound: list[bool], guidance_weight: float
) -> None:
    flow, critic = CurvedField(S, C).given(OBSERVATION), QuadraticCritic(np.full(C, 0.4))
    weight = np.where(np.array(bound)[:, None], 0.7, 0.0) * np.ones((N, C))
    without = sample(flow, critic, NOISE, guidance_weight).action
    result = sample(flow, critic, NOISE, guidance_weight, prefix=Prefix(TARGET, weight)).action
    for row, tied in enumerate(bound):
        assert np.array_equal(result[row], without[row]) != tied


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_the_frozen_actions_agree_better_than_without_a_prefix(seed: int, frozen: int) -> None:
    random = np.random.default_rng(seed)
    field = GaussianField(random.uniform(-0.3, 0.3, C))
    noise = random.standard_normal((N, C))
    target = random.uniform(-0.9, 0.9, (N, C))
    weight = np.tile(soft_mask(C, frozen, C), (N, 1))

    def distance(prefix: Prefix | None) -> float:
        action = sample(field, None, noise, prefix=prefix).action
        return float(np.square(action - target)[:, :frozen].sum())

    assert distance(Prefix(target, weight)) < 0.5 * distance(None)


def test_float32_stays_float32() -> None:
    prefix = make_prefix(np.zeros((2, 2), np.float32), 1, 3)
    rows = Prefix(*(np.tile(part, (N, 1)) for part in (prefix.target, prefix.weight)))
    noise = NOISE.astype(np.float32)
    a, t = noise, np.zeros(N, np.float32)
    field = LinearField(0.5, np.zeros(C, np.float32))
    assert rows.correction(field, a, t, field(a, t)).dtype == np.float32


def test_the_mask_freezes_decays_and_leaves_free() -> None:
    # Equation 5 with H = 8, s = 2, d = 3: c_i = (6 - i)/4.
    c = np.array([3, 2, 1]) / 4
    expected = [1, 1, 1, *(c * (np.exp(c) - 1) / (np.e - 1)), 0, 0]
    np.testing.assert_allclose(soft_mask(8, 3, 6), expected, rtol=1e-6)


@given(st.integers(1, 20), st.integers(0, 25), st.integers(0, 20))
def test_the_mask_falls_from_one_to_zero(horizon: int, frozen: int, overlap: int) -> None:
    overlap = min(overlap, horizon)
    mask = soft_mask(horizon, frozen, overlap)
    frozen = min(frozen, overlap)
    assert (mask[:frozen] == 1.0).all()
    assert (mask[overlap:] == 0.0).all()
    assert ((mask[frozen:overlap] > 0.0) & (mask[frozen:overlap] < 1.0)).all()
    assert (np.diff(mask) <= 0.0).all()


def test_a_prefix_is_the_rest_of_the_chunk_padded_on_the_right() -> None:
    prefix = make_prefix(np.array([[1, 2], [3, 4]], np.float32), 1, 4)
    np.testing.assert_array_equal(prefix.target, [1, 2, 3, 4, 0, 0, 0, 0])
    half = soft_mask(4, 1, 2)[1]
    np.testing.assert_array_equal(prefix.weight, [1, 1, half, half, 0, 0, 0, 0])
    assert prefix.target.dtype == prefix.weight.dtype == np.float32
