"""A node that answers observations with an empty command at once: what DDS and rclpy take by themselves.

It is the floor of `qgf benchmark ros`. Its arguments are the executor, then the message types and topics of the
observation, as ``TYPE=TOPIC``; the last one is answered.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from qgf_ros.nodes.executors import make_executor
from qgf_ros.nodes.messages import message_class


def main(arguments: list[str]) -> None:
    """Run until SIGINT or SIGTERM."""
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopping.append(received))
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node("echo")
    commands = node.create_publisher(JointState, "command", 10)

    def answer(message: Any) -> None:
        command = JointState()
        command.header.stamp = message.header.stamp
        commands.publish(command)

    quality = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    kind_of_executor, *fields = arguments
    topics = [field.partition("=")[::2] for field in fields]
    for kind, topic in topics:
        take: Callable[[Any], None] = answer if topic == topics[-1][1] else lambda message: None
        node.create_subscription(message_class(kind, topic, "time another bundle"), topic, take, quality)
    executor = make_executor(kind_of_executor)
    executor.add_node(node)
    while not stopping:
        executor.spin_once(timeout_sec=0.1)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
