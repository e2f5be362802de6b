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
    resized = pixels.shape[:2] != camera.size
    if resized:
        pixels = _resized(pixels, camera)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB))
    if camera.encoding == "bgr8" if blue_first is None else blue_first:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    return pixels if resized else np.array(pixels, order="C")


#: Most numbers of a picture in colour that are made float32 before they are averaged: beyond, that takes longer than it saves.
_MOST_AS_FLOAT = 2**20


def _resized(pixels: Pixels, camera: CameraField) -> Pixels:
    """Return pixels [H, W] or [H, W, channels] in the size that is seen, uint8 [h, w] or [h, w, channels].

    Where areas are no whole multiples, OpenCV weighs pixels as float32, and converts each where it needs it. Colours that are
    converted before, at once, become the same bits in less time.
    """
    (high, wide), (height, width) = pixels.shape[:2], camera.size
    how = _INTERPOLATIONS[camera.interpolation]
    weighed = how == cv2.INTER_AREA and high >= height and wide >= width and bool(high % height or wide % width)
    if weighed and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size <= _MOST_AS_FLOAT:
        average = cv2.resize(pixels.astype(np.float32), (width, height), interpolation=how)
        return np.rint(average).astype(np.uint8)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), dtype=np.uint8)
