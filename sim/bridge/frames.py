"""Where everything is, for viewers: the robot's description, and the frames of robot, objects and camera.

`tf2_msgs` comes with a ROS 2 installation and not as a wheel. Without it there is no /tf; `robot_state_publisher` on any
machine of the graph makes the robot's own from ``joint_states`` and ``robot_description``.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from qgf_ros.nodes.messages import to_time
from qgf_sim.worlds.urdf import WORLD, link_poses, robot_links, robot_urdf

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

#: Frame of the pictures: z forward, x right, y down (REP 103).
CAMERA = "camera_optical_frame"
_OPTICAL = np.diag([1.0, -1.0, -1.0])  # MuJoCo's cameras look along -z, y up


def transforms(model: Any, data: Any, stamp: int) -> list[TransformStamped]:
    """Return the frames of robot, objects and camera.

    Args:
        model, data: MuJoCo's model and present state.
        stamp: Of the observation of the same moment [ns].
    """
    links = robot_links(model)
    positions, rotations = link_poses(data, links)
    poses = {WORLD: (np.zeros(3), np.eye(3))}
    found = []
    for link, position, rotation in zip(links, positions, rotations):
        poses[link.name] = (position, rotation)
        origin, parent = poses[link.parent]
        found.append(_transform(link.parent, link.name, parent.T @ (position - origin), parent.T @ rotation, stamp))
    robot = model.body_rootid[links[0].body]
    for body in np.flatnonzero((model.body_jntnum > 0) & (model.body_rootid != robot)):
        rotation = data.xmat[body].reshape(3, 3)
        found.append(_transform(WORLD, model.body(body).name, data.xpos[body], rotation, stamp))
    camera = model.camera("front").id
    rotation = data.cam_xmat[camera].reshape(3, 3) @ _OPTICAL
    return [*found, _transform(WORLD, CAMERA, data.cam_xpos[camera], rotation, stamp)]


def _transform(
    parent: str, child: str, position: NDArray[np.float64], rotation: NDArray[np.float64], stamp: int
) -> TransformStamped:
    message = TransformStamped()
    message.header.stamp = to_time(stamp)
    message.header.frame_id, message.child_frame_id = parent, child
    target = message.transform
    target.translation.x, target.translation.y, target.translation.z = position.tolist()
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
    target.rotation.w, target.rotation.x, target.rotation.y, target.rotation.z = quaternion.tolist()
    return message


class FramePublisher:
    """Publishes ``robot_description`` once, latched, and /tf as long as somebody listens.

    Args:
        node: The node to publish on.
    """

    def __init__(self, node: Node) -> None:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._description = node.create_publisher(String, "robot_description", latched)
        self._described = False
        self._publisher = node.create_publisher(TFMessage, "/tf", 100) if TFMessage is not None else None

    def publish(self, physics: tuple[Any, Any] | None, stamp: int) -> None:
        """Publish what is where at the time of an observation; nothing where nothing is simulated.

        Args:
            physics: MuJoCo's model and data.
            stamp: Of the observation [ns].
        """
        if physics is None:
            return
        model, data = physics
        if not self._described:
            self._description.publish(String(data=robot_urdf(model)))
            self._described = True
        if self._publisher is not None and self._publisher.get_subscription_count():
            self._publisher.publish(TFMessage(transforms=transforms(model, data, stamp)))
