"""Other nodes in the robot's graph: a second source of an observation, joints from two drivers, a controller's own order."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from robot import JOINTS, Fault, Robot
from sensor_msgs.msg import JointState
from spinning import SpinningThread

from qgf_sim.processes import environment

COMMANDS = "/forward_position_controller/commands"


@pytest.fixture(scope="module", params=["timer", pytest.param("observation", marks=pytest.mark.slow)])
def running(request: pytest.FixtureRequest, make_robot: Callable[..., Robot]) -> Robot:
    robot = make_robot()
    robot.start(trigger=request.param)
    return robot


@pytest.fixture
def robot(running: Robot) -> Iterator[Robot]:
    running.is_commanded()
    running.judge.wrong.clear()
    yield running
    assert running.judge.wrong == []


@contextmanager
def another_node(robot: Robot, name: str) -> Iterator[Node]:
    """A node in the robot's graph, a participant of its own, whose services are answered."""
    with environment(robot._variables):
        context = Context()
        rclpy.init(context=context)
    node = Node(name, context=context, use_global_arguments=False)
    thread = SpinningThread(context, node)
    try:
        yield node
    finally:
        thread.close()
        node.destroy_node()
        context.try_shutdown()


def parted(message: Any, last: Any) -> list[Any]:
    """Each joint in a message of its own."""
    parts = []
    for i, name in enumerate(message.name):
        part = copy.deepcopy(message)
        part.name, part.position, part.velocity = [name], [message.position[i]], [message.velocity[i]]
        parts.append(part)
    return parts


def test_a_second_publisher_of_an_observation_is_named_and_a_hold_until_it_is_gone(
    robot: Robot, on_page: Callable[..., None]
) -> None:
    """A simulation that was left on: it says something else of the same joints, with stamps as fresh."""
    reason = "/joint_states is published by /robot and /simulation, and only 1 may publish it"
    with another_node(robot, "simulation") as simulation:
        publisher = simulation.create_publisher(JointState, "joint_states", 10)
        since = time.monotonic()
        robot.hears(reason)
        robot.goes_on()
        heard = len(robot.commands)
        publisher.publish(JointState(name=["elbow", "shoulder"], position=[2.0, 2.0]))
        robot.goes_on(20)
        assert len(robot.commands) == heard
        assert robot.judge.is_hold(robot.commands[-1].values)
        on_page(max(robot.commands[-1].sent - since, 0.0), text="{:.2f} s after it came")
    robot.is_commanded()
    robot.hears("commanding", level=0)


def test_joints_in_two_messages_are_one_observation(robot: Robot) -> None:
    with robot.suffering(Fault(JOINTS, parted, "")):
        robot.is_commanded()
        heard = len(robot.commands)

        def answered_in_a_row() -> bool:
            """20 observations, without a hold among them: a machine that keeps the node waiting may be the cause of some."""
            last = robot.commands[max(heard, len(robot.commands) - 20) :]
            return len(last) == 20 and not any(robot.judge.is_hold(command.values) for command in last)

        robot.until(answered_in_a_row)
        robot.hears("commanding", level=0)


def test_a_joint_that_falls_silent_beside_another_is_a_hold_that_names_it(
    robot: Robot, on_page: Callable[..., None]
) -> None:
    with robot.suffering(Fault(JOINTS, parted, "")):
        robot.is_commanded()
        with robot.suffering(Fault(JOINTS, lambda message, last: parted(message, last)[:1], "")) as since:
            seconds = robot.is_safe("field angle: joint shoulder of topic joint_states is stale", since)
        on_page(seconds, text="{:.2f} s")
        assert seconds < robot.max_age + 2 * robot.period + robot.load(since, since + seconds)
    robot.is_commanded()


def test_a_controller_that_takes_joints_in_another_order_keeps_the_node_from_being_configured(
    make_robot: Callable[..., Robot], tmp_path: Path
) -> None:
    """A Float64MultiArray has no names: the first command would go to the wrong joint."""
    robot, path = make_robot(), tmp_path / "robot.yaml"
    path.write_text(
        f"command: [{{}}, {{type: float64_multi_array, topic: {COMMANDS}, controller: /forward_position_controller}}]"
    )
    with another_node(robot, "forward_position_controller") as controller:
        controller.declare_parameter("joints", ["dy", "dx"])
        robot.start(contract=str(path))
        robot.hears(
            f"configure failed: output float64_multi_array on {COMMANDS} sends its values in the order dx, dy, but its "
            "controller /forward_position_controller takes them in the order dy, dx"
        )
        robot.goes_on(20)
        assert robot.commands == []
        controller.set_parameters([rclpy.parameter.Parameter("joints", value=["dx", "dy"])])
        assert robot.change_state("configure")
        assert robot.change_state("activate")
        robot.is_commanded()
    assert robot.judge.wrong == []
