"""Sends what the tick loop says: commands to the outputs of a robot contract, or to their shadows; telemetry."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from numpy import float64
from numpy.typing import NDArray
from rclpy.duration import Duration
from sensor_msgs.msg import JointState

from qgf_ros.control.command import Command
from qgf_ros.control.output_source import GRIPPER
from qgf_ros.control.outputs import Output
from qgf_ros.errors import ContractError
from qgf_ros.loop.health import Level
from qgf_ros.loop.telemetry import Figures
from qgf_ros.nodes.diagnostics import diagnostic_array
from qgf_ros.nodes.messages import OUTPUT_CLASSES, fill_message

#: Longest wait for controllers to acknowledge the last hold [s].
HOLD_TIMEOUT = 0.3


def gripper_action(output: Output) -> Any:
    """Return the action class of a gripper_command.

    Raises:
        ContractError: Its package is not installed.
    """
    try:
        from control_msgs.action import GripperCommand
    except ImportError as error:
        raise ContractError(
            f"{output.source} needs the package control_msgs, which is not installed; install it (apt install "
            "ros-$ROS_DISTRO-control-msgs), or send the gripper a float64_multi_array"
        ) from error
    return GripperCommand


class GripperClient:
    """An action `GripperCommand` where a publisher is expected: each change of position is a goal, a repetition is none.

    Args:
        node: Owner of the client.
        output: Of type gripper_command.
        shadow: Publisher of its shadow, which is silent while the node is not active; so is this.
    """

    def __init__(self, node: Any, output: Output, shadow: Any) -> None:
        from rclpy.action import ActionClient

        self._action = gripper_action(output)
        self._client = ActionClient(node, self._action, output.topic)
        self._node, self._output, self._shadow = node, output, shadow
        self.topic_name = output.topic
        self._sent: float | None = None
        self._said = False

    def begin(self) -> None:
        """Forget what was sent: the gripper may have been moved since."""
        self._sent = None

    def publish(self, message: JointState) -> None:
        """Send the position as a goal unless it was the last one; one that nobody can take is sent when somebody can."""
        position = message.position[0]
        if not self._shadow.is_activated or position == self._sent:
            return
        if not self._client.server_is_ready():
            self._say("has no action server yet; the gripper moves once there is one")
            return
        goal = self._action.Goal()
        goal.command.position = position
        goal.command.max_effort = self._output.source.max_effort or 0.0
        self._sent, self._said = position, False
        self._client.send_goal_async(goal).add_done_callback(self._answered)

    def wait_for_all_acked(self, timeout: Any) -> None:
        """Do nothing: a goal is answered, which its client is told."""

    def destroy(self) -> None:
        """Destroy the client."""
        self._client.destroy()

    def _answered(self, future: Any) -> None:
        if not future.cancelled() and future.exception() is None and not future.result().accepted:
            self._say(f"was refused the position {self._sent}; the next one is sent when it changes")

    def _say(self, text: str) -> None:
        if not self._said:
            self._said = True
            self._node.report(logging.WARNING, f"{self._output.source} {text}")


class Commander:
    """The outputs of a tick loop, as ROS publishers. One caller at a time sends.

    Args:
        node: The policy node, which owns the publishers; they are silent unless it is active.
        bundle: Name of the bundle.
        outputs: Of the robot contract.
        dry_run: Whether to have no publisher that a robot could listen to.
        steady: A clock that nobody sets [ns].
    """

    def __init__(
        self,
        node: Any,
        bundle: str,
        outputs: Sequence[Output],
        *,
        dry_run: bool,
        steady: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._node = node
        self._bundle = bundle
        self._outputs = tuple(outputs)
        self._messages = [OUTPUT_CLASSES[output.source.type]() for output in self._outputs]  # of commands, used again
        self.dry_run = dry_run
        self._steady = steady
        self._lead = 0  # of the node's clock on the steady one at the last command [ns]
        #: Publishers that a robot may listen to, one for each output; none in a dry run.
        self.publishers: list[Any] = []
        self._shadows: list[Any] = []
        self._telemetry: Any = None
        self._last: tuple[Command, list[Any]] | None = None

    def advertise(self) -> None:
        """Create the publishers."""
        create = self._node.create_lifecycle_publisher
        for output in self._outputs:
            kind = OUTPUT_CLASSES[output.source.type]
            if output.source.type == GRIPPER:
                gripper_action(output)  # which a dry run is to miss, too
            self._shadows.append(create(kind, output.source.shadow, 10))
            if self.dry_run:
                continue
            if output.source.type == GRIPPER:
                self.publishers.append(GripperClient(self._node, output, self._shadows[-1]))
            else:
                self.publishers.append(create(kind, output.topic, 10))
        self._telemetry = create(DiagnosticArray, "~/telemetry", 10)

    def destroy(self) -> None:
        """Destroy the publishers; what is sent afterwards goes nowhere."""
        publishers = [*self.publishers, *self._shadows, self._telemetry]
        self.publishers, self._shadows, self._telemetry = [], [], None
        for publisher in publishers:
            if isinstance(publisher, GripperClient):
                publisher.destroy()
            elif publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def send_command(self, command: Command, *, motion: bool) -> None:
        """Publish a command, or its shadow, on every output; the same one again is the same messages again."""
        if self._last is None or self._last[0] is not command:
            self._last = None  # its messages are filled anew
            if command.begins:
                for publisher in self.publishers:
                    if isinstance(publisher, GripperClient):
                        publisher.begin()
            if not command.braking:
                self._lead = self._node_time() - self._steady()
            pairs = zip(self._outputs, self._messages)
            self._last = command, [self._message(output, command, message) for output, message in pairs]
        self._publish(self._last[1], motion)

    def send_hold(self, values: NDArray[float64], stamp: int, *, motion: bool, moved: bool = False) -> None:
        """Publish what keeps the robot still, or its shadow, on every output.

        Args:
            values: The hold of the safety envelope, float64 [A].
            stamp: Stamp of the last command [ns].
            motion: Whether it is for the robot.
            moved: Whether the robot may be elsewhere by now; see `Output.hold`.
        """
        self._publish([self._hold_message(output, values, stamp, moved) for output in self._outputs], motion)

    @property
    def watched(self) -> bool:
        """Whether anybody subscribes to telemetry, such as a recorder."""
        return self._telemetry is not None and self._telemetry.get_subscription_count() > 0

    def send_telemetry(self, figures: Figures, stamp: int) -> None:
        """Publish the telemetry of one tick."""
        if self._telemetry is not None:
            name = f"{self._node.get_fully_qualified_name()}: tick"
            self._telemetry.publish(diagnostic_array(stamp, name, self._bundle, Level.OK, "", figures))

    def report(self, level: int, text: str) -> None:
        """Log, at a level of `logging`."""
        self._node.report(level, text)

    def wait_for_acknowledgement(self) -> None:
        """Wait until every controller has what was sent, at most `HOLD_TIMEOUT`."""
        deadline = time.monotonic() + HOLD_TIMEOUT
        for publisher in self.publishers:
            publisher.wait_for_all_acked(Duration(seconds=max(deadline - time.monotonic(), 0.0)))

    def _message(self, output: Output, command: Command, message: Any) -> Any:
        if command.led_back:
            sent = output.lead_back(command, self._now())
            return None if sent is None else fill_message(OUTPUT_CLASSES[output.source.type](), output, sent)
        if command.braking and output.previews:  # the controller is farther on its way than the command was
            return self._hold_message(output, command.values, command.stamp)
        return fill_message(message, output, output.command(command))

    def _hold_message(self, output: Output, values: NDArray[float64], stamp: int, moved: bool = False) -> Any:
        sent = output.hold(values, stamp, self._now(), moved=moved)
        return None if sent is None else fill_message(OUTPUT_CLASSES[output.source.type](), output, sent)

    def _now(self) -> int:
        """Return the time by the clock of the last command [ns], although it was set since; simulated time is the robot's."""
        return self._node_time() if self._node.get_clock().ros_time_is_active else self._steady() + self._lead

    def _node_time(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _publish(self, messages: Sequence[Any], motion: bool) -> None:
        """Publish one message for each output, or none where it is None; in a dry run nothing goes to the robot."""
        for publisher, message in zip(self.publishers if motion else self._shadows, messages):
            if message is not None:
                publisher.publish(message)
