"""How members become one value: in closed form, and in its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qgf_ros.bundle.aggregation import aggregate, deviations, member_weights
from qgf_ros.bundle.manifest import CriticCard

WAYS = ["min", "mean", "mean - 0.5 std", "mean - 2 std"]


def test_the_forms_are_read() -> None:
    assert [deviations(way) for way in (*WAYS, "mean - 0.125 std")] == [None, 0.0, 0.5, 2.0, 0.125]


@pytest.mark.parametrize("text", ["", "max", "mean-0.5 std", "mean - std", "mean - -1 std", "mean - 1e3 std", "min\n"])
def test_what_is_none_of_them_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected min, mean, or mean - RHO std"):
        deviations(text)
    with pytest.raises(ValidationError):
        CriticCard(task="none", discount=0.99, ensemble_size=2, aggregation=text)


@pytest.mark.parametrize("way", WAYS)
def test_a_manifest_may_say_each_of_them(way: str) -> None:
    card = CriticCard(task="none", discount=0.99, ensemble_size=2, aggregation=way)
    assert CriticCard.model_validate_json(card.model_dump_json()).aggregation == way


def test_values_of_two_members_in_closed_form() -> None:
    q = np.array([[-3.0, 1.0], [-1.0, 1.0]], dtype=np.float32)  # mean -2 and 1, standard deviation 1 and 0
    assert aggregate(q, "min").tolist() == [-3.0, 1.0]
    assert aggregate(q, "mean").tolist() == [-2.0, 1.0]
    assert aggregate(q, "mean - 0.5 std").tolist() == [-2.5, 1.0]
    assert {aggregate(q, way).dtype for way in WAYS} == {np.dtype(np.float32)}


@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 10), way=st.sampled_from(WAYS))
def test_the_weights_of_the_members_are_the_gradient(seed: int, members: int, way: str) -> None:
    q: Any = np.random.default_rng(seed).normal(-50.0, 4.0, (members, 3))
    numeric, step = np.zeros_like(q), 1e-5
    for e in range(members):
        shift = step * (np.arange(members) == e)[:, None]
        numeric[e] = (aggregate(q + shift, way) - aggregate(q - shift, way)) / (2.0 * step)
    np.testing.assert_allclose(member_weights(q, way), numeric, atol=1e-4)


@pytest.mark.parametrize("way", WAYS[1:])
def test_members_that_agree_weigh_alike(way: str) -> None:
    np.testing.assert_array_equal(member_weights(np.full((4, 2), -81.3, np.float32), way), np.full((4, 2), 0.25))
