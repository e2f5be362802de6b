"""From the pixels of a camera to what the policy sees of them: one function for node, data sets and simulator."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.cameras import CameraField

Pixels = NDArray[np.uint8]

_INTERPOLATIONS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}

# A picture takes a millisecond, and the other cores are the control loop's.
cv2.setNumThreads(1)


def seen(pixels: Pixels, camera: CameraField, *, blue_first: bool | None = None, reduced: int = 1) -> Pixels:
    """Return what the policy sees of a picture: cropped, resized, RGB.

    Args:
        pixels: uint8 [camera.height, camera.width, 3] in the camera's encoding; of mono8 also without the last axis. Rows
            may be apart. Only what is returned is copied.
        camera: Its contract.
        blue_first: Whether the pixels are BGR, whatever the camera's encoding; by default what that says.
        reduced: By what width and height of the pixels are less than the camera's, which the decoder did.

    Returns:
        uint8 [h, w, 3] with (h, w) = camera.size, its own memory.
    """
    if camera.crop is not None:
        x, y, width, height = (number // reduced for number in camera.crop)
        pixels = pixels[y : y + height, x : x + width]
    height, width = camera.size
    if pixels.shape[:2] != camera.size:
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=_INTERPOLATIONS[camera.interpolation]))
    pixels = pixels.reshape(height, width, -1)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    blue_first = camera.encoding == "bgr8" if blue_first is None else blue_first
    return np.array(pixels[..., ::-1] if blue_first else pixels, order="C")
