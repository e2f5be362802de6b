"""A served demo goes through its weights by itself, until somebody else sets one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import String

from qgf_ros.evaluation.plan import EpisodePlan
from qgf_sim.live.presentation import Presentation
from qgf_sim.processes import private_graph

EPISODES = 2


class Cell:
    """A policy node that has its weight and its candidates alone, and the topic on which a bridge tells of episodes."""

    def __init__(self, context: Context) -> None:
        self.node = Node("policy_node", context=context, use_global_arguments=False)
        self.node.declare_parameter("guidance_weight", 0.0)
        self.node.declare_parameter("use_recommended_weight", False)
        self.node.declare_parameter("num_samples", 1)
        self._publisher = self.node.create_publisher(String, "sim_bridge/episode", 10)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    @property
    def weight(self) -> float:
        return float(self.node.get_parameter("guidance_weight").value)

    def heard(self) -> bool:
        return self._publisher.get_subscription_count() > 0

    def finish(self, episodes: int = EPISODES) -> None:
        for _ in range(episodes):
            self._publisher.publish(String(data="{}"))

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    context = Context()
    rclpy.init(args=[], context=context, domain_id=int(private_graph(tmp_path)["ROS_DOMAIN_ID"]))
    yield context
    context.try_shutdown()


@pytest.fixture
def cell(context: Context) -> Iterator[Cell]:
    cell = Cell(context)
    yield cell
    cell.close()


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def presentation(context: Context, notes: list[str]) -> Iterator[Presentation]:
    plan = EpisodePlan(Path("x"), 1, (0.0, 0.1, 0.2), EPISODES)
    settings = {0.0: {"num_samples": 1}, 0.1: {"num_samples": 1}, 0.2: {"num_samples": 16}}
    presentation = Presentation(plan, context, notes.append, lambda: None, settings)
    yield presentation
    presentation.close()


def until(presentation: Presentation, condition: Callable[[], bool], rounds: int = 300) -> None:
    for _ in range(rounds):
        if condition():
            return
        presentation.listen(0.1)
    raise AssertionError("nothing came of it")


def test_after_its_episodes_each_weight_gives_way_to_the_next_and_the_last_stays(
    cell: Cell, presentation: Presentation, notes: list[str]
) -> None:
    until(presentation, cell.heard)
    for weight in (0.1, 0.2):
        cell.finish()
        until(presentation, lambda wanted=weight: cell.weight == wanted)
    cell.finish()
    presentation.listen(0.3)
    assert cell.weight == 0.2
    assert cell.node.get_parameter("num_samples").value == 16
    assert notes == ["the guidance weight is 0.1 now", "the guidance weight is 0.2 now"]


def test_a_weight_that_somebody_has_set_is_left_alone(cell: Cell, presentation: Presentation, notes: list[str]) -> None:
    until(presentation, cell.heard)
    cell.node.set_parameters([Parameter("guidance_weight", value=0.7)])
    cell.finish()
    until(presentation, lambda: not presentation.goes_on)
    assert cell.weight == 0.7
    assert notes == []
