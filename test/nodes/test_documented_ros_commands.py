"""The `ros2 …` commands of the documentation that are about this package name what there is."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="the parameters of the nodes need the ros extra or a ROS 2 installation")

from rclpy.parameter import Parameter

from qgf_ros.nodes import parameters
from qgf_ros.nodes.declarations import declarations

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DEFAULTS = {name: default for name, (default, _) in declarations().items()}


def commands(beginning: str) -> list[list[str]]:
    """The words behind a beginning, of every such command in an indented line or between backquotes."""
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = re.findall(r"^ {4}(ros2 .*)$", text, re.MULTILINE)
        inline = re.findall(r"`(ros2 [^`]*)`", text)
        for command in [*lines, *(" ".join(words.split()) for words in inline)]:
            if command.startswith(f"{beginning} "):
                found.add(command.removeprefix(beginning).split(" #")[0].strip())
    return [shlex.split(command) for command in sorted(found)]


def launch_arguments(name: str) -> Iterator[str]:
    """Names of the arguments of a launch file, read without the launch system."""
    tree = ast.parse((ROOT / "launch" / name).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "DeclareLaunchArgument":
            yield from (word.value for word in node.args if isinstance(word, ast.Constant))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ARGUMENTS":
            yield from (row[0] for row in ast.literal_eval(node.value))


@pytest.mark.parametrize("words", commands("ros2 launch qgf_ros"), ids=" ".join)
def test_launch_arguments_are_declared(words: list[str]) -> None:
    file, *given = words
    known = {*launch_arguments("robot.launch.py"), *(launch_arguments(file) if file == "sim.launch.py" else ())}
    assert (ROOT / "launch" / file).is_file()
    assert {word.partition(":=")[0] for word in given if ":=" in word} <= known


@pytest.mark.parametrize("words", commands("ros2 param set /policy_node"), ids=" ".join)
def test_parameters_are_declared_and_take_the_value(words: list[str]) -> None:
    name, value = words
    assert name in DEFAULTS
    parameters.review([Parameter(name, value=yaml.safe_load(value))], DEFAULTS, None)


@pytest.mark.parametrize("words", commands("ros2 lifecycle set /policy_node"), ids=" ".join)
def test_transitions_are_those_of_a_lifecycle_node(words: list[str]) -> None:
    assert words[0] in ("configure", "activate", "deactivate", "cleanup", "shutdown")


@pytest.mark.parametrize("words", commands("ros2 service call"), ids=" ".join)
def test_services_of_the_policy_node_are_served_with_that_type(words: list[str]) -> None:
    name, kind = words[:2]
    if name.startswith("/policy_node/"):
        source = (ROOT / "qgf_ros" / "nodes" / "hold_services.py").read_text(encoding="utf-8")
        assert f'{kind.rpartition("/")[2]}, "{name.replace("/policy_node", "~")}"' in source


@pytest.mark.parametrize("words", commands("ros2 run qgf_ros"), ids=" ".join)
def test_executables_are_installed(words: list[str]) -> None:
    assert f'"{words[0]} = ' in (ROOT / "setup.py").read_text(encoding="utf-8")


def test_there_are_such_commands() -> None:
    kinds = ("launch qgf_ros", "param set /policy_node", "lifecycle set /policy_node", "service call", "run qgf_ros")
    assert all(len(commands(f"ros2 {kind}")) >= 2 for kind in kinds)
