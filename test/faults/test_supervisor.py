"""What robot.launch.py does with a policy node that ends; stand-ins for the launch system, which is on no package index.

`test/test_launch.py` has the same with the real one, where it is installed.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from qgf_ros.control.safety import LONGEST_STOP
from qgf_ros.launching.executables import STARTED_WRONGLY
from qgf_ros.loop.pipeline import DRAIN_TIMEOUT

LAUNCH = Path(__file__).resolve().parents[2] / "launch" / "robot.launch.py"
RUNNING, ENDING = SimpleNamespace(is_shutdown=False), SimpleNamespace(is_shutdown=True)
KILLED = SimpleNamespace(returncode=-9)


class LaunchConfiguration:
    """An argument by name, whose value is in the context."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: dict[str, str]) -> str:
        return context[self.name]


def policy_node(monkeypatch: pytest.MonkeyPatch, **arguments: str) -> dict[str, Any]:
    """Return what the policy node is started with, given these launch arguments."""
    names = ("launch", "launch.actions", "launch.events", "launch.events.process", "launch.logging", "launch_ros")
    modules: dict[str, Any] = {name: MagicMock() for name in (*names, "launch_ros.substitutions")}
    modules["launch.actions"].TimerAction = lambda **given: SimpleNamespace(**given)
    modules["launch.substitutions"] = MagicMock(
        LaunchConfiguration=LaunchConfiguration, TextSubstitution=lambda text: text
    )
    modules["launch_ros.actions"] = SimpleNamespace(Node=lambda **given: given)
    modules["launch_ros.parameter_descriptions"] = SimpleNamespace(ParameterValue=lambda value, value_type: value)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    functions = runpy.run_path(str(LAUNCH))
    defaults = {name: default for name, default, _, _ in functions["ARGUMENTS"]}
    (node,) = functions["policy_node"]({**defaults, "params_file": "p.yaml", **arguments})
    return dict(node)


def test_a_node_that_died_is_started_again_alike_but_without_motion(
    monkeypatch: pytest.MonkeyPatch, on_page: Callable[..., None]
) -> None:
    node = policy_node(monkeypatch, enable_motion="true", bundle="mine", namespace="cell")
    given = {"enable_motion": "true", "autostart": "true", "exit_on_failed_start": "false", "bundle": "mine"}
    assert node["parameters"] == ["p.yaml", given]
    for _ in range(3):  # however often it dies
        (timer,) = node["on_exit"](KILLED, RUNNING)
        assert timer.period > 0.0
        on_page(timer.period, text="started again after {:g} s")
        (restarted,) = timer.actions
        assert restarted["parameters"][1]["enable_motion"] == "false"
        same = {**restarted["parameters"][1], "enable_motion": "true"}
        assert ["p.yaml", same] == policy_node(monkeypatch, enable_motion="true", bundle="mine")["parameters"]
        assert {key: restarted[key] for key in ("executable", "name", "namespace")} == {
            "executable": "policy_node",
            "name": "policy_node",
            "namespace": "cell",
        }
        node = restarted


def test_a_node_that_ended_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    node = policy_node(monkeypatch)
    assert node["on_exit"](SimpleNamespace(returncode=0), RUNNING) == []
    assert node["on_exit"](KILLED, ENDING) == []
    assert policy_node(monkeypatch, respawn="false")["on_exit"](KILLED, RUNNING) == []


@pytest.mark.parametrize("respawn", ["true", "false"])
def test_a_node_that_was_started_wrongly_ends_everything(monkeypatch: pytest.MonkeyPatch, respawn: str) -> None:
    node = policy_node(monkeypatch, respawn=respawn)
    with pytest.raises(
        RuntimeError, match="the policy node cannot start, as it says above; mend that, and launch again"
    ):
        node["on_exit"](SimpleNamespace(returncode=STARTED_WRONGLY), RUNNING)
    assert node["on_exit"](SimpleNamespace(returncode=STARTED_WRONGLY), ENDING) == []


def test_the_way_to_rest_of_a_robot_at_10_hz_is_not_cut_short_by_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    ctrl_c_to_sigterm = 5.0  # launch's own
    longest_end = DRAIN_TIMEOUT + 2.0 * LONGEST_STOP / 10.0
    assert ctrl_c_to_sigterm + float(policy_node(monkeypatch)["sigkill_timeout"]) > longest_end
