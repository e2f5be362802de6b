"""Estimators over what a critic brings itself: a value of noised actions, or the flow of the data that it chose."""

from __future__ import annotations

import math

import numpy as np
import pytest
from analytic_models import CurvedField, LinearField, QuadraticCritic

from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.estimators import ESTIMATORS, OWN_ESTIMATORS
from qgf_ros.guidance.names import ESTIMATOR_NAMES, EVERY_METHOD, GRAD_STEP, METHODS
from qgf_ros.guidance.protocols import Array, Rows
from qgf_ros.guidance.sampler import sample
from qgf_ros.guidance.shaping import Guidance

T, N, C = 5, 6, 4
NOISE = np.random.default_rng(3).standard_normal((N, C))
FLOW = CurvedField(2, C).given(np.random.default_rng(1).standard_normal((N, 2)))
OTHER = CurvedField(2, C, seed=7)
OBSERVATION = np.random.default_rng(2).standard_normal((N, 2))


class OwnCritic(QuadraticCritic):
    """A critic that brings Q_rob(a, t) = (1 + t) (c . a) and a flow of its own, given observations."""

    def __init__(self, observations: Array = OBSERVATION) -> None:
        super().__init__(np.full(C, 0.5))
        self.c, self.observations = np.array([0.3, -0.2, 0.1, 0.4]), observations

    def rows(self, rows: Rows) -> OwnCritic:
        return OwnCritic(self.observations[rows])

    def noised_value_and_grad(self, a: Array, t: Array) -> tuple[Array, Array]:
        return ((1.0 + t) * (a @ self.c))[None], (1.0 + t)[:, None] * self.c

    def filtered_velocity(self, a: Array, t: Array) -> Array:
        return OTHER.given(self.observations)(a, t)


def test_every_name_has_its_function_and_the_methods_of_any_bundle_none_of_them() -> None:
    assert set(ESTIMATOR_NAMES) == {*ESTIMATORS, *OWN_ESTIMATORS}
    assert (*METHODS, *OWN_ESTIMATORS) == EVERY_METHOD
    assert not set(METHODS) & set(OWN_ESTIMATORS)
    assert {*ESTIMATORS, GRAD_STEP} == set(METHODS)


@pytest.mark.parametrize("weight", [0.05, 1.0])
def test_robust_adds_the_gradient_at_the_noised_action_as_it_is(weight: float) -> None:
    critic, a = OwnCritic(), 3.0 * NOISE  # far beyond the range of actions: nothing is clipped before the end
    result = sample(FLOW, critic, a, weight, steps=T, guidance=Guidance(estimator="robust"))
    norms = []
    for k in range(T):
        t = np.full(N, k / T)
        gradient = critic.noised_value_and_grad(a, t)[1]
        norms.append(np.linalg.norm(gradient, axis=1))
        a = a + (FLOW(a, t) + weight * gradient) / T
    np.testing.assert_allclose(result.action, np.clip(a, -1.0, 1.0), atol=1e-14)
    np.testing.assert_allclose(result.gradient_norm, np.mean(norms, axis=0))
    np.testing.assert_allclose(
        OWN_ESTIMATORS["robust"](FLOW, critic, NOISE, t, NOISE, T).q, 1.8 * (NOISE @ critic.c)[None]
    )


@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_classifier_free_goes_from_one_flow_to_the_other_and_beyond(weight: float) -> None:
    critic, a = OwnCritic(), NOISE
    result = sample(FLOW, critic, a, weight, steps=T, guidance=Guidance(estimator="classifier_free"))
    other = OTHER.given(OBSERVATION)
    for k in range(T):
        t = np.full(N, k / T)
        a = a + ((1.0 - weight) * FLOW(a, t) + weight * other(a, t)) / T
    np.testing.assert_allclose(result.action, np.clip(a, -1.0, 1.0), atol=1e-13)


@pytest.mark.parametrize("name", OWN_ESTIMATORS)
def test_rows_of_weight_zero_are_plain_and_the_others_are_guided_by_their_own_observation(name: str) -> None:
    weight, guidance = np.array([0.0, 0.4, 0.0, 0.4, 0.4, 0.0]), Guidance(estimator=name)
    mixed = sample(FLOW, OwnCritic(), NOISE, weight, steps=T, guidance=guidance).action
    plain = sample(FLOW, None, NOISE, steps=T).action
    guided = sample(FLOW, OwnCritic(), NOISE, 0.4, steps=T, guidance=guidance).action
    np.testing.assert_allclose(mixed, np.where(weight[:, None] > 0.0, guided, plain), rtol=0, atol=1e-14)
    assert (guided != plain).any(axis=1).all()


@pytest.mark.parametrize("name", OWN_ESTIMATORS)
def test_a_critic_that_does_not_bring_it_is_refused(name: str) -> None:
    field = LinearField(0.0, np.zeros(C))
    with pytest.raises(GuidanceError, match="this estimator needs a bundle that has it"):
        sample(field, QuadraticCritic(np.zeros(C)), NOISE, 0.1, guidance=Guidance(estimator=name))


@pytest.mark.parametrize("name", OWN_ESTIMATORS)
def test_a_scale_of_disagreement_is_refused_where_no_ensemble_is_asked(name: str) -> None:
    assert Guidance(estimator=name, disagreement_scale=math.inf, max_gradient_norm=0.1, mask=(1.0, 0.0))
    with pytest.raises(GuidanceError, match=f"disagreement_scale 2.0 was given with {name}, which asks no ensemble"):
        Guidance(estimator=name, disagreement_scale=2.0)
