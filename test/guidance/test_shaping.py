"""The options around the gradient: each does what it says, and nothing while it is off."""

from __future__ import annotations

import math

import numpy as np
import pytest
from analytic_models import CurvedField, LinearField, QuadraticCritic
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.estimators import Estimate
from qgf_ros.guidance.sampler import sample
from qgf_ros.guidance.shaping import QGF, Guidance, mask_without, parse_schedule

RANDOM = np.random.default_rng(4)
GRADIENT = RANDOM.standard_normal((5, 6))
VALUES = RANDOM.standard_normal((2, 5))
WEIGHT = np.full((5, 1), 0.3)


def test_with_every_option_off_the_pull_is_weight_times_gradient() -> None:
    np.testing.assert_array_equal(QGF.pull(Estimate(GRADIENT, VALUES), WEIGHT), WEIGHT * GRADIENT)


@given(limit=st.floats(0.01, 10.0))
def test_a_norm_limit_shortens_long_gradients_and_turns_none(limit: float) -> None:
    pull = Guidance(max_gradient_norm=limit).pull(Estimate(GRADIENT, VALUES), WEIGHT) / WEIGHT
    before = np.linalg.norm(GRADIENT, axis=1)
    np.testing.assert_allclose(np.linalg.norm(pull, axis=1), np.minimum(before, limit))
    np.testing.assert_allclose(pull / np.linalg.norm(pull, axis=1)[:, None], GRADIENT / before[:, None])


def test_a_norm_limit_leaves_a_gradient_of_zero() -> None:
    pull = Guidance(max_gradient_norm=1.0).pull(Estimate(np.zeros((5, 6)), VALUES), WEIGHT)
    np.testing.assert_array_equal(pull, np.zeros((5, 6)))


def test_critics_that_disagree_by_the_scale_guide_half() -> None:
    values = np.array([[1.0, 1.0, 4.0], [1.0, 3.0, -2.0]])
    pull = Guidance(disagreement_scale=2.0).pull(Estimate(np.ones((3, 6)), values), np.ones((3, 1)))
    np.testing.assert_allclose(pull[:, 0], [1.0, 0.5, 0.25])


def test_the_mask_repeats_along_the_chunk_and_leaves_its_components_alone() -> None:
    mask = mask_without(["dgripper"], ["dx", "dy", "dgripper"])
    pull = Guidance(mask=mask).pull(Estimate(GRADIENT, VALUES), WEIGHT)
    np.testing.assert_array_equal(pull[:, [2, 5]], 0.0)
    np.testing.assert_array_equal(pull[:, [0, 1, 3, 4]], (WEIGHT * GRADIENT)[:, [0, 1, 3, 4]])


def test_a_masked_component_moves_as_in_plain_cloning_where_components_are_independent() -> None:
    field, critic, noise = LinearField(-0.4, np.full(6, 0.1)), QuadraticCritic(np.full(6, 0.8)), 0.1 * GRADIENT
    plain = sample(field, None, noise).action
    guided = sample(field, critic, noise, 0.5, guidance=Guidance(mask=(1.0, 1.0, 0.0))).action
    np.testing.assert_array_equal(guided[:, [2, 5]], plain[:, [2, 5]])
    assert (guided[:, [0, 1, 3, 4]] > plain[:, [0, 1, 3, 4]]).all()


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.0, 0.25, 0.5, 0.75]),
        ("cosine", [0.0, 0.5 - math.sqrt(0.125), 0.5, 0.5 + math.sqrt(0.125)]),
        ("falling", [1.0, 0.75, 0.5, 0.25]),
        ("2,0,1,0.5", [2.0, 0.0, 1.0, 0.5]),
    ],
)
def test_a_schedule_weights_each_denoising_step(schedule: str, factors: list[float]) -> None:
    # With v = 0 and Q = -|a - c|^2 / 2 step k moves a by w f_k (c - a) / T.
    guidance, c, weight = Guidance(schedule=parse_schedule(schedule)), 0.5, 0.8
    np.testing.assert_allclose([guidance.factor(k, 4) for k in range(4)], factors, atol=1e-15)
    expected = 0.1
    for factor in factors:
        expected += weight * factor * (c - expected) / 4
    field, critic = LinearField(0.0, np.zeros(1)), QuadraticCritic(np.array([c]))
    result = sample(field, critic, np.full((1, 1), 0.1), weight, steps=4, guidance=guidance)
    np.testing.assert_allclose(result.action, expected)


def test_options_keep_float32() -> None:
    guidance = Guidance(max_gradient_norm=0.5, disagreement_scale=1.0, schedule="cosine", mask=(1.0, 0.5, 0.0))
    estimate = Estimate(GRADIENT.astype(np.float32), VALUES.astype(np.float32))
    assert guidance.pull(estimate, WEIGHT.astype(np.float32), 0.3).dtype == np.float32


def test_telemetry_reports_the_gradient_before_any_option() -> None:
    flow, critic = CurvedField(2, 6).given(np.zeros((5, 2))), QuadraticCritic(np.full(6, 0.8))
    arguments = (flow, critic, GRADIENT, 1e-9)
    plain, shaped = sample(*arguments), sample(*arguments, guidance=Guidance(max_gradient_norm=1e-3))
    np.testing.assert_allclose(shaped.gradient_norm, plain.gradient_norm, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "magic"}, "estimator 'magic' was given; expected one of qgf, qgf_jacobian"),
        ({"ascent_steps": 0}, "ascent_steps 0 was given"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm 0.0 was given; it must be above 0, or infinity"),
        ({"ascent_steps": 101}, "at most 100"),
        ({"disagreement_scale": math.nan}, "disagreement_scale nan was given"),
        ({"disagreement_scale": 1e300}, "numbers go from 1e-06 to 1e\\+06"),
        ({"schedule": (1e30,)}, "give numbers from 0 to 1000"),
        ({"schedule": "sudden"}, "weight_schedule 'sudden' was given; expected constant, linear, cosine"),
        ({"schedule": (1.0, -1.0)}, "negative or not finite"),
        ({"mask": (math.nan,)}, "negative or not finite"),
        ({"estimator": "grad_step", "schedule": "linear"}, "does not guide while denoising"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_what_can(options: dict[str, object], message: str) -> None:
    with pytest.raises(GuidanceError, match=message):
        Guidance(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": (1.0, 1.0)}, "weight_schedule of 2 factors was given; expected 10"),
        ({"mask": (1.0,)}, "mask of 1 factors was given; expected 3"),
    ],
)
def test_an_option_of_the_wrong_length_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(GuidanceError, match=message):
        Guidance(**options).check(10, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "fast", "1,,2", "1;2"])
def test_a_schedule_that_is_neither_a_name_nor_numbers_is_refused(text: str) -> None:
    with pytest.raises(GuidanceError, match="weight_schedule"):
        parse_schedule(text)


def test_an_unguided_action_must_exist() -> None:
    with pytest.raises(GuidanceError, match="'grip' was given; the bundle has dx, dgripper"):
        mask_without(["grip"], ["dx", "dgripper"])
    assert mask_without([], ["dx", "dgripper"]) == ()
