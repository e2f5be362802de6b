"""Which sections of a parameter file are about a node, as rcl reads them, and what is said of a file without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from qgf_ros.errors import ParameterError
from qgf_ros.launching.parameter_files import parameters_for


def file(folder: Path, text: str) -> Path:
    path = folder / "given.yaml"
    path.write_text(text)
    return path


def section(name: str) -> str:
    return f"{name}:\n  ros__parameters:\n    bundle: mine\n"


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("/**", "/policy_node"),
        ("/**", "/a/b/policy_node"),
        ("/policy_node", "/policy_node"),
        ("policy_node", "/policy_node"),
        ("/cell/policy_node", "/cell/policy_node"),
        ("/*/policy_node", "/cell/policy_node"),
        ("/**/policy_node", "/policy_node"),
        ("/**/policy_node", "/a/b/policy_node"),
        ("/cell/*", "/cell/policy_node"),
    ],
)
def test_a_section_is_about_the_nodes_that_its_name_stands_for(tmp_path: Path, name: str, node: str) -> None:
    assert parameters_for(file(tmp_path, section(name)), node) == {"bundle": "mine"}


def test_namespaces_may_be_maps_around_sections(tmp_path: Path) -> None:
    path = file(tmp_path, "cell:\n  policy_node:\n    ros__parameters: {seed: 3}\n")
    assert parameters_for(path, "/cell/policy_node") == {"seed": 3}


def test_the_last_section_about_a_node_decides(tmp_path: Path) -> None:
    text = "/**:\n  ros__parameters: {bundle: all, seed: 1}\npolicy_node:\n  ros__parameters: {bundle: mine}\n"
    assert parameters_for(file(tmp_path, text), "/policy_node") == {"bundle": "mine", "seed": 1}


@pytest.mark.parametrize(
    ("text", "node", "sentence"),
    [
        (section("policy_nod"), "/policy_node", "has no section for /policy_node; it has /policy_nod: call one /pol"),
        (section("policy_node"), "/cell/policy_node", r"call one /cell/policy_node, or /\*\* for every node$"),
        (section("/*/policy_node"), "/policy_node", "has no section for /policy_node"),
        ("", "/policy_node", "it has none at all"),
        ("bundle: mine\n", "/policy_node", "it has none at all"),
        ("- a\n", "/policy_node", r"holds no sections; begin it with NODE: \{ros__parameters"),
        ("a: [\n", "/policy_node", "is no YAML"),
    ],
)
def test_a_file_that_says_nothing_to_the_node_is_refused(tmp_path: Path, text: str, node: str, sentence: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(ParameterError, match=sentence) as refused:
        parameters_for(path, node)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="absent.yaml cannot be read .*; give another path"):
        parameters_for(tmp_path / "absent.yaml", "/policy_node")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParameterError, match="binary.yaml"):
        parameters_for(binary, "/policy_node")
