"""Reads the records of an MCAP file in order, whatever state the file is in.

A process that is killed leaves a file without an end, a power cut one that ends within a record, a bad disk one with
flipped bits. What can be read is read, and what cannot is said. No length found in the file is believed before it
is compared with what is there, so a damaged file costs no more memory than a sound one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

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

#: What a damaged record raises when it is parsed.
_DAMAGE = (struct.error, ValueError, OverflowError, RuntimeError, McapError, zstandard.ZstdError)


def read_records(path: Path, report: Callable[[str], None]) -> Iterator[McapRecord]:
    """Yield schemas, channels, messages, attachments and metadata in the order of the file.

    Args:
        path: An MCAP file, such as this package or rosbag2 writes.
        report: Told of each thing that could not be read.

    Raises:
        RecordingError: The file cannot be opened, is no MCAP file, or holds more than `LARGEST_CONTENT`.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(MCAP0_MAGIC)) != MCAP0_MAGIC:
                raise RecordingError(f"{path} is not an MCAP file; give one that 'qgf record' or rosbag2 wrote")
            yield from _records(file, path, path.stat().st_size, report)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read ({error.strerror}); give the path of an MCAP file") from error


def _records(file: BinaryIO, path: Path, size: int, report: Callable[[str], None]) -> Iterator[McapRecord]:
    content = 0
    position = len(MCAP0_MAGIC)
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            report(f"it ends at byte {position} without its index; whoever wrote it was killed")
            return
        opcode, length = _HEAD.unpack(head)
        position += _HEAD.size
        if opcode in (Opcode.DATA_END, Opcode.FOOTER):
            return
        if opcode == 0 or length > size - position:
            report(f"it ends within a record, at byte {position} of {size}")
            return
        if length > LARGEST_RECORD:
            report(f"the record of {length} bytes at byte {position} is too large and is left out")
            file.seek(length, 1)
        else:
            body = file.read(length)
            try:
                records = _parse(opcode, body)
            except _DAMAGE as error:
                report(f"the record at byte {position} is damaged and is left out ({error or type(error).__name__})")
                records = []
            for record, weight in records:
                content += weight
                if content > LARGEST_CONTENT:
                    raise RecordingError(f"{path} holds more than {LARGEST_CONTENT / 1e9:.0f} GB; split it")
                yield record
        position += length


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
        decompressor = lz4.frame.LZ4FrameDecompressor()
        data = decompressor.decompress(chunk.data, max_length=size)
    elif chunk.compression == "":
        data = chunk.data
    else:
        raise ValueError(f"its compression {chunk.compression!r} is unknown")
    if len(data) != size or chunk.uncompressed_crc not in (0, zlib.crc32(data)):
        raise ValueError("its checksum does not match")
    return data


def _take(read: Callable[[int], bytes], size: int) -> bytes:
    """Read `size` bytes, or as many as there are, a piece at a time, so that memory follows content."""
    pieces = []
    while size > 0:
        piece = read(min(size, _PIECE))
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
