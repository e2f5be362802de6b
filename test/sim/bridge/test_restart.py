"""Bridge and policy node, each killed in the middle of a run and started again in the same ROS graph."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="nodes need ROS 2 or the extra ros")
pytest.importorskip("ogbench", reason="the bridge needs the extra sim")

import os
import signal

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from qgf_ros.nodes.messages import from_time
from qgf_sim.processes import Child, environment, private_graph, stop_all

PATIENCE = 240.0  # [s], for a machine that is busy with something else
MODULES = {"policy_node": "qgf_ros.nodes.policy_node", "sim_bridge": "qgf_sim.bridge.node"}


class Graph:
    """Both processes and a listener to the node's telemetry."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self._folder = folder
        self._parameters: dict[str, dict[str, Any]] = {
            "policy_node": {
                "bundle": str(bundle),
                "autostart": True,
                "trigger": "observation",
                "use_sim_time": True,
                "enable_motion": True,
                "guidance_weight": 0.1,
            },
            "sim_bridge": {"task": 1},
        }
        self.children: dict[str, Child] = {}
        self.stamps: set[int] = set()
        self.context = Context()
        rclpy.init(context=self.context)
        self._node = Node("listener", context=self.context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self._node)
        self._node.create_subscription(DiagnosticArray, "policy_node/telemetry", self._heard, 100)

    def _heard(self, message: DiagnosticArray) -> None:
        self.stamps.add(from_time(message.header.stamp))

    def start(self, name: str) -> None:
        words = ["--ros-args"]
        for key, value in self._parameters[name].items():
            words += ["-p", f"{key}:={json.dumps(value)}"]
        self.children[name] = Child(name, MODULES[name], words, self._folder)

    def kill(self, name: str) -> None:
        os.kill(self.children[name].pid, signal.SIGKILL)
        self.until(lambda: self.children[name].exit_code is not None)

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, {name: child.last_words() for name, child in self.children.items()}
            self._executor.spin_once(timeout_sec=0.05)

    def ticks_go_on(self) -> None:
        """Wait for ticks that answer observations never answered before."""
        count = len(self.stamps)
        self.until(lambda: len(self.stamps) >= count + 10)

    def close(self) -> None:
        stop_all(list(self.children.values()))
        self._executor.shutdown()
        self._node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def graph(tiny_bundle: Path, tmp_path: Path) -> Iterator[Graph]:
    with environment(private_graph(tmp_path)):
        running = Graph(tiny_bundle, tmp_path)
        try:
            running.start("sim_bridge")
            running.start("policy_node")
            running.ticks_go_on()
            yield running
        finally:
            running.close()


@pytest.mark.parametrize("name", [pytest.param("sim_bridge", marks=pytest.mark.slow), "policy_node"])
def test_the_run_goes_on_after_a_process_is_killed_and_started_again(
    graph: Graph, name: str, on_page: Callable[..., None]
) -> None:
    graph.kill(name)
    graph.start(name)
    graph.stamps.clear()
    since = time.monotonic()
    graph.ticks_go_on()
    on_page(time.monotonic() - since, text="it goes on after {:.0f} s")
    other = next(child for key, child in graph.children.items() if key != name)
    assert other.exit_code is None
