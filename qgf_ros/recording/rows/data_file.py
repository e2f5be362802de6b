"""A data set of recordings as a file: small arrays at once, pictures piece by piece."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qgf_ros.errors import RecordingError
from qgf_ros.files.destination import replacing


class Pieces(NamedTuple):
    """A uint8 array that is not in memory: its shape, and its bytes in C order, piece by piece."""

    shape: tuple[int, ...]
    pieces: Iterable[bytes]


def write_data_set(path: Path, arrays: Mapping[str, Any], pictures: Mapping[str, Pieces]) -> None:
    """Write an .npz file in one move, pictures uncompressed, so that they need not be in memory to be read.

    Args:
        path: File to write; one that is there is replaced.
        arrays: By key.
        pictures: By key.

    Raises:
        RecordingError: It cannot be written; as it was before is what stays.
    """
    with replacing(path, "--out, or free some space", RecordingError) as temporary:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        with zipfile.ZipFile(temporary, "a") as archive:
            for name, (shape, pieces) in pictures.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(entry, header)
                    for piece in pieces:
                        entry.write(piece)
