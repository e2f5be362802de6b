"""The arguments of a process that are for ROS: what rcl cannot read, and files that say nothing to the node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from peer import TIMEOUT

from qgf_ros.errors import ParameterError
from qgf_ros.nodes.admission.ros_arguments import check_parameter_files


@pytest.fixture
def section(tmp_path: Path) -> str:
    """A parameter file for a node of another name."""
    path = tmp_path / "given.yaml"
    path.write_text("policy_nod:\n  ros__parameters:\n    bundle: cube-single\n")
    return str(path)


def test_a_file_for_another_node_is_refused(section: str) -> None:
    arguments = ["policy_node", "--ros-args", "-p", "seed:=1", "--params-file", section]
    with pytest.raises(ParameterError, match="has no section for /policy_node; it has /policy_nod: call one /policy_n"):
        check_parameter_files("/policy_node", arguments)
    check_parameter_files("/policy_nod", arguments)


def test_what_is_not_for_ros_is_not_looked_at(section: str) -> None:
    check_parameter_files("/policy_node", ["policy_node", "--params-file", section])
    check_parameter_files("/policy_node", ["policy_node", "--ros-args", "-p", "a:=1", "--", "--params-file", section])
    check_parameter_files("/policy_node", ["policy_node", "--ros-args", "--params-file"])


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("/absent.yaml", "Couldn't parse params file: '--params-file /absent.yaml'. Error: Error opening YAML file"),
        ("", "has no section for /policy_node; it has /policy_nod: call one /policy_node, or /** for every node"),
    ],
)
def test_the_process_says_it_in_one_sentence(section: str, argument: str, sentence: str) -> None:
    words = [sys.executable, "-m", "qgf_ros.nodes.policy_node", "--ros-args", "--params-file", argument or section]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("policy_node: ")
    assert last.endswith(sentence)
    assert "Traceback" not in done.stderr
