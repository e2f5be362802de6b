"""The sign of a quaternion: the mean of the data it is compared with, and one sign for data that have both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.quaternions import with_mean_quaternions, with_one_sign

POSE = {"topic": "pose", "message_type": "geometry_msgs/msg/PoseStamped", "unit": "1"}


def turn(**changes: Any) -> ObservationField:
    return ObservationField(**{"name": "turn", "extraction": "quaternion_wxyz", "size": 4, **POSE, **changes})


def about_z(half_angles: Any) -> np.ndarray:
    half = np.asarray(half_angles, dtype=float)
    return np.column_stack([np.cos(half), np.zeros_like(half), np.zeros_like(half), np.sin(half)]).astype(np.float32)


def test_the_mean_of_data_in_one_hemisphere_is_kept_although_w_has_both_signs() -> None:
    """As in cube-single: z > 0 always, w from -0.73 to 0.98."""
    data = about_z(np.linspace(0.2, 2.39, 200))
    (field,) = with_mean_quaternions((turn(),), data, np.array([199]))
    assert not field.sign_follows
    assert field.mean_quaternion == pytest.approx([np.cos(1.295), 0, 0, np.sin(1.295)], abs=1e-3)
    assert (data @ np.array(field.mean_quaternion, dtype=np.float32) > 0.0).all()


def test_data_all_around_that_begin_in_a_hemisphere_are_followed_from_there() -> None:
    """As in cube-single: z > 0 where an episode begins, and later as the simulator integrates it."""
    data = about_z(np.concatenate([np.linspace(1.0, 6.0, 60), np.linspace(2.5, 6.0, 60)]))
    (field,) = with_mean_quaternions((turn(),), data, np.array([59, 119]))
    assert field.mean_quaternion == (0.0, 0.0, 0.0, 1.0)  # w has both signs
    assert field.sign_follows
    turned = data @ np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0].astype(np.float32)
    (field,) = with_mean_quaternions((turn(),), turned, np.array([59, 119]))  # where no component has one sign
    assert field.sign_follows
    assert (turned[[0, 60]] @ np.array(field.mean_quaternion) > 0.0).all()


def test_a_hemisphere_is_found_that_the_mean_does_not_lie_in_the_middle_of() -> None:
    """Beginnings anywhere in z > 0, most of them on one side: some are beyond a right angle from their mean."""
    begin = about_z(np.concatenate([np.linspace(0.01, 3.13, 50), np.linspace(2.0, 3.0, 50)]))
    assert (begin @ begin.mean(axis=0) < 0.0).any()
    data = np.stack([begin, begin], axis=1).reshape(-1, 4)
    (field,) = with_mean_quaternions((turn(),), data, np.arange(1, 200, 2))
    assert field.mean_quaternion is not None
    assert (data @ np.array(field.mean_quaternion) > 0.0).all()


def test_data_all_around_with_jumps_or_opposite_beginnings_have_no_hemisphere() -> None:
    known = turn(mean_quaternion=(1.0, 0.0, 0.0, 0.0))
    around = about_z(np.linspace(0.0, 6.0, 99))
    jumping = around * np.where(np.arange(99) == 50, -1.0, 1.0).astype(np.float32)[:, None]
    beginnings = np.concatenate([around, -around])
    for data, ends in ((jumping, [98]), (beginnings, [98, 197])):
        (field,) = with_mean_quaternions((known,), data, np.array(ends))
        assert (field.mean_quaternion, field.sign_follows) == (None, False)


def test_other_fields_are_left_alone_and_a_history_counts() -> None:
    yaw = ObservationField(name="yaw", extraction="yaw", size=1, **POSE)
    part = turn(name="part", components=(0, 3), size=2)
    stacked = turn(history=2, size=8)
    data = np.hstack([np.zeros((2, 3), np.float32), about_z([0.1, 0.1]), about_z([0.3, 0.3])])
    fields = with_mean_quaternions((yaw, part, stacked), data, np.array([1]))
    assert fields[:2] == (yaw, part)
    assert fields[2].mean_quaternion == pytest.approx([np.cos(0.2), 0, 0, np.sin(0.2)], abs=1e-6)


def test_a_mean_of_another_length_or_extraction_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be of length 1"):
        turn(mean_quaternion=(1.0, 1.0, 0.0, 0.0))
    with pytest.raises(ValidationError, match="of a field that yields quaternions"):
        turn(extraction="position", size=3, mean_quaternion=(1.0, 0.0, 0.0, 0.0))


def test_the_opposite_of_every_quaternion_is_the_same_data() -> None:
    data = about_z(np.full(40, np.pi / 4))
    np.testing.assert_array_equal(with_one_sign((turn(),), -data), data)
    np.testing.assert_array_equal(with_one_sign((turn(),), data), data)


@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.floats(0.0, 2.0),
    history=st.sampled_from([1, 2]),
)
def test_aligned_data_are_the_same_rotations_in_one_hemisphere(seed: int, spread: float, history: int) -> None:
    random = np.random.default_rng(seed)
    raw = random.standard_normal((1, 4)) + spread * random.standard_normal((60, 4))
    raw *= random.choice([-1.0, 1.0], (60, 1)) / np.linalg.norm(raw, axis=1, keepdims=True)
    field = turn(history=history, size=4 * history)
    data = raw.astype(np.float32).reshape(-1, 4 * history)
    aligned = with_one_sign((field,), data).reshape(-1, 4)
    same = np.abs(aligned - data.reshape(-1, 4)).max(axis=1) == 0.0
    opposite = np.abs(aligned + data.reshape(-1, 4)).max(axis=1) == 0.0
    assert (same | opposite).all()
    (known,) = with_mean_quaternions((field,), aligned.reshape(-1, 4 * history), np.array([len(data) - 1]))
    assert known.mean_quaternion is not None
    assert not known.sign_follows


def test_fields_that_know_their_mean_and_scaled_ones_keep_their_meaning() -> None:
    known = turn(mean_quaternion=(1.0, 0.0, 0.0, 0.0))
    data = -about_z([0.1, 0.2])
    np.testing.assert_array_equal(with_one_sign((known,), data), data)
    scaled = turn(scale=2.0, offset=(0.5,))
    values = ((data - 0.5) * 2.0).astype(np.float32)
    np.testing.assert_allclose(with_one_sign((scaled,), values), (-data - 0.5) * 2.0, atol=1e-6)
