"""Every estimator against central differences, and against the closed form of linear flows with quadratic critics."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_models import CurvedField, LinearField, QuadraticCritic, central_differences
from exploration import examples
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.estimators import ESTIMATORS, Estimate, bptt, qgf_chain, qgf_jacobian
from qgf_ros.guidance.names import METHODS
from qgf_ros.guidance.protocols import Array
from qgf_ros.guidance.sampler import sample
from qgf_ros.guidance.shaping import Guidance

N, S, C, T = 6, 3, 4, 5
FIELD = CurvedField(S, C)
CRITIC = QuadraticCritic(np.array([0.5, -0.4, 0.1, 0.9]), np.array([-0.3, 0.6, 0.2, -0.7]))
RANDOM = np.random.default_rng(11)
OBSERVATION = RANDOM.standard_normal((N, S))
ACTION = 0.5 * RANDOM.standard_normal((N, C))
FLOW, VALUE = FIELD.given(OBSERVATION), CRITIC.given(OBSERVATION)


def q_of(a: Array) -> Array:
    return CRITIC.aggregate(VALUE(a))


def one_step(a: Array, k: int) -> Array:
    t = np.full(N, k / T)
    return np.clip(a + (1.0 - k / T) * FLOW(a, t), -1.0, 1.0)


def rest_of_the_flow(a: Array, k: int) -> Array:
    for j in range(k, T):
        a = a + FLOW(a, np.full(N, j / T)) / T
    return np.clip(a, -1.0, 1.0)


def estimate(name: str, k: int) -> Estimate:
    t = np.full(N, k / T)
    return ESTIMATORS[name](FLOW, VALUE, ACTION, t, FLOW(ACTION, t), T)


@pytest.mark.parametrize("k", range(T))
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qgf", lambda k: central_differences(q_of, one_step(ACTION, k))),
        ("qgf_jacobian", lambda k: central_differences(lambda a: q_of(one_step(a, k)), ACTION)),
        ("qgf_chain", lambda k: central_differences(q_of, rest_of_the_flow(ACTION, k))),
        ("noisy", lambda k: central_differences(q_of, ACTION)),
        ("bptt", lambda k: central_differences(lambda a: q_of(rest_of_the_flow(a, k)), ACTION)),
    ],
)
def test_gradient_matches_central_differences(name: str, k: int, expected: object) -> None:
    numeric = expected(k)  # type: ignore[operator]
    assert np.abs(numeric).max() > 0.1
    np.testing.assert_allclose(estimate(name, k).gradient, numeric, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("qgf", lambda: one_step(ACTION, 2)),
        ("qgf_jacobian", lambda: one_step(ACTION, 2)),
        ("qgf_chain", lambda: rest_of_the_flow(ACTION, 2)),
        ("noisy", lambda: ACTION),
        ("bptt", lambda: rest_of_the_flow(ACTION, 2)),
    ],
)
def test_values_are_those_of_every_member_where_the_gradient_was_taken(name: str, where: object) -> None:
    np.testing.assert_allclose(estimate(name, 2).q, VALUE(where()))  # type: ignore[operator]


def test_in_the_last_step_one_euler_step_is_the_whole_flow() -> None:
    for one, whole in (("qgf", "qgf_chain"), ("qgf_jacobian", "bptt")):
        np.testing.assert_allclose(estimate(one, T - 1).gradient, estimate(whole, T - 1).gradient, atol=1e-14)


@pytest.mark.parametrize("name", ["qgf_jacobian", "bptt"])
def test_the_clip_passes_nothing_where_it_moved_a_component_and_everything_on_the_bound(name: str) -> None:
    # One step of a constant field from t = 0 ends at a + o: beyond, exactly on, and inside the bound.
    field, critic = LinearField(0.0, np.array([1.5, 1.0, 0.25, -3.0])), QuadraticCritic(np.full(4, 0.5))
    a, t = np.zeros((1, 4)), np.zeros(1)
    gradient = ESTIMATORS[name](field, critic, a, t, field.offset[None], 1).gradient
    np.testing.assert_array_equal(gradient, [[0.0, -0.5, 0.25, 0.0]])


@pytest.mark.parametrize("estimator", [qgf_chain, bptt])
def test_rows_at_different_times_are_refused_where_the_rest_of_the_flow_is_needed(estimator: object) -> None:
    t = np.linspace(0.0, 0.5, N)
    with pytest.raises(GuidanceError, match="one time k/5"):
        estimator(FLOW, VALUE, ACTION, t, ACTION, T)  # type: ignore[operator]


def affine_step(name: str, k: int, m: float, o: Array, c: Array) -> tuple[float, Array]:
    """Return slope and offset of the gradient as a function of a_t, for v = m a + o and Q = -|a - c|^2 / 2."""
    t, r = k / T, 1.0 + m / T
    ahead, ahead_offset = 1.0 + (1.0 - t) * m, (1.0 - t) * o
    end, end_offset = r ** (T - k), o / T * sum(r**j for j in range(T - k))
    return {
        "qgf": (-ahead, c - ahead_offset),
        "qgf_jacobian": (-ahead * ahead, ahead * (c - ahead_offset)),
        "qgf_chain": (-end, c - end_offset),
        "noisy": (-1.0, c),
        "bptt": (-end * end, end * (c - end_offset)),
    }[name]


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("weight", [0.05, 1.0])
def test_guided_linear_flow_ends_where_its_closed_form_says(name: str, weight: float) -> None:
    # Every guided step is affine, so the end is the product of the slopes applied to the noise, plus each offset
    # carried through the slopes after it. Nothing comes near the clip.
    m, o, c = -0.6, np.array([0.05, -0.1]), np.array([0.3, 0.2])
    noise = 0.2 * np.random.default_rng(2).standard_normal((N, 2))
    expected = noise
    for k in range(T):
        slope, offset = affine_step(name, k, m, o, c)
        expected = (1.0 + (m + weight * slope) / T) * expected + (o + weight * offset) / T
    assert np.abs(expected).max() < 0.9
    result = sample(LinearField(m, o), QuadraticCritic(c), noise, weight, steps=T, guidance=Guidance(estimator=name))
    np.testing.assert_allclose(result.action, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("ascent_steps", [1, 3, 10])
def test_gradient_steps_on_a_quadratic_shrink_the_distance_geometrically(ascent_steps: int) -> None:
    # a <- a + alpha (c - a) leaves c + (1 - alpha)^L (a_0 - c) of the plain action a_0.
    field, c, alpha = LinearField(-0.5, np.zeros(2)), np.array([0.3, -0.2]), 0.2
    noise = 0.2 * np.random.default_rng(2).standard_normal((N, 2))
    plain = sample(field, None, noise, steps=T).action
    guidance = Guidance(estimator="grad_step", ascent_steps=ascent_steps)
    result = sample(field, QuadraticCritic(c), noise, alpha, steps=T, guidance=guidance)
    np.testing.assert_allclose(result.action, c + (1.0 - alpha) ** ascent_steps * (plain - c), atol=1e-14)
    expected_norm = np.linalg.norm(c - plain, axis=1) * np.mean([(1.0 - alpha) ** i for i in range(ascent_steps)])
    np.testing.assert_allclose(result.gradient_norm, expected_norm)


def test_sign_steps_move_every_component_by_alpha_whatever_the_gradient() -> None:
    field, c = LinearField(0.0, np.zeros(2)), np.array([0.7, -0.9])
    guidance = Guidance(estimator="grad_step", ascent_steps=2, ascent_sign=True)
    result = sample(field, QuadraticCritic(c), np.zeros((1, 2)), 0.1, steps=T, guidance=guidance)
    np.testing.assert_allclose(result.action, [[0.2, -0.2]])


def test_gradient_steps_stay_in_the_action_range() -> None:
    critic = QuadraticCritic(np.array([9.0, -9.0]))
    guidance = Guidance(estimator="grad_step", ascent_steps=3)
    result = sample(LinearField(0.0, np.zeros(2)), critic, np.zeros((N, 2)), 0.5, guidance=guidance)
    np.testing.assert_array_equal(result.action, np.tile([1.0, -1.0], (N, 1)))


@pytest.mark.parametrize("name", METHODS)
def test_weight_zero_is_bit_identical_to_plain_cloning(name: str) -> None:
    guidance = Guidance(estimator=name)
    plain = sample(FLOW, None, ACTION, steps=T).action
    assert (sample(FLOW, None, ACTION, 0.0, steps=T, guidance=guidance).action == plain).all()
    weight = np.array([0.0, 0.3, 0.0, 0.3, 0.3, 0.0])
    mixed = sample(FLOW, VALUE, ACTION, weight, steps=T, guidance=guidance)
    np.testing.assert_allclose(mixed.action[weight == 0.0], plain[weight == 0.0], rtol=0, atol=1e-15)
    assert (mixed.action[weight > 0.0] != plain[weight > 0.0]).any(axis=1).all()


@given(
    name=st.sampled_from(METHODS),
    order=st.permutations(range(N)),
    cut=st.integers(1, N - 1),
    weight=st.floats(0.0, 2.0),
)
@examples(60)
def test_rows_do_not_influence_each_other(name: str, order: list[int], cut: int, weight: float) -> None:
    def run(rows: list[int]) -> Array:
        guidance = Guidance(estimator=name)
        flow, value = FIELD.given(OBSERVATION[rows]), CRITIC.given(OBSERVATION[rows])
        return sample(flow, value, ACTION[rows], weight, steps=T, guidance=guidance).action

    whole = run(list(range(N)))
    np.testing.assert_allclose(run(order), whole[order], rtol=0, atol=1e-13)
    np.testing.assert_allclose(np.concatenate([run(order[:cut]), run(order[cut:])]), whole[order], rtol=0, atol=1e-13)


@pytest.mark.parametrize("estimator", [qgf_jacobian, bptt])
def test_a_flow_that_ignores_its_action_has_no_jacobian_to_apply(estimator: object) -> None:
    field = LinearField(0.0, np.full(C, 0.1))
    t, v = np.zeros(N), np.tile(field.offset, (N, 1))
    a = 0.1 * ACTION
    got = estimator(field, VALUE, a, t, v, T).gradient  # type: ignore[operator]
    np.testing.assert_allclose(got, ESTIMATORS["qgf"](field, VALUE, a, t, v, T).gradient, atol=1e-15)
