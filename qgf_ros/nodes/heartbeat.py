"""The topic ``~/heartbeat``: as long as it beats, the node can still hold the robot."""

from __future__ import annotations

from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.qos import LivelinessPolicy, QoSProfile
from std_msgs.msg import Header

from qgf_ros.loop.watchdog import Watchdog

#: Deadline and lease that are offered [periods]; a listener may ask for as much, or more.
PATIENCE = 3


def heartbeat_quality(rate: float) -> QoSProfile:
    """Return what the heartbeat offers at `rate` [Hz]: deadline, and liveliness that only a beat asserts."""
    patience = Duration(seconds=PATIENCE / rate)
    return QoSProfile(
        depth=1,
        deadline=patience,
        liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
        liveliness_lease_duration=patience,
    )


class Heartbeat:
    """Publishes for a watchdog, on its thread, and tells it that the callbacks of the node run.

    Args:
        node: The node.
        watchdog: Decides whether to beat.
        rate: [Hz] of wall time.
    """

    def __init__(self, node: Any, watchdog: Watchdog, rate: float) -> None:
        self._node = node
        self._watchdog = watchdog
        self._publisher = node.create_publisher(Header, "~/heartbeat", heartbeat_quality(rate))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(watchdog.interval, watchdog.called_back, clock=steady)
        watchdog.beat(self._publish, 1.0 / rate)

    def close(self) -> None:
        """End it, once the watchdog has stopped."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def _publish(self) -> None:
        self._publisher.publish(Header(stamp=self._node.get_clock().now().to_msg()))
