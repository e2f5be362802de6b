"""A robot without a body: publishes the observations of a contract at a fixed rate and notes how they are answered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState

from qgf_ros.benchmark.ros_latency import Exchange
from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.messages.message_types import DETECTIONS, TRANSFORMS, UNSTAMPED
from qgf_ros.control.extraction import JointReading, PoseReading, Reading, TwistReading, VectorReading, WrenchReading
from qgf_ros.control.sensing.sensor_messages import SENSOR_MESSAGES
from qgf_ros.errors import SimulationError
from qgf_ros.nodes.messages import (
    MESSAGE_CLASSES,
    from_time,
    message_class,
    picture_message,
    to_message,
    to_time,
)
from qgf_sim.processes import environment

#: Longest wait for a first answer [s]: processes start, a bundle is loaded, participants find each other.
STARTUP = 30.0
#: Observations before the measured ones of a turn.
WARM_UP = 5
#: Different pictures of each camera, so that none seems frozen.
PICTURES = 4
#: How long answers may be on their way after the last observation of a turn [s].
LINGER = 0.5


def still_readings(fields: Sequence[ObservationField]) -> dict[str, Reading]:
    """Return a reading of every topic that readings are published on, all of zeros, of a robot at rest."""
    by_topic: dict[str, list[ObservationField]] = {}
    for field in fields:
        if field.constant is None and field.message_type in MESSAGE_CLASSES.keys() - SENSOR_MESSAGES.keys():
            by_topic.setdefault(field.topic, []).append(field)
    return {topic: _still_reading(served) for topic, served in by_topic.items()}


def _still_reading(fields: Sequence[ObservationField]) -> Reading:
    kind = fields[0].message_type
    if kind == "sensor_msgs/msg/JointState":
        names = tuple(dict.fromkeys(joint for field in fields for joint in field.joints))
        return JointReading(names, *(np.zeros(len(names)) for _ in range(3)))
    if kind == "geometry_msgs/msg/PoseStamped":
        return PoseReading(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    if kind == "geometry_msgs/msg/TwistStamped":
        return TwistReading(np.zeros(3), np.zeros(3))
    if kind == "geometry_msgs/msg/WrenchStamped":
        return WrenchReading(np.zeros(3), np.zeros(3))
    return VectorReading(np.zeros(max(max(field.components, default=field.instant_size - 1) + 1 for field in fields)))


def camera_messages(cameras: Mapping[str, CameraField]) -> dict[str, list[Any]]:
    """Return different pictures for the topic of each camera."""
    if not cameras:
        return {}
    from qgf_ros.control.vision.synthetic_pictures import synthetic_picture  # here, because it needs OpenCV

    random = np.random.default_rng(0)
    return {
        camera.topic: [picture_message(synthetic_picture(camera, random), 0) for _ in range(PICTURES)]
        for camera in cameras.values()
    }


def still_messages(fields: Sequence[ObservationField]) -> dict[str, Any]:
    """Return a message of every topic, unstamped, of a robot at rest, in the frames that the fields name.

    Raises:
        SimulationError: A topic has no stamp, so that answers to it could not be told apart, or it is of detections.
    """
    served = [field for field in fields if field.constant is None]
    if any(field.message_type in (*UNSTAMPED, TRANSFORMS) for field in served):
        raise SimulationError("a topic of the bundle has no stamp; the loop over DDS can only be timed with stamps")
    if any(field.message_type == DETECTIONS for field in served):
        raise SimulationError(
            "a topic of the bundle is of detections, and a robot without a body sees nothing; time another"
        )
    readings = still_readings(served)
    messages: dict[str, Any] = {}
    for field in served:
        kind = message_class(field.message_type, f"field {field.name}", "time another bundle")
        reading = readings.get(field.topic)  # others are of zeros where nothing else is said
        message = messages.setdefault(field.topic, kind() if reading is None else to_message(reading, 0))
        if field.frame_id is not None:
            message.header.frame_id = field.frame_id
        if field.child_frame_id is not None:
            message.child_frame_id = field.child_frame_id
    return messages


class StandIn:
    """The other side of one node, in that node's own ROS graph.

    Args:
        graph: Environment variables of the graph, from `processes.private_graph`.
        fields: The observation contract.
        cameras: The cameras of the bundle; what they send is made up.

    Raises:
        SimulationError: A topic has no stamp, so that its answers could not be told apart.
    """

    def __init__(
        self, graph: Mapping[str, str], fields: Sequence[ObservationField], cameras: Mapping[str, CameraField]
    ) -> None:
        self._messages = {topic: [message] for topic, message in still_messages(fields).items()}
        self._messages |= camera_messages(cameras)  # the large ones last, as the node takes them in
        with environment(graph):
            self._context = Context()
            self._context.init()
            self._node = Node("stand_in", context=self._context, start_parameter_services=False, enable_rosout=False)
        self._publishers = {
            topic: self._node.create_publisher(type(messages[0]), topic, 5)
            for topic, messages in self._messages.items()
        }
        self._node.create_subscription(JointState, "command", self._on_command, 50)
        self._node.create_subscription(DiagnosticArray, "policy_node/telemetry", self._on_telemetry, 50)
        self._change_state = self._node.create_client(ChangeState, "policy_node/change_state")
        # The EventsExecutor of Jazzy fails on callbacks that ask when a message was published.
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._answers: dict[int, tuple[float, float]] = {}
        self._telemetry: dict[int, Any] = {}
        self._published = 0

    def _on_command(self, message: JointState, about: Any) -> None:
        now = time.time()
        self._answers.setdefault(from_time(message.header.stamp), (about["source_timestamp"] * 1e-9, now))

    def _on_telemetry(self, message: DiagnosticArray) -> None:
        self._telemetry[from_time(message.header.stamp)] = message  # which is read when there is time

    def change_state(self, transition: int) -> None:
        """Lead the node through a transition, such as `Transition.TRANSITION_ACTIVATE`.

        Raises:
            SimulationError: It does not succeed.
        """
        self._change_state.wait_for_service(STARTUP)
        future = self._change_state.call_async(ChangeState.Request(transition=Transition(id=transition)))
        self._spin_until(time.monotonic() + STARTUP, future.done)
        if not future.done() or not future.result().success:
            raise SimulationError(f"the node did not follow transition {transition}; its log may say why")

    def wait_for_answer(self) -> None:
        """Publish observations until one is answered.

        Raises:
            SimulationError: None is, for `STARTUP`.
        """
        deadline = time.monotonic() + STARTUP
        while not self._answers:
            if time.monotonic() > deadline:
                raise SimulationError(f"no observation was answered within {STARTUP:g} s; the node's log may say why")
            self._publish()
            self._spin_until(time.monotonic() + 0.1, lambda: bool(self._answers))

    def exchange(self, rate: int, ticks: int, *, settle: bool = True) -> list[Exchange]:
        """Publish `ticks` observations, `rate` a second, and return how they were answered.

        Args:
            rate: [Hz].
            ticks: How many.
            settle: Whether some before do not count, and the answer to the last one is waited for.
        """
        self._answers.clear()
        self._telemetry.clear()
        period, due = 1.0 / rate, time.monotonic()
        sent = []
        before = WARM_UP if settle else 0
        for _ in range(before + ticks):
            sent.append(self._publish())
            due += period
            self._spin_until(due)
        counted = sent[before:]
        last = counted[-1][0]
        if settle:
            self._spin_until(time.monotonic() + LINGER, lambda: last in self._answers and last in self._telemetry)
        return [
            Exchange(when, *self._answers[stamp], self._inference(stamp), stamp * 1e-9)
            if stamp in self._answers
            else Exchange(when)
            for stamp, when in counted
        ]

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        self._executor.shutdown()
        self._context.try_shutdown()

    def _publish(self) -> tuple[int, float]:
        """Publish one observation; return its stamp [ns] and when its last message went out [s]."""
        stamp = time.time_ns()
        header_stamp = to_time(stamp)
        when = 0.0
        self._published += 1
        for topic, messages in self._messages.items():
            message = messages[self._published % len(messages)]
            message.header.stamp = header_stamp
            when = time.time()
            self._publishers[topic].publish(message)
        return stamp, when

    def _spin_until(self, deadline: float, done: Any = lambda: False) -> None:
        while not done() and (left := deadline - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def _inference(self, stamp: int) -> float:
        """Return how long the inference at a tick took [s]; 0 if there was none, or none was told."""
        array = self._telemetry.get(stamp)
        figures = {} if array is None else {value.key: value.value for value in array.status[0].values}
        return 1e-3 * float(figures["inference_ms"]) if figures.get("inferred") == "1" else 0.0
