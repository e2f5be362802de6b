"""The manifest refuses contracts that contradict themselves."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qgf_ros.bundle.fields import ActionField, ObservationField

FIELD: dict[str, Any] = {
    "name": "joints",
    "topic": "joint_states",
    "message_type": "sensor_msgs/msg/JointState",
    "extraction": "joint_position",
    "joints": ("a", "b"),
    "size": 2,
    "unit": "rad",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 3}, "size 3 was given, joint_position yields 2"),
        ({"extraction": "position"}, "does not fit"),
        ({"message_type": "my_msgs/msg/Own"}, "is not one of"),
        ({"offset": (0.0, 0.0, 0.0)}, "offset has 3 values, expected 1 or 2"),
        ({"clip": (1.0, 0.0)}, "must be \\(lower, upper\\)"),
        ({"max_age": 0.0}, "max_age"),
        ({"scale": float("nan")}, "scale"),
        ({"name": "no spaces"}, "name"),
    ],
)
def test_a_contradictory_observation_field_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ObservationField(**{**FIELD, **change})


def test_a_sound_observation_field_is_accepted() -> None:
    assert ObservationField(**FIELD).size == 2


def test_action_limits_must_be_ordered() -> None:
    with pytest.raises(ValidationError, match="lower 1.0 must be below upper -1.0"):
        ActionField(name="dx", unit="m", scale=0.05, lower=1.0, upper=-1.0)


@pytest.mark.parametrize("offset", [1.55, -4.0])
def test_the_policys_range_must_reach_into_the_limits(offset: float) -> None:
    joint = {"name": "shoulder", "unit": "rad", "scale": 1.05, "lower": -2.6, "upper": -0.5, "hold": None}
    assert ActionField(**joint, offset=-1.55).offset == -1.55
    with pytest.raises(ValidationError, match=rf"offset {offset} make \[-1, 1\] .* outside -2.6 to -0.5; mend them"):
        ActionField(**joint, offset=offset)
