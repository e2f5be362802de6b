"""Subscriptions to topics as they are published: each made when somebody publishes it, with the quality offered."""

from __future__ import annotations

import importlib
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

from qgf_ros.bundle.cameras import COMPRESSED, IMAGE
from qgf_ros.errors import RecordingError
from qgf_ros.recording.queue import RecordingQueue
from qgf_ros.recording.schemas import definition, leading_stamp, starts_with_stamp
from qgf_ros.recording.writer import Received

#: Messages of one topic that may wait for this process, and pictures, which are large.
DEPTH, PICTURES = 1000, 10
#: Longest time that `Taps.close` takes messages that were delivered before it [s].
DRAIN = 1.0


@dataclass(frozen=True)
class Tap:
    """A subscription and what it was made for."""

    subscription: Any
    type_name: str
    reliable: bool
    latched: bool


class Taps:
    """Takes the messages of topics, as they came over the wire, into a queue. Call `discover` now and then.

    Args:
        node: The node to subscribe on.
        wanted: Full names of the topics.
        queue: Takes the messages.
        beside: Those of them that need not be there.
    """

    def __init__(self, node: Node, wanted: Sequence[str], queue: RecordingQueue, beside: Collection[str] = ()) -> None:
        self._node = node
        self._wanted = wanted
        self._beside = beside
        self._queue = queue
        self._taps: dict[str, Tap] = {}
        self._refused: set[str] = set()

    def __getitem__(self, topic: str) -> Tap:
        return self._taps[topic]

    def __len__(self) -> int:
        return len(self._taps)

    @property
    def silent(self) -> tuple[str, ...]:
        """Topics that should be there, and that nobody has published yet, or whose type is not installed."""
        return tuple(topic for topic in self._wanted if topic not in self._taps and topic not in self._beside)

    def discover(self) -> None:
        """Subscribe to what is published by now."""
        for topic in self._wanted:
            infos = self._node.get_publishers_info_by_topic(topic)
            if not infos or topic in self._refused:
                continue
            offered = [info.qos_profile for info in infos]
            reliable = all(profile.reliability == QoSReliabilityPolicy.RELIABLE for profile in offered)
            latched = all(profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
            tap = self._taps.get(topic)
            if tap is not None:
                if not ((tap.reliable and not reliable) or (tap.latched and not latched)):
                    continue
                # A publisher has come that offers less, and would not be heard.
                self._drain(tap, time.monotonic() + DRAIN)
                self._node.destroy_subscription(tap.subscription)
            about = {  # which takes milliseconds to write, and is of use only here
                "offered_qos_profiles": offered_qos_profiles(offered),
                "topic_type_hash": str(infos[0].topic_type_hash),
            }
            self._tap(topic, infos[0].topic_type if tap is None else tap.type_name, reliable, latched, about)

    def close(self) -> None:
        """Take what was delivered; call it when the executor is not spinning."""
        end = time.monotonic() + DRAIN
        for tap in self._taps.values():
            self._drain(tap, end)

    def _tap(self, topic: str, type_name: str, reliable: bool, latched: bool, about: Mapping[str, str]) -> None:
        logger = self._node.get_logger()
        try:
            package, _, name = type_name.partition("/msg/")
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
            stamped = starts_with_stamp(type_name, definition(type_name))
        except (ImportError, AttributeError, RecordingError) as error:
            self._refused.add(topic)
            complain = logger.warning if topic in self._beside else logger.error
            complain(f"{topic} is not recorded, its type {type_name} is not installed here ({error})")
            return
        quality = QoSProfile(
            depth=PICTURES if type_name in (IMAGE, COMPRESSED) else DEPTH,
            reliability=QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
        )

        def receive(data: bytes, info: Mapping[str, int]) -> None:
            log_time = info.get("received_timestamp") or time.time_ns()
            made = leading_stamp(data, log_time) if stamped else info.get("source_timestamp") or log_time
            self._receive(Received(topic, type_name, log_time, max(made, 0), data, about))

        events = SubscriptionEventCallbacks(message_lost=self._on_lost)
        subscription = self._node.create_subscription(kind, topic, receive, quality, raw=True, event_callbacks=events)
        self._taps[topic] = Tap(subscription, type_name, reliable, latched)
        logger.info(f"recording {topic}, {type_name}")

    def _drain(self, tap: Tap, end: float) -> None:
        """Take what was delivered for a topic, until `end` (`time.monotonic`) at most."""
        subscription = tap.subscription
        while self._queue.end is None and time.monotonic() < end:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is None:
                return
            subscription.callback(*taken)

    def _receive(self, message: Received) -> None:
        taken = self._queue.put(message)
        if not taken and self._queue.end is None:
            self._node.get_logger().warning(
                f"{self._queue.dropped} messages are dropped so far, the disk is too slow", throttle_duration_sec=5.0
            )

    def _on_lost(self, event: Any) -> None:
        self._queue.lost += event.total_count_change


def offered_qos_profiles(profiles: Sequence[QoSProfile]) -> str:
    """Return what a topic is offered with, as rosbag2 writes it into MCAP files and `ros2 bag play` offers it again."""
    return str(yaml.safe_dump([_profile(profile) for profile in profiles], sort_keys=False)).rstrip()


def _profile(profile: QoSProfile) -> dict[str, Any]:
    times = {name: getattr(profile, name).nanoseconds for name in ("deadline", "lifespan", "liveliness_lease_duration")}
    spans = {name: dict(zip(("sec", "nsec"), divmod(time_, 1_000_000_000))) for name, time_ in times.items()}
    return {
        "history": profile.history.short_key,
        "depth": profile.depth,
        "reliability": profile.reliability.short_key,
        "durability": profile.durability.short_key,
        "deadline": spans["deadline"],
        "lifespan": spans["lifespan"],
        "liveliness": profile.liveliness.short_key,
        "liveliness_lease_duration": spans["liveliness_lease_duration"],
        "avoid_ros_namespace_conventions": profile.avoid_ros_namespace_conventions,
    }
