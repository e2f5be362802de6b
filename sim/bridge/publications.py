"""What the bridge publishes: time, observations, goals, frames, pictures and the outcomes of episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray, String

from qgf_ros.bundle.fields import GOAL
from qgf_ros.bundle.goal_fields import OBJECT_GOAL, goal_columns
from qgf_ros.control.extraction import PoseReading, Reading, WrenchReading
from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.nodes.messages import MESSAGE_CLASSES, picture_message, to_message, to_time
from qgf_sim.bridge.episodes import EpisodeOutcome
from qgf_sim.bridge.frames import CAMERA, FramePublisher
from qgf_sim.bridge.sources import World
from qgf_sim.worlds.families import camera_fields, family_of, observation_fields
from qgf_sim.worlds.urdf import WORLD

#: Longest wait for the last outcome to reach its subscribers, and for a goal, without which a node that is kept from
#: running for a while would go on with the one of before.
ARRIVAL_TIMEOUT, GOAL_TIMEOUT = Duration(seconds=1), Duration(seconds=10)


class Publications:
    """The publishers of the bridge.

    Args:
        node: The node to publish on.
        environment: Whose observations, pictures and goals they publish.
        picture: Width and height of the pictures for people, or None without such a camera.
    """

    def __init__(self, node: Node, environment: str, picture: tuple[int, int] | None) -> None:
        cameras = [camera.topic for camera in camera_fields(environment).values()]
        self._picture = picture
        observation, family = observation_fields(environment), family_of(environment)
        # Goals of a robot that sees would be pictures; nobody is told one yet.
        told: dict[str, Any] = {}
        if not family.visual:
            told = {GOAL: slice(None), OBJECT_GOAL: goal_columns(observation, tuple(family.object_goal))}
        self._observations = {
            topic: node.create_publisher(MESSAGE_CLASSES[kind], topic, 10)
            for topic, kind in {field.topic: field.message_type for field in observation}.items()
        }
        self._observations |= {topic: node.create_publisher(Image, topic, 1) for topic in cameras}
        self._clock = node.create_publisher(Clock, "/clock", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._episode = node.create_publisher(String, "~/episode", latched)
        self._goals = {
            topic: (node.create_publisher(Float64MultiArray, topic, latched), held) for topic, held in told.items()
        }
        self._image = node.create_publisher(Image, "~/image", 1) if picture is not None else None
        self._frames = FramePublisher(node)

    def time(self, stamp: int) -> None:
        """Publish the simulated time [ns]."""
        self._clock.publish(Clock(clock=to_time(stamp)))

    def goal(self, values: NDArray[np.float64]) -> None:
        """Publish the goal of the episode that begins, float64 [S], whole and without the arm; wait until it is there."""
        for publisher, held in self._goals.values():
            publisher.publish(Float64MultiArray(data=values[held].tolist()))
        for publisher, _ in self._goals.values():
            publisher.wait_for_all_acked(GOAL_TIMEOUT)  # before the observation that is answered with it

    def observe(self, readings: Mapping[str, Reading | ImageReading], stamp: int) -> bool:
        """Publish readings, all of one stamp [ns]; return whether they are complete."""
        for topic, reading in readings.items():
            if isinstance(reading, ImageReading):
                self._observations[topic].publish(picture_message(reading, stamp))
                continue
            frame = WORLD if isinstance(reading, (PoseReading, WrenchReading)) else ""
            self._observations[topic].publish(to_message(reading, stamp, frame))
        return len(readings) == len(self._observations)

    def show(self, world: World, stamp: int) -> None:
        """Publish where everything is, and a picture of it, where somebody looks."""
        self._frames.publish(world.physics, stamp)
        if self._image is not None and self._picture is not None and self._image.get_subscription_count():
            picture = ImageReading.of(world.picture(*self._picture), frame_id=CAMERA)
            self._image.publish(picture_message(picture, stamp))

    def conclude(self, outcome: EpisodeOutcome) -> None:
        """Publish the outcome of an episode."""
        self._episode.publish(String(data=outcome.to_json()))

    def wait_for_acknowledgement(self) -> None:
        """Let the last outcome reach its subscribers."""
        self._episode.wait_for_all_acked(ARRIVAL_TIMEOUT)
