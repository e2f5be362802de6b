"""Reads the records of an MCAP file in order, whatever state the file is in.

A process that is killed leaves a file without an end, a power cut one that ends within a record, a bad disk one with
flipped bits. What can be read is read, and what cannot is said. No length found in the file is believed before it
is compared with what is there, so a damaged file costs no more memory than a sound one.

rosbag2 can compress a whole file, or each message by itself; both are read as if they were not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Chunk, McapRecord, Message, Metadata, Schema
from mcap.writer import MCAP0_MAGIC

from qgf_ros.errors import RecordingError

#: Largest record and largest chunk, uncompressed, that is read [bytes].
LARGEST_RECORD = 256 * 1024 * 1024
#: Largest content of a file, uncompressed [bytes].
LARGEST_CONTENT = 16 * 1024**3
_PIECE = 1024 * 1024
_HEAD = struct.Struct("<BQ")

#: What a damaged record raises when it is parsed, and a damaged compression when it is read.
_DAMAGE = (struct.error, ValueError, OverflowError, RuntimeError, EOFError, McapError, zstandard.ZstdError)

#: How what zstd and lz4 compressed begins.
_ZSTD, _LZ4 = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
#: How files begin that are taken for recordings, and what is to be said of them.
_FOREIGN = {
    b"SQLite": "is a bag of rosbag2 in SQLite (.db3), which is not read yet; make an MCAP of it with 'ros2 bag convert' "
    "(docs/recording.md says how)",
    b"#ROSBAG": "is a bag of ROS 1, which is not read; make an MCAP of ROS 2 of it, such as with rosbags-convert",
    b"\x1f\x8b": "is compressed with gzip; unpack it first",
    b"\xfd7zXZ": "is compressed with xz; unpack it first",
    b"PK": "is a zip archive, or an .npz; give the MCAP file",
    b"\x89HDF": "is HDF5, which is no recording; give the MCAP file",
    b"PAR1": "is Parquet, which is no recording; give the MCAP file",
}

#: Returns the next so many bytes, or what is left.
Read: TypeAlias = Callable[[int], bytes]


def read_records(path: Path, report: Callable[[str], None]) -> Iterator[McapRecord]:
    """Yield schemas, channels, messages, attachments and metadata in the order of the file.

    Args:
        path: An MCAP file, such as this package or rosbag2 writes, or one that is compressed as a whole.
        report: Told of each thing that could not be read.

    Raises:
        RecordingError: The file cannot be opened, is no MCAP file, or holds more than `LARGEST_CONTENT`.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(MCAP0_MAGIC))
            size: int | None = path.stat().st_size
            read: Read = file.read
            if head.startswith((_ZSTD, _LZ4)):
                file.seek(0)
                read, size = _unpacking(file, head, report), None
                head = read(len(MCAP0_MAGIC))
            if head != MCAP0_MAGIC:
                raise RecordingError(f"{path} {_what_it_is(head, packed=size is None)}")
            yield from _records(read, path, size, report)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read ({error.strerror}); give the path of an MCAP file") from error


def _what_it_is(head: bytes, *, packed: bool) -> str:
    """Say what begins like this instead of an MCAP file."""
    known = (sentence for magic, sentence in _FOREIGN.items() if head.startswith(magic))
    if packed and len(head) < len(MCAP0_MAGIC):
        return "is compressed as a whole, and nothing of it can be unpacked; copy it again, it is cut short or damaged"
    if not head:
        return "is empty; whoever was to write it never came to it"
    return next(known, "is not an MCAP file; give one that 'qgf record' or rosbag2 wrote")


def _unpacking(file: Any, head: bytes, report: Callable[[str], None]) -> Read:
    """Return what reads a file that is compressed as a whole as if it were not; damage is reported, and is its end."""
    if head.startswith(_ZSTD):
        stream: Any = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    else:
        stream = lz4.frame.open(file)

    def read(size: int) -> bytes:
        try:
            return _take(stream.read, size)
        except _DAMAGE as error:
            report(f"its compression is damaged, and what lies behind is left out ({error or type(error).__name__})")
            return b""

    return read


def unpacked(data: bytes) -> bytes:
    """Return the content of a message that was compressed by itself, and any other message as it is.

    No message in CDR begins like something compressed.

    Raises:
        ValueError: It is damaged, or larger than `LARGEST_RECORD`.
    """
    if not data.startswith((_ZSTD, _LZ4)):
        return data
    try:
        if data.startswith(_ZSTD):
            plain = _take(zstandard.ZstdDecompressor().stream_reader(data).read, LARGEST_RECORD + 1)
        else:
            plain = _take(lz4.frame.open(BytesIO(data)).read, LARGEST_RECORD + 1)
    except _DAMAGE as error:
        raise ValueError(f"its compression is damaged: {error}") from error
    if len(plain) > LARGEST_RECORD:
        raise ValueError(f"it is larger than {LARGEST_RECORD} bytes when it is unpacked")
    return plain


def _records(read: Read, path: Path, size: int | None, report: Callable[[str], None]) -> Iterator[McapRecord]:
    """Yield the records behind the magic of a file of so many bytes, or of one whose size is not known."""
    content = 0
    position = len(MCAP0_MAGIC)
    while True:
        head = read(_HEAD.size)
        if len(head) < _HEAD.size:
            report(f"it ends at byte {position} without its index; whoever wrote it was killed")
            return
        opcode, length = _HEAD.unpack(head)
        position += _HEAD.size
        if opcode in (Opcode.DATA_END, Opcode.FOOTER):
            return
        body = b"" if opcode == 0 or (size is not None and length > size - position) else _body(read, length)
        if body is None:
            report(f"the record of {length} bytes at byte {position} is too large and is left out")
        elif opcode == 0 or len(body) < length:
            report(f"it ends within a record, at byte {position}{'' if size is None else f' of {size}'}")
            return
        else:
            try:
                records = _parse(opcode, body)
            except _DAMAGE as error:
                report(f"the record at byte {position} is damaged and is left out ({error or type(error).__name__})")
                records = []
            for record, weight in records:
                content += weight
                check_content(path, content)
                yield record
        position += length
        if size is None:
            check_content(path, position)


def _body(read: Read, length: int) -> bytes | None:
    """Return the next `length` bytes, or what is there of them; None for more than `LARGEST_RECORD`, which are skipped."""
    if length <= LARGEST_RECORD:
        return _take(read, length)
    while length > 0 and (piece := read(min(length, _PIECE))):
        length -= len(piece)
    return None if length == 0 else b""


def check_content(path: Path, size: int) -> None:
    """Raise RecordingError if this is more than all of a recording may be, unpacked [bytes]."""
    if size > LARGEST_CONTENT:
        raise RecordingError(f"{path} holds more than {LARGEST_CONTENT / 1e9:.0f} GB; split it")


def _parse(opcode: int, body: bytes) -> list[tuple[McapRecord, int]]:
    """Return the records in one record of the file, with the bytes that each takes."""
    stream = ReadDataStream(BytesIO(body))
    if opcode == Opcode.CHUNK:
        return _within(_decompress(Chunk.read(stream)))
    if opcode == Opcode.ATTACHMENT:
        (checksum,) = struct.unpack("<I", body[-4:])
        if checksum not in (0, zlib.crc32(body[:-4])):
            raise ValueError("its checksum does not match")
        return [(Attachment.read(stream), len(body))]
    record = _record(opcode, stream, len(body))
    return [] if record is None else [(record, len(body))]


def _record(opcode: int, stream: ReadDataStream, length: int) -> McapRecord | None:
    record: McapRecord | None = None
    if opcode == Opcode.MESSAGE:
        record = Message.read(stream, length)
    elif opcode == Opcode.SCHEMA:
        record = Schema.read(stream)
    elif opcode == Opcode.CHANNEL:
        record = Channel.read(stream)
    elif opcode == Opcode.METADATA:
        record = Metadata.read(stream)
    return record


def _within(data: bytes) -> list[tuple[McapRecord, int]]:
    found: list[tuple[McapRecord, int]] = []
    position = 0
    while position < len(data):
        opcode, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if length > len(data) - position:
            raise ValueError("a record in it is longer than the chunk")
        record = _record(opcode, ReadDataStream(BytesIO(data[position : position + length])), length)
        if record is not None:
            found.append((record, length))
        position += length
    return found


def _decompress(chunk: Chunk) -> bytes:
    size = chunk.uncompressed_size
    if size > LARGEST_RECORD:
        raise ValueError(f"a chunk of {size} bytes is too large")
    if chunk.compression == "zstd":
        reader = zstandard.ZstdDecompressor().stream_reader(chunk.data)
        data = _take(reader.read, size)
    elif chunk.compression == "lz4":
        data = _take(lz4.frame.open(BytesIO(chunk.data)).read, size)
    elif chunk.compression == "":
        data = chunk.data
    else:
        raise ValueError(f"its compression {chunk.compression!r} is unknown")
    if len(data) != size or chunk.uncompressed_crc not in (0, zlib.crc32(data)):
        raise ValueError("its checksum does not match")
    return data


def _take(read: Read, size: int) -> bytes:
    """Read `size` bytes, or as many as there are, a piece at a time, so that memory follows content."""
    pieces = []
    while size > 0:
        piece = read(min(size, _PIECE))
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
