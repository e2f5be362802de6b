"""Recordings on the disk: readable by the usual tools, at any moment, and bounded."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Message
from mcap.stream_reader import StreamReader
from mcap_ros2.decoder import DecoderFactory

from qgf_ros.errors import RecordingError
from qgf_ros.recording import queue as queue_module
from qgf_ros.recording import writer as writer_module
from qgf_ros.recording.queue import RecordingQueue
from qgf_ros.recording.recording import Recording
from qgf_ros.recording.writer import Received, RecordingWriter

Make = Callable[..., Any]


def test_the_usual_reader_finds_messages_times_and_types(write: Make, as_received: Make, joint_message: Make) -> None:
    sent = [joint_message(10**9 + i, 0.1 * i, -1.0 / 3.0) for i in range(5)]
    path = write(*(as_received("/arm", message, 100 + i) for i, message in enumerate(sent)))
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == 5
        assert [schema.encoding for schema in summary.schemas.values()] == ["ros2msg"]
        found = list(make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages())
    assert [message.log_time for _, _, message, _ in found] == [100, 101, 102, 103, 104]
    for (_, _, _, decoded), message in zip(found, sent, strict=True):
        assert decoded.name == list(message.name)
        assert decoded.position == list(message.position)
        assert decoded.header.stamp.nanosec == message.header.stamp.nanosec


def test_what_is_recorded_is_read_back_with_its_metadata(write: Make, as_received: Make, joint_message: Make) -> None:
    path = write(as_received("/arm", joint_message(7, 1.5), 100), qgf_run={"namespace": "/cell"})
    recording = Recording.open(path)
    assert recording.topics == {"/arm": ("sensor_msgs/msg/JointState", 1)}
    assert (recording.namespace, recording.dropped, recording.damage) == ("/cell", 0, [])
    (recorded,) = recording.messages({"/arm"})
    assert (recorded.log_time, recorded.stamp, recorded.message.position) == (100, 7, [1.5])


# Writes a message every millisecond until it is killed.
ENDLESS = """
import sys, time
from pathlib import Path
from rclpy.serialization import serialize_message
from std_msgs.msg import String
from qgf_ros.recording.queue import RecordingQueue
from qgf_ros.recording.writer import Received, RecordingWriter
queue = RecordingQueue(RecordingWriter(Path(sys.argv[1]), 1 << 30))
for i in range(10**9):
    queue.put(Received("/words", "std_msgs/msg/String", i, i, serialize_message(String(data=f"word {i}"))))
    time.sleep(0.001)
"""


def test_a_killed_process_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "killed.mcap"
    environment = {key: value for key, value in os.environ.items() if key != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)], env=environment)
    waiting = threading.Event()
    try:
        while not path.is_file() or path.stat().st_size < 2000:
            assert process.poll() is None
            waiting.wait(0.02)
    finally:
        process.kill()
        process.wait()
    recording = Recording.open(path)
    assert [sentence for sentence in recording.damage if "was killed" in sentence or "ends within" in sentence]
    words = [recorded.message.data for recorded in recording.messages({"/words"})]
    assert words == [f"word {i}" for i in range(len(words))]
    assert len(words) > 10
    # The library's own reader gets the same out of it.
    theirs: list[Message] = []
    with path.open("rb") as file, pytest.raises(EndOfFile):
        theirs.extend(record for record in StreamReader(file).records if isinstance(record, Message))
    assert len(theirs) == len(words)


@pytest.mark.parametrize("max_size", [20_000, 300_000])
def test_a_file_is_never_larger_than_allowed_and_says_so(tmp_path: Path, max_size: int) -> None:
    writer = RecordingWriter(tmp_path / "full.mcap", max_size)
    queue = RecordingQueue(writer)
    for i in range(2000):  # noise, which does not compress
        queue.put(Received(f"/topic{i % 50}", "std_msgs/msg/String", i, i, b"\0\1\0\0" + os.urandom(1000)))
    queue.close()
    assert queue.end is not None
    assert "has reached its largest size" in queue.end
    assert not queue.failed
    size = writer.path.stat().st_size
    assert 0.5 * max_size < size <= max_size
    recording = Recording.open(writer.path)
    assert recording.damage == []
    assert sum(count for _, count in recording.topics.values()) == queue.messages < 2000
    assert "largest size" in recording.run["reason"]


def test_attachments_and_metadata_count_against_the_largest_size(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "run.mcap", 20_000)
    with pytest.raises(RecordingError, match="leaves no room for its manifest.json of 0.03.* MB; raise --max-size-mb"):
        writer.add_attachment("manifest.json", "application/json", bytes(30_000), 0)
    writer.add_attachment("manifest.json", "application/json", bytes(4_000), 0)
    queue = RecordingQueue(writer)
    for i in range(9):
        queue.put(Received("/topic", "std_msgs/msg/String", i, i, b"\0\1\0\0" + os.urandom(1000)))
    queue.put_metadata("qgf_parameters", {f"p{i}": "x" * 100 for i in range(100)})
    queue.close()
    assert queue.end is not None
    assert "no room for its record qgf_parameters" in queue.end
    assert writer.path.stat().st_size <= 20_000
    recording = Recording.open(writer.path)
    assert recording.topics["/topic"][1] == queue.messages == 9
    assert "no room" in recording.run["reason"]
    assert [sentence for sentence in recording.damage if "manifest" not in sentence] == []


def test_a_full_disk_ends_the_recording_with_a_sentence_and_leaves_it_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_received: Make, joint_message: Make
) -> None:
    monkeypatch.setattr(writer_module, "CHUNK_SIZE", 1000)
    writer = RecordingWriter(tmp_path / "disk.mcap", 1 << 30)
    room = 5000
    write_to_disk = writer_module._File.write

    def limited(self: Any, data: bytes) -> int:
        left = room - self.size
        if len(data) > left:  # a file system takes what it has room for first
            write_to_disk(self, bytes(data[: max(left, 0)]))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_to_disk(self, data)

    monkeypatch.setattr(writer_module._File, "write", limited)
    queue = RecordingQueue(writer)
    for i in range(500):
        queue.put(as_received("/arm", joint_message(i, *(float(j) / (i + 1) for j in range(20))), i))
    queue.close()
    assert queue.failed
    assert queue.end is not None
    assert "No space left on device" in queue.end
    assert not queue.put(as_received("/arm", joint_message(0, 1.0), 0))
    recording = Recording.open(writer.path)
    assert recording.damage
    messages = list(recording.messages({"/arm"}))
    assert [recorded.log_time for recorded in messages] == list(range(len(messages)))
    assert messages


def test_what_the_disk_cannot_keep_up_with_is_dropped_counted_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_received: Make, joint_message: Make
) -> None:
    monkeypatch.setattr(queue_module, "MOST_WAITING", 10)
    writer = RecordingWriter(tmp_path / "slow.mcap", 1 << 30)
    gate, entered = threading.Event(), threading.Event()
    write_message = writer.write

    def slow(message: Received) -> bool:
        entered.set()
        assert gate.wait(60.0)
        return write_message(message)

    monkeypatch.setattr(writer, "write", slow)
    queue = RecordingQueue(writer)
    message = as_received("/arm", joint_message(0, 1.0), 0)
    assert queue.put(message)
    assert entered.wait(60.0)
    taken = [queue.put(message) for _ in range(13)]
    gate.set()
    queue.close()
    assert taken == [True] * 10 + [False] * 3
    assert (queue.messages, queue.dropped) == (11, 3)
    assert Recording.open(writer.path).dropped == 3


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "old.mcap"
    path.write_bytes(b"precious")
    with pytest.raises(RecordingError, match="is not overwritten unasked; give another --out, or --force"):
        RecordingWriter(path, 1 << 20)
    assert path.read_bytes() == b"precious"


def test_a_file_that_gives_way_does_so_when_the_new_one_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_received: Make, joint_message: Make
) -> None:
    path = tmp_path / "old.mcap"
    path.write_bytes(b"precious")
    with monkeypatch.context() as patch:
        patch.setattr(writer_module._File, "write", Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
        with pytest.raises(RecordingError, match="No space left on device"):
            RecordingWriter(path, 1 << 20, replace=True)
    assert path.read_bytes() == b"precious"
    queue = RecordingQueue(RecordingWriter(path, 1 << 20, replace=True))
    assert queue.put(as_received("/arm", joint_message(1, 1.0), 1))
    queue.close()
    assert Recording.open(path).topics == {"/arm": ("sensor_msgs/msg/JointState", 1)}
    assert [entry.name for entry in tmp_path.iterdir()] == ["old.mcap"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecordingError, match="cannot be written .Is a directory."):
        RecordingWriter(tmp_path / "folder", 1 << 20, replace=True)


def test_what_is_known_of_a_topic_counts_against_the_largest_size(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "run.mcap", 200_000)
    queue = RecordingQueue(writer)
    for i in range(60):
        about = {"offered_qos_profiles": os.urandom(2000).hex()}
        queue.put(Received(f"/topic{i}", "std_msgs/msg/String", i, i, b"\0\1\0\0\0\0\0\0", about))
    queue.close()
    assert queue.end is not None
    assert writer.path.stat().st_size <= 200_000
    assert Recording.open(writer.path).damage == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="cannot be written"):
        RecordingWriter(tmp_path / "file" / "run.mcap", 1 << 20)
