"""What the live graph serves of a robot contract: observation fields, listeners and joints of outputs, states of the driver."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.expectation import Expected
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.extraction import JointReading, Reading, extract, instant
from qgf_ros.control.joint_merge import joint_merges
from qgf_ros.control.output_source import GRIPPER
from qgf_ros.control.outputs import Output
from qgf_ros.control.robot_contract import DriverState
from qgf_ros.control.sensing.sensor_messages import Detections, Transforms
from qgf_ros.control.sensing.topic_parts import TopicParts
from qgf_ros.control.vision.pictures import Picture
from qgf_ros.errors import ObservationError
from qgf_ros.nodes.messages import from_time, output_type, received, subscriptions
from qgf_ros.nodes.neighbours import (
    DriverListener,
    HeardState,
    heard_states,
    joints_of_controllers,
    mismatches,
    publishers_of,
    too_many,
)


@dataclass
class Heard:
    """What was heard of one topic.

    Attributes:
        types: Message types its publishers say.
        publishers: Full names of the nodes that publish it.
        mismatches: Why a publisher's quality of service does not serve the subscription.
        arrivals: Times of arrival [s].
        ages: Age of each message on its arrival [s], of those that came when there was a time.
        newest: The newest reading.
        picture: The newest picture, of a camera.
        missing: Why there is no reading, though something was heard.
    """

    types: tuple[str, ...] = ()
    publishers: tuple[str, ...] = ()
    mismatches: tuple[str, ...] = ()
    arrivals: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    newest: Reading | None = None
    picture: Picture | None = None
    missing: str | None = None

    @property
    def rate(self) -> float | None:
        """Messages per second, or None before the second one."""
        if len(self.arrivals) < 2:
            return None
        span = self.arrivals[-1] - self.arrivals[0]
        return (len(self.arrivals) - 1) / span if span > 0.0 else None


def judge(
    wanted: ObservationField,
    heard: Heard | None,
    now: float,
    publishers: int | None = None,
    expected: Expected | None = None,
) -> str | None:
    """Say what keeps a field from being served, or None if it is.

    Args:
        wanted: The field.
        heard: Of its topic; None for a constant.
        now: End of the listening, on the clock of `Heard.arrivals` [s].
        publishers: How many may publish the topic; None for any number.
        expected: What it is expected to yield; by default anything finite.
    """
    if heard is None:
        return None
    if reason := unheard(wanted.topic, wanted.message_type, wanted.name, heard, publishers):
        return reason
    if heard.newest is None:
        return f"{wanted.topic} has a publisher, but nothing was heard"
    try:
        extract(wanted, heard.newest)
    except ObservationError as error:
        return str(error).partition(": ")[2]
    if expected is not None and (reason := expected.implausible(instant(wanted, heard.newest))):
        return f"{reason}; compare its units with the training data"
    return None if wanted.max_age is None else untimely(wanted.max_age, heard, now)


def unheard(topic: str, message_type: str, name: str, heard: Heard, publishers: int | None) -> str | None:
    """Say why nothing of a topic can be used, or None if something can; of `name`, and see `judge` for the rest."""
    if publishers is not None and len(heard.publishers) > publishers:
        return too_many(topic, heard.publishers, name, publishers)
    if not heard.types and not heard.arrivals:
        return f"nobody publishes {topic}"
    if heard.types and message_type not in heard.types:
        return f"{topic} carries {', '.join(heard.types)}, expected {message_type}"
    if not heard.arrivals:
        return heard.missing or ", ".join(heard.mismatches) or f"{topic} has a publisher, but nothing was heard"
    return None


def untimely(max_age: float, heard: Heard, now: float) -> str | None:
    """Say why messages are too old or too few for a largest age [s], or None; see `judge` for the rest."""
    if not heard.ages:
        return "simulated time was asked for and stands at 0 because nobody publishes /clock, so no stamp has an age"
    oldest = max(heard.ages, key=abs, default=0.0)
    if abs(oldest) > max_age:
        where = "from the future by" if oldest < 0.0 else "old by"
        return f"stamps are {where} {abs(oldest):.3f} s on arrival, at most {max_age:g} s allowed; compare the clocks"
    silent = max(b - a for a, b in zip(heard.arrivals, [*heard.arrivals[1:], now]))
    if silent > max_age:
        return f"nothing for {silent:.3f} s at a time, at most {max_age:g} s allowed"
    return None


def judge_output(output: Output, listeners: Sequence[str]) -> str | None:
    """Say what keeps an output from being heard, or None if nothing does; nobody may be there yet.

    Args:
        output: The output.
        listeners: Message types of the subscriptions to its topic, or the type of its action server.
    """
    expected = output_type(output.source.type)
    others = sorted({name for name in listeners if name != expected})
    return f"{output.topic} is listened to as {', '.join(others)}, sent is {expected}" if others else None


def listen(
    fields: Sequence[ObservationField],
    duration: float,
    outputs: Sequence[Output] = (),
    *,
    cameras: Mapping[str, CameraField] | None = None,
    states: Sequence[DriverState] = (),
    reliable: bool = False,
    use_sim_time: bool = False,
    namespace: str = "",
) -> tuple[dict[str, Heard], dict[str, list[str]], dict[str, tuple[str, ...]], list[HeardState], float]:
    """Listen to the topics of an observation contract with a node of its own.

    Args:
        fields: The observation contract.
        duration: How long [s].
        outputs: Where commands would go.
        cameras: The cameras.
        states: What the driver has to say.
        reliable: Whether to ask for reliable delivery where a field does not say.
        use_sim_time: Whether to compare stamps with ``/clock``.
        namespace: Of the node, and so of relative topics.

    Returns:
        What was heard, by topic, the message types of who listens to each output, by topic, the joints of its controller,
        see `joints_of_controllers`, the states of the driver, and the end of the listening on the clock of
        `Heard.arrivals` [s].

    Raises:
        ContractError: The message of a state is not installed, or has no such field.
    """
    context = Context()
    rclpy.init(args=[], context=context)
    try:
        node = Node(
            "qgf_contract_check",
            context=context,
            namespace=namespace or None,
            parameter_overrides=[Parameter("use_sim_time", value=use_sim_time)],
        )
        driver = DriverListener(node, states)
        listener = Listener(node, fields, cameras, reliable=reliable)
        end = listener.listen(duration)
        told = heard_states(node, driver)
        listeners = {
            output.topic: (servers_of if output.source.type == GRIPPER else listeners_of)(node, output.topic)
            for output in outputs
        }
        joints = joints_of_controllers(outputs, context, namespace)
        node.destroy_node()
    finally:
        context.try_shutdown()
    return listener.heard, listeners, joints, told, end


def listeners_of(node: Node, topic: str) -> list[str]:
    """Return the message type of each subscription to a topic."""
    return [str(info.topic_type) for info in node.get_subscriptions_info_by_topic(node.resolve_topic_name(topic))]


def servers_of(node: Node, action: str) -> list[str]:
    """Return the type of each server of an action, which publishes feedback of a type named for it."""
    servers = node.get_publishers_info_by_topic(f"{node.resolve_topic_name(action)}/_action/feedback")
    return [str(info.topic_type).removesuffix("_FeedbackMessage") for info in servers]


class Listener:
    """Hears the topics of an observation contract on a node.

    Args:
        node: Subscribes; nobody else may spin it.
        fields: The observation contract.
        cameras: The cameras.
        reliable: Whether to ask for reliable delivery where a field does not say.
    """

    def __init__(
        self,
        node: Node,
        fields: Sequence[ObservationField],
        cameras: Mapping[str, CameraField] | None = None,
        *,
        reliable: bool = False,
    ) -> None:
        self._node = node
        self._cameras = {camera.topic: camera for camera in (cameras or {}).values()}
        self._merges = joint_merges(fields)
        self._parts = TopicParts(fields)
        self._sources = {field.source: field.topic for field in fields if field.constant is None}
        self._qualities: dict[str, QoSProfile] = {}
        for topic, kind, quality in subscriptions(fields, cameras or {}, reliable):
            self._qualities[topic] = quality
            node.create_subscription(kind, topic, functools.partial(self._hear, topic), quality)
        self.heard = {topic: Heard() for topic in (*self._qualities, *self._sources)}

    def listen(self, duration: float) -> float:
        """Listen for `duration` [s]; return the end on the clock of `Heard.arrivals` [s]."""
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        end = time.monotonic() + duration
        try:
            while (left := end - time.monotonic()) > 0.0:
                executor.spin_once(timeout_sec=left)
        finally:
            executor.remove_node(self._node)
            executor.shutdown()
        self.note_publishers()
        return time.monotonic()

    def note_publishers(self) -> None:
        """Note who publishes the topics now, and what has kept fields from having readings so far."""
        for topic, quality in self._qualities.items():
            self._look(topic, quality)
        for source, topic in self._sources.items():
            seen, heard = self.heard[topic], self.heard[source]
            heard.publishers, heard.types, heard.mismatches = seen.publishers, seen.types, seen.mismatches
            heard.missing = self._parts.gap_of(source)

    def _look(self, topic: str, quality: QoSProfile) -> None:
        name = self._node.resolve_topic_name(topic)
        publishers = self._node.get_publishers_info_by_topic(name)
        heard = self.heard[topic]
        heard.publishers = tuple(publishers_of(self._node, name))
        heard.types = tuple(dict.fromkeys(publisher.topic_type for publisher in publishers))
        heard.mismatches = mismatches(publishers, quality)

    def _hear(self, topic: str, message: Any) -> None:
        stamp = from_time(message.header.stamp) if hasattr(message, "header") else None
        said = received(message)
        if not isinstance(said, (Transforms, Detections)):
            self._note(topic, stamp, said)
            return
        for part in self._parts.take(topic, stamp or 0, said):
            self._note(*part)

    def _note(self, source: str, stamp: int | None, reading: Reading | Picture) -> None:
        """Note a reading stamped `stamp` [ns], or not at all."""
        heard, merge = self.heard[source], self._merges.get(source)
        if merge is not None and isinstance(reading, JointReading) and not merge.passes(reading.names):
            taken = merge.take(stamp or 0, reading)
            if taken is None:  # about other joints
                return
            reading = taken[1]
        if isinstance(reading, Picture):
            heard.picture = reading
        else:
            heard.newest = reading
        heard.arrivals.append(time.monotonic())
        if stamp is None:
            heard.ages.append(0.0)
        else:
            now = self._node.get_clock().now().nanoseconds
            if source in self._cameras:
                stamp = self._cameras[source].host_stamp(stamp)
            if now > 0:  # simulated time has no clock before the first /clock
                heard.ages.append((now - stamp) * 1e-9)
