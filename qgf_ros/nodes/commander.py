"""Publishes what the tick loop says: commands on the outputs of a robot contract, or on their shadows; telemetry."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from numpy import float64
from numpy.typing import NDArray
from rclpy.duration import Duration

from qgf_ros.control.command import Command
from qgf_ros.control.outputs import Output
from qgf_ros.loop.health import Level
from qgf_ros.loop.telemetry import Figures
from qgf_ros.nodes.diagnostics import diagnostic_array
from qgf_ros.nodes.messages import OUTPUT_CLASSES, fill_message

#: Longest wait for controllers to acknowledge the last hold [s].
HOLD_TIMEOUT = 0.3


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
            self._shadows.append(create(kind, output.source.shadow, 10))
            if not self.dry_run:
                self.publishers.append(create(kind, output.topic, 10))
        self._telemetry = create(DiagnosticArray, "~/telemetry", 10)

    def destroy(self) -> None:
        """Destroy the publishers; what is sent afterwards goes nowhere."""
        publishers = [*self.publishers, *self._shadows, self._telemetry]
        self.publishers, self._shadows, self._telemetry = [], [], None
        for publisher in publishers:
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def send_command(self, command: Command, *, motion: bool) -> None:
        """Publish a command, or its shadow, on every output; the same one again is the same messages again."""
        if self._last is None or self._last[0] is not command:
            self._last = None  # its messages are filled anew
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
