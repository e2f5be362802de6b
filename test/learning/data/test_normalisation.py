"""Scale and offset from the data: no demonstration is clipped, nothing explodes, and the robot sees what was trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main
from qgf_ros.control.extraction import Scaling
from qgf_ros.errors import DatasetError, TrainingError
from qgf_ros.learning.data.contract import Contract, read_contract
from qgf_ros.learning.data.dataset import Dataset, load_dataset
from qgf_ros.learning.data.normalisation import FROM_DATA, as_seen, from_data, normalised
from qgf_ros.runtime.policy import Policy

JOINTS = {"message_type": "sensor_msgs/msg/JointState", "extraction": "joint_position", "unit": "rad"}
POSE = {"topic": "pose", "message_type": "geometry_msgs/msg/PoseStamped"}
WRENCH = {"topic": "wrench", "message_type": "geometry_msgs/msg/WrenchStamped"}
FIELDS = [
    {"name": "joints", "topic": "joint_states", "size": 3, "joints": ["a", "b", "c"], **JOINTS},
    {"name": "place", "extraction": "position", "size": 3, "unit": "m", **POSE},
    {"name": "turn", "extraction": "quaternion_xyzw", "size": 4, "unit": "1", **POSE},
    {"name": "contact", "extraction": "wrench_norm", "size": 1, "unit": "N", **WRENCH},
]
ACTIONS = [
    {"name": "a", "unit": "rad", "lower": -3.0, "upper": 3.0, "hold": None},
    {"name": "b", "unit": "rad", "lower": 0.5, "upper": 2.5, "hold": None},
]


def told(tmp_path: Path, observation: list[dict[str, Any]], action: list[dict[str, Any]]) -> Contract:
    path = tmp_path / "contract.json"
    path.write_text(json.dumps({"observation": observation, "action": action, "control_rate": 20.0}))
    return read_contract(path)


def data(observations: Any, actions: Any, **more: Any) -> Dataset:
    rows = len(observations)
    return Dataset(
        np.asarray(observations, np.float32), np.asarray(actions, np.float32), np.arange(rows) == rows - 1, {}, **more
    )


def demonstrations(rows: int = 500) -> Dataset:
    """A joint that moves much, one that moves little, one that never moves; a contact that is seldom."""
    random = np.random.default_rng(0)
    joints = np.stack(
        [random.uniform(-3, 1, rows), 1.0 + 0.05 * random.standard_normal(rows), np.full(rows, 0.7)], axis=1
    )
    place = random.uniform([0.3, -0.2, 0.1], [0.5, 0.2, 0.11], (rows, 3))
    turn = random.standard_normal((rows, 4))
    turn /= np.linalg.norm(turn, axis=1, keepdims=True)
    contact = np.where(random.random(rows) < 0.004, 30.0, 0.0)
    contact[0] = 30.0
    actions = random.uniform([-2.0, 1.0], [-1.0, 2.0], (rows, 2))
    return data(np.column_stack([joints, place, turn, contact]), actions)


numbers = st.floats(-3.0, 3.0, width=32)


@given(actions=arrays(np.float32, st.tuples(st.integers(1, 30), st.just(2)), elements=numbers))
def test_no_demonstrated_action_is_clipped_whatever_the_data(actions: Any) -> None:
    fields = tuple(
        ActionField(name=name, unit="rad", scale=1.0, lower=-3.5, upper=3.5, hold=None) for name in ("a", "b")
    )
    vector = ObservationField(
        name="s", topic="s", message_type="std_msgs/msg/Float64MultiArray", extraction="data", size=1, unit="1"
    )
    contract = Contract((vector,), fields, 20.0, frozenset(), frozenset(["a", "b"]))
    dataset = data(np.zeros((len(actions), 1)), actions)
    fitted = from_data(contract, dataset)
    inside = normalised(dataset, contract, fitted, "data").actions
    assert np.abs(inside).max() <= 1.0
    for i, field in enumerate(fitted.action):
        commands = np.clip(inside[:, i], -1.0, 1.0).astype(np.float64) * field.scale + field.offset
        np.testing.assert_allclose(commands, actions[:, i], atol=2e-6)
        assert field.scale >= 0.01 * 3.5
        moved = float(actions[:, i].max() - actions[:, i].min())
        if moved > 0.08:
            assert moved == pytest.approx(2.0 * field.scale, rel=1e-6)


@given(
    values=arrays(np.float32, st.tuples(st.integers(2, 40), st.just(3)), elements=st.floats(-1e4, 1e4, width=32)),
    kind=st.sampled_from(["joints", "place"]),
)
def test_observations_stay_moderate_whatever_the_data(values: Any, kind: str) -> None:
    """Beyond the quantiles by at most twenty widths; constant ones at 0, and what leaves them afterwards in its unit."""
    field = ObservationField.model_validate(next(field for field in FIELDS if field["name"] == kind))
    contract = Contract((field,), (), 20.0, frozenset([kind]), frozenset())
    dataset = data(values, np.zeros((len(values), 0)))
    fitted = from_data(contract, dataset)
    seen = normalised(dataset, contract, fitted, "data").observations
    assert np.isfinite(seen).all()
    assert np.abs(seen).max() <= 41.0
    scales = np.broadcast_to(fitted.observation[0].scale, 3)
    width = values.max(axis=0) - values.min(axis=0)
    if kind == "place":
        assert len(set(scales.tolist())) == 1
    else:
        assert (scales[width == 0.0] == 1.0).all()
        assert np.abs(seen[:, width == 0.0]).max(initial=0.0) <= 1e-2  # digits of an offset of 10,000


def test_each_kind_of_field_is_scaled_as_the_page_says(tmp_path: Path) -> None:
    contract, dataset = told(tmp_path, FIELDS, ACTIONS), demonstrations()
    fitted = from_data(contract, dataset)
    joints, place, turn, contact = fitted.observation
    seen = normalised(dataset, contract, fitted, "data").observations
    low, high = np.quantile(seen[:, :2], [0.01, 0.99], axis=0)
    np.testing.assert_allclose([low, high], [[-1, -1], [1, 1]], atol=1e-5)
    assert isinstance(joints.scale, tuple)
    assert (joints.scale[2], joints.offset[2]) == (1.0, 0.7)
    assert np.abs(seen[:, 2]).max() < 1e-6
    assert place.scale == pytest.approx(1.0 / 0.2, rel=0.05)  # the widest axis has 0.4 m
    assert len(place.offset) == 3
    assert (turn.scale, turn.offset) == (1.0, (0.0,))
    np.testing.assert_array_equal(seen[:, 6:10], dataset.observations[:, 6:10])
    assert (contact.scale, contact.offset) == (pytest.approx(1.0 / 15.0), (15.0,))
    assert [(a.scale, a.offset) for a in fitted.action] == [
        (pytest.approx(0.5, rel=0.01), pytest.approx(-1.5, abs=0.01)),
        (pytest.approx(0.5, rel=0.01), pytest.approx(1.5, abs=0.01)),
    ]


def test_the_robot_scales_as_the_training_did(tmp_path: Path) -> None:
    contract, dataset = told(tmp_path, FIELDS, ACTIONS), demonstrations()
    fitted = from_data(contract, dataset)
    seen = normalised(dataset, contract, fitted, "data").observations
    scaling = Scaling(fitted.observation)
    for row in range(0, 500, 50):
        served = scaling(dataset.observations[row].astype(np.float64)).astype(np.float32)
        np.testing.assert_array_equal(served, seen[row])


def test_what_a_contract_says_is_left_as_it_is(tmp_path: Path) -> None:
    explicit = [
        {**FIELDS[0], "scale": 2.0},
        {**FIELDS[1], "offset": [0.4, 0.0, 0.1]},
        FIELDS[2],
        {**FIELDS[3], "clip": [0.0, 1.0]},
    ]
    action = [{**ACTIONS[0], "scale": 3.0}, {**ACTIONS[1], "scale": 2.0, "offset": 0.5}]
    contract = told(tmp_path, explicit, action)
    assert contract.observation_from_data == {"turn"}
    assert contract.action_from_data == frozenset()
    contract = replace(contract, observation_from_data=frozenset())
    dataset = replace(demonstrations(), actions=np.zeros((500, 2), np.float32))
    assert from_data(contract, dataset) == contract
    assert normalised(dataset, contract, contract, "data") is dataset
    outside = replace(dataset, actions=np.full((500, 2), 1.5, np.float32))
    with pytest.raises(DatasetError, match=r"data: an action leaves \[-1, 1\]; give a contract without its scale"):
        normalised(outside, contract, contract, "data")


def test_an_offset_without_a_scale_is_no_choice(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is not a contract .*scale"):
        told(tmp_path, FIELDS, [{**ACTIONS[0], "offset": 1.0}])


def test_commands_that_were_scaled_in_a_file_are_taken_back_to_their_unit(tmp_path: Path) -> None:
    contract, plain = told(tmp_path, FIELDS, ACTIONS), demonstrations()
    scaled = replace(plain, actions=(plain.actions - 0.5) / 4.0, normalisation={"a": (4.0, 0.5), "b": (4.0, 0.5)})
    for ours, theirs in zip(from_data(contract, scaled).action, from_data(contract, plain).action):
        assert ours.scale == pytest.approx(theirs.scale, rel=1e-5)
        assert ours.offset == pytest.approx(theirs.offset, rel=1e-5)
    fitted = from_data(contract, scaled)
    ours = normalised(scaled, contract, fitted, "data")
    np.testing.assert_allclose(ours.actions, normalised(plain, contract, fitted, "data").actions, atol=1e-5)
    assert ours.normalisation == {field.name: (field.scale, field.offset) for field in fitted.action}


def test_commands_beyond_every_limit_are_named(tmp_path: Path) -> None:
    contract, dataset = told(tmp_path, FIELDS, ACTIONS), demonstrations()
    degrees = replace(dataset, actions=dataset.actions * np.float32(57.3))
    with pytest.raises(
        DatasetError, match="the commands of a lie between .* give its limits in the unit of the commands"
    ):
        from_data(contract, degrees)


def test_a_bundle_of_raw_data_runs_in_raw_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = demonstrations(200)
    rows = np.arange(200)
    np.savez(
        tmp_path / "robot.npz",
        observations=dataset.observations,
        actions=dataset.actions,
        terminals=rows % 50 == 49,
        rewards=-np.ones(200, np.float32),
        masks=(rows % 50 != 49).astype(np.float32),
    )
    told(tmp_path, FIELDS, ACTIONS)
    files = ["--dataset", str(tmp_path / "robot.npz"), "--contract", str(tmp_path / "contract.json")]
    run, bundle = str(tmp_path / "run"), str(tmp_path / "bundle")
    assert main(["train", *files, "--out", run, "--smoke", "--threads", "1", "--device", "cpu"]) == 0
    assert "scale and offset are taken from the data: contact, joints, place, turn, a, b" in capsys.readouterr().out
    assert main(["train", *files, "--out", run, "--smoke", "--threads", "1", "--device", "cpu"]) == 0
    assert main(["export", run, "--out", bundle]) == 0
    assert main(["inspect", bundle]) == 0
    policy = Policy.load(tmp_path / "bundle")
    joints, *_ = policy.manifest.observation
    assert isinstance(joints.scale, tuple)
    assert policy.manifest.demonstrations is not None
    known = policy.manifest.demonstrations.fields["joints"]
    np.testing.assert_allclose(known.minimum, dataset.observations[:, :3].min(axis=0), atol=1e-5)
    seen = Scaling(policy.manifest.observation)(dataset.observations[0].astype(np.float64)).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal((1, 1, 2), dtype=np.float32)
    assert policy.manifest.training[FROM_DATA] == {
        "observation": ["contact", "joints", "place", "turn"],
        "action": ["a", "b"],
    }
    rows_seen = as_seen(load_dataset(tmp_path / "robot.npz", bounded=False), policy.manifest, "robot.npz")
    np.testing.assert_array_equal(rows_seen.observations[0], seen)
    before = policy.manifest.demonstrations
    assert main(["dataset", "describe", str(tmp_path / "robot.npz"), "--bundle", bundle]) == 0
    assert load_manifest(tmp_path / "bundle").demonstrations == before
    (chunk,) = policy.act(seen[None], noise, "task", 0.0)
    commands = [a * f.scale + f.offset for a, f in zip(chunk.actions[0], policy.manifest.action)]
    assert (np.array(commands) >= dataset.actions.min(axis=0) - 1e-5).all()
    assert (np.array(commands) <= dataset.actions.max(axis=0) + 1e-5).all()


def test_a_goal_is_a_row_of_the_data_set(tmp_path: Path) -> None:
    """In the units of the fields that were left to the data, scaled where the contract says how."""
    contract, dataset = told(tmp_path, [FIELDS[0], {**FIELDS[1], "scale": 3.0}, *FIELDS[2:]], ACTIONS), demonstrations()
    fitted = from_data(contract, dataset)
    goal = fitted.with_goal(contract.observation_from_data).observation[-1]
    seen = normalised(dataset, contract, fitted, "data").observations
    for row in (0, 100):
        served = Scaling([goal])(dataset.observations[row].astype(np.float64)).astype(np.float32)
        np.testing.assert_array_equal(served, seen[row])
    assert fitted.with_goal().observation[-1].scale == 1.0


def test_plain_data_in_other_units_ask_for_a_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ones = np.ones(60, np.float32)
    arrays_ = {"observations": np.zeros((60, 2)), "terminals": np.arange(60) == 59, "rewards": -ones, "masks": ones}
    np.savez(tmp_path / "robot.npz", actions=2.0 * ones[:, None], **arrays_)
    out = tmp_path / "run"
    assert main(["train", "--dataset", str(tmp_path / "robot.npz"), "--out", str(out), "--smoke"]) == 2
    assert "an action leaves [-1, 1]; give a contract without its scale and offset" in capsys.readouterr().err
    assert not out.exists()
