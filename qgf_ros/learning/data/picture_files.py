"""Pictures of a data set: they stay on disk, and those of a batch are read when they are wanted.

A file holds them as ``images/NAME`` [F, h, w, 3], red, green, blue, a picture for each row; OGBench's visual files hold
those of one camera as ``observations``. What is stored as it is, is mapped into memory; what is compressed is unpacked once,
piece by piece, into a folder of the run.
"""

from __future__ import annotations

import math
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.cameras import MOST_CAMERAS, MOST_SEEN, STATE
from qgf_ros.errors import DatasetError
from qgf_ros.files.destination import replacing
from qgf_ros.learning.data.npz_archive import ArrayHeader, array_headers

#: What the key of a camera's pictures begins with; what the camera is called whose pictures are the observations.
IMAGES, OBSERVED_CAMERA = "images/", "camera"
#: Folder of a run for pictures that are unpacked, and for what is computed of them.
CACHE = "cache"
#: JSON of the renderer setting that pictures of a simulation were made with.
RENDERING_KEY = "rendering"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_\-]{0,63}")
_PIECE = 1 << 20

Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """Pictures of the rows of a data set, which are on disk.

    Attributes:
        cameras: uint8 [F, h, w, 3] by name.
        rows: Which of them belongs to each row, int64 [R].
    """

    cameras: Mapping[str, Uint8]
    rows: NDArray[np.int64]

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of the pictures, by camera [pixels]."""
        return {name: (frames.shape[1], frames.shape[2]) for name, frames in self.cameras.items()}

    def take(self, rows: NDArray[np.int64]) -> dict[str, Uint8]:
        """Return the pictures of some rows [N], uint8 [N, h, w, 3] by camera."""
        numbers = self.rows[rows]
        return {name: np.asarray(frames[numbers]) for name, frames in self.cameras.items()}


@dataclass(frozen=True)
class PictureFile:
    """Where the pictures of a data set are.

    Attributes:
        path: An ``.npz`` file.
        cameras: What the file says of their arrays, by camera.
        rows: Which picture belongs to each row of the data set, int64 [R].
    """

    path: Path
    cameras: Mapping[str, ArrayHeader]
    rows: NDArray[np.int64]

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of the pictures, by camera [pixels]."""
        return {name: (header.shape[1], header.shape[2]) for name, header in self.cameras.items()}

    def kept(self, rows: NDArray[np.int64]) -> PictureFile:
        """Return the pictures of some rows only."""
        return replace(self, rows=self.rows[rows])

    def first(self) -> dict[str, Uint8]:
        """Return the pictures of the first row, uint8 [h, w, 3] by camera; no others are unpacked.

        Raises:
            DatasetError: They are damaged.
        """
        found = {}
        for name, header in self.cameras.items():
            shape = header.shape[1:]
            with self._reading(header) as member:
                member.read(int(self.rows[0]) * math.prod(shape))
                found[name] = np.frombuffer(member.read(math.prod(shape)), np.uint8).reshape(shape)
        return found

    def opened(self, cache: Path) -> Pictures:
        """Return the pictures to take some from.

        Args:
            cache: Folder for pictures that are compressed in the file, which are unpacked into it unless they are there.

        Raises:
            DatasetError: They are damaged, or cannot be unpacked.
        """
        cameras = {name: self._mapped(name, header, cache) for name, header in self.cameras.items()}
        return Pictures(cameras, self.rows)

    def _mapped(self, name: str, header: ArrayHeader, cache: Path) -> Uint8:
        if header.offset is not None:
            return np.memmap(self.path, np.uint8, "r", header.offset, header.shape)
        unpacked = cache / f"{name}-{header.crc:08x}-{header.length}.uint8"
        if not unpacked.is_file() or unpacked.stat().st_size != header.length:
            self._unpack(header, unpacked)
        return np.memmap(unpacked, np.uint8, "r", 0, header.shape)

    def _unpack(self, header: ArrayHeader, out: Path) -> None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(out.parent).free
        except OSError as error:
            raise DatasetError(
                f"the pictures of {self.path} are compressed, and {out.parent}, where they are unpacked, cannot be made "
                f"({error.strerror}); put the file where a folder can be beside it, or save its arrays with numpy.savez"
            ) from error
        if free < header.length:
            raise DatasetError(
                f"the pictures of {self.path} take {header.length} bytes when they are unpacked, and {out.parent} has {free} "
                "left; free some space, or choose another --out"
            )
        with replacing(out, "--out, or free some space", DatasetError) as temporary, temporary.open("wb") as file:
            with self._reading(header) as member:
                shutil.copyfileobj(member, file, _PIECE)

    @contextmanager
    def _reading(self, header: ArrayHeader) -> Iterator[IO[bytes]]:
        """Give the numbers of an array, byte by byte; raises DatasetError where they are damaged."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(header.member) as member:
                member.read(header.data)
                yield member
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise DatasetError(f"{self.path} is not a readable .npz file ({error}); make or copy it again") from error


def picture_headers(path: Path) -> dict[str, ArrayHeader]:
    """Return what an ``.npz`` file says of the pictures in it, by camera; nothing where it has none.

    Raises:
        DatasetError: It is damaged, or what it has are no pictures that a policy can see.
    """

    def concerned(name: str) -> bool:
        return name.startswith(IMAGES) or name in ("observations", "next_observations")

    found = array_headers(path, concerned)
    seen = {name.removeprefix(IMAGES): header for name, header in found.items() if name.startswith(IMAGES)}
    if _pictured(found.get("observations")):
        if OBSERVED_CAMERA in seen:
            raise DatasetError(
                f"{path}: observations are pictures, and there is {IMAGES}{OBSERVED_CAMERA}; keep one of them"
            )
        seen[OBSERVED_CAMERA] = found["observations"]
    if seen and "next_observations" in found:
        raise DatasetError(
            f"{path} has pictures and next_observations, which would need pictures of their own; lay trajectories end to end, "
            "see docs/data.md"
        )
    if len(seen) > MOST_CAMERAS:
        raise DatasetError(
            f"{path} has pictures of {len(seen)} cameras, expected at most {MOST_CAMERAS}; leave some out"
        )
    for name, header in seen.items():
        _check(name, header, path)
    return seen


def rows_of(cameras: Mapping[str, ArrayHeader], path: Path) -> int:
    """Return how many pictures each camera has; raises DatasetError where they differ."""
    counts = {name: header.shape[0] for name, header in cameras.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DatasetError(f"{path}: the cameras have different numbers of pictures ({told}); they must be equal")
    return next(iter(counts.values()))


def _pictured(header: ArrayHeader | None) -> bool:
    return header is not None and len(header.shape) == 4 and header.dtype == np.uint8


def _check(name: str, header: ArrayHeader, path: Path) -> None:
    if name == STATE:
        raise DatasetError(f"{path}: a camera is named {name}, as the rest of the observation is; choose another name")
    if not _NAME.fullmatch(name):
        raise DatasetError(f"{path}: a camera is named {name!r}, expected letters, digits, _ and -, the first a letter")
    sides = header.shape[1:3]
    if not _pictured(header) or header.shape[3] != 3 or not all(1 <= side <= MOST_SEEN for side in sides):
        raise DatasetError(
            f"{path}: the pictures of {name} are {header.dtype} of shape {header.shape}, expected uint8 [R, h, w, 3], red, "
            f"green, blue, of at most {MOST_SEEN} pixels each way"
        )
    if not header.in_rows or math.prod(header.shape) != header.length:
        raise DatasetError(
            f"{path}: the pictures of {name} have {header.length} bytes, expected {math.prod(header.shape)} in the order of C; "
            "save the array again with numpy.savez"
        )
