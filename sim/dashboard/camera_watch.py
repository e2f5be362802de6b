"""What the policy node's cameras send, for a page that shows what the policy sees of it.

Subscribed only while somebody looks, and best effort, so that nothing is sent twice for it. A message stays the bytes that
came until it is to be shown; of those between two looks only the newest is ever read.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.robot_contract import RobotContract, read_robot_contract
from qgf_ros.control.vision.pictures import refusal
from qgf_ros.errors import ObservationError
from qgf_ros.nodes.messages import CAMERA_CLASSES, received

#: A camera that sends nothing for so long is called silent [s].
SILENCE = 1.0
#: Pictures of more pixels than this go to the browser as JPEG.
_MOST_EXACT = 256 * 256


@dataclass(frozen=True)
class CameraLook:
    """What the policy sees with a camera.

    Attributes:
        source: Its newest picture as the policy sees it, as a data URL; empty where there is none.
        complaint: Why there is none, or none any more; empty where all is well.
        size: Height and width of the picture [px].
    """

    source: str
    complaint: str
    size: tuple[int, int] = (0, 0)


def cameras_of(manifest: Manifest | None, contract: str) -> dict[str, CameraField]:
    """Return the cameras of a bundle as a policy node with a robot contract reads them.

    Args:
        manifest: Of the bundle; None where it is unknown.
        contract: Path of the contract, empty for none.

    Raises:
        ContractError: The contract cannot be read here, or does not fit the bundle.
    """
    if manifest is None or not manifest.cameras:
        return {}
    read = read_robot_contract(Path(os.path.expanduser(contract))) if contract else RobotContract()
    return read.apply_to_cameras(manifest)


class CameraWatch:
    """Keeps the newest message of each camera while somebody looks.

    Args:
        node: To subscribe on; its executor is the caller's.
        clock: Returns the time by which a silence is measured [s].
    """

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._clock = node, clock
        self._cameras: Mapping[str, CameraField] = {}
        self._subscriptions: list[Any] = []
        self._newest: dict[str, tuple[float, bytes]] = {}
        self._looks: dict[str, tuple[bytes, CameraLook]] = {}
        self._since = 0.0

    def serve(self, cameras: Mapping[str, CameraField]) -> None:
        """Take other cameras from now on."""
        if cameras != self._cameras:
            self.look(False)
            self._cameras = cameras

    def look(self, looking: bool) -> None:
        """Subscribe to the cameras while somebody looks, and not otherwise."""
        if looking == bool(self._subscriptions) or not self._cameras:
            return
        if not looking:
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)
            self._subscriptions, self._newest, self._looks = [], {}, {}
            return
        self._since = self._clock()
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        for name, camera in self._cameras.items():
            self._subscriptions.append(
                self._node.create_subscription(
                    CAMERA_CLASSES[camera.type], camera.topic, self._keeper(name), newest, raw=True
                )
            )

    def looks(self) -> dict[str, CameraLook]:
        """Return what the policy sees with each camera; a picture is decoded when it is looked at first.

        Raises:
            ModuleNotFoundError: OpenCV is missing.
        """
        return {name: self._look(name, camera) for name, camera in self._cameras.items()}

    def _keeper(self, name: str) -> Callable[[Any], None]:
        def keep(data: Any) -> None:
            self._newest[name] = self._clock(), data

        return keep

    def _look(self, name: str, camera: CameraField) -> CameraLook:
        when, data = self._newest.get(name, (self._since, b""))
        silence = self._clock() - when
        if not data:
            return CameraLook("", f"nothing is heard on {camera.topic}" if silence > SILENCE else "")
        known, look = self._looks.get(name, (b"", CameraLook("", "")))
        if known is not data:
            look = decoded(name, camera, data)
            self._looks[name] = data, look
        return look if silence <= SILENCE else replace(look, complaint=f"silent for {silence:.0f} s")


def decoded(name: str, camera: CameraField, data: bytes) -> CameraLook:
    """Return what the policy sees of a message as it came; what cannot be shown is a complaint, whoever sent it."""
    import cv2

    from qgf_ros.control.vision.decoding import decode

    try:
        picture: Any = received(deserialize_message(data, CAMERA_CLASSES[camera.type]))
        if complaint := refusal(name, camera, picture):
            raise ObservationError(complaint)
        pixels = decode(name, camera, picture)
    except Exception as error:  # Hold and Resume must go on
        return CameraLook("", str(error))
    kind = "png" if pixels.shape[0] * pixels.shape[1] <= _MOST_EXACT else "jpeg"
    content = base64.b64encode(cv2.imencode(f".{kind}", pixels[..., ::-1])[1].tobytes()).decode("ascii")
    return CameraLook(f"data:image/{kind};base64,{content}", "", camera.size)
