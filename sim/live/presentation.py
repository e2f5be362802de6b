"""A served demo taken through its guidance weights, so that a person sees each of them, and first what they improve on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.context import Context
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from qgf_ros.control.run_options import weight_parameters
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.plan import EpisodePlan
from qgf_sim.live.conductor import BRIDGE, NODE
from qgf_sim.live.ros_client import RosClient


class Presentation:
    """Sets the next weight after some episodes at one, unless somebody has set another meanwhile.

    Args:
        plan: Weights, and episodes at each before the next; the node runs with the first.
        context: ROS context to live in.
        note: Told of each change.
        between: Called between messages; what it raises goes to the caller of `listen`.
        settings: Other options that not every weight is shown with, by weight and name.
    """

    def __init__(
        self,
        plan: EpisodePlan,
        context: Context,
        note: Callable[[str], None],
        between: Callable[[], None],
        settings: Mapping[float, Mapping[str, Any]] | None = None,
    ) -> None:
        self._settings = settings or {}
        self._weight, *self._upcoming = plan.guidance_weights
        self._episodes = plan.episodes
        self._finished = 0
        self._note = note
        self._client = RosClient("qgf_presentation", context, between)
        self._client.node.create_subscription(String, f"{BRIDGE}/episode", self._on_episode, QoSProfile(depth=10))

    @property
    def goes_on(self) -> bool:
        """Whether there is a weight that is still to be set."""
        return bool(self._upcoming)

    def listen(self, duration: float) -> None:
        """Take messages in for some time [s], then set the next weight if that is due."""
        self._client.listen(duration)
        if self._finished < self._episodes or not self._upcoming:
            return
        try:
            found = self._client.get(NODE, ["guidance_weight"])
            if parameter_value_to_python(found["guidance_weight"]) != self._weight:
                self._upcoming.clear()  # it is in somebody's hands
                return
            upcoming = self._upcoming[0]
            self._client.set(NODE, {**weight_parameters(upcoming), **self._settings.get(upcoming, {})})
        except SimulationError as error:
            self._note(f"the next guidance weight could not be set: {error}")
            self._upcoming.clear()
            return
        self._weight, self._finished = self._upcoming.pop(0), 0
        self._note(f"the guidance weight is {self._weight:g} now")

    def close(self) -> None:
        """Free the node."""
        self._client.close()

    def _on_episode(self, message: Any) -> None:
        self._finished += 1
