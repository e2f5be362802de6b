"""What a bundle keeps of its training data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from qgf_ros.bundle.demonstrations import QUANTILES, Demonstrations, Distribution, component_name, demonstrations_of
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.locate import MANIFEST_NAME
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "models").iterdir())


def joints(**changes: Any) -> ObservationField:
    values = {"name": "angle", "topic": "joint_states", "message_type": "sensor_msgs/msg/JointState", "unit": "rad"}
    values |= {"extraction": "joint_position", "joints": ("shoulder", "elbow"), "size": 2, **changes}
    return ObservationField(**values)


def vector(size: int, **changes: Any) -> ObservationField:
    values = {"name": "data", "topic": "data", "message_type": "std_msgs/msg/Float64MultiArray", "unit": "m"}
    return ObservationField(**{**values, "extraction": "data", "size": size, **changes})


def distribution(low: float = -1.0, high: float = 1.0, size: int = 2) -> Distribution:
    rows = np.quantile([low, high], list(QUANTILES.values()))
    return Distribution(**{name: (float(row),) * size for name, row in zip(QUANTILES, rows)})


def test_quantiles_are_those_of_each_component_in_the_unit_of_the_field() -> None:
    random = np.random.default_rng(0)
    raw = random.uniform([-1.0, 2.0, 10.0], [1.0, 3.0, 30.0], (10_000, 3))
    scaled = vector(1, offset=(20.0,), scale=0.1)
    observations = np.column_stack([raw[:, :2], (raw[:, 2] - 20.0) * 0.1]).astype(np.float32)
    found = demonstrations_of((joints(), scaled), observations, "mine.npz")
    assert (found.dataset, found.rows) == ("mine.npz", 10_000)
    for name, share in QUANTILES.items():
        expected = np.quantile(raw, share, axis=0)
        assert getattr(found.fields["angle"], name) == pytest.approx(expected[:2], abs=1e-5)
        assert getattr(found.fields["data"], name) == pytest.approx(expected[2:], abs=1e-4)


def test_a_scale_may_be_one_of_each_component() -> None:
    random = np.random.default_rng(1)
    raw = random.uniform([-1.0, 2.0] * 2, [1.0, 3.0] * 2, (200, 4))
    field = vector(4, history=2, offset=(0.5, 2.5), scale=(3.0, 0.01))
    observations = (raw - np.tile([0.5, 2.5], 2)) * np.tile([3.0, 0.01], 2)
    found = demonstrations_of((field,), observations.astype(np.float32), "mine.npz").fields["data"]
    both = raw.reshape(-1, 2)
    assert found.minimum == pytest.approx(both.min(axis=0), abs=1e-5)
    assert found.maximum == pytest.approx(both.max(axis=0), abs=1e-5)
    with pytest.raises(ValidationError, match="scale has 3 values, expected 1 or 2"):
        vector(4, history=2, scale=(1.0, 2.0, 3.0))


def test_a_history_counts_every_instant_and_a_constant_not_at_all() -> None:
    stacked, fixed = vector(4, history=2), vector(1, name="fixed", topic="fixed", constant=(1.0,))
    observations = np.array([[0, 10, 1, 11, 1], [1, 11, 2, 12, 1]], dtype=np.float32)
    found = demonstrations_of((stacked, fixed), observations, "mine.npz")
    assert set(found.fields) == {"data"}
    assert (found.fields["data"].minimum, found.fields["data"].maximum) == ((0.0, 10.0), (2.0, 12.0))


def test_quantiles_that_fall_or_are_of_other_components_are_refused() -> None:
    sound = distribution().model_dump()
    with pytest.raises(ValidationError, match="must not fall"):
        Distribution.model_validate({**sound, "q0_99": (-5.0, 0.0)})
    with pytest.raises(ValidationError, match="each must be of all"):
        Distribution.model_validate({**sound, "q0_99": (0.9,)})
    with pytest.raises(ValidationError):
        Distribution.model_validate({**sound, "maximum": (float("nan"), 1.0)})


def test_a_manifest_keeps_them_and_refuses_those_of_other_fields() -> None:
    manifest = load_manifest(SHIPPED[0])
    size = manifest.observation[0].instant_size
    known = Demonstrations(dataset="x", rows=2, fields={manifest.observation[0].name: distribution(size=size)})
    kept = manifest.model_copy(update={"demonstrations": known})
    assert Manifest.model_validate_json(kept.model_dump_json()) == kept
    for wrong in ({"nothing": distribution()}, {manifest.observation[0].name: distribution(size=size + 1)}):
        other = known.model_copy(update={"fields": wrong})
        with pytest.raises(ValidationError, match="make them again of the data"):
            Manifest.model_validate(manifest.model_copy(update={"demonstrations": other}).model_dump())


def test_a_manifest_without_them_loads() -> None:
    text = (SHIPPED[0] / MANIFEST_NAME).read_text(encoding="utf-8")
    values = load_manifest(SHIPPED[0]).model_dump(mode="json", exclude={"demonstrations"})
    for field in values["observation"]:
        del field["mean_quaternion"], field["sign_follows"]
    assert Manifest.model_validate(values).demonstrations is None
    assert Manifest.model_validate_json(text).name == SHIPPED[0].name


def test_components_are_called_by_joint_axis_or_number() -> None:
    assert [component_name(joints(), i) for i in range(2)] == ["shoulder", "elbow"]
    both = joints(extraction="joint_position_cos_sin", size=4)
    assert [component_name(both, i) for i in range(4)] == ["cos shoulder", "cos elbow", "sin shoulder", "sin elbow"]
    pose = {"message_type": "geometry_msgs/msg/PoseStamped"}
    height = vector(1, extraction="position", components=(2,), **pose)
    turn = vector(4, extraction="quaternion_wxyz", **pose)
    assert component_name(height, 0) == "z"
    assert [component_name(turn, i) for i in range(4)] == ["w", "x", "y", "z"]
    assert component_name(vector(3), 1) == "component 1"


@pytest.mark.parametrize("bundle", SHIPPED, ids=lambda bundle: bundle.name)
def test_every_shipped_bundle_keeps_them_for_every_field(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    assert manifest.demonstrations is not None
    assert set(manifest.demonstrations.fields) == {field.name for field in manifest.observation}
    assert manifest.demonstrations.rows >= 20_000
    for field in manifest.observation:
        if field.is_quaternion:  # as OGBench draws and MuJoCo integrates it
            assert (field.mean_quaternion, field.sign_follows) == ((0.0, 0.0, 0.0, 1.0), True)
