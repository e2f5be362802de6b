"""A recording as the rest of the package reads it: topics, decoded messages, and what could not be read."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcap.records import Attachment, Channel, Message, Metadata, Schema
from mcap_ros2.decoder import DecoderFactory
from pydantic import ValidationError

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.text import first_complaint, one_line
from qgf_ros.errors import RecordingError
from qgf_ros.recording.records import check_content, read_records, unpacked

#: Name of the attachment that holds the manifest of the bundle that was recorded, and of the record about the run.
MANIFEST_ATTACHMENT, RUN_RECORD, PARAMETERS_RECORD, END_RECORD = (
    "manifest.json",
    "qgf_run",
    "qgf_parameters",
    "qgf_end",
)
#: Larger definitions of a type are none [bytes], and those with more fields in all, comments aside.
LARGEST_DEFINITION, MOST_FIELDS = 1_000_000, 5000
#: Later stamps are none [ns]; earlier ones than 0 neither.
_END_OF_TIME = 2**63


@dataclass(frozen=True, slots=True)
class Recorded:
    """One decoded message.

    Attributes:
        topic: Fully qualified.
        type_name: Such as ``sensor_msgs/msg/JointState``.
        log_time: When it was received [ns].
        stamp: Of its header, or `log_time` where it has none [ns].
        message: The fields of the message as attributes, or what is kept of them.
        stamped: Whether it has a stamp.
    """

    topic: str
    type_name: str
    log_time: int
    stamp: int
    message: Any
    stamped: bool


@dataclass
class Recording:
    """An MCAP file of CDR messages, written by `qgf record` or by rosbag2, or several that are one recording.

    Attributes:
        path: The file, the first of several, or the folder they are in.
        files: The file, or all in their order.
        topics: Type and number of messages by topic.
        run: What the recorder says of the run; empty for a file of another origin.
        parameters: The parameters of the policy node, as JSON, when the recorder came to know them.
        manifest: Of the bundle that was recorded, or None.
        damage: A sentence for each thing that could not be read.
        span: When the first and the last message were received [ns], or None without messages.
    """

    path: Path
    files: tuple[Path, ...] = ()
    topics: dict[str, tuple[str, int]] = field(default_factory=dict)
    run: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    manifest: Manifest | None = None
    damage: list[str] = field(default_factory=list)
    span: tuple[int, int] | None = None

    @classmethod
    def open(cls, path: Path) -> Recording:
        """Read a file once to know what is in it.

        Raises:
            RecordingError: It cannot be read, or is no MCAP file.
        """
        recording = cls(path, (path,))
        channels: dict[int, str] = {}
        types: dict[int, str] = {}
        counts: Counter[str] = Counter()
        for record in read_records(path, recording.damage.append):
            if isinstance(record, Schema):
                types[record.id] = record.name
            elif isinstance(record, Channel):
                channels[record.id] = record.topic
                recording.topics.setdefault(record.topic, (types.get(record.schema_id, ""), 0))
            elif isinstance(record, Message):
                counts[channels.get(record.channel_id, "")] += 1
                first, last = recording.span or (record.log_time, record.log_time)
                recording.span = min(first, record.log_time), max(last, record.log_time)
            elif isinstance(record, Metadata):
                recording._keep(record)
            elif isinstance(record, Attachment) and record.name == MANIFEST_ATTACHMENT:
                recording._read_manifest(record.data)
        if counts.pop("", 0):
            recording.damage.append("messages whose channel could not be read are left out")
        recording.topics = {topic: (kind, counts[topic]) for topic, (kind, _) in recording.topics.items()}
        return recording

    @classmethod
    def joined(cls, path: Path, parts: Sequence[Recording]) -> Recording:
        """Return the recording that several files in their order are, under the name `path`."""
        whole = cls(path, tuple(file for part in parts for file in part.files))
        for part in parts:
            for topic, (kind, count) in part.topics.items():
                whole.topics[topic] = (kind, count + whole.topics.get(topic, ("", 0))[1])
            whole.run.update(part.run)
            whole.parameters = whole.parameters or part.parameters
            whole.manifest = whole.manifest or part.manifest
            whole.damage += [f"{part.path.name}: {sentence}" for sentence in part.damage]
        spans = [part.span for part in parts if part.span is not None]
        if spans:
            whole.span = min(first for first, _ in spans), max(last for _, last in spans)
        return whole

    @property
    def topic_names(self) -> str:
        """The topics in it as a message quotes them: on a line, and cut where they are many."""
        return one_line(", ".join(sorted(self.topics)) or "none")

    @property
    def namespace(self) -> str:
        """Namespace of the policy node, such as ``/cell``; empty for the root."""
        return self.run.get("namespace", "").rstrip("/")

    @property
    def dropped(self) -> int | None:
        """Messages that the recorder had to drop, or None if its file has no end."""
        text = self.run.get("dropped", "")
        return int(text) if text.isdecimal() else None

    @property
    def lost(self) -> int:
        """Messages that the middleware said were lost on their way to the recorder."""
        text = self.run.get("lost", "")
        return int(text) if text.isdecimal() else 0

    def resolve(self, topic: str, node: str = "") -> str:
        """Return the full name of a topic of the run: absolute, ``~/…`` of `node`, or relative to the namespace."""
        if topic.startswith("~/"):
            return f"{self.namespace}/{node}/{topic[2:]}"
        return topic if topic.startswith("/") else f"{self.namespace}/{topic}"

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Yield the messages of some topics in the order of the file; what cannot be decoded goes into `damage`.

        Raises:
            RecordingError: The file cannot be read.
        """
        failures: Counter[str] = Counter()
        reasons: dict[str, str] = {}
        for file in self.files:
            for channel, record in _messages(file, topics):
                try:
                    message = channel.decode(record.data)
                    stamp = _stamp(message)
                except RecordingError:
                    raise
                except Exception as error:  # whatever a damaged schema or message makes of the decoder
                    failures[channel.topic] += 1
                    reasons.setdefault(channel.topic, one_line(str(error) or type(error).__name__))
                    continue
                log_time = record.log_time
                when = log_time if stamp is None else stamp
                yield Recorded(channel.topic, channel.type_name, log_time, when, message, stamp is not None)
        for topic, count in failures.items():
            sentence = f"{count} messages on {topic} that cannot be decoded are left out ({reasons[topic]})"
            if sentence not in self.damage:
                self.damage.append(sentence)

    def _keep(self, record: Metadata) -> None:
        if record.name in (RUN_RECORD, END_RECORD):
            self.run.update(record.metadata)
        elif record.name == PARAMETERS_RECORD and not self.parameters:
            self.parameters = record.metadata

    def _read_manifest(self, content: bytes) -> None:
        try:
            self.manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            self.damage.append(f"the manifest in it is not one of this version ({first_complaint(error)})")


def _messages(file: Path, topics: Collection[str]) -> Iterator[tuple[_Channel, Message]]:
    """Yield the messages of some topics of one file, each with its channel."""
    schemas: dict[int, Schema] = {}
    channels: dict[int, _Channel] = {}
    for record in read_records(file, lambda _: None):
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel) and record.topic in topics:
            channels[record.id] = _Channel(file, record, schemas.get(record.schema_id))
        elif isinstance(record, Message) and record.channel_id in channels:
            yield channels[record.channel_id], record


class _Bytes(bytes):
    """Serialised bytes that refuse to be cut beyond their end, where others give what is there."""

    def __getitem__(self, key: Any) -> Any:
        piece = super().__getitem__(key)
        if isinstance(key, slice) and len(piece) < key.stop - key.start:
            raise ValueError(f"it ends within a field of {key.stop - key.start} bytes")
        return piece


class _Channel:
    """Decodes the messages of one channel."""

    def __init__(self, file: Path, channel: Channel, schema: Schema | None) -> None:
        self.topic = channel.topic
        self.type_name = one_line(schema.name) if schema else ""
        self._file = file
        self._encoding = channel.message_encoding
        self._schema = schema
        self._decode: Any = None
        self._why: str | None = None
        self._size = 0

    def decode(self, data: bytes) -> Any:
        """Return the fields of a message; raises whatever a damaged one makes of the decoder.

        Raises:
            RecordingError: Its messages are too many when they are unpacked.
        """
        if self._why is None and self._decode is None:
            try:
                self._decode = self._decoder()
            except Exception as error:
                self._why = str(error) or type(error).__name__
        if self._why is not None:
            raise ValueError(self._why)
        plain = unpacked(data)
        self._size += len(plain)
        check_content(self._file, self._size)
        return self._decode(_Bytes(plain))

    def _decoder(self) -> Any:
        schema = self._schema
        if schema is not None:
            fields = sum(bool(line.split(b"#")[0].strip()) for line in schema.data[:LARGEST_DEFINITION].splitlines())
            if len(schema.data) > LARGEST_DEFINITION or fields > MOST_FIELDS:
                raise ValueError(f"the definition of {self.type_name} is too long")
        # A factory of its own: one that is shared would take a schema for another one of the same id. Its parser
        # prints what it does not understand, and raises it, too.
        with contextlib.redirect_stderr(io.StringIO()):
            decode = DecoderFactory().decoder_for(self._encoding, schema)
        if decode is None:
            raise ValueError(f"{self.type_name or 'a message without a schema'} is not CDR with a ros2msg schema")
        return decode


def _stamp(message: Any) -> int | None:
    """Return the stamp in a message [ns], or None if it has none; raises ValueError if what it has is no stamp."""
    header = getattr(message, "header", message)
    stamp = getattr(header, "stamp", None)
    seconds, rest = getattr(stamp, "sec", None), getattr(stamp, "nanosec", None)
    if stamp is None or (header is message and (seconds is None or rest is None)):
        return None
    if type(seconds) is not int or type(rest) is not int:
        raise ValueError("its stamp is not made of whole seconds and nanoseconds")
    time = seconds * 1_000_000_000 + rest
    if not 0 <= time < _END_OF_TIME:
        raise ValueError(f"its stamp of {seconds} s and {rest} ns is no time")
    return time
