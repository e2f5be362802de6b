"""A recording as the rest of the package reads it: topics, decoded messages, and what could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcap.records import Attachment, Channel, Message, Metadata, Schema
from mcap_ros2.decoder import DecoderFactory
from pydantic import ValidationError

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.text import first_complaint
from qgf_ros.errors import RecordingError
from qgf_ros.recording.records import read_records

#: Name of the attachment that holds the manifest of the bundle that was recorded, and of the record about the run.
MANIFEST_ATTACHMENT, RUN_RECORD, PARAMETERS_RECORD, END_RECORD = (
    "manifest.json",
    "qgf_run",
    "qgf_parameters",
    "qgf_end",
)


@dataclass(frozen=True)
class Recorded:
    """One decoded message.

    Attributes:
        topic: Fully qualified.
        type_name: Such as ``sensor_msgs/msg/JointState``.
        log_time: When it was received [ns].
        stamp: Of its header, or `log_time` where it has none [ns].
        message: The fields of the message as attributes.
    """

    topic: str
    type_name: str
    log_time: int
    stamp: int
    message: Any


@dataclass
class Recording:
    """An MCAP file of CDR messages, written by `qgf record` or by rosbag2.

    Attributes:
        path: The file.
        topics: Type and number of messages by topic.
        run: What the recorder says of the run; empty for a file of another origin.
        parameters: The parameters of the policy node, as JSON, when the recorder came to know them.
        manifest: Of the bundle that was recorded, or None.
        damage: A sentence for each thing that could not be read.
    """

    path: Path
    topics: dict[str, tuple[str, int]] = field(default_factory=dict)
    run: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    manifest: Manifest | None = None
    damage: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> Recording:
        """Read a file once to know what is in it.

        Raises:
            RecordingError: It cannot be read, or is no MCAP file.
        """
        recording = cls(path)
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
            elif isinstance(record, Metadata):
                recording._keep(record)
            elif isinstance(record, Attachment) and record.name == MANIFEST_ATTACHMENT:
                recording._read_manifest(record.data)
        if counts.pop("", 0):
            recording.damage.append("messages whose channel could not be read are left out")
        recording.topics = {topic: (kind, counts[topic]) for topic, (kind, _) in recording.topics.items()}
        return recording

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
        schemas: dict[int, Schema] = {}
        channels: dict[int, _Channel] = {}
        failures: dict[str, str] = {}
        for record in read_records(self.path, lambda _: None):
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel) and record.topic in topics:
                channels[record.id] = _Channel(record, schemas.get(record.schema_id))
            elif isinstance(record, Message) and record.channel_id in channels:
                channel = channels[record.channel_id]
                try:
                    message = channel.decode(record.data)
                except Exception as error:  # whatever a damaged schema or message makes of the decoder
                    failures.setdefault(channel.topic, str(error) or type(error).__name__)
                    continue
                stamp = _stamp(message)
                log_time = record.log_time
                yield Recorded(
                    channel.topic, channel.type_name, log_time, log_time if stamp is None else stamp, message
                )
        self.damage += [
            f"messages on {topic} that cannot be decoded are left out ({why})" for topic, why in failures.items()
        ]

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


class _Channel:
    """Decodes the messages of one channel."""

    def __init__(self, channel: Channel, schema: Schema | None) -> None:
        self.topic = channel.topic
        self.type_name = schema.name if schema else ""
        self._encoding = channel.message_encoding
        self._schema = schema
        self._decode: Any = None

    def decode(self, data: bytes) -> Any:
        if self._decode is None:
            # A factory of its own: one that is shared would take a schema for another one of the same id.
            self._decode = DecoderFactory().decoder_for(self._encoding, self._schema)
        if self._decode is None:
            raise RecordingError(f"{self.type_name or 'a message without a schema'} is not CDR with a ros2msg schema")
        return self._decode(data)


def _stamp(message: Any) -> int | None:
    """Return the stamp in a message [ns], or None if it has none."""
    stamp = getattr(getattr(message, "header", message), "stamp", None)
    seconds, rest = getattr(stamp, "sec", None), getattr(stamp, "nanosec", None)
    return None if seconds is None or rest is None else int(seconds) * 1_000_000_000 + int(rest)
