"""The verdict on each camera of a contract, and its picture as the policy would see it, for a person to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.store import reference_picture_file
from qgf_ros.control.vision.decoding import decode
from qgf_ros.control.vision.pictures import ImageReading, Picture, file_header, is_whole, refusal
from qgf_ros.control.vision.pixels import Pixels
from qgf_ros.errors import ObservationError
from qgf_ros.files.destination import replacing
from qgf_ros.nodes.contract_check import Heard, unheard, untimely


def judge_camera(
    name: str, camera: CameraField, heard: Heard, now: float, publishers: int = 1
) -> tuple[str | None, Pixels | None]:
    """Say what keeps a camera from being served, or None if it is; and what the policy would see, if anything.

    Args:
        name: Of the camera.
        camera: Its contract.
        heard: Of its topic.
        now: End of the listening, on the clock of `Heard.arrivals` [s].
        publishers: How many may publish the topic.

    Returns:
        The complaint, and uint8 [h, w, 3], RGB.
    """
    if reason := unheard(camera.topic, camera.type, name, heard, publishers):
        return reason, None
    if heard.picture is None:
        return f"{camera.topic} has a publisher, but nothing was heard", None
    reason = refusal(name, camera, heard.picture)
    if reason is not None:
        return _without_name(reason), None
    try:
        seen = decode(name, camera, heard.picture)
    except ObservationError as error:
        return _without_name(str(error)), None
    return untimely(camera.max_age, heard, now), seen


def _without_name(reason: str) -> str:
    return reason.partition(": ")[2]


def delivered(picture: Picture | None) -> tuple[str, str]:
    """Return what a camera gives in words: size and encoding, or size, bytes and format; and the frame of its header."""
    if picture is None:
        return "-", "-"
    if isinstance(picture, ImageReading):
        said = f"{picture.width} x {picture.height}, {picture.encoding}"
    else:
        header = file_header(picture.data)
        size = "no picture" if header is None else f"{header.width} x {header.height}"
        said = f"{size}, {len(picture.data) / 1024:.0f} KiB, {picture.format}"
    return "".join(c if c.isprintable() else "?" for c in said[:80]), picture.frame_id[:80] or "-"


def write_pictures(folder: Path, seen: Mapping[str, Pixels], files: Mapping[str, bytes]) -> list[Path]:
    """Write what the policy would see of each camera as PNG, on the left what it saw in training, where the bundle knows.

    Args:
        folder: For the files, one a camera, by its name.
        seen: uint8 [h, w, 3], RGB.
        files: The bundle's files by path.

    Returns:
        The files.

    Raises:
        OutputError: One cannot be written.
    """
    written = []
    for name, pixels in seen.items():
        parts = [pixels]
        known = np.frombuffer(files.get(reference_picture_file(name), b""), dtype=np.uint8)
        header = file_header(known)
        if header is not None and (header.height, header.width) == pixels.shape[:2] and is_whole(known):
            before = cv2.imdecode(known, cv2.IMREAD_COLOR)
            if before is not None:
                gap = np.full((len(pixels), 4, 3), 255, dtype=np.uint8)
                parts = [np.asarray(before[..., ::-1], dtype=np.uint8), gap, pixels]
        content = cv2.imencode(".png", np.ascontiguousarray(np.concatenate(parts, axis=1)[..., ::-1]))[1]
        path = folder / f"{name}.png"
        with replacing(path, "--pictures") as temporary:
            temporary.write_bytes(content.tobytes())
        written.append(path)
    return written
