"""Goals by topic over DDS: a real policy node, the bridge, and somebody who wants something else in mid-episode."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="needs the sim extra")
pytest.importorskip("rclpy", reason="needs the ros extra or a ROS 2 installation")

import rclpy
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from qgf_ros.bundle.fields import GOAL
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.controller import Controller
from qgf_ros.control.extraction import VectorReading
from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.control.run_options import RunOptions
from qgf_ros.evaluation.plan import EpisodePlan
from qgf_ros.nodes.messages import command_values, from_time
from qgf_ros.runtime.policy import Policy
from qgf_sim.live import demo
from qgf_sim.live.ros_client import RosClient
from qgf_sim.processes import Child, environment, private_graph, stop_all
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import action_fields

TASK, SEED, WEIGHT = 4, 3, 0.1
PERIOD = 50_000_000  # [ns]
PATIENCE = 240.0  # [s], for a machine that is busy with something else


class User:
    """A node that steps the paused bridge, hears every command and publishes goals.

    Attributes:
        commands: By stamp, float64 [5].
    """

    def __init__(self, context: Context, node: Child) -> None:
        self.graph = RosClient("user", context)
        self._node = node
        self.commands: dict[int, np.ndarray] = {}
        self._stamps: list[int] = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._goals = self.graph.node.create_publisher(Float64MultiArray, GOAL, latched)
        self.graph.node.create_subscription(JointState, "command", self._on_command, 1000)

    def begin(self, asleep: float = 0.0) -> int:
        """Start the episode, paused; return the stamp of its first observation, once that is answered.

        Args:
            asleep: For so long [s] the node is kept from running meanwhile.
        """
        self.graph.set(demo.NODE, {"guidance_weight": WEIGHT, "critic": "goal", "seed": SEED})
        self.graph.set(demo.BRIDGE, {"task": TASK, "seed": SEED})
        self.graph.call(SetBool, f"{demo.BRIDGE}/pause", SetBool.Request(data=True))
        if asleep > 0.0:
            self._node.signal_group(signal.SIGSTOP)
            threading.Timer(asleep, self._node.signal_group, (signal.SIGCONT,)).start()
        answer = self.graph.call(Trigger, f"{demo.BRIDGE}/reset", Trigger.Request())
        return self._answered(int(answer.message.split()[-2]))

    def proceed(self, stamp: int, steps: int) -> int:
        """Do control steps from an observation on; return the stamp of the last one, once that is answered."""
        self.graph.set(demo.BRIDGE, {"steps": steps})
        self.graph.call(Trigger, f"{demo.BRIDGE}/step", Trigger.Request())
        return self._answered(stamp + steps * PERIOD)

    def want(self, goal: np.ndarray, stamp: int) -> None:
        """Publish a goal, and wait until the node has it while the bridge repeats the observation of a stamp."""
        self._until(self._goals.get_subscription_count)
        self._goals.publish(Float64MultiArray(data=goal.tolist()))
        assert self._goals.wait_for_all_acked(Duration(seconds=PATIENCE))
        heard = self._stamps.count(stamp)
        self._until(lambda: self._stamps.count(stamp) > heard + 1)

    def _answered(self, stamp: int) -> int:
        self._until(lambda: stamp in self.commands)
        return stamp

    def _until(self, done: Callable[[], object]) -> None:
        self.graph.until(lambda: bool(done()), PATIENCE, f"the newest command is of {self._stamps[-1:]}")

    def _on_command(self, message: JointState) -> None:
        self._stamps.append(from_time(message.header.stamp))
        self.commands[self._stamps[-1]] = command_values(action_fields(), message)


@pytest.fixture
def user(goal_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    """Somebody beside a policy node and the bridge, which `qgf demo` would start so."""
    monkeypatch.setattr("qgf_sim.live.ros_client.DISCOVERY_TIMEOUT", PATIENCE)  # both processes have to start
    parameters = demo._parameters(EpisodePlan(goal_bundle, TASK, (WEIGHT,), 1), load_manifest(goal_bundle))
    children: list[Child] = []
    context = Context()
    with environment(private_graph(tmp_path)):
        try:
            children.extend(demo._start(parameters, tmp_path))
            rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
            one = User(context, next(child for child in children if child.name == demo.NODE))
            yield one
            one.graph.close()
        finally:
            stop_all(children)
            context.try_shutdown()


def in_process(bundle: Path, steps: int, goals: dict[int, np.ndarray]) -> list[np.ndarray]:
    """The commands of the same episode without ROS, in which some control steps bring another goal."""
    policy, env = Policy.load(bundle), TaskEnvironment("cube-single", TASK)
    assembler = ObservationAssembler(policy.manifest.observation, PERIOD * 1e-9)
    controller = Controller(policy, RunOptions(WEIGHT, "goal", execution_horizon=2, seed=SEED))
    readings, commands = env.reset(SEED), []
    for step in range(steps):
        goal = goals.get(step, env.goal if step == 0 else None)
        if goal is not None:
            assembler.update(GOAL, step * PERIOD, VectorReading(goal))
        for topic, reading in readings.items():
            assembler.update(topic, step * PERIOD, reading)
        commands.append(controller.tick(assembler.assemble(step * PERIOD)).values)
        readings = env.step(commands[-1]).readings
    env.close()
    return commands


def test_a_goal_by_topic_counts_from_the_next_step_on_and_until_the_next_episode(user: User, goal_bundle: Path) -> None:
    other = TaskEnvironment("cube-single", 2)
    other.reset(9)
    first = user.begin()
    now = user.proceed(first, 3)
    user.want(other.goal, now)
    last = user.proceed(now, 6)
    expected = in_process(goal_bundle, 10, {4: other.goal})
    assert [user.commands[stamp].tolist() for stamp in range(first, last + 1, PERIOD)] == [
        values.tolist() for values in expected
    ]
    same = [np.array_equal(one, two) for one, two in zip(expected, in_process(goal_bundle, 10, {}))]
    assert same == [True] * 4 + [False] * 6, "the chunk of the old goal went on, or the new one changed nothing"
    # The bridge tells the goal of the next episode, which is the first once more.
    assert user.commands[user.begin(asleep=4.0)].tolist() == expected[0].tolist()
    other.close()
