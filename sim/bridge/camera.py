"""Pictures as messages. Imported only when the camera is on."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from qgf_ros.nodes.messages import to_time
from qgf_sim.bridge.frames import CAMERA


def image_message(picture: NDArray[np.uint8], stamp: int, frame_id: str = CAMERA) -> Image:
    """Return a picture as a message.

    Args:
        picture: uint8 [height, width, 3], red, green, blue.
        stamp: Stamp of the observation taken at the same moment [ns].
        frame_id: Frame of the camera.
    """
    height, width, channels = picture.shape
    message = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=width * channels)
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame_id
    message.data = array("B", picture.tobytes())  # bytes would be checked element by element
    return message
