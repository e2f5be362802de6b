"""Messages that are not what they say they are: rows of what is sound, or one sentence, and never much memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

import zstandard
from exploration import examples
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer
from mcap_ros2.writer import Writer as MessageWriter

from qgf_ros.errors import RecordingError
from qgf_ros.recording import records
from qgf_ros.recording.recording import Recording
from qgf_ros.recording.rows.outcomes import Outcomes
from qgf_ros.recording.rows.source import Source
from qgf_ros.recording.rows.to_dataset import convert
from qgf_ros.recording.schemas import definition

Make = Callable[..., Any]
BEGIN, PERIOD = 1_700_000_000, 50_000_000
RULE = "=" * 80

JOINTS = "string[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort"
HEADER = f"{RULE}\nMSG: std_msgs/Header\n{{stamp}}\nstring frame_id\n"
TIME = f"{RULE}\nMSG: builtin_interfaces/Time\n{{seconds}} sec\n{{rest}} nanosec\n"

#: Values of each primitive type, as far as they may hurt.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "string": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    "float32": st.sampled_from([0.0, -1.5, float("nan"), float("inf"), 1.7e9, 3e38]),
    "float64": st.sampled_from([0.0, -1.5, float("nan"), -float("inf"), 1.7e9 + 0.25, 1e308]),
    **{f"int{bits}": st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}


@st.composite
def one(draw: st.DrawFn) -> tuple[str, Any]:
    """A type of a field, and a value of it: a primitive, or a list of them."""
    name = draw(st.sampled_from(sorted(VALUES)))
    if draw(st.integers(0, 3)):
        return name, draw(VALUES[name])
    return f"{name}[]", draw(st.lists(VALUES[name], max_size=3))


@st.composite
def stamps(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A definition that says it is a JointState, and the header of a message of it, with any stamp at all."""
    kind = draw(st.sampled_from(["time", "other", "no stamp", "no header"]))
    if kind == "no header":
        return JOINTS, {}
    head = f"std_msgs/Header header\n{JOINTS}\n"
    if kind == "no stamp":
        return head + HEADER.format(stamp="uint8 nothing"), {"header": {"nothing": 0, "frame_id": ""}}
    if kind == "other":
        name, value = draw(one())
        return head + HEADER.format(stamp=f"{name} stamp"), {"header": {"stamp": value, "frame_id": ""}}
    (seconds, sec), (rest, nanosec) = draw(one()), draw(one())
    text = head + HEADER.format(stamp="builtin_interfaces/Time stamp") + TIME.format(seconds=seconds, rest=rest)
    return text, {"header": {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": ""}}


def stamp_of(sec: Any, nanosec: Any, seconds: str = "int32", rest: str = "uint32") -> tuple[str, dict[str, Any]]:
    text = f"std_msgs/Header header\n{JOINTS}\n" + HEADER.format(stamp="builtin_interfaces/Time stamp")
    text += TIME.format(seconds=seconds, rest=rest)
    return text, {"header": {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": ""}}


SOUND = stamp_of(BEGIN, 0)


def write_joints(path: Path, topics: dict[str, list[tuple[str, dict[str, Any]]]]) -> None:
    """Write joints on some topics, a message a period, each under a definition of its own."""
    with path.open("wb") as file:
        writer = MessageWriter(file)
        schemas: dict[str, Any] = {}
        for topic, messages in topics.items():
            for i, (text, head) in enumerate(messages):
                if text not in schemas:
                    schemas[text] = writer.register_msgdef("sensor_msgs/msg/JointState", text)
                values = {"name": ["joint0", "joint1"], "position": [0.1 * i, 0.2], "velocity": [], "effort": []}
                came = BEGIN * 10**9 + i * PERIOD
                writer.write_message(topic, schemas[text], {**head, **values}, log_time=came, publish_time=0)
        writer.finish()


def ticks(count: int = 6) -> list[tuple[str, dict[str, Any]]]:
    return [stamp_of(BEGIN, i * PERIOD) for i in range(count)]


@pytest.fixture
def rows(manifest_of: Make, tmp_path: Path) -> Callable[[Path], Any]:
    manifest = manifest_of()
    action = [
        field.model_copy(update={"name": name, "scale": 100.0})
        for field, name in zip(manifest.action, ("joint0", "joint1"), strict=True)
    ]
    source = Source(manifest.observation, action, 20.0, command="/told", outcomes=Outcomes(succeed=True))
    return lambda path: convert([Recording.open(path)], source).arrays()["observations"]


@examples(40, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.sampled_from(["/told", "/joint_states"]), messages=st.lists(stamps(), min_size=1, max_size=6))
@example(which="/told", messages=[stamp_of("now", "then", "string", "string")] * 6)
@example(which="/told", messages=[stamp_of(float("nan"), 0, "float64")] * 6)
@example(which="/joint_states", messages=[stamp_of(-5, 0)] * 6)
@example(which="/joint_states", messages=[stamp_of(2**64 - 1, 2**64 - 1, "uint64", "uint64")] * 6)
def test_any_stamp_gives_rows_or_one_sentence(
    which: str, messages: list[tuple[str, dict[str, Any]]], rows: Make, tmp_path: Path
) -> None:
    path = tmp_path / "bag.mcap"
    write_joints(path, {"/told": ticks(), "/joint_states": ticks(), which: messages})
    try:
        made, sentence = len(rows(path)), ""
    except RecordingError as error:
        made, sentence = 2, str(error)
    assert 2 <= made <= 7
    assert "\n" not in sentence
    assert len(sentence) < 3000


@pytest.mark.parametrize("which", ["/told", "/joint_states"])
@pytest.mark.parametrize(
    ("message", "why"),
    [
        (stamp_of("now", 0, "string"), "its stamp is not made of whole seconds and nanoseconds"),
        (stamp_of(float("nan"), 0, "float64"), "its stamp is not made of whole seconds and nanoseconds"),
        (stamp_of([1], 0, "int32[]"), "its stamp is not made of whole seconds and nanoseconds"),
        (stamp_of(-1, 0), "its stamp of -1 s and 0 ns is no time"),
        (stamp_of(2**63, 0, "uint64"), "its stamp of 9223372036854775808 s and 0 ns is no time"),
        (
            (f"std_msgs/Header header\n{JOINTS}\n" + HEADER.format(stamp="string stamp"), {"header": {"stamp": "x"}}),
            "its stamp is not made of whole seconds and nanoseconds",
        ),
    ],
)
def test_a_stamp_that_is_none_is_counted_as_damage_and_said(
    which: str, message: Any, why: str, rows: Make, tmp_path: Path
) -> None:
    path = tmp_path / "bag.mcap"
    write_joints(path, {"/told": ticks(), "/joint_states": ticks(), which: [message] * 3})
    with pytest.raises(RecordingError, match=f"3 messages on {which} that cannot be decoded are left out .{why}"):
        rows(path)


def bag(path: Path, kind: str, text: str, *contents: bytes, topic: str = "/told") -> Path:
    """Write serialised messages of a type under any definition."""
    output = io.BytesIO()
    writer = Writer(output, compression=CompressionType.NONE)
    writer.start("ros2")
    channel = writer.register_channel(topic, "cdr", writer.register_schema(kind, "ros2msg", text.encode()))
    for i, content in enumerate(contents):
        writer.add_message(channel, i, content, i)
    writer.finish()
    path.write_bytes(output.getvalue())
    return path


HEAD = b"\0\1\0\0"
NEST = "".join(f"{RULE}\nMSG: a/T{i}\nT{i + 1} x\nT{i + 1} y\n" for i in range(40)) + f"{RULE}\nMSG: a/T40\n"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("string x", HEAD + b"\xff\xff\xff\xff" + bytes(8)),
        ("uint8[4000000000] x", HEAD + bytes(8)),
        ("float64[4000000000] x", HEAD + bytes(800)),
        ("float64[] x", HEAD + b"\xff\xff\xff\xff" + bytes(800)),
        ("uint8[] x", HEAD + b"\xff\xff\xff\xff" + bytes(800)),
        (f"T[4000000000] x\n{RULE}\nMSG: a/T\nuint8[1] x", HEAD + bytes(8)),
        (f"T[] x\n{RULE}\nMSG: a/T\nuint8[1] x", HEAD + b"\xff\xff\xff\xff" + bytes(8)),
        (f"T[4000000000] x\n{RULE}\nMSG: a/T\n", HEAD + bytes(8)),
        (f"T[] x\n{RULE}\nMSG: a/T\nT[] x", HEAD + b"\1\0\0\0" * 5000),
        (f"T x\n{RULE}\nMSG: a/T\nT x", HEAD),
        (f"T0 x\n{NEST}uint8[1] x", HEAD + bytes(8)),
        (f"T0 x\n{NEST}uint8 x", HEAD + bytes(8)),
        ("Gone x", HEAD),
        ("uint8[0] x", HEAD),
        ("wstring x", HEAD + bytes(8)),
        ("not a definition at all %%", HEAD),
        ("\n".join(f"uint8 a{i}" for i in range(20_000)), HEAD + bytes(20_000)),
        ("uint8 x  # " + "x" * 2_000_000, HEAD + b"\1"),
        ("string x", b""),
        ("string x", b"\0\1"),
        ("string x", HEAD),
        ("string x", HEAD + b"\3\0\0\0\xff\xfe\0"),
        ("string x", zstandard.compress(HEAD + b"\xff\xff\xff\xff")),
        ("string x", b"\x28\xb5\x2f\xfdgarbage"),
        ("string x", b"\x04\x22\x4d\x18garbage"),
    ],
    ids=lambda value: f"{len(value)}",
)
def test_a_definition_or_a_message_that_lies_about_its_size_is_counted(
    text: str, content: bytes, tmp_path: Path
) -> None:
    recording = Recording.open(bag(tmp_path / "bag.mcap", "a/msg/B", text, content, content))
    tracemalloc.start()
    assert list(recording.messages({"/told"})) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6
    (damage,) = recording.damage
    assert damage.startswith("2 messages on /told that cannot be decoded are left out (")


@examples(80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    fields=st.lists(
        st.tuples(
            st.sampled_from([*sorted(VALUES), "byte", "char", "T", "U"]),
            st.sampled_from(["", "[]", "[2]", "[<=2]", "[900000000]"]),
        ),
        min_size=1,
        max_size=6,
    ),
    content=st.binary(max_size=200),
)
def test_any_definition_over_any_bytes_gives_messages_or_damage(
    fields: list[tuple[str, str]], content: bytes, tmp_path: Path
) -> None:
    lines = [f"{name}{size} f{i}" for i, (name, size) in enumerate(fields)]
    half = len(lines) // 2
    text = "\n".join(lines[:half]) + f"\nT t\n{RULE}\nMSG: a/T\nuint8[2] x\n" + "\n".join(lines[half:])
    text = text.replace("\nT f", "\nU f") + f"\n{RULE}\nMSG: a/U\nuint8[1] x\n"
    recording = Recording.open(bag(tmp_path / "bag.mcap", "a/msg/B", text, HEAD + content))
    tracemalloc.start()
    found = list(recording.messages({"/told"}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6
    assert len(found) + len(recording.damage) == 1


KINDS = (
    "sensor_msgs/msg/JointState",
    "trajectory_msgs/msg/JointTrajectory",
    "geometry_msgs/msg/TwistStamped",
    "std_msgs/msg/Float64MultiArray",
    "diagnostic_msgs/msg/DiagnosticArray",
    "std_msgs/msg/String",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topic", ["/command", "/joint_states", "/sim_bridge/episode"])
def test_a_message_without_the_fields_of_its_type_is_one_sentence(
    kind: str, topic: str, run_of: Make, tmp_path: Path, manifest_of: Make
) -> None:
    """A definition of the same name with one field, another one of numbers where a list is expected."""
    manifest = manifest_of()
    for text, content in (("uint8 x", HEAD + b"\1"), ("float64 position\nfloat64 data\nuint8 name", HEAD + bytes(32))):
        run = run_of()
        run.ticks(4)
        from recorded_runs import record_run

        path = tmp_path / f"{len(text)}.mcap"
        whole = record_run(path, run, [one for one in run.messages if one.topic != topic])
        liar = Recording.open(bag(tmp_path / "liar.mcap", kind, text, content, topic=topic))
        both = Recording.joined(path, [whole, liar])
        with pytest.raises(RecordingError) as caught:
            convert([both], Source(manifest.observation, manifest.action, 20.0))
        assert "\n" not in str(caught.value)


def test_what_a_file_calls_things_stays_on_a_line(rows: Make, tmp_path: Path) -> None:
    escape = "\x1b]0;title\x07\n"
    path = bag(tmp_path / "bag.mcap", f"a/msg/{escape}", "uint8 x", HEAD + b"\1", topic=f"/{escape}{'x' * 5000}")
    with pytest.raises(RecordingError, match="has no topic /told; it has /.]0;title") as caught:
        rows(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_messages_that_unpack_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zstandard.compress(HEAD + bytes(3_000_000))
    path = bag(tmp_path / "bag.mcap", "std_msgs/msg/String", definition("std_msgs/msg/String"), *[bomb] * 5)
    monkeypatch.setattr(records, "LARGEST_RECORD", 1_000_000)
    recording = Recording.open(path)
    assert list(recording.messages({"/told"})) == []
    assert "it is larger than 1000000 bytes when it is unpacked" in recording.damage[0]
    monkeypatch.setattr(records, "LARGEST_RECORD", 10_000_000)
    monkeypatch.setattr(records, "LARGEST_CONTENT", 10_000_000)
    with pytest.raises(RecordingError, match="holds more than 0 GB; split it"):
        list(Recording.open(path).messages({"/told"}))
