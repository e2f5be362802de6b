"""Writes an MCAP file that is readable at any moment, and never larger than it was allowed to be.

Every `flush` ends a chunk and puts it on the disk, so that a killed process or a power cut costs what came after the
last one. Nothing is buffered in between: an error of the disk comes out of the call that met it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcap.well_known import MessageEncoding, Profile, SchemaEncoding
from mcap.writer import CompressionType, Writer

from qgf_ros import __version__
from qgf_ros.errors import RecordingError
from qgf_ros.recording.schemas import definition

#: A chunk is ended at this size, before compression [bytes].
CHUNK_SIZE = 256 * 1024
#: Bytes that a message takes beside its own: its record's head and its entry in the index.
_MESSAGE_OVERHEAD = 31 + 16
#: Bytes that a chunk takes at most beside its messages, per chunk and per channel: its head and its two indexes.
_CHUNK_OVERHEAD, _CHANNEL_OVERHEAD = 256, 40
#: What the end of a file takes beside schemas, channels and chunk indexes, its last metadata record included.
_SUMMARY_OVERHEAD = 4096


@dataclass(frozen=True)
class Received:
    """A serialised message.

    Attributes:
        topic: Fully qualified.
        type_name: Such as ``sensor_msgs/msg/JointState``.
        log_time: When it was received [ns].
        publish_time: When it was made: the stamp in it, where it has one [ns].
        data: CDR, as it came.
        about: What rosbag2 notes of a topic, by its words for it; that of the first message is kept.
    """

    topic: str
    type_name: str
    log_time: int
    publish_time: int
    data: bytes
    about: Mapping[str, str] = field(default_factory=dict)


class _File:
    """An unbuffered file that knows its size."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("xb", buffering=0)
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data)
        while view:
            written = self._raw.write(view)
            self.size += written
            view = view[written:]
        return len(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        os.fsync(self._raw.fileno())

    def close(self) -> None:
        self._raw.close()


class RecordingWriter:
    """One MCAP file being written. Use it on one thread.

    Args:
        path: The file; its folder is made.
        max_size: Largest size of the file [bytes].
        replace: Whether a file that is there gives way, as soon as the new one could be begun.

    Raises:
        RecordingError: The file exists or cannot be written.
    """

    def __init__(self, path: Path, max_size: int, *, replace: bool = False) -> None:
        self.path = path
        self.max_size = max_size
        self._definitions: dict[str, bytes] = {}
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._sequences: dict[int, int] = {}
        self._repeated = 0  # bytes that the summary says again
        self._pending = 0  # bytes of the chunk under way, before compression
        self._chunks = 0
        #: Whether the disk has failed; what was written before is readable.
        self.broken = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed(error) from error
        try:
            self._begin(path.with_name(f".{path.name}-{os.getpid()}") if replace else path)
        except FileExistsError as error:
            raise RecordingError(
                f"{path} exists, and a recording is not overwritten unasked; give another --out, or --force"
            ) from error
        except OSError as error:
            raise self._failed(error) from error

    def _begin(self, place: Path) -> None:
        """Begin the file at a place, and give it its name where that is another one."""
        self._file = _File(place)
        try:
            self._mcap = Writer(self._file, chunk_size=2 * CHUNK_SIZE, compression=CompressionType.ZSTD)  # type: ignore[arg-type]
            self._mcap.start(Profile.ROS2, library=f"qgf_ros {__version__}")
            if place != self.path:
                os.replace(place, self.path)
        except OSError:
            self._file.close()
            place.unlink(missing_ok=True)
            raise

    @property
    def size(self) -> int:
        """Size of the file if it were ended now, at most [bytes]."""
        chunks = (self._chunks + 1) * (_CHUNK_OVERHEAD + len(self._channels) * _CHANNEL_OVERHEAD)
        compressed = self._pending + self._pending // 64  # what zstd adds at most to what it cannot compress
        return self._file.size + compressed + self._repeated + chunks + _SUMMARY_OVERHEAD

    def add_metadata(self, name: str, values: Mapping[str, str], *, last: bool = False) -> None:
        """Add a record of names and words; the `last` one goes into the room that is kept for the end of the file.

        Raises:
            RecordingError: The file has no room for it, or the disk is full or gone.
        """
        if not last:
            pairs = sum(8 + len(key.encode()) + len(value.encode()) for key, value in values.items())
            self._make_sure_of(f"record {name}", pairs + 2 * len(name) + 128)
        try:
            self._mcap.add_metadata(name, dict(values))
        except OSError as error:
            raise self._failed(error) from error
        self._repeated += 64 + len(name)

    def add_attachment(self, name: str, media_type: str, data: bytes, time: int) -> None:
        """Add a file, made at `time` [ns].

        Raises:
            RecordingError: The recording has no room for it, or the disk is full or gone.
        """
        self._make_sure_of(name, len(data) + 2 * (len(name) + len(media_type)) + 256)
        try:
            self._mcap.add_attachment(time, time, name, media_type, data)
        except OSError as error:
            raise self._failed(error) from error
        self._repeated += 128 + len(name) + len(media_type)

    def _make_sure_of(self, what: str, size: int) -> None:
        if self.size + size > self.max_size:
            raise RecordingError(
                f"{self.path} may have {self.max_size / 1e6:g} MB, which leaves no room for its {what} of "
                f"{size / 1e6:.3g} MB; raise --max-size-mb"
            )

    def write(self, message: Received) -> bool:
        """Add a message; return False, and write nothing, if the file has no room for it.

        Raises:
            RecordingError: The type is unknown, or the disk is full or gone.
        """
        name = message.type_name
        if name not in self._definitions:
            self._definitions[name] = definition(name).encode()
        text = self._definitions[name]
        size = len(message.data) + _MESSAGE_OVERHEAD
        about = {"offered_qos_profiles": "", **message.about}
        noted = sum(8 + len(key) + len(value) for key, value in about.items())
        extra = 0 if message.topic in self._channels else 2 * (len(message.topic) + noted + 64)
        extra += 0 if name in self._schemas else 2 * (len(text) + len(name) + 64)
        if self.size + size + size // 64 + extra > self.max_size:
            return False
        try:
            if name not in self._schemas:
                self._schemas[name] = self._mcap.register_schema(name, SchemaEncoding.ROS2, text)
            if message.topic not in self._channels:
                schema = self._schemas[name]
                self._channels[message.topic] = self._mcap.register_channel(
                    message.topic, MessageEncoding.CDR, schema, about
                )
            channel = self._channels[message.topic]
            sequence = self._sequences[channel] = self._sequences.get(channel, 0) + 1
            self._mcap.add_message(channel, message.log_time, message.data, message.publish_time, sequence)
            self._pending += size + extra // 2
            self._repeated += extra // 2
            if self._pending > CHUNK_SIZE:
                self._end_chunk()
        except OSError as error:
            raise self._failed(error) from error
        return True

    def flush(self) -> None:
        """Put everything on the disk; raises RecordingError if that cannot be done."""
        try:
            self._end_chunk()
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """End the file with its index; a file that could not be written stays as it is, without one."""
        try:
            if not self.broken:
                self._mcap.finish()  # type: ignore[no-untyped-call]
                self._file.flush()
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._file.close()

    def _end_chunk(self) -> None:
        if self._pending:
            self._mcap.flush()  # type: ignore[no-untyped-call]
            self._chunks += 1
            self._pending = 0

    def _failed(self, error: OSError) -> RecordingError:
        self.broken = True
        return RecordingError(
            f"{self.path} cannot be written ({error.strerror or error}); what was written before is readable, "
            "make room or give another --out"
        )
