"""A stand-in robot that can be made to fail, the policy node as a process beside it, and a judge of every command.

The robot publishes the observation of the small bundle at its control rate, and receives commands, over DDS. A `Fault`
replaces what it publishes for a while. Whatever happens, the judge checks each command that arrives: named and finite,
inside the limits, no faster than `max_rate` allows, and the answer to an observation that was sent and was sound.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState
from spinning import SpinningThread
from std_msgs.msg import Header
from waiting import WaitingTime, waited_between

from qgf_ros.bundle.fields import ActionField
from qgf_ros.bundle.store import load_manifest
from qgf_ros.errors import QgfError
from qgf_ros.nodes.messages import command_values, from_time, to_time
from qgf_sim.processes import Child, environment, private_graph, stop_all

#: For whatever is awaited [s]; long, for a machine that is busy with something else.
PATIENCE = 60.0
SECOND = 1_000_000_000
#: Whether ROS says when a message was sent, as it does from Iron on.
TELLS_WHEN_SENT = hasattr(Subscription, "CallbackType")

#: From a message as it should be, and the last one before the fault, to what is published instead.
Distortion = Callable[[Any, Any], list[Any]]


@dataclass(frozen=True)
class Fault:
    """Something that happens to topics of the robot, and what the node must say of it."""

    topics: tuple[str, ...]
    distort: Distortion
    reason: str


@dataclass(frozen=True)
class Received:
    """A command, when it came, and when the node sent it, if ROS tells (`time.monotonic` [s])."""

    stamp: int
    values: tuple[float, ...]
    at: float
    sent: float


class Judge:
    """Finds what is wrong with commands.

    Args:
        fields: The action contract.
        period: Control period [s].
    """

    def __init__(self, fields: Sequence[ActionField], period: float) -> None:
        self._fields = fields
        self._period = period
        self._lower = np.array([field.lower for field in fields])
        self._upper = np.array([field.upper for field in fields])
        self._step = np.array([field.max_rate or math.inf for field in fields]) * period
        self._still = np.array([field.hold for field in fields], dtype=float)
        #: When each sound reading had been sent (`time.monotonic` [s]), by stamp [ns].
        self.sent_at: dict[int, float] = {}
        self._last: np.ndarray | None = None
        self._said: tuple[int, tuple[float, ...]] | None = None
        #: Whether each step is one from the last command.
        self.one_commander = True
        self.wrong: list[str] = []

    def sent(self, stamp: int) -> None:
        """Note that a sound reading with this stamp [ns] was sent."""
        self.sent_at.setdefault(stamp, time.monotonic())

    def forget(self) -> None:
        """Begin anew with whoever commands next: its first step is not one from the last command."""
        self._last = None

    def is_hold(self, values: Sequence[float]) -> bool:
        return bool((np.array(values) == self._still).all())

    def check(self, message: JointState) -> None:
        """Look at one command."""
        stamp = from_time(message.header.stamp)
        try:
            values = command_values(self._fields, message)
        except QgfError as error:
            self.wrong.append(str(error))
            return
        if stamp not in self.sent_at:
            self.wrong.append(f"{values} is stamped {stamp}, and no sound observation was")
        if (values < self._lower).any() or (values > self._upper).any():
            self.wrong.append(f"{values} is outside the limits")
        said = stamp, tuple(message.position)
        # Of an absolute action a hold is the last command again, stamp and all.
        still = self.is_hold(values) or (bool(np.isnan(self._still).all()) and said == self._said)
        self._said = said
        # A hold goes out at once; what follows it begins anew.
        if (
            self._last is not None
            and self.one_commander
            and not still
            and (np.abs(values - self._last) > self._step + 1e-9).any()
        ):
            self.wrong.append(f"{values} after {self._last} is a larger step than {self._step}")
        self._last = None if still else values


class Robot:
    """Publishes observations, receives commands, and starts policy nodes; see the module.

    Args:
        bundle: The small bundle of conftest.py.
        folder: For logs.
        simulated_time: Whether it publishes ``/clock``, and stamps with that time.
    """

    def __init__(self, bundle: Path, folder: Path, *, simulated_time: bool = False) -> None:
        manifest = load_manifest(bundle)
        self.bundle, self.folder = bundle, folder
        self.period = 1.0 / manifest.control_rate
        self.max_age = max(field.max_age or 0.0 for field in manifest.observation)
        self.judge = Judge(manifest.action, self.period)
        self.commands: list[Received] = []
        self.diagnostics: list[tuple[int, str]] = []
        self.figures: dict[str, str] = {}
        self.telemetry: list[dict[str, str]] = []
        #: When each heartbeat of the node came (`time.monotonic` [s]).
        self.heartbeats: list[float] = []
        #: When each set was published (`time.monotonic` [s]).
        self.published: list[float] = []
        #: While times are taken: when, and what the machine had kept the nodes waiting by then, and this process [s].
        self.nodes_waited: list[tuple[float, float]] = []
        self.robot_waited: list[tuple[float, float]] = []
        self._waiting = WaitingTime(), WaitingTime()
        self._timing = 0
        #: Added to the time, and so to every stamp [ns].
        self.time_offset = 0
        self._simulated_time = simulated_time
        #: Whether it publishes ``/clock`` where time is simulated.
        self.tells_time = True
        #: Of the node that was started last.
        self.trigger = ""
        self._fault: Fault | None = None
        self._began: float | None = None
        self._sound: dict[str, Any] = {}
        self._changed = threading.Condition()
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._variables = {**private_graph(folder), "PYTHONPATH": os.pathsep.join(paths)}
        self._children: list[Child] = []
        with environment(self._variables):
            self.context = Context()
            rclpy.init(context=self.context)
        self.node = Node("robot", context=self.context, use_global_arguments=False)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._clock = self.node.create_publisher(ClockMessage, "/clock", 10) if simulated_time else None
        self._publishers = {
            "joint_states": self.node.create_publisher(JointState, "joint_states", 10),
            "effector_pose": self.node.create_publisher(PoseStamped, "effector_pose", 10),
        }
        keep = QoSProfile(depth=1000)
        heard = self._on_command_and_when if TELLS_WHEN_SENT else self._on_command
        self.node.create_subscription(JointState, "command", heard, keep)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, keep)
        self.node.create_subscription(DiagnosticArray, "policy_node/telemetry", self._on_telemetry, keep)
        self.node.create_subscription(Header, "policy_node/heartbeat", self._on_heartbeat, keep)
        self._clients: dict[str, Any] = {}
        self._timer: Any = None
        self.rate = manifest.control_rate
        self._thread = SpinningThread(self.context, self.node)

    def close(self) -> None:
        """End the nodes and the robot."""
        stop_all(self._children)
        self._thread.close()
        self.node.destroy_node()
        self.context.try_shutdown()

    # Processes

    def start(self, name: str = "policy_node", *, module: str = "talkative_node", **parameters: Any) -> Child:
        """Start a policy node as a process of its own; it configures and activates itself, and may move the robot.

        Parameters in capitals are environment variables. The node says more often how it is unless it is the `module` of
        the package.
        """
        defaults = {"bundle": str(self.bundle), "autostart": True, "enable_motion": True, "guidance_weight": 0.1}
        defaults["use_sim_time"] = self._simulated_time
        self.trigger = parameters.get("trigger", "timer")
        words = ["--ros-args", "-r", f"__node:={name}"]
        variables = {key: parameters.pop(key) for key in list(parameters) if key.isupper()}
        for key, value in {**defaults, **parameters}.items():
            words += ["-p", f"{key}:={json.dumps(value)}"]
        return self.run(name, module, words, **variables)

    def run(self, name: str, module: str, words: Sequence[str], **variables: str) -> Child:
        """Run a module as a process in the robot's graph."""
        with environment({**self._variables, **variables}):
            child = Child(name, module, words, self.folder)
        self._children.append(child)
        return child

    def kill(self, child: Child) -> None:
        """Kill a process, which cannot say farewell."""
        os.kill(child.pid, signal.SIGKILL)
        self.until(lambda: child.exit_code is not None)

    # What it publishes

    @property
    def rate(self) -> float:
        """Observations a second [Hz]."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = rate
        if self._timer is not None:
            self.node.destroy_timer(self._timer)
        self._timer = self.node.create_timer(1.0 / rate, self._publish, clock=self._steady)

    def pause(self) -> None:
        """Publish nothing, not even the clock."""
        self._timer.cancel()
        self._paused_at = time.time_ns()

    def resume(self) -> None:
        """Publish again; what passed meanwhile did not pass for the robot."""
        self.time_offset -= time.time_ns() - self._paused_at
        self._timer.reset()

    @contextmanager
    def suffering(self, fault: Fault) -> Iterator[float]:
        """Let a fault happen; the value is when the first set with it had been sent, or left out (`time.monotonic` [s])."""
        with self.timing():
            with self._changed:
                before, self._fault, self._began = self._fault, fault, None
            try:
                self.until(lambda: self._began is not None)
                assert self._began is not None
                yield self._began
            finally:
                with self._changed:
                    self._fault = before

    def jump(self, seconds: int) -> float:
        """Let its time jump; return when the first set with the new time had been sent (`time.monotonic` [s])."""
        with self._changed:
            self.time_offset += seconds * SECOND
            sets = self.sets
        self.goes_on(1)
        return self.published[sets]

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Take times, which `load` is asked about."""
        with self._changed:
            self._timing += 1
            self._note_waiting()
        try:
            yield
        finally:
            with self._changed:
                self._note_waiting()
                self._timing -= 1

    def _note_waiting(self) -> None:
        """Note what the machine has kept the nodes and this process waiting by now, where times are taken."""
        if self._timing:
            nodes, robot = self._waiting
            self.nodes_waited.append((time.monotonic(), nodes.read(child.pid for child in self._children)))
            self.robot_waited.append((time.monotonic(), robot.read([os.getpid()])))

    def _publish(self) -> None:
        with self._changed:
            self._note_waiting()
            stamp = time.time_ns() + self.time_offset
            if self._clock is not None and self.tells_time:
                self._clock.publish(ClockMessage(clock=to_time(stamp)))
            for topic, publisher in self._publishers.items():
                message = self.sound_message(topic, stamp)
                sound = self._fault is None or topic not in self._fault.topics
                if sound:
                    self._sound[topic] = message
                for item in [message] if sound else self._fault.distort(message, self._sound[topic]):
                    publisher.publish(item)
                if sound:
                    self.judge.sent(stamp)
            self.published.append(time.monotonic())
            if self._fault is not None and self._began is None:
                self._began = self.published[-1]
            self._changed.notify_all()

    def sound_message(self, topic: str, stamp: int) -> Any:
        """Return what a topic should say at a time [ns]."""
        return sound_message(topic, stamp)

    @property
    def sets(self) -> int:
        """How many sets of observations were published."""
        return len(self.published)

    # What it hears

    def _on_command_and_when(self, message: JointState, info: dict[str, Any]) -> None:
        self._on_command(message, (time.time_ns() - info["source_timestamp"]) / SECOND)

    def _on_command(self, message: JointState, ago: float = 0.0) -> None:
        """Judge and keep a command that was sent so long ago [s]."""
        with self._changed:
            self.judge.check(message)
            stamp, now = from_time(message.header.stamp), time.monotonic()
            self.commands.append(Received(stamp, tuple(message.position), now, now - ago))
            self._note_waiting()
            self._changed.notify_all()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        (status,) = message.status
        if not status.name.endswith("policy_node: policy"):
            return
        with self._changed:
            self.diagnostics.append((status.level[0], status.message))
            self.figures = {value.key: value.value for value in status.values}
            self._changed.notify_all()

    def _on_telemetry(self, message: DiagnosticArray) -> None:
        with self._changed:
            self.telemetry[:-100] = []  # the last ones are enough
            self.telemetry.append({value.key: value.value for value in message.status[0].values})
            self._changed.notify_all()

    def _on_heartbeat(self, message: Header) -> None:
        with self._changed:
            self.heartbeats.append(time.monotonic())

    # What a test waits for

    def until(self, condition: Callable[[], Any], patience: float = PATIENCE) -> None:
        """Wait for a condition, looked at whenever something was sent or received."""
        with self._changed:
            assert self._changed.wait_for(condition, patience), self.state()

    def state(self) -> str:
        """Say how things stand, for a test that fails."""
        words = [f"{child.name}: {child.last_words()}" for child in self._children]
        return (
            f"{len(self.commands)} commands, {self.sets} sets, {self.diagnostics[-3:]}, {words}, {self.judge.wrong[:3]}"
        )

    def goes_on(self, periods: int = 5) -> None:
        """Wait until the robot has published that many more sets."""
        sets = self.sets
        self.until(lambda: self.sets >= sets + periods)

    def is_commanded(self, count: int = 5, patience: float = PATIENCE) -> None:
        """Wait for commands that answer observations of now."""
        heard, now = len(self.commands), time.time_ns() + self.time_offset

        def answers() -> int:
            return sum(c.stamp >= now and not self.judge.is_hold(c.values) for c in self.commands[heard:])

        self.until(lambda: answers() >= count, patience)

    def hears(self, text: str, level: int = 2) -> None:
        """Wait for a new diagnosis of this level that contains `text`, but not the next one, which may be on its way."""
        heard = len(self.diagnostics) + 1
        self.until(lambda: any(text in said and at == level for at, said in self.diagnostics[heard:]))

    def is_safe(self, reason: str, since: float) -> float:
        """Wait until the node says why it holds, and some more; return how long after `since` the last command was sent [s].

        The last command is the hold, if there was one at all.
        """
        self.hears(reason)
        self.goes_on()
        assert self.judge.is_hold(self.commands[-1].values), "the last command is not a hold"
        return max(self.commands[-1].sent - since, 0.0)

    def load(self, begin: float, end: float, *, came: bool = not TELLS_WHEN_SENT) -> float:
        """Return what the machine added at most to a time that was taken [s].

        It is what it kept the nodes waiting for a processor; what they do or leave undone does not count.

        Args:
            begin, end: Of that time (`time.monotonic` [s]).
            came: Whether it ended when something came, and not when it was sent: the robot may have had to wait, too.
        """
        load = waited_between(self.nodes_waited, begin, end)
        load += waited_between(self.robot_waited, begin, end) if came else 0.0
        if math.isnan(load):
            pytest.skip("this system does not say how long a thread waits for a processor")
        return load

    # What a test asks for

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service of a node and return its response."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        assert self._clients[name].wait_for_service(PATIENCE)
        future = self._clients[name].call_async(request)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE), self.state()
        return future.result()

    def set(self, **values: Any) -> Any:
        """Set parameters of the policy node, one by one; return the result of the last."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParameters.Request(parameters=parameters)
        return self.call(SetParameters, "policy_node/set_parameters", request).results[-1]

    def change_state(self, transition: str) -> bool:
        """Ask the policy node for a transition of its life cycle; return whether it was made."""
        identifier = getattr(Transition, f"TRANSITION_{transition.upper()}")
        request = ChangeState.Request(transition=Transition(id=identifier))
        return bool(self.call(ChangeState, "policy_node/change_state", request).success)


def sound_message(topic: str, stamp: int) -> Any:
    """Return what a topic of the robot should say at a time [ns]: it moves slowly about its home."""
    phase = math.sin(stamp % (10 * SECOND) / SECOND)
    if topic == "joint_states":
        message = JointState(name=["elbow", "shoulder"], position=[0.2 * phase, 0.1], velocity=[0.0, 0.0])
    else:
        message = PoseStamped()
        message.pose.position.x, message.pose.position.z = 0.3 * phase, 0.2
        message.pose.orientation.w = 1.0
    message.header.stamp = to_time(stamp)
    return message


def resident(pid: int) -> int:
    """Return the memory that a process has in RAM [bytes]."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# Faults of sensors


def shifted(seconds: float) -> Distortion:
    """Stamps that are off by so much."""

    def distort(message: Any, last: Any) -> list[Any]:
        message.header.stamp = to_time(from_time(message.header.stamp) + round(seconds * SECOND))
        return [message]

    return distort


def changed(**fields: Any) -> Distortion:
    """Fields of the message have other values; a dot is a double underscore."""

    def distort(message: Any, last: Any) -> list[Any]:
        for path, value in fields.items():
            *parents, name = path.split("__")
            target = message
            for parent in parents:
                target = getattr(target, parent)
            setattr(target, name, value)
        return [message]

    return distort


def dies(message: Any, last: Any) -> list[Any]:
    return []


def freezes(message: Any, last: Any) -> list[Any]:
    return [last]


JOINTS, POSE = ("joint_states",), ("effector_pose",)
SENSOR_FAULTS = {
    "dies": Fault(JOINTS, dies, "joint_states is stale"),
    "all die": Fault(JOINTS + POSE, dies, "is stale"),
    "freezes": Fault(POSE, freezes, "effector_pose is stale"),
    "all freeze": Fault(JOINTS + POSE, freezes, "is stale"),
    "jumps back in time": Fault(JOINTS, shifted(-10.0), "joint_states"),
    "jumps ahead in time": Fault(POSE, shifted(10.0), "effector_pose is stamped"),
    "sends NaN": Fault(JOINTS, changed(position=[0.1, math.nan]), "joint_states holds a value that is not finite"),
    "sends Inf": Fault(POSE, changed(pose__position__y=-math.inf), "effector_pose holds a value that is not finite"),
    "has wrong names": Fault(JOINTS, changed(name=["elbow", "wrist"]), "joint_states has no joint shoulder"),
    "has values too few": Fault(JOINTS, changed(position=[0.1]), "joint_states carries 1 values for 2 joints"),
    "has values too many": Fault(JOINTS, changed(position=[0.1] * 9), "joint_states carries 9 values for 2 joints"),
    "sends 1e30": Fault(JOINTS, changed(position=[0.1, 1e30]), "joint_states is not plausible: shoulder is 1e+30 rad"),
    "sends degrees": Fault(JOINTS, changed(position=[-90.0, 5.7]), "joint_states is not plausible: elbow is -90 rad"),
    "sends millimetres": Fault(POSE, changed(pose__position__z=200.0), "effector_pose is not plausible: z is 200 m"),
    "is empty": Fault(JOINTS, changed(name=[], position=[]), "joint_states has no joint"),
}
