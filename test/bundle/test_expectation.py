"""What is plausible of an observation, and what the training data never reached."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.bundle.demonstrations import demonstrations_of
from qgf_ros.bundle.expectation import UNKNOWN, expected_fields, outside_demonstrations
from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest

ARM = ("pan", "lift", "elbow")


def manifest_of(observations: Any, **object_changes: Any) -> Manifest:
    """A bundle of three joints and an object, trained on observations [R, 6] in rad and m."""
    fields = (
        ObservationField(
            name="joints",
            topic="joint_states",
            message_type="sensor_msgs/msg/JointState",
            extraction="joint_position",
            joints=ARM,
            size=3,
            unit="rad",
        ),
        ObservationField(
            name="object",
            topic="object_pose",
            message_type="geometry_msgs/msg/PoseStamped",
            extraction="position",
            size=3,
            unit="m",
            **object_changes,
        ),
    )
    return Manifest(
        name="small",
        observation=fields,
        action=(ActionField(name="dx", unit="m", scale=0.1, lower=-0.1, upper=0.1),),
        horizon=1,
        execution_horizon=1,
        control_rate=20.0,
        critics={"task": CriticCard(task="reach", discount=0.99, ensemble_size=2)},
        demonstrations=demonstrations_of(fields, np.asarray(observations, dtype=np.float32), "mine.npz"),
    )


@pytest.fixture
def manifest() -> Manifest:
    """Demonstrations of an arm about its home, and of an object on a table."""
    random = np.random.default_rng(1)
    low, high = [-0.5, -1.9, 1.2, 0.25, -0.25, 0.02], [0.5, -1.3, 1.9, 0.55, 0.25, 0.08]
    return manifest_of(random.uniform(low, high, (20_000, 6)))


HOME = np.array([0.1, -1.57, 1.57])
TABLE = np.array([0.4, 0.1, 0.05])


@pytest.mark.parametrize(
    ("joints", "thing", "says"),
    [
        (HOME, TABLE, None),
        (HOME + 0.5, TABLE + 1.0, None),  # far, and yet nothing that cannot be
        (HOME + 2.0 * np.pi, TABLE, None),  # a driver that counts turns
        (np.rad2deg(HOME), TABLE, "lift is -89.95 rad"),
        (HOME, 1000.0 * TABLE, "x is 400 m"),
        (np.array([1e30, -1.57, 1.57]), TABLE, "pan is 1e+30 rad"),
        (np.array([0.1, -1e300, 1.57]), TABLE, "lift is -1e+300 rad"),
    ],
)
def test_wrong_units_and_nonsense_are_not_plausible(manifest: Manifest, joints: Any, thing: Any, says: str) -> None:
    arm, object_ = expected_fields(manifest, manifest.observation, 5.0)
    complaints = [text for text in (arm.implausible(joints), object_.implausible(thing)) if text]
    assert len(complaints) == (says is not None)
    if says is not None:
        assert complaints[0].startswith(f"{says}, plausible is ")


def test_without_a_factor_or_quantiles_everything_finite_is_plausible(manifest: Manifest) -> None:
    blind = manifest.model_copy(update={"demonstrations": None})
    for bundle, factor in ((manifest, np.inf), (blind, 5.0)):
        for one in expected_fields(bundle, bundle.observation, factor):
            assert one.implausible(np.full(3, 1e300)) is None


def test_bounds_follow_the_units_of_the_robot_and_are_told_in_those_of_the_bundle(manifest: Manifest) -> None:
    millimetres = manifest.observation[1].model_copy(update={"scale": 0.001, "offset": (0.0, 0.0, -20.0)})
    thing = expected_fields(manifest, (manifest.observation[0], millimetres), 5.0)[1]
    assert thing.implausible(1000.0 * TABLE) is None
    complaint = thing.implausible(1e6 * TABLE)
    assert complaint is not None
    assert complaint.startswith("x is 400 m, plausible is ")


def test_where_the_data_reach_a_clip_only_nonsense_beyond_it_is_refused() -> None:
    data = np.tile([0.0, 0.0, 0.0, 0.5, 0.0, 0.1], (1000, 1))
    data[:500, 3] = 0.0  # x from 0 to the clip, y never moved
    bundle = manifest_of(data, clip=(0.0, 0.5))
    thing = expected_fields(bundle, bundle.observation, 5.0)[1]
    assert thing.implausible(np.array([50.0, 0.0, 0.1])) is None
    assert "x is 1e+30" in (thing.implausible(np.array([1e30, 0.0, 0.1])) or "")
    assert "z is 50" in (thing.implausible(np.array([0.0, 0.0, 50.0])) or "")


@given(
    data=st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6), min_size=1, max_size=20),
    factor=st.floats(1.0, 100.0),
)
def test_what_the_data_hold_is_always_plausible_and_never_outside(data: Any, factor: float) -> None:
    bundle = manifest_of(data)
    for row in np.array(data, dtype=np.float32):
        for one, block in zip(expected_fields(bundle, bundle.observation, factor), (row[:3], row[3:])):
            assert one.implausible(block.astype(np.float64)) is None
        assert outside_demonstrations(expected_fields(bundle, bundle.observation), row.astype(np.float64)) == ""


def test_what_the_data_never_reached_is_named_with_its_distance_the_farthest_first(manifest: Manifest) -> None:
    assert manifest.demonstrations is not None
    highest = manifest.demonstrations.fields["joints"].maximum[2]
    vector = np.array([0.1, -1.57, highest + 0.31, 0.4, 0.1, 0.2])
    expected = expected_fields(manifest, manifest.observation)
    assert outside_demonstrations(expected, vector) == "joints elbow by 0.31 rad, object z by 0.12 m"
    assert outside_demonstrations(expected, None) == ""
    blind = manifest.model_copy(update={"demonstrations": None})
    assert outside_demonstrations(expected_fields(blind, blind.observation), vector) == UNKNOWN
