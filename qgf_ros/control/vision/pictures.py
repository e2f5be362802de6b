"""Readings of cameras: messages of pictures without ROS, and why one is refused before anybody decodes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.cameras import IMAGE, CameraField

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageReading:
    """An uncompressed picture: its pixels as they came, row after row, `step` bytes apart; uint8 [bytes]."""

    encoding: str
    width: int
    height: int
    step: int
    data: Bytes
    frame_id: str = ""

    @classmethod
    def of(cls, pixels: Bytes, encoding: str = "rgb8", frame_id: str = "") -> ImageReading:
        """Return pixels, uint8 [H, W, 3] or [H, W], as a camera would send them; nothing is copied where they lie in order."""
        pixels = np.ascontiguousarray(pixels)
        height, width = pixels.shape[:2]
        return cls(encoding, width, height, pixels.size // height, pixels.reshape(-1), frame_id)


@dataclass(frozen=True, eq=False)
class CompressedReading:
    """A JPEG or PNG file, uint8 [bytes], and what image_transport says of it, such as ``rgb8; jpeg compressed bgr8``."""

    format: str
    data: Bytes
    frame_id: str = ""


Picture: TypeAlias = ImageReading | CompressedReading


@dataclass(frozen=True)
class FileHeader:
    """What the beginning of a JPEG or PNG says: width, height, channels, bits of a channel."""

    width: int
    height: int
    channels: int
    bits: int


def stamps_text(stamps: Mapping[str, int]) -> str:
    """Return when the picture of each camera was taken [ns], as telemetry says it: ``wrist 1700000000000000000, front …``."""
    return ", ".join(f"{name} {stamp}" for name, stamp in stamps.items())


def stamps_of(text: str) -> dict[str, int]:
    """Return what `stamps_text` says; what is no such text says nothing."""
    return {name: int(stamp) for name, stamp in re.findall(r"([\w-]+) (\d{1,20})(?:, |$)", text)}


def refusal(name: str, camera: CameraField, picture: Picture) -> str | None:
    """Say why a picture is none that the policy may see, by what its message says and without decoding it, or return None.

    Args:
        name: Of the camera.
        camera: Its contract.
        picture: The reading.
    """
    topic = f"camera {name}: topic {camera.topic}"
    if isinstance(picture, ImageReading) != (camera.type == IMAGE):
        given, expected = ("an Image", "a CompressedImage")[:: 1 if isinstance(picture, ImageReading) else -1]
        return f"{topic} gave {given}, expected {expected}"
    if camera.frame_id is not None and picture.frame_id != camera.frame_id:
        return (
            f"{topic} comes from frame {_shown(picture.frame_id) or 'nowhere'}, expected {camera.frame_id}; see whether "
            "cameras were swapped"
        )
    if len(picture.data) > camera.most_bytes:
        return f"{topic} gives {len(picture.data)} bytes at once, at most {camera.most_bytes} are allowed"
    if isinstance(picture, ImageReading):
        return _refused_image(topic, camera, picture)
    return _refused_file(topic, camera, picture)


def _refused_image(topic: str, camera: CameraField, picture: ImageReading) -> str | None:
    if picture.encoding != camera.encoding:
        return f"{topic} gives {_spelt(picture.encoding)}, expected {camera.encoding}"
    if (picture.width, picture.height) != (camera.width, camera.height):
        return _other_size(topic, camera, picture.width, picture.height)
    row = camera.width * camera.channels
    if picture.step < row or len(picture.data) != picture.step * camera.height:
        return (
            f"{topic} gives rows of {picture.step} bytes and {len(picture.data)} bytes in all, expected {camera.height} rows "
            f"of at least {row}"
        )
    return None


def _refused_file(topic: str, camera: CameraField, picture: CompressedReading) -> str | None:
    encoding, _, how = (part.strip() for part in picture.format.partition(";"))
    other = bool(how) and (encoding == "mono8") != (camera.encoding == "mono8")
    if other or _TROUBLE.search(encoding):
        return f"{topic} gives {_spelt(encoding)}, expected {camera.encoding}"
    if _RED_FIRST.search(how):
        return (
            f"{topic} gives a file that is {_shown(how)}, in which red and blue may be either way; let its publisher compress "
            "bgr8, as image_transport does"
        )
    header = file_header(picture.data)
    if header is None:
        return f"{topic} gives no JPEG and no PNG, its format says {picture.format[:100]!r}"
    if not is_whole(picture.data):
        return f"{topic} gives a picture that is cut short, of {len(picture.data)} bytes"
    if (header.width, header.height) != (camera.width, camera.height):
        return _other_size(topic, camera, header.width, header.height)
    if header.channels != camera.channels or header.bits != 8:
        return (
            f"{topic} gives {header.channels} channels of {header.bits} bits, expected {camera.channels} of 8 for "
            f"{camera.encoding}"
        )
    return None


def _other_size(topic: str, camera: CameraField, width: int, height: int) -> str:
    return (
        f"{topic} gives {width} x {height} pixels, the bundle was trained on {camera.width} x {camera.height}; set that "
        "resolution in the camera's driver"
    )


#: Encodings that are no picture as an eye has it, in a message or in the format of a compressed one.
_TROUBLE = re.compile(r"bayer|16UC|32FC|mono16|16$")


#: Of a compressed picture, what its pixels were when they were compressed. Who says so may have given red to what takes blue first.
_RED_FIRST = re.compile(r"compressed\s+rgba?\d")


def _shown(text: str) -> str:
    """Return what a message says, as a sentence may hold it."""
    return "".join(c if c.isprintable() else "?" for c in text[:40])


def _spelt(encoding: str) -> str:
    """Return an encoding, with what to do about one that many cameras have."""
    shown = _shown(encoding) or "no encoding"
    if encoding.startswith("bayer"):
        return f"{shown}, the raw pattern of a colour sensor (publish it debayered, with image_proc)"
    if _TROUBLE.search(encoding):
        return f"{shown}, which is depth or has more than 8 bits (give the topic of the colour picture)"
    return shown


#: Bytes of a file in which its size must stand, and in which it must end; drivers pad with zeros.
_HEAD, _TAIL = 2**16, 64
#: Parts of a PNG at most: so many, and one for each so many bytes; encoders write 8 KiB and more into each.
_MOST_PARTS, _PART = 64, 1024
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


def file_header(data: Bytes) -> FileHeader | None:
    """Return what the head of a JPEG or PNG says, of which a decoder believes the same; None where it is neither."""
    head = data[:_HEAD].tobytes()
    return _png_header(head) or _jpeg_header(head)


def is_whole(data: Bytes) -> bool:
    """Return whether a JPEG ends as one, or all parts of a PNG are there: for one that claims to be longer than the file is,
    OpenCV would ask for as much memory before it looks.
    """
    if data[: len(_PNG)].tobytes() != _PNG:
        return data[-_TAIL:].tobytes().rstrip(b"\0").endswith(b"\xff\xd9")
    at = len(_PNG)
    for _ in range(_MOST_PARTS + len(data) // _PART):
        length, kind = int.from_bytes(data[at : at + 4].tobytes(), "big"), data[at + 4 : at + 8].tobytes()
        at += 12 + length  # with its length, its kind and its checksum
        if at > len(data) or kind == b"IEND":
            return at <= len(data)
    return False


def _png_header(data: bytes) -> FileHeader | None:
    if not data.startswith(_PNG) or data[12:16] != b"IHDR" or len(data) < 26:
        return None
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    return FileHeader(width, height, _PNG_CHANNELS.get(data[25], 0), data[24])


#: Markers of segments that may stand before the frame header of a JPEG: tables, restart interval, applications and comments.
_SEGMENTS = frozenset({0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})


def _jpeg_header(data: bytes) -> FileHeader | None:
    """Return what the frame header of a JPEG says, which follows other segments (ITU-T T.81, annex B).

    Nothing is passed over that has no length of its own: a decoder would go on elsewhere than this reader, and find another size.
    """
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # may be repeated
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            return FileHeader(width, height, data[at + 9], data[at + 4])
        elif marker not in _SEGMENTS:
            return None
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
