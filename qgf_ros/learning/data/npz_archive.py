"""Arrays out of an ``.npz`` file of unknown origin: nothing is unpickled, nothing is read before its size is known to fit.

An ``.npz`` file is a ZIP archive of ``.npy`` members, whose headers say type and shape. What a member will take is in
the archive's directory and in its own header; both must agree before a byte of its data is unpacked.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.text import one_line
from qgf_ros.errors import DatasetError

Array = NDArray[Any]

#: Kinds of NumPy's types that are real numbers: bool, signed, unsigned, float. Text is for the keys that are text.
NUMBERS, TEXT = "biuf", "U"
#: Bytes of a header, of a text, and of the directory of an archive, which zipfile reads in one piece.
_MOST_HEADER, _MOST_TEXT, _MOST_DIRECTORY = 10_000, 1 << 20, 1 << 20
#: What may be unpacked whatever the size of the file [bytes], and beyond it as a multiple of the file.
_SMALL, _MOST_EXPANSION = 64 << 20, 100
#: What each number becomes [bytes].
_FLOAT32 = 4
#: In the header before a member in a ZIP archive: its own length, and where the lengths of what follows it stand [bytes].
_LOCAL_HEADER, _AT_LENGTHS, _LENGTHS = 30, 26, struct.Struct("<HH")
#: NumPy's own two.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class _Pieces(io.FileIO):
    """A file that is read in pieces only, so that no length in it decides how much memory is asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > _MOST_DIRECTORY:
            raise ValueError(f"its directory has {size} bytes, expected at most {_MOST_DIRECTORY}")
        return super().read(size)


class ArrayHeader(NamedTuple):
    """What an archive says of one array.

    Attributes:
        member: Its name in the archive.
        shape, dtype: Of the array.
        in_rows: Whether its numbers are in the order of C, not of Fortran.
        data: Where its numbers begin in the member [bytes].
        length: Bytes from there to the end.
        offset: Where they begin in the file [bytes]; None where they are compressed.
        crc: Checksum of the member.
    """

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_rows: bool
    data: int
    length: int
    offset: int | None
    crc: int


def array_headers(path: Path, wanted: Callable[[str], bool]) -> dict[str, ArrayHeader]:
    """Read what an ``.npz`` file says of some arrays, and nothing of what is in them.

    Args:
        path: A ZIP archive.
        wanted: Whether an array of a name is wanted.

    Raises:
        DatasetError: It is damaged, or no such archive.
    """
    try:
        with _Pieces(path) as file, zipfile.ZipFile(file) as archive:
            names = {_name(info) for info in archive.infolist()}
            members = _members(archive, [name for name in names if wanted(name)])
            return {name: _array_header(archive, file, name, info) for name, info in members.items()}
    except Exception as error:  # whatever a damaged archive makes of zipfile, zlib and NumPy
        reason = one_line(str(error) or type(error).__name__)
        raise DatasetError(f"{path} is not a readable .npz file ({reason}); make or copy it again") from error


def read_npz(path: Path, numbers: Collection[str], texts: Collection[str] = ()) -> tuple[dict[str, Array], list[str]]:
    """Read some arrays of an ``.npz`` file.

    Args:
        path: A ZIP archive.
        numbers: Names of the arrays of numbers that are wanted; they need not be there.
        texts: Names of those that are a text, likewise.

    Returns:
        The wanted arrays that are there, in native byte order, and the names of all that are there.

    Raises:
        DatasetError: It is damaged, no such archive, or would take more memory than it should or there is.
    """
    try:
        with _Pieces(path) as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, {*numbers, *texts})
            names = list(dict.fromkeys(_name(info) for info in archive.infolist()))
            total = sum(
                _size(archive, name, info, TEXT if name in texts else NUMBERS) for name, info in members.items()
            )
            _check_total(total, os.fstat(file.fileno()).st_size)
            return {name: _read(archive, info) for name, info in members.items()}, names
    except Exception as error:  # whatever a damaged archive makes of zipfile, zlib and NumPy
        reason = one_line(str(error) or type(error).__name__)
        raise DatasetError(f"{path} is not a readable .npz file ({reason}); make or copy it again") from error


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _members(archive: zipfile.ZipFile, wanted: Collection[str]) -> dict[str, zipfile.ZipInfo]:
    counts = Counter(_name(info) for info in archive.infolist())
    doubled = [name for name in wanted if counts[name] > 1]
    if doubled:
        raise ValueError(f"{min(doubled)} is in it {counts[min(doubled)]} times, expected once")
    return {_name(info): info for info in archive.infolist() if _name(info) in wanted}


def _check_total(total: int, size: int) -> None:
    """Refuse a file of `size` bytes that would become `total`, far more than it is, or more than there is room for."""
    if total > max(_SMALL, _MOST_EXPANSION * size):
        raise ValueError(
            f"its {size} bytes would be unpacked to {total}, expected at most {_MOST_EXPANSION} times as many"
        )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if total > memory:
        raise ValueError(f"its arrays take {total} bytes, this machine has {memory}")


def _size(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo, kinds: str) -> int:
    """Return the bytes of memory that a member takes; ValueError where it is no array of some kinds, or not that long."""
    shape, _, dtype, data = _header(archive, name, info)
    if dtype.kind not in kinds:
        kind = "Python objects" if dtype.hasobject else f"values of type {dtype}"
        raise ValueError(f"{name} holds {kind}, expected {'a text' if kinds == TEXT else 'numbers'}")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != info.file_size - data:
        raise ValueError(f"{name} has {info.file_size - data} bytes, which are no {dtype} of shape {shape}")
    if kinds == TEXT and (shape != () or dtype.itemsize > _MOST_TEXT):
        raise ValueError(f"{name} is a {dtype} of shape {shape}, expected one text of at most {_MOST_TEXT} bytes")
    return math.prod(shape) * max(dtype.itemsize, _FLOAT32)


def _header(
    archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo
) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, order and type of a member as its header says them, and where its numbers begin."""
    if info.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name} is compressed by method {info.compress_type}, expected none or deflate")
    with archive.open(info) as member:
        start = io.BytesIO(member.read(_MOST_HEADER + 100))
    version = np.lib.format.read_magic(start)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} has a header of version {version[0]}.{version[1]}, expected an array of numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(start, max_header_size=_MOST_HEADER)
    return shape, not fortran, dtype, start.tell()


def _array_header(archive: zipfile.ZipFile, file: io.FileIO, name: str, info: zipfile.ZipInfo) -> ArrayHeader:
    shape, in_rows, dtype, data = _header(archive, name, info)
    offset, length = None, info.file_size - data
    if info.compress_type == zipfile.ZIP_STORED:
        file.seek(info.header_offset + _AT_LENGTHS)
        offset = info.header_offset + _LOCAL_HEADER + sum(_LENGTHS.unpack(file.read(_LENGTHS.size))) + data
        if offset + length > os.fstat(file.fileno()).st_size:
            raise ValueError(f"{name} ends behind the file")
    return ArrayHeader(info.filename, shape, dtype, in_rows, data, length, offset, info.CRC)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    with archive.open(info) as member:
        array = np.lib.format.read_array(member, allow_pickle=False, max_header_size=_MOST_HEADER)
        member.read(1)  # past the end, where zipfile compares the checksum
    return np.asarray(array, array.dtype.newbyteorder("="))
