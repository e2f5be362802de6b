"""The nodes around this one: other publishers, the joints of controllers, and whether the driver says that the robot is ready."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

from qgf_ros.bundle.fields import Quality
from qgf_ros.control.outputs import Output
from qgf_ros.control.robot_contract import DriverState
from qgf_ros.errors import ContractError
from qgf_ros.loop.readiness import DriverReadiness
from qgf_ros.nodes.messages import message_class, quality_of_service

#: Longest wait for the controllers of a contract to say their joints, all of them together [s].
CONTROLLER_TIMEOUT = 5.0


def publishers_of(node: Any, topic: str) -> list[str]:
    """Return the full names of the nodes that publish a topic, given by its full name, each as often as it does.

    A process that was killed counts until the middleware gives it up, 20 s by default with Fast DDS.
    """
    infos = node.get_publishers_info_by_topic(topic)
    return sorted(f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos)


def rival(node: Any, publishers: Sequence[Any]) -> str | None:
    """Return who else publishes on a topic of this node's commands, and how to mend it, or None.

    Args:
        node: Who asks the graph.
        publishers: The node's own, which shall be the only ones on their topics.
    """
    topics = [publisher.topic_name for publisher in publishers]
    for topic in topics:
        if node.count_publishers(topic) > topics.count(topic):
            return (
                f"{topic} is published by {' and '.join(publishers_of(node, topic))}; one node alone may command a robot: "
                "stop the others, or give them dry_run"
            )
    return None


def crowd(node: Any, allowed: Mapping[str, tuple[str, int]]) -> str | None:
    """Return a topic of an observation that has too many publishers, and who they are, or None.

    Args:
        node: Who asks the graph.
        allowed: A field that is read from a topic and how many may publish it, by the topic's full name.
    """
    for topic, (field, most) in allowed.items():
        if node.count_publishers(topic) > most:
            complaint = too_many(topic, publishers_of(node, topic), field, most)
            if complaint is not None:
                return complaint
    return None


def too_many(topic: str, names: Sequence[str], field: str, most: int) -> str | None:
    """Say that a topic has more publishers than `most`, and how to mend it, or return None if it has not.

    Args:
        topic: Full name of the topic.
        names: Its publishers.
        field: A field that is read from it.
        most: How many there may be.
    """
    if len(names) <= most:
        return None
    return (
        f"{topic} is published by {' and '.join(names)}, and only {most} may publish it; stop the others or, if they share "
        f"the joints between them, set allow_publishers: {len(names)} for field {field} in the robot contract"
    )


def judge_joints(output: Output, joints: Sequence[str]) -> str | None:
    """Say how the joints of a controller differ from what is sent to it, or None if they do not.

    Args:
        output: The output, which names its controller.
        joints: The controller's, in its order; none where it has no such parameter.
    """
    controller, names = output.source.controller, list(output.names)
    if not joints:
        return f"{output.source}: node {controller} has no parameter joints; name the node of its controller"
    if sorted(names) != sorted(joints):
        return (
            f"{output.source} sends {', '.join(names)}, but its controller {controller} has the joints {', '.join(joints)}; "
            "write its fields as a mapping to the controller's names, in the controller's order"
        )
    if output.source.type == "float64_multi_array" and names != list(joints):
        return (
            f"{output.source} sends its values in the order {', '.join(names)}, but its controller {controller} takes them "
            f"in the order {', '.join(joints)}; write its fields in that order"
        )
    return None


def unverified(output: Output, joints: Sequence[str] | None) -> str | None:
    """Say that nobody knows whether a controller takes what is sent to it, and why, or return None if it is known.

    Where the message names the joints, and the contract no controller, it is the controller's to say.

    Args:
        output: The output.
        joints: As of `judge_joints`; None where no controller has answered.
    """
    if joints is not None:
        return None
    if output.source.controller is not None:
        return (
            f"the joint order of {output.source} was not verified: its controller {output.source.controller} has not "
            f"answered within {CONTROLLER_TIMEOUT:g} s; start it first"
        )
    if output.source.type == "float64_multi_array":  # the only one whose message names nothing
        return (
            f"the joint order of {output.source} was not verified: the contract names no controller to ask; name its node "
            "under controller"
        )
    return None


def compare_joints(node: Any, outputs: Sequence[Output]) -> None:
    """Warn of outputs of which nobody knows whether their controllers take the joints in their order.

    Raises:
        ContractError: A controller has other joints than it is sent.
    """
    joints = joints_of_controllers(outputs, node.context, node.get_namespace())
    for output in outputs:
        if output.topic in joints and (difference := judge_joints(output, joints[output.topic])):
            raise ContractError(difference)
        if doubt := unverified(output, joints.get(output.topic)):
            node.report(logging.WARNING, doubt)


def joints_of_controllers(
    outputs: Sequence[Output], context: Context, namespace: str, timeout: float | None = None
) -> dict[str, tuple[str, ...]]:
    """Ask the controllers that outputs name for their joints, with a node of its own.

    Args:
        outputs: Of the robot contract.
        context: Of that node.
        namespace: Of that node, and so of relative names.
        timeout: Longest wait, for all of them together [s]; `CONTROLLER_TIMEOUT` by default.

    Returns:
        Joints by topic of the output, empty where the node has no such parameter; nothing of those that did not answer.
    """
    asked = {output.topic: output.source.controller for output in outputs if output.source.controller is not None}
    if not asked:
        return {}
    node = Node("qgf_controller_query", context=context, namespace=namespace or None, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    clients = {name: node.create_client(GetParameters, f"{name}/get_parameters") for name in set(asked.values())}
    answers: dict[str, Any] = {}
    end = time.monotonic() + (CONTROLLER_TIMEOUT if timeout is None else timeout)
    try:
        while time.monotonic() < end and not (len(answers) == len(clients) and all(a.done() for a in answers.values())):
            for name, client in clients.items():
                if name not in answers and client.service_is_ready():
                    answers[name] = client.call_async(GetParameters.Request(names=["joints"]))
            executor.spin_once(timeout_sec=0.02)
    finally:
        executor.shutdown()
        node.destroy_node()
    found = {
        name: tuple(joint for value in answer.result().values for joint in value.string_array_value)
        for name, answer in answers.items()
        if answer.done()
    }
    return {topic: found[name] for topic, name in asked.items() if name in found}


def class_of_state(state: DriverState) -> Any:
    """Return the class of the messages of a driver state, from whichever package of messages is installed.

    Raises:
        ContractError: Its package is not installed, or its message has no such field.
    """
    instead = "leave the topic out of driver_state"
    kind = message_class(state.message_type, f"driver state {state.topic}", instead)
    try:
        functools.reduce(getattr, state.field.split("."), kind())
    except AttributeError as error:
        fields = ", ".join(kind.get_fields_and_field_types())
        raise ContractError(
            f"driver state {state.topic}: field {state.field} was given; a {state.message_type} has {fields}"
        ) from error
    return kind


def quality_of_state(state: DriverState) -> Any:
    """Return the quality of service of a driver state's subscription: what is told once must not get lost."""
    kept = Quality(durability="transient_local", depth=1)
    quality = state.quality or (kept if state.max_age is None else Quality())
    return quality_of_service(quality, reliable=state.max_age is None)


class DriverListener:
    """Hears what the robot's driver tells of its state.

    Args:
        node: Subscribes.
        states: What the driver has to say.
        changed: Called when it says that the robot is ready, or not any more.

    Attributes:
        readiness: What it said.

    Raises:
        ContractError: A message is not installed, or has no such field.
    """

    def __init__(self, node: Any, states: Sequence[DriverState], changed: Callable[[], None] = lambda: None) -> None:
        kinds = [class_of_state(state) for state in states]
        self._node, self._changed = node, changed
        self.readiness = DriverReadiness(states)
        self._topics = [node.resolve_topic_name(state.topic) for state in states]
        self._published = [False] * len(kinds)
        self._subscriptions = [
            node.create_subscription(kind, state.topic, functools.partial(self._hear, index), quality_of_state(state))
            for index, (kind, state) in enumerate(zip(kinds, states))
        ]

    def describe(self) -> str:
        """Say when the robot is ready."""
        conditions = [f"{state.topic} is {state.expected}" for state in self.readiness.states]
        return f"the robot counts as ready while {' and '.join(conditions)}"

    def reason(self) -> str | None:
        """Say why the robot is not ready, or None if it is; what nobody publishes any more is forgotten."""
        for index, topic in enumerate(self._topics):
            published = self._node.count_publishers(topic) > 0
            if self._published[index] and not published:
                self.readiness.forget(index)
            self._published[index] = published
        return self.readiness.reason(self._now())

    def close(self) -> None:
        """Hear nothing any more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _hear(self, index: int, message: Any) -> None:
        value = functools.reduce(getattr, self.readiness.states[index].field.split("."), message)
        if self.readiness.hear(index, value, self._now()):
            self._changed()


class HeardState(NamedTuple):
    """What was heard of a state of the driver: the value, None if nothing, and why the robot is not ready by it, if so."""

    state: DriverState
    value: Any
    complaint: str | None


def heard_states(node: Node, driver: DriverListener) -> list[HeardState]:
    """Return what was heard of each state of the driver, and of one that nothing was heard of, what may be the matter."""
    driver.reason()  # forgets what nobody publishes any more
    told, now = [], node.get_clock().now().nanoseconds
    for index, state in enumerate(driver.readiness.states):
        complaint = driver.readiness.complaint(index, now)
        if driver.readiness.value(index) is None:
            publishers = node.get_publishers_info_by_topic(node.resolve_topic_name(state.topic))
            complaint = "; ".join([str(complaint), *mismatches(publishers, quality_of_state(state))])
        told.append(HeardState(state, driver.readiness.value(index), complaint))
    return told


def mismatches(publishers: Sequence[Any], quality: QoSProfile) -> tuple[str, ...]:
    """Say what keeps publishers' quality of service from serving a subscription's."""
    checks = [qos_check_compatible(publisher.qos_profile, quality) for publisher in publishers]
    return tuple(
        reason.removeprefix("ERROR: ").rstrip("; ") for verdict, reason in checks if verdict == QoSCompatibility.ERROR
    )
