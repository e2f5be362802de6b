"""What a policy sees, as people can look at it: the pictures of its cameras, enlarged pixel by pixel, one below the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from qgf_sim.rollouts.film_files import Picture

#: Height of the line above a picture that says which camera it is of [px].
NAME = 16
_GAP = 4  # [px], on the left of the pictures
_INK = 10  # [px], height of the letters


def panel(images: Mapping[str, NDArray[np.uint8]], height: int) -> Picture:
    """Return the pictures of all cameras in one that stands beside a scene, uint8 [height, width, 3].

    Each is as large as the same share of the height allows, and its pixels stay squares with sharp edges.

    Args:
        images: What the policy sees, uint8 [h, w, 3] by camera.
        height: Of the scene [px].
    """
    share = height // len(images)
    enlarged = {name: fitted(pixels, max(share - NAME, 1)) for name, pixels in images.items()}
    width = max(picture.shape[1] for picture in enlarged.values()) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_INK)
    for number, (name, picture) in enumerate(enlarged.items()):
        draw.text((_GAP, number * share + 1), name, fill="black", font=font)
        sheet.paste(Image.fromarray(picture), (_GAP, number * share + NAME))
    return np.asarray(sheet)


def fitted(pixels: Picture, height: int) -> Picture:
    """Return a picture so large that it is nearly `height` [px] high: a whole number of times, unless it has to shrink."""
    factor = height // len(pixels)
    if factor:
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    width = max(round(pixels.shape[1] * height / len(pixels)), 1)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST))
