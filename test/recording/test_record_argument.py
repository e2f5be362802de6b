"""What robot.launch.py tells the recorder, with stand-ins for the launch system, which is on no package index."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch" / "robot.launch.py"


class LaunchConfiguration:
    """An argument by name, whose value is in the context."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: dict[str, str]) -> str:
        return context[self.name]


def recorder(monkeypatch: pytest.MonkeyPatch, **arguments: str) -> list[dict[str, Any]]:
    """Return what each recorder that is started with these launch arguments is given."""
    names = (
        "launch",
        "launch.actions",
        "launch.events.process",
        "launch.logging",
        "launch_ros",
        "launch_ros.substitutions",
    )
    modules: dict[str, Any] = {name: MagicMock() for name in names}
    modules["launch.substitutions"] = MagicMock(LaunchConfiguration=LaunchConfiguration)
    modules["launch_ros.actions"] = SimpleNamespace(Node=lambda **given: given)
    modules["launch_ros.parameter_descriptions"] = SimpleNamespace(ParameterValue=lambda value, value_type: value)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    functions = runpy.run_path(str(LAUNCH))
    described = {name: default for name, default, _, _ in functions["ARGUMENTS"]}
    described["params_file"] = str(ROOT / "config" / "policy_node.yaml")
    nodes: list[dict[str, Any]] = functions["recorder"]({**described, **arguments})
    return nodes


def test_the_recorder_gets_the_parameters_of_the_policy_node(monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = recorder(monkeypatch, record="true", record_file="x.mcap")
    file, overrides = node["parameters"]
    assert file.name == "params_file"
    assert overrides == {"bundle": "cube-single", "out": "x.mcap"}


def test_bundle_and_contract_that_are_given_go_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = recorder(monkeypatch, record="true", bundle="mine", contract="robot.yaml", record_file="x.mcap")
    assert node["parameters"][1] == {"bundle": "mine", "contract": "robot.yaml", "out": "x.mcap"}


def test_nothing_is_recorded_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorder(monkeypatch) == []
