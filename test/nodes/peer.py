"""A node of the tests' own that is robot and operator of a policy node at once, over DDS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from spinning import SpinningThread
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.extraction import JointReading, PoseReading, Reading, WrenchReading
from qgf_ros.nodes.messages import MESSAGE_CLASSES, from_time, to_message
from qgf_sim.processes import reserve_domain

TIMEOUT = 60.0  # [s], for a machine that is busy with something else
DOMAIN = reserve_domain()
STEP = 50_000_000


def good_readings() -> dict[str, Reading]:
    return {
        "joint_states": JointReading(("shoulder", "elbow"), np.array([0.1, 0.2]), np.empty(0), np.empty(0)),
        "effector_pose": PoseReading(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 0.0, 1.0])),
        "wrench": WrenchReading(np.array([0.0, 3.0, 4.0]), np.zeros(3)),
    }


class StandInController:
    """A controller of ros2_control as far as its parameters go: a node that says which joints it has, until it is closed.

    Args:
        context: Of its node.
        name: Of its node.
        joints: Its parameter; without any it has none of that name.
    """

    def __init__(self, context: Context, name: str, joints: Sequence[str]) -> None:
        self._node = Node(name, context=context)
        if joints:
            self._node.declare_parameter("joints", list(joints))
        self._thread = SpinningThread(context, self._node)

    def close(self) -> None:
        self._thread.close()
        self._node.destroy_node()


class Peer:
    """A node of the test's own in its own thread: publishes observations, records everything the policy node says."""

    def __init__(self, context: Context) -> None:
        self.node = Node("peer", context=context, start_parameter_services=False)
        self.changed = threading.Condition()
        self.commands: list[JointState] = []
        self.shadows: list[JointState] = []
        self.telemetry: list[DiagnosticArray] = []
        self.diagnostics: list[DiagnosticArray] = []
        self.heartbeats: list[Header] = []
        self._publishers: dict[str, Any] = {}
        for kind, topic, box in (
            (JointState, "command", self.commands),
            (JointState, "policy_node/shadow_command", self.shadows),
            (DiagnosticArray, "policy_node/telemetry", self.telemetry),
            (DiagnosticArray, "/diagnostics", self.diagnostics),
            (Header, "policy_node/heartbeat", self.heartbeats),
        ):
            self.node.create_subscription(kind, topic, self.recorder(box), 50)
        self._clock = self.node.create_publisher(Clock, "/clock", 10)
        self._time = 0
        self._clients = {
            name: self.node.create_client(kind, f"policy_node/{name}")
            for name, kind in (
                ("change_state", ChangeState),
                ("get_state", GetState),
                ("set_parameters", SetParameters),
                ("get_parameters", GetParameters),
                ("list_parameters", ListParameters),
                ("describe_parameters", DescribeParameters),
                ("hold", Trigger),
                ("resume", Trigger),
            )
        }
        self._thread = SpinningThread(context, self.node)

    def recorder(self, box: list[Any]) -> Callable[[Any], None]:
        def record(message: Any) -> None:
            with self.changed:
                box.append(message)
                self.changed.notify_all()

        return record

    def close(self) -> None:
        self._thread.close()
        self.node.destroy_node()

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Wait for a condition on what was recorded, and return its value."""
        with self.changed:
            assert self.changed.wait_for(condition, TIMEOUT), f"commands {len(self.commands)}, {self.sayings()}"
            return condition()

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition on the graph, of which nobody is told."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, self.sayings()
            with self.changed:
                self.changed.wait(0.02)

    def call(self, name: str, request: Any) -> Any:
        client = self._clients[name]
        assert client.wait_for_service(TIMEOUT)
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        assert done.wait(TIMEOUT)
        return future.result()

    def change_state(self, transition: int) -> bool:
        return bool(self.call("change_state", ChangeState.Request(transition=Transition(id=transition))).success)

    def activate(self, fields: Sequence[ObservationField]) -> None:
        """Bring the node up, and wait until it listens to the topics of the fields."""
        assert self.change_state(Transition.TRANSITION_CONFIGURE)
        assert self.change_state(Transition.TRANSITION_ACTIVATE)
        self.connect(fields)

    def trigger(self, name: str) -> bool:
        return bool(self.call(name, Trigger.Request()).success)

    def state(self) -> str:
        return str(self.call("get_state", GetState.Request()).current_state.label)

    def set(self, **values: Any) -> Any:
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.call("set_parameters", SetParameters.Request(parameters=parameters)).results[0]

    def get(self, *names: str) -> list[Any]:
        """Return the values of parameters."""
        answer = self.call("get_parameters", GetParameters.Request(names=names))
        return [parameter_value_to_python(value) for value in answer.values]

    def publish(self, stamp: int, readings: dict[str, Reading], topics: Any = None) -> None:
        """Publish readings, and the time at which they were taken unless a later one was told."""
        if stamp >= self._time:
            self.tell_time(stamp)
        for topic, reading in readings.items():
            if topics is None or topic in topics:
                self._publishers[topic].publish(to_message(reading, stamp))

    def tell_time(self, now: int) -> None:
        self._time = now
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(now, 1_000_000_000)
        self._clock.publish(message)

    def connect(self, fields: Sequence[ObservationField]) -> None:
        """Create the observation publishers and wait until the node listens to all of them."""
        for topic, kind in {field.topic: field.message_type for field in fields}.items():
            if topic not in self._publishers:
                self._publishers[topic] = self.node.create_publisher(MESSAGE_CLASSES[kind], topic, 10)
        self.until(lambda: all(p.get_subscription_count() for p in self._publishers.values()))
        if not self._time:
            self.tell_time(1)  # before there is a time, nothing is answered

    def answer(self, stamp: int, readings: dict[str, Reading] | None = None) -> JointState:
        """Publish a set until it is answered, as a waiting simulator does, and return the command."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            self.publish(stamp, readings or good_readings())
            with self.changed:
                if self.changed.wait_for(lambda: self.commands_for(stamp), 0.5):
                    return self.commands_for(stamp)[0]
        raise AssertionError(f"no command for {stamp}: {self.sayings()}")

    def recover(self, stamp: int) -> None:
        """Publish one set after the other from `stamp` on, until the diagnostics say that all is well."""
        heard = len(self.diagnostics)
        deadline = time.monotonic() + TIMEOUT
        while (b"\x00", "commanding") not in self.sayings()[heard:]:
            assert time.monotonic() < deadline, self.sayings()
            self.answer(stamp)
            stamp += STEP
            with self.changed:
                self.changed.wait(0.1)

    def held(self, stamp: int) -> list[JointState]:
        """Wait for the hold that repeats the stamp of the last command, and return what was sent from it on.

        `answer` may have published its set twice, and then the command came twice.
        """

        def since_hold() -> list[JointState]:
            sent = self.commands_for(stamp)
            return next((sent[i:] for i, command in enumerate(sent) if not any(command.position)), [])

        return list(self.wait(since_hold))

    def commands_for(self, stamp: int) -> list[JointState]:
        return [c for c in self.commands if from_time(c.header.stamp) == stamp]

    def telemetry_for(self, stamp: int) -> DiagnosticArray | None:
        """The telemetry of the tick that answered the observation stamped `stamp` [ns]."""
        return next((array for array in self.telemetry if from_time(array.header.stamp) == stamp), None)

    @staticmethod
    def values(array: DiagnosticArray) -> dict[str, str]:
        """Figures of a diagnostic."""
        return {value.key: value.value for value in array.status[0].values}

    def sayings(self) -> list[tuple[bytes, str]]:
        """Level and message of each diagnostic received."""
        return [(a.status[0].level, a.status[0].message) for a in self.diagnostics]

    def hears(self, text: str, level: bytes = b"\x02", *, repeating: int | None = None) -> None:
        """Wait for a new diagnostic of this level that contains `text`, but not the next one, which may be on its way.

        What the node says less urgently than that nothing was measured for a second takes `repeating` the set of a stamp [ns].
        """
        start = len(self.diagnostics) + 1

        def heard() -> bool:
            if repeating is not None:
                self.publish(repeating, good_readings())
            return any(text in said and at == level for at, said in self.sayings()[start:])

        self.until(heard)
