"""Reading what is damaged, foreign or hostile: something useful or one sentence, and never much memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

import zstandard
from exploration import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from mcap.opcode import Opcode
from mcap.writer import MCAP0_MAGIC, CompressionType, Writer

from qgf_ros.errors import RecordingError
from qgf_ros.recording.recording import Recording
from qgf_ros.recording.schemas import definition

Make = Callable[..., Any]


@pytest.fixture
def sound(write: Make, as_received: Make, joint_message: Make) -> bytes:
    messages = [as_received(f"/arm{i % 3}", joint_message(i, 0.5 * i, 1.0), i) for i in range(60)]
    content: bytes = write(*messages, qgf_run={"namespace": "/cell"}).read_bytes()
    return content


def read_everything(path: Path) -> int:
    """Return how many messages of a file can be read."""
    recording = Recording.open(path)
    return sum(1 for _ in recording.messages(recording.topics))


@examples(100, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_mutated_file_gives_what_is_left_or_one_sentence(data: st.DataObject, sound: bytes, tmp_path: Path) -> None:
    content = bytearray(sound)
    positions = st.integers(0, len(content) - 1)
    for position in data.draw(st.lists(positions, max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # a length of some record, blown up
        position = data.draw(st.integers(0, len(content) - 8))
        content[position : position + 8] = struct.pack("<Q", data.draw(st.integers(0, 2**64 - 1)))
    path = tmp_path / "mutated.mcap"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    tracemalloc.start()
    try:
        with suppress(RecordingError):
            assert read_everything(path) <= 60
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 50e6


@examples(30, suppress_health_check=list(HealthCheck))
@given(tail=st.binary(max_size=300))
def test_garbage_behind_the_magic_is_no_trouble(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "garbage.mcap"
    path.write_bytes(MCAP0_MAGIC + tail)
    assert read_everything(path) == 0


def test_every_cut_leaves_the_messages_before_it(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.mcap"
    counts = []
    for size in range(len(MCAP0_MAGIC), len(sound), 97):
        path.write_bytes(sound[:size])
        counts.append(read_everything(path))
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 60)


@pytest.mark.parametrize("size", [2**31, 2**62])
def test_a_chunk_that_claims_to_be_huge_costs_no_memory(tmp_path: Path, size: int) -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(200_000_000))
    body = struct.pack("<QQQI", 0, 0, size, 0) + struct.pack("<I", 4) + b"zstd" + struct.pack("<Q", len(bomb)) + bomb
    path = tmp_path / "bomb.mcap"
    path.write_bytes(MCAP0_MAGIC + struct.pack("<BQ", Opcode.CHUNK, len(body)) + body)
    tracemalloc.start()
    recording = Recording.open(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "too large" in recording.damage[0]
    assert peak < 5e6


def test_a_flipped_bit_costs_its_chunk_and_is_said(tmp_path: Path) -> None:
    output = io.BytesIO()
    writer = Writer(output, chunk_size=1, compression=CompressionType.NONE)
    writer.start("ros2")
    schema = writer.register_schema("std_msgs/msg/String", "ros2msg", definition("std_msgs/msg/String").encode())
    channel = writer.register_channel("/words", "cdr", schema)
    for i in range(5):
        writer.add_message(channel, i, b"\0\1\0\0\6\0\0\0word" + bytes([48 + i, 0]), i)
    writer.finish()
    content = output.getvalue()
    path = tmp_path / "flipped.mcap"
    path.write_bytes(content.replace(b"word3", b"ward3"))
    recording = Recording.open(path)
    assert [m.message.data for m in recording.messages({"/words"})] == ["word0", "word1", "word2", "word4"]
    (damage,) = recording.damage
    assert "checksum" in damage


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunking", [True, False])
def test_files_of_other_writers_are_read(tmp_path: Path, compression: CompressionType, chunking: bool) -> None:
    """rosbag2 writes any of these, with or without chunks."""
    path = tmp_path / "other.mcap"
    with path.open("wb") as file:
        writer = Writer(file, compression=compression, use_chunking=chunking)
        writer.start("ros2")
        schema = writer.register_schema("std_msgs/msg/String", "ros2msg", definition("std_msgs/msg/String").encode())
        channel = writer.register_channel("/words", "cdr", schema, {"offered_qos_profiles": ""})
        writer.add_message(channel, 5, b"\0\1\0\0\3\0\0\0hi\0", 4)
        writer.finish()
    (recorded,) = Recording.open(path).messages({"/words"})
    assert (recorded.message.data, recorded.log_time, recorded.stamp) == ("hi", 5, 5)


def test_a_message_that_cannot_be_decoded_is_left_out_and_said(
    write: Make, as_received: Make, joint_message: Make
) -> None:
    good = as_received("/arm", joint_message(1, 1.0), 1)
    bad = type(good)("/arm", good.type_name, 2, 2, good.data[:20])
    recording = Recording.open(write(good, bad, good))
    assert len(list(recording.messages({"/arm"}))) == 2
    assert any("/arm" in sentence and "cannot be decoded" in sentence for sentence in recording.damage)


def test_what_is_no_recording_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "text.mcap"
    path.write_text("no magic here")
    with pytest.raises(RecordingError, match="is not an MCAP file; give one that 'qgf record' or rosbag2 wrote"):
        Recording.open(path)
    with pytest.raises(RecordingError, match="cannot be read"):
        Recording.open(tmp_path / "absent.mcap")


def record(opcode: int, body: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(body)) + body


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


NAME = "std_msgs/msg/String"
SCHEMA = record(Opcode.SCHEMA, struct.pack("<H", 1) + text(NAME) + text("ros2msg") + text("string data"))
CHANNEL = record(Opcode.CHANNEL, struct.pack("<HH", 3, 1) + text("/words") + text("cdr") + struct.pack("<I", 0))


def words(data: str, channel: int = 3) -> bytes:
    """Return the record of a String."""
    payload = b"\0\1\0\0" + struct.pack("<I", len(data) + 1) + data.encode() + b"\0"
    return record(Opcode.MESSAGE, struct.pack("<HIQQ", channel, 0, 7, 7) + payload)


def chunk(content: bytes) -> bytes:
    head = struct.pack("<QQQI", 7, 7, len(content), 0)
    return record(Opcode.CHUNK, head + text("") + struct.pack("<Q", len(content)) + content)


def opened(path: Path, *records: bytes) -> tuple[list[str], list[str]]:
    """Return the words of a file of these records, and what is said of its damage."""
    path.write_bytes(MCAP0_MAGIC + b"".join(records))
    recording = Recording.open(path)
    return [m.message.data for m in recording.messages({"/words"})], recording.damage


def test_a_file_that_ends_right_behind_a_record_has_that_record(tmp_path: Path) -> None:
    content = (SCHEMA, CHANNEL, words("a"), words("b"))
    found, damage = opened(tmp_path / "killed.mcap", *content)
    end = len(MCAP0_MAGIC) + sum(map(len, content))
    assert (found, damage) == (["a", "b"], [f"it ends at byte {end} without its index; whoever wrote it was killed"])


def test_a_file_that_ends_in_zeros_ends_where_they_begin(tmp_path: Path) -> None:
    """A power cut leaves blocks that were never written."""
    content = (SCHEMA, CHANNEL, words("a"), bytes(512))
    found, (damage,) = opened(tmp_path / "cut.mcap", *content)
    size = len(MCAP0_MAGIC) + sum(map(len, content))
    assert (found, damage) == (["a"], f"it ends within a record, at byte {size - 512 + 9} of {size}")


def test_messages_of_an_unknown_channel_are_left_out_and_said(tmp_path: Path) -> None:
    found, damage = opened(tmp_path / "lost.mcap", SCHEMA, CHANNEL, words("a"), words("b", channel=4))
    assert found == ["a"]
    assert "messages whose channel could not be read are left out" in damage


def test_a_record_within_a_chunk_that_is_longer_than_it_costs_the_chunk(tmp_path: Path) -> None:
    cut = chunk(words("b") + words("c")[:-1])
    found, damage = opened(tmp_path / "cut.mcap", SCHEMA, CHANNEL, words("a"), cut, words("d"))
    assert found == ["a", "d"]
    assert "a record in it is longer than the chunk" in damage[0]


def test_a_record_and_a_chunk_may_be_as_large_as_allowed_and_no_larger(tmp_path: Path, monkeypatch: Any) -> None:
    whole = chunk(words("b" * 1000))
    inside = len(words("b" * 1000))
    for most, expected in ((inside, ["a", "b" * 1000]), (inside - 1, ["a"])):
        monkeypatch.setattr("qgf_ros.recording.records.LARGEST_RECORD", most)
        found, _ = opened(tmp_path / "large.mcap", SCHEMA, CHANNEL, words("a"), _zstd(whole))
        assert found == expected
    monkeypatch.setattr("qgf_ros.recording.records.LARGEST_RECORD", inside - 9)
    assert opened(tmp_path / "plain.mcap", SCHEMA, CHANNEL, words("b" * 1000), words("c"))[0] == ["b" * 1000, "c"]
    monkeypatch.setattr("qgf_ros.recording.records.LARGEST_RECORD", inside - 10)
    found, damage = opened(tmp_path / "plain.mcap", SCHEMA, CHANNEL, words("b" * 1000), words("c"))
    assert found == ["c"]
    assert f"the record of {inside - 9} bytes" in damage[0] and "too large" in damage[0]


def _zstd(whole: bytes) -> bytes:
    """Return an uncompressed chunk of this file, compressed."""
    body = whole[9:]
    size = struct.unpack_from("<Q", body, 16)[0]
    packed = zstandard.ZstdCompressor().compress(body[-size:])
    return record(Opcode.CHUNK, body[:28] + text("zstd") + struct.pack("<Q", len(packed)) + packed)


def test_a_file_may_hold_as_much_as_allowed_and_no_more(tmp_path: Path, monkeypatch: Any) -> None:
    content = (SCHEMA, CHANNEL, words("a" * 60_000), words("b" * 60_000))
    assert [word[0] for word in opened(tmp_path / "long.mcap", *content)[0]] == ["a", "b"]
    held = sum(len(part) - 9 for part in content)
    monkeypatch.setattr("qgf_ros.recording.records.LARGEST_CONTENT", held)
    assert len(opened(tmp_path / "long.mcap", *content)[0]) == 2
    monkeypatch.setattr("qgf_ros.recording.records.LARGEST_CONTENT", held - 1)
    with pytest.raises(RecordingError, match=r"long.mcap holds more than 0 GB; split it"):
        opened(tmp_path / "long.mcap", *content)
