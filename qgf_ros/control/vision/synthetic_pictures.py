"""Pictures as a bundle's cameras would send them, of nothing in particular: for whoever times a policy without a camera."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from qgf_ros.bundle.cameras import IMAGE, CameraField
from qgf_ros.control.vision.newest_pictures import KeptPicture, Sight
from qgf_ros.control.vision.pictures import CompressedReading, ImageReading, Picture
from qgf_ros.control.vision.pixels import Pixels

#: Share of a side that one patch of colour takes, and how strong the noise of the sensor is [0 to 255].
_PATCH, _NOISE = 0.1, 8.0
#: Of a JPEG.
_QUALITY = 85


def synthetic_pixels(camera: CameraField, random: np.random.Generator) -> Pixels:
    """Return patches of colour and noise, which a JPEG packs about as well as a scene, uint8 [H, W, 3], or [H, W] of mono8."""
    coarse = max(round(1.0 / _PATCH), 2)
    patches = random.uniform(30.0, 225.0, (coarse, coarse, camera.channels)).astype(np.float32)
    smooth = cv2.resize(patches, (camera.width, camera.height)).reshape(camera.height, camera.width, -1)
    noisy = smooth + random.normal(0.0, _NOISE, smooth.shape)
    pixels = np.clip(noisy, 0.0, 255.0).astype(np.uint8)
    return pixels[..., 0] if camera.channels == 1 else pixels


def synthetic_picture(camera: CameraField, random: np.random.Generator) -> Picture:
    """Return a picture that the contract of a camera allows, as its message would say it."""
    pixels, frame_id = synthetic_pixels(camera, random), camera.frame_id or ""
    if camera.type == IMAGE:
        return ImageReading.of(pixels, camera.encoding, frame_id)
    file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].reshape(-1)
    return CompressedReading(f"{camera.encoding}; jpeg compressed", np.asarray(file, dtype=np.uint8), frame_id)


class SyntheticSights:
    """What cameras see, each sight to be decoded as if it had just come.

    Args:
        cameras: By name.
        seed: Of the pictures.
        count: Different pictures of each camera.
    """

    def __init__(self, cameras: Mapping[str, CameraField], seed: int, count: int = 8) -> None:
        random = np.random.default_rng(seed)
        self._cameras = cameras
        self._pictures = [
            {name: synthetic_picture(camera, random) for name, camera in cameras.items()} for _ in range(count)
        ]

    def sight(self, stamp: int, number: int) -> Sight:
        """Return one of the sights, by any number, as if taken at `stamp` [ns]."""
        pictures = self._pictures[number % len(self._pictures)]
        kept = {
            name: KeptPicture(name, self._cameras[name], stamp, picture, None) for name, picture in pictures.items()
        }
        return Sight(kept, dict.fromkeys(kept, 0.0))
