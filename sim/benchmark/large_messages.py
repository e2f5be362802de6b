"""Pictures between two processes that do nothing else: one sends, or one takes them in and says what arrived.

Its arguments are ``send`` or ``take``, then ``raw`` or ``jpeg``, then the reliability, best_effort or reliable, and the rate [Hz].
Each writes a word when it has begun, and what it sent or took, as JSON, when it is ended.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from qgf_ros.bundle.cameras import COMPRESSED, IMAGE, CameraField
from qgf_ros.nodes.executors import make_executor
from qgf_ros.nodes.messages import CAMERA_CLASSES, from_time, to_time
from qgf_sim.benchmark.stand_in import camera_messages

#: What is said when all is there.
BEGUN = "begun"
#: Two cameras as a cell of a robot has them; what is seen of each is 64 x 64.
_SIZES: dict[str, Any] = {"width": 640, "height": 480, "size": (64, 64)}
CAMERAS: Mapping[str, Mapping[str, CameraField]] = {
    "raw": {name: CameraField(topic=f"{name}/image_raw", type=IMAGE, **_SIZES) for name in ("wrist", "front")},
    "jpeg": {
        name: CameraField(topic=f"{name}/image_raw/compressed", type=COMPRESSED, **_SIZES)
        for name in ("wrist", "front")
    },
}


def main(arguments: list[str]) -> None:
    """Run until SIGINT or SIGTERM."""
    what, kind, reliability, rate = arguments
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopping.append(received))
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node(f"large_messages_{what}")
    quality = QoSProfile(depth=1, reliability=ReliabilityPolicy[reliability.upper()])
    found = (_send if what == "send" else _take)(node, CAMERAS[kind], quality, float(rate), stopping)
    print(json.dumps(found), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()


def _send(
    node: Node, cameras: Mapping[str, CameraField], quality: QoSProfile, rate: float, stopping: list[int]
) -> dict[str, Any]:
    """Publish a picture of each camera at a rate, and return how many there were and when they were stamped."""
    publishers = [node.create_publisher(CAMERA_CLASSES[one.type], one.topic, quality) for one in cameras.values()]
    messages = [itertools.cycle(pictures) for pictures in camera_messages(cameras).values()]
    stamps: list[int] = []
    print(BEGUN, flush=True)
    due = time.monotonic()
    while not stopping:
        for publisher, pictures in zip(publishers, messages):
            message = next(pictures)
            stamps.append(time.time_ns())
            message.header.stamp = to_time(stamps[-1])
            publisher.publish(message)
        due = max(due + 1.0 / rate, time.monotonic())  # what could not be sent is not made up for
        time.sleep(max(due - time.monotonic(), 0.0))
    return {"stamps": stamps}


def _take(
    node: Node, cameras: Mapping[str, CameraField], quality: QoSProfile, rate: float, stopping: list[int]
) -> dict[str, Any]:
    """Take pictures in as the policy node does, and return when each was stamped and how old it was on arrival [ns]."""
    arrived: list[tuple[int, int]] = []

    def take(message: Any) -> None:
        now, stamp = time.time_ns(), from_time(message.header.stamp)
        arrived.append((stamp, now - stamp))

    for one in cameras.values():
        node.create_subscription(CAMERA_CLASSES[one.type], one.topic, take, quality)
    executor = make_executor("single_threaded")
    executor.add_node(node)
    print(BEGUN, flush=True)
    while not stopping:
        executor.spin_once(timeout_sec=0.1)
    return {"arrived": arrived}


if __name__ == "__main__":
    main(sys.argv[1:])
