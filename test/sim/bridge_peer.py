"""A bridge in its own process, and the node that commands it; shared by the tests of the bridge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.nodes.messages import MESSAGE_CLASSES, command_message, from_time, to_reading
from qgf_sim.processes import reserve_domain
from qgf_sim.worlds.families import action_fields, observation_fields
from qgf_sim.worlds.shift import NONE, Shift
from qgf_sim.worlds.shifted_environment import ShiftedEnvironment

DOMAIN = str(reserve_domain())
FIELDS = action_fields()
NAMES = [field.name for field in FIELDS]
PERIOD = 50_000_000  # [ns]
PATIENCE = 240.0  # [s], for a machine that is busy with something else
OWN = "/own"  # beside the shared bridge
#: Where the bridge of `short_episodes` is.
PATHS = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]

Vector = np.ndarray


@contextmanager
def ros_graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A ROS graph of the tests' own."""
    home = str(tmp_path_factory.mktemp("ros"))
    settings = {
        "ROS_DOMAIN_ID": DOMAIN,
        "ROS_HOME": home,
        "ROS_LOG_DIR": home,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "RCUTILS_LOGGING_BUFFERED_STREAM": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        rclpy.init()
        yield
        rclpy.shutdown()


class Bridge:
    """A bridge process and its log; that of `short_episodes` has shorter episodes."""

    def __init__(self, log: Path, namespace: str = "/", module: str = "qgf_sim.bridge.node", **parameters: Any) -> None:
        self.log = log
        arguments = [a for name, value in parameters.items() for a in ("-p", f"{name}:={json.dumps(value)}")]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "--ros-args", "-r", f"__ns:={namespace}", *arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE)


@contextmanager
def own_bridges(log: Path, namespace: str) -> Iterator[Callable[..., Bridge]]:
    """Give what starts bridges with parameters, and end them afterwards."""
    started = []

    def start(**parameters: Any) -> Bridge:
        started.append(Bridge(log, namespace, **parameters))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


class Commander:
    """A node that sees every observation set once and answers as it is told."""

    def __init__(self, namespace: str = "/", environment: str = "cube-single") -> None:
        self.node = rclpy.create_node("commander", namespace=namespace)
        fields = observation_fields(environment)
        self.assembler = ObservationAssembler(fields, 0.05)
        self.stamps: list[int] = []
        self.vectors: list[Vector] = []
        self.clock: list[int] = []
        self.outcomes: list[dict[str, Any]] = []
        self.publisher = self.node.create_publisher(JointState, "command", 10)
        for topic, kind in {field.topic: MESSAGE_CLASSES[field.message_type] for field in fields}.items():
            self.node.create_subscription(kind, topic, lambda message, topic=topic: self._observe(topic, message), 10)
        self.node.create_subscription(Clock, "/clock", lambda m: self.clock.append(from_time(m.clock)), 100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(
            String, "sim_bridge/episode", lambda m: self.outcomes.append(json.loads(m.data)), latched
        )

    def follow(self) -> list[tuple[int, int]]:
        """Return a list that stamps of observations and when each was published [ns] go to, however late they are read."""
        heard: list[tuple[int, int]] = []

        def note(message: JointState, about: Any) -> None:
            stamp = from_time(message.header.stamp)
            if not heard or stamp > heard[-1][0]:
                heard.append((stamp, about["source_timestamp"]))

        self.node.create_subscription(JointState, "joint_states", note, 1000)
        return heard

    def _observe(self, topic: str, message: Any) -> None:
        self.assembler.update(topic, from_time(message.header.stamp), to_reading(message))
        stamp = self.assembler.synchronised_stamp
        if stamp is not None and (not self.stamps or stamp > self.stamps[-1]):
            self.vectors.append(self.assembler.assemble(stamp).vector)
            self.stamps.append(stamp)

    def until(self, condition: Callable[[], Any], patience: float = PATIENCE) -> None:
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, "the awaited event did not come"
            rclpy.spin_once(self.node, timeout_sec=0.1)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, f"sim_bridge/{name}")
        assert client.wait_for_service(timeout_sec=PATIENCE)
        # A service can be seen before it sees its client, and its answer is lost then. Requests are served in their order.
        end = time.monotonic() + PATIENCE
        future = client.call_async(request)
        while not future.done():
            assert time.monotonic() < end, f"no answer to {name}"
            asked = time.monotonic()
            while not future.done() and time.monotonic() < asked + 20.0:
                rclpy.spin_once(self.node, timeout_sec=0.1)
            if not future.done():
                future = client.call_async(request)
        self.node.destroy_client(client)
        return future.result()

    def set(self, **parameters: Any) -> list[Any]:
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in parameters.items()]
        )
        return list(self.call(SetParameters, "set_parameters", request).results)

    def reset(self, **parameters: Any) -> None:
        """Start an episode and wait for its first observation."""
        assert all(result.successful for result in self.set(**parameters))
        response = self.call(Trigger, "reset", Trigger.Request())
        assert response.success, response.message
        # What is still in flight belongs to the episode before.
        first = int(response.message.rpartition("stamp ")[2].removesuffix(" ns"))
        self.until(lambda: self.stamps and self.stamps[-1] >= first)
        self.stamps, self.vectors = self.stamps[-1:], self.vectors[-1:]

    def send(self, values: Vector, stamp: int) -> None:
        self.until(self.publisher.get_subscription_count)  # observations may come before the bridge is known to listen
        self.publisher.publish(command_message(NAMES, values, stamp))

    def step(self, values: Vector) -> None:
        """Answer the newest observation and wait for the next."""
        known = self.stamps[-1]
        self.send(values, known)
        self.until(lambda: self.stamps[-1] > known)

    def close(self) -> None:
        self.node.destroy_node()


def feedback(vector: Vector) -> Vector:
    """A made-up policy that looks at the whole observation, so that one wrong bit spreads."""
    weights = np.random.default_rng(0).normal(size=(len(FIELDS), len(vector)))
    return np.tanh(weights @ vector.astype(np.float64)) * np.array([field.scale for field in FIELDS])


def in_process(
    task: int,
    seed: int,
    steps: int,
    policy: Callable[[Vector], Vector] = feedback,
    environment: str = "cube-single",
    shift: Shift = NONE,
    keyframe: str = "",
) -> list[Vector]:
    """The observation vectors of the same loop without ROS; a step that lacks a message has none and is stood through."""
    env = ShiftedEnvironment(environment, task, shift)
    fields = observation_fields(environment)
    readings = env.reset(seed, keyframe)
    vectors: list[Vector] = []
    while True:
        command = np.zeros(len(FIELDS))
        if readings.keys() == {field.topic for field in fields}:
            assembler = ObservationAssembler(fields, 0.05)
            for topic, reading in readings.items():
                assembler.update(topic, 1, reading)
            vectors.append(assembler.assemble(1).vector)
            if len(vectors) > steps:
                env.close()
                return vectors
            command = policy(vectors[-1])
        readings = env.step(command).readings


def same_bits(some: list[Vector], others: list[Vector]) -> bool:
    return len(some) == len(others) and all(a.tobytes() == b.tobytes() for a, b in zip(some, others, strict=True))
