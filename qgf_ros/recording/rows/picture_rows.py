"""What cameras saw, row after row on the disk: written once, as it is decoded, and never all in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.errors import RecordingError

#: What the policy would see of each camera, by name, uint8 [h, w, 3].
Images: TypeAlias = Mapping[str, NDArray[np.uint8]]

#: What is read at once [bytes], but for a picture that is larger.
_PIECE = 4 * 2**20


class PictureRows:
    """Rows of pictures in a file for each camera, in the order in which they were written.

    Args:
        folder: For the files; made if it is missing.
        cameras: The cameras, by name.

    Attributes:
        count: How many rows were written.
    """

    def __init__(self, folder: Path, cameras: Mapping[str, CameraField]) -> None:
        self.folder = folder
        self.shapes = {name: (*camera.size, 3) for name, camera in cameras.items()}
        self.count = 0
        self._open: dict[str, BinaryIO] = {}

    def append(self, images: Images) -> int:
        """Write what was seen at one row, and return its number.

        Raises:
            RecordingError: It cannot be written.
        """
        try:
            if not self._open:
                self.folder.mkdir(parents=True, exist_ok=True)
                for name in self.shapes:
                    self._open[name] = self._begun(name)
            for name, file in self._open.items():
                file.write(np.ascontiguousarray(images[name]).data)
        except OSError as error:
            raise self._full(error) from error
        self.count += 1
        return self.count - 1

    def close(self) -> None:
        """Have all that was written in the files; raises RecordingError where it cannot be."""
        files, self._open = self._open, {}
        failure: OSError | None = None
        for file in files.values():
            try:
                file.close()
            except OSError as error:  # whatever was still in its buffer; the others are to be closed, too
                failure = error
        if failure is not None:
            raise self._full(failure) from failure

    def abandon(self) -> None:
        """Let the files go, whatever is still to be written."""
        with suppress(RecordingError):
            self.close()

    def read(self, camera: str, rows: Sequence[int]) -> Iterator[bytes]:
        """Yield what a camera saw at some rows, a few pictures at a time."""
        height, width, channels = self.shapes[camera]
        size = height * width * channels
        most = max(1, _PIECE // size)
        with self._path(camera).open("rb") as file:
            at = 0
            while at < len(rows):
                end = at + 1
                while end < len(rows) and end - at < most and rows[end] == rows[end - 1] + 1:
                    end += 1
                file.seek(rows[at] * size)
                piece = file.read((end - at) * size)
                if len(piece) < (end - at) * size:
                    raise RecordingError(f"{self._path(camera)} is cut short; delete {self.folder} and convert again")
                yield piece
                at = end

    @property
    def whole(self) -> bool:
        """Whether the files have as many bytes as the rows that were written."""
        sizes = {name: self.count * int(np.prod(shape)) for name, shape in self.shapes.items()}
        return not self.count or all(self._path(name).stat().st_size == size for name, size in sizes.items())

    def _begun(self, camera: str) -> BinaryIO:
        return self._path(camera).open("wb")

    def _path(self, camera: str) -> Path:
        return self.folder / f"{camera}.rgb"

    def _full(self, error: OSError) -> RecordingError:
        return RecordingError(
            f"{self.folder} cannot be written ({error.strerror or error}); choose another --out, or free some space"
        )
