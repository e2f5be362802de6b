"""What each camera saw in the first row of a data set, as a bundle keeps it: for a person to hold a robot's camera against."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from qgf_ros.bundle.store import reference_picture_file
from qgf_ros.learning.data.picture_files import PictureFile


def reference_pictures(pictures: PictureFile) -> dict[str, bytes]:
    """Return the first picture of each camera as a PNG file, by its path inside a bundle.

    Args:
        pictures: Of a data set.

    Raises:
        DatasetError: They are damaged.
    """
    found = {}
    for name, pixels in pictures.first().items():
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        found[reference_picture_file(name)] = file.getvalue()
    return found
