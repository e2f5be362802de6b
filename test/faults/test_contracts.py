"""Garbage as a robot contract: refused in one sentence, or sound; never another exception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from exploration import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.robot_contract import read_robot_contract
from qgf_ros.errors import QgfError

EACH = examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
FLOATS = st.floats(allow_subnormal=False)
YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
#: A contract of the small bundle that says everything.
GOOD: dict[str, Any] = {
    "alignment": "nearest",
    "fields": {
        "angle": {"topic": "/arm/joints", "joints": ["a", "b"], "factor": 0.5, "shift": [0.1, 0.2], "max_age": 0.1},
        "effector": {"topic": "pose", "components": [0, 1, 2], "quality": {"reliability": "reliable", "depth": 3}},
    },
    "command": [{"type": "float64_multi_array", "topic": "/controller/commands", "fields": ["dx", "dy"]}],
    "driver_state": [
        {"topic": "/driver/running", "ready": [True]},
        {"topic": "speed", "message_type": "std_msgs/msg/Float64", "field": "data", "at_least": 10.0, "max_age": 0.5},
    ],
}


def outcome(path: Path, content: bytes, manifest: Manifest) -> str:
    """Read a contract and put it to use; return the sentence with which it was refused, or "sound"."""
    path.write_bytes(content)
    try:
        contract = read_robot_contract(path)
        fields = contract.apply(manifest)
        contract.outputs(manifest)
    except QgfError as error:
        said = str(error)
        assert 0 < len(said) < 2000 and said.isprintable(), said[:1000]
        return said
    assert [field.size for field in fields] == [field.size for field in manifest.observation]
    assert all(np.isfinite([*field.offset, field.scale]).all() for field in fields)
    return "sound"


@pytest.fixture
def manifest(small_bundle: Path) -> Manifest:
    return load_manifest(small_bundle)


def test_the_contract_that_is_to_be_damaged_is_sound(manifest: Manifest, tmp_path: Path) -> None:
    assert outcome(tmp_path / "c.yaml", yaml.safe_dump(GOOD).encode(), manifest) == "sound"


@EACH
@given(content=st.binary(max_size=300) | YAML.map(lambda value: yaml.safe_dump(value).encode()))
def test_garbage_as_a_contract_is_refused_or_sound(manifest: Manifest, tmp_path: Path, content: bytes) -> None:
    """200 texts of bytes or YAML."""
    outcome(tmp_path / "c.yaml", content, manifest)


@EACH
@given(data=st.data(), value=YAML)
def test_a_contract_with_one_value_replaced_is_refused_or_sound(
    manifest: Manifest, tmp_path: Path, data: st.DataObject, value: Any
) -> None:
    """200 contracts, each with another value in one place."""

    def replaced(node: Any) -> Any:
        if not isinstance(node, (dict, list)) or data.draw(st.booleans()):
            return value
        copy = dict(node) if isinstance(node, dict) else list(node)
        key = data.draw(st.sampled_from(sorted(copy) if isinstance(copy, dict) else range(len(copy))))
        copy[key] = replaced(copy[key])
        return copy

    outcome(tmp_path / "c.yaml", yaml.safe_dump(replaced(GOOD)).encode(), manifest)


@EACH
@given(data=st.data())
def test_a_damaged_contract_file_is_refused_or_sound(manifest: Manifest, tmp_path: Path, data: st.DataObject) -> None:
    """200 files with a few bytes changed, or cut short."""
    content = bytearray(yaml.safe_dump(GOOD).encode())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=5)):
        content[position] = data.draw(st.integers(0, 255))
    outcome(tmp_path / "c.yaml", bytes(content[: data.draw(st.integers(0, len(content)))]), manifest)
