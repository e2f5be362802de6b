"""A picture decoded: its pixels, of an uncompressed one without a copy."""

from __future__ import annotations

import cv2
import numpy as np

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.control.vision.pictures import ImageReading, Picture
from qgf_ros.control.vision.pixels import Pixels, seen
from qgf_ros.errors import ObservationError

#: How a file is decoded, by what it is reduced. JPEG is made of blocks of 8 x 8, which its decoder can give as 4 x 4, 2 x 2 or one
#: pixel; of a PNG OpenCV reduces what it has decoded.
_COLOUR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def decode(name: str, camera: CameraField, picture: Picture) -> Pixels:
    """Return what the policy sees of a picture that was not refused, uint8 [h, w, 3], RGB.

    Args:
        name: Of the camera.
        camera: Its contract.
        picture: The reading.

    Raises:
        ObservationError: A file is damaged, or what is seen is darker or brighter than the contract allows.
    """
    if isinstance(picture, ImageReading):
        rows = picture.data.reshape(picture.height, picture.step)
        pixels = rows[:, : picture.width * camera.channels].reshape(picture.height, picture.width, camera.channels)
        found = seen(pixels, camera)
    else:
        reduced = camera.reduction
        # Turned as it came, whatever its EXIF says: the bundle was trained on what the camera sends.
        flag = (_GREY if camera.channels == 1 else _COLOUR)[reduced] | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            decoded = cv2.imdecode(picture.data, flag)
        except cv2.error:
            decoded = None
        if decoded is None or decoded.shape[:2] != (camera.height // reduced, camera.width // reduced):
            raise ObservationError(
                f"camera {name}: topic {camera.topic} gives a picture that cannot be decoded, of {len(picture.data)} bytes"
            )
        # Whatever the encoding of the message: OpenCV gives blue first.
        pixels = np.asarray(decoded, dtype=np.uint8)
        found = seen(pixels, camera, blue_first=camera.channels == 3, reduced=reduced)
    if camera.brightness is not None:
        _check_brightness(name, camera, float(found.mean()))
    return found


def _check_brightness(name: str, camera: CameraField, mean: float) -> None:
    assert camera.brightness is not None
    low, high = camera.brightness
    if not low <= mean <= high:
        raise ObservationError(
            f"camera {name}: topic {camera.topic} is {'black' if mean < low else 'overexposed'}, its mean is {mean:.1f} of 255, "
            f"expected {low:g} to {high:g}; see to light, lens cap and exposure"
        )
