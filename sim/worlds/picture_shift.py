"""What a domain shift makes of the pictures of the robot's cameras: other light, noise, something in the way.

Its randomness is the episode's: the same seed and control step give the same picture, however often somebody looks. Nothing
here needs MuJoCo or ROS.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qgf_sim.worlds.shift import Shift

# Streams of an episode's generator, beside those of `worlds.shift`.
_NOISE, _PLACE = 4, 5
#: Brightness of what is in the way [0 to 255].
GREY = 128


def shifted_picture(picture: NDArray[np.uint8], shift: Shift, seed: int, step: int) -> NDArray[np.uint8]:
    """Return a picture as the robot gets it, uint8 [h, w, 3]; the same array where nothing is shifted.

    Args:
        picture: uint8 [h, w, 3].
        shift: The domain shift.
        seed: Of the episode.
        step: Control steps since it began.
    """
    if shift.brightness_factor != 1.0 or shift.picture_noise > 0.0:
        values = picture * np.float32(shift.brightness_factor)
        if shift.picture_noise > 0.0:
            random = np.random.default_rng((seed, _NOISE, step))
            values += np.float32(shift.picture_noise) * random.standard_normal(picture.shape, np.float32)
        picture = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if shift.occlusion > 0.0:
        sides = np.rint(shift.occlusion * np.array(picture.shape[:2])).astype(int)
        free = np.array(picture.shape[:2]) - sides
        top, left = (np.random.default_rng((seed, _PLACE)).random(2) * (free + 1)).astype(int)
        picture = picture.copy()
        picture[top : top + sides[0], left : left + sides[1]] = GREY
    return picture
