"""Bags in the forms that people have them in: the same rows of each, or the reason by name."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

import lz4.frame
import zstandard
from geometry_msgs.msg import PoseStamped
from mcap.writer import CompressionType, IndexType, Writer
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from qgf_ros.cli import main
from qgf_ros.recording import records
from qgf_ros.recording.schemas import definition

BEGIN, PERIOD = 1_700_000_000_000_000_000, 50_000_000
TICKS = 20
JOINTS = ["j0", "j1", "j2"]
Message = tuple[str, Any, int]

POSITION = {
    "name": "p",
    "topic": "joint_states",
    "message_type": "sensor_msgs/msg/JointState",
    "extraction": "joint_position",
    "joints": JOINTS,
    "size": 3,
    "unit": "rad",
}
POSE = {"topic": "pose", "message_type": "geometry_msgs/msg/PoseStamped"}
YAW = {"name": "yaw", **POSE, "extraction": "yaw", "size": 1, "unit": "rad"}
TURN = {"name": "q", **POSE, "extraction": "quaternion_wxyz", "size": 4, "unit": "1"}
GOAL = {
    "name": "goal",
    "topic": "goal",
    "message_type": "std_msgs/msg/Float64MultiArray",
    "extraction": "data",
    "size": 1,
    "unit": "1",
    "max_age": None,
}
ACTION = [{"name": name, "unit": "m", "scale": 0.05, "lower": -0.05, "upper": 0.05} for name in ("dx", "dy")]

#: What every form of the two episodes gives: the first succeeded.
ENDS, SOLVED = [20, 41], [19, 20]


def stamped(message: Any, time: int) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(time, 10**9)
    return message


def joint_state(time: int, names: Sequence[str], positions: Sequence[float]) -> JointState:
    return stamped(JointState(name=list(names), position=[float(value) for value in positions]), time)


def two_episodes(
    *,
    unstamped_joints: Sequence[int] = (),
    unstamped_commands: Sequence[int] = (),
    quaternion: Sequence[float] | None = None,
    turn_names: bool = False,
    wheel: bool = False,
    outcomes: bool = True,
) -> list[Message]:
    """What was said in two episodes of 20 ticks, the first of which succeeded: topic, message and time of arrival."""
    said: list[Message] = []
    time = BEGIN
    for episode in range(2):
        for k in range(TICKS + 1):
            names, angles = [*JOINTS], [0.01 * k, 0.02 * k + episode, -0.01 * k]
            if turn_names and k % 2:
                names, angles = names[::-1], angles[::-1]
            if wheel:
                names, angles = [*names, "wheel"], [*angles, math.nan]
            joints = joint_state(0 if k in unstamped_joints else time, names, angles)
            said.append(("/joint_states", joints, time + 1_000_000))
            if quaternion is not None:
                pose = stamped(PoseStamped(), time)
                turn = pose.pose.orientation
                turn.x, turn.y, turn.z, turn.w = quaternion
                said.append(("/pose", pose, time + 1_500_000))
            if k < TICKS:
                command = joint_state(0 if k in unstamped_commands else time, ["dx", "dy"], [0.05 * math.sin(k), 0.05])
                said.append(("/command", command, time + 10_000_000))
            time += PERIOD
        if outcomes:
            said.append(("/episode", String(data=json.dumps({"success": episode == 0})), time))
        time += 10 * PERIOD
    return said


def write_bag(
    path: Path,
    said: Sequence[Message],
    compression: CompressionType = CompressionType.ZSTD,
    packed: Callable[[bytes], bytes] = lambda data: data,
    **options: Any,
) -> Path:
    """Write an MCAP file as rosbag2 writes it, each message `packed`."""
    with path.open("wb") as file:
        writer = Writer(file, compression=compression, chunk_size=2000, **options)
        writer.start(profile="ros2", library="as rosbag2")
        channels: dict[str, int] = {}
        for topic, message, time in said:
            if topic not in channels:
                kind = f"{type(message).__module__.split('.')[0]}/msg/{type(message).__name__}"
                schema = writer.register_schema(kind, "ros2msg", definition(kind).encode())
                channels[topic] = writer.register_channel(topic, "cdr", schema, {"offered_qos_profiles": ""})
            writer.add_message(channels[topic], time, packed(serialize_message(message)), time)
        writer.finish()
    return path


class Converted:
    """What `qgf dataset from-bag` made of files, and what it said."""

    def __init__(self, code: int, text: str, path: Path) -> None:
        self.code, self.text = code, text
        self.arrays = dict(np.load(path)) if path.is_file() else {}

    @property
    def places(self) -> tuple[int, list[int], list[int]]:
        """The number of rows, where trajectories end, and where nothing counts behind."""
        ends, solved = self.arrays["terminals"], self.arrays["masks"] == 0
        return len(ends), np.flatnonzero(ends).tolist(), np.flatnonzero(solved).tolist()


@pytest.fixture
def from_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Converted]:
    def convert(*files: Path, observation: Sequence[Any] = (POSITION,), options: Sequence[str] = ()) -> Converted:
        contract, out = tmp_path / "contract.json", tmp_path / "out.npz"
        contract.write_text(json.dumps({"observation": observation, "action": ACTION, "control_rate": 20.0}))
        out.unlink(missing_ok=True)
        topics = ["--command", "/command", "--episode", "/episode"]
        arguments = [*map(str, files), "--contract", str(contract), *topics, "--out", str(out), *options]
        code = main(["dataset", "from-bag", *arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Converted(code, " ".join((said.out + said.err).split()), out)

    return convert


Convert = Callable[..., Converted]


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


FORMS: dict[str, Callable[[Path], Path]] = {
    "zstd": lambda path: write_bag(path, two_episodes()),
    "lz4": lambda path: write_bag(path, two_episodes(), CompressionType.LZ4),
    "plain": lambda path: write_bag(path, two_episodes(), CompressionType.NONE),
    "unchunked": lambda path: write_bag(path, two_episodes(), use_chunking=False),
    "no index": lambda path: write_bag(path, two_episodes(), index_types=IndexType.NONE),
    "no message index": lambda path: write_bag(path, two_episodes(), index_types=IndexType.CHUNK),
    "out of order": lambda path: write_bag(path, random.Random(0).sample(two_episodes(), len(two_episodes()))),
    "names that take turns": lambda path: write_bag(path, two_episodes(turn_names=True)),
    "a joint without a value": lambda path: write_bag(path, two_episodes(wheel=True)),
    "messages in zstd": lambda path: write_bag(path, two_episodes(), CompressionType.NONE, zstd),
    "messages in lz4": lambda path: write_bag(path, two_episodes(), CompressionType.NONE, lz4.frame.compress),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form: str, from_bag: Convert, tmp_path: Path) -> None:
    converted = from_bag(FORMS[form](tmp_path / "bag.mcap"))
    assert converted.places == (42, ENDS, SOLVED)
    assert converted.arrays["observations"][:21, 1] == pytest.approx(0.02 * np.arange(21))
    assert converted.arrays["actions"][:20, 0] == pytest.approx(np.sin(np.arange(20)), abs=1e-6)


@pytest.mark.parametrize(("suffix", "compress"), [("zstd", zstd), ("lz4", lz4.frame.compress)])
def test_a_file_that_is_compressed_as_a_whole_is_read(
    suffix: str, compress: Callable[[bytes], bytes], from_bag: Convert, tmp_path: Path
) -> None:
    path, content = tmp_path / f"bag.mcap.{suffix}", write_bag(tmp_path / "bag.mcap", two_episodes()).read_bytes()
    half = len(content) // 2
    path.write_bytes(compress(content[:half]) + compress(content[half:]))
    assert from_bag(path).places == (42, ENDS, SOLVED)
    path.write_bytes(path.read_bytes()[:-600])
    cut = from_bag(path)
    assert cut.places[0] < 42
    assert "it ends " in cut.text or "its compression is damaged" in cut.text


def test_a_compressed_file_is_not_unpacked_without_end(
    from_bag: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LARGEST_CONTENT", 100_000)
    bomb = b"\x89MCAP0\r\n" + b"\x7f" + (10_000_000).to_bytes(8, "little") + bytes(10_000_000)
    path = tmp_path / "bomb.mcap.zstd"
    path.write_bytes(zstd(bomb))
    assert "holds more than 0 GB; split it" in from_bag(path).text


EVERY = range(TICKS + 1)


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ({"unstamped_joints": EVERY, "unstamped_commands": EVERY}, ["/command", "/joint_states"]),
        ({"unstamped_commands": EVERY}, ["/command"]),
        ({"unstamped_joints": EVERY}, ["/joint_states"]),
    ],
)
def test_where_every_stamp_is_zero_times_of_arrival_tell_and_it_is_said(
    without: dict[str, Any], named: list[str], from_bag: Convert, tmp_path: Path
) -> None:
    converted = from_bag(write_bag(tmp_path / "bag.mcap", two_episodes(**without)))
    assert converted.places == (42, ENDS, SOLVED)
    for topic in named:
        assert (
            f"every message on {topic} of {tmp_path / 'bag.mcap'} is stamped 0, so times of arrival" in converted.text
        )


def test_messages_stamped_zero_among_others_are_left_out_and_counted(from_bag: Convert, tmp_path: Path) -> None:
    said = two_episodes(unstamped_joints=(3,), unstamped_commands=(0, 7))
    converted = from_bag(write_bag(tmp_path / "bag.mcap", said))
    assert "left out: 4 commands stamped 0" in converted.text
    assert "2 messages on /joint_states" in converted.text
    assert "are stamped 0, among others that are not, and were not used" in converted.text
    # Of each episode the commands 1 to 6 and 8 to 19, each run with the observation behind its last.
    assert converted.places == (40, [6, 19, 26, 39], [18, 19])


def split(tmp_path: Path, said: Sequence[Message], at: int, names: Sequence[str] = ("bag_0", "bag_1")) -> list[Path]:
    return [
        write_bag(tmp_path / f"{name}.mcap", part) for name, part in zip(names, (said[:at], said[at:]), strict=True)
    ]


@pytest.mark.parametrize("turned", [False, True])
def test_the_parts_of_a_recording_are_one_in_whatever_order_they_are_given(
    turned: bool, from_bag: Convert, tmp_path: Path
) -> None:
    first, second = split(tmp_path, two_episodes(), 21)  # inside the first episode
    converted = from_bag(*((second, first) if turned else (first, second)))
    assert converted.places == (42, ENDS, SOLVED)
    assert "note: bag_0.mcap, bag_1.mcap are read as one recording" in converted.text


def test_what_was_said_once_at_the_beginning_is_known_in_every_part(from_bag: Convert, tmp_path: Path) -> None:
    latched = ("/goal", Float64MultiArray(data=[3.0]), BEGIN)
    parts = split(tmp_path, [latched, *two_episodes()], 60)
    converted = from_bag(*parts, observation=(POSITION, GOAL))
    assert converted.places == (42, ENDS, SOLVED)
    assert (converted.arrays["observations"][:, 3] == 3.0).all()


@pytest.mark.parametrize("names", [("bag_0", "bag_2"), ("bag_0", "other_1"), ("first", "second")])
def test_files_that_are_not_numbered_as_parts_are_recordings_of_their_own(
    names: tuple[str, str], from_bag: Convert, tmp_path: Path
) -> None:
    converted = from_bag(*split(tmp_path, two_episodes(), 42, names))
    assert converted.places == (42, ENDS, SOLVED)
    assert "read as one" not in converted.text


def test_numbered_recordings_with_a_pause_between_are_not_joined(from_bag: Convert, tmp_path: Path) -> None:
    said = two_episodes()
    later = [(topic, message, time + 6_000_000_000) for topic, message, time in said]
    paths = [write_bag(tmp_path / f"demo_{i}.mcap", one) for i, one in enumerate((said, later))]
    assert "read as one" not in from_bag(*paths).text


def test_a_recording_is_not_counted_twice(from_bag: Convert, tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag.mcap", two_episodes())
    assert "bag.mcap was given twice; give each recording once" in from_bag(path, path).text
    assert "was given twice" in from_bag(path, tmp_path).text


def folder_of(tmp_path: Path, metadata: str, parts: int = 2) -> Path:
    """Return a folder of two parts, the second of which begins with the fourth command of the second episode."""
    folder = tmp_path / "bag"
    folder.mkdir()
    split(folder, two_episodes(), 42 + 2 * 3)
    for i in range(parts, 2):
        (folder / f"bag_{i}.mcap").unlink()
    (folder / "metadata.yaml").write_text(metadata)
    return folder


METADATA = "rosbag2_bagfile_information:\n  version: 9\n  storage_identifier: mcap\n"
LISTED = f"{METADATA}  relative_file_paths:\n    - bag_0.mcap\n    - bag/bag_1.mcap\n"


@pytest.mark.parametrize(
    "metadata", [METADATA, LISTED, f"{METADATA}#{' ' * 300_000}", "[" * 10_000, ""], ids=str.__len__
)
def test_a_folder_of_rosbag2_is_one_recording(metadata: str, from_bag: Convert, tmp_path: Path) -> None:
    assert from_bag(folder_of(tmp_path, metadata)).places == (42, ENDS, SOLVED)


def test_a_folder_whose_recorder_was_killed_is_read_by_its_files(from_bag: Convert, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, METADATA)
    (folder / "metadata.yaml").unlink()
    assert from_bag(folder).places == (42, ENDS, SOLVED)


def test_a_part_that_is_missing_is_said(from_bag: Convert, tmp_path: Path) -> None:
    converted = from_bag(folder_of(tmp_path, LISTED, parts=1))
    assert "bag_1.mcap, which metadata.yaml lists, is not there" in converted.text
    assert converted.places == (24, [20, 23], SOLVED)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        (
            METADATA.replace("mcap", "sqlite3"),
            "is a bag in SQLite (.db3), which is not read yet; make an MCAP of it with",
        ),
        (METADATA.replace("mcap", "own"), "is a bag in the storage own, expected mcap"),
        (f"{METADATA}  relative_file_paths:\n  - gone.mcap\n  - /etc/passwd\n  - ..", "has none of the files that"),
    ],
)
def test_a_folder_that_cannot_be_read_says_why(metadata: str, sentence: str, from_bag: Convert, tmp_path: Path) -> None:
    converted = from_bag(folder_of(tmp_path, metadata))
    assert converted.code == 2
    assert sentence in converted.text


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("bag.db3", b"SQLite format 3\0" + bytes(100), "is a bag of rosbag2 in SQLite (.db3), which is not read yet"),
        ("bag.db3.zstd", zstd(b"SQLite format 3\0"), "with 'ros2 bag convert' (docs/recording.md says how)"),
        ("bag.bag", b"#ROSBAG V2.0\n", "is a bag of ROS 1"),
        ("bag.mcap.gz", b"\x1f\x8b\x08\0\0\0\0\0", "is compressed with gzip; unpack it first"),
        ("bag.mcap", b"", "is empty"),
        ("bag.txt", b"hello, bag", "is not an MCAP file; give one that 'qgf record' or rosbag2 wrote"),
        ("bag.mcap.zstd", zstd(b"hello, bag")[:6], "nothing of it can be unpacked; copy it again"),
    ],
)
def test_a_file_of_another_kind_says_what_it_is(
    name: str, content: bytes, sentence: str, from_bag: Convert, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert sentence in from_bag(path).text


@pytest.mark.parametrize(
    ("file", "sentence"), [("bag.db3", "is a bag in SQLite (.db3)"), ("x.txt", "without MCAP files")]
)
def test_a_folder_without_recordings_says_what_it_is(
    file: str, sentence: str, from_bag: Convert, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / file).touch()
    assert sentence in from_bag(folder).text


@pytest.mark.parametrize(("percent", "sentence"), [(10, "has no topic /command"), (20, "no outcome of an episode was")])
def test_damage_is_said_where_conversion_fails_of_it(
    percent: int, sentence: str, from_bag: Convert, tmp_path: Path
) -> None:
    path = write_bag(tmp_path / "bag.mcap", two_episodes())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * percent // 100])
    converted = from_bag(path)
    assert converted.code == 2
    assert sentence in converted.text
    assert f"the cause may be: {path}: it ends within a record, at byte" in converted.text


def test_what_is_left_of_a_cut_file_is_converted_and_the_cut_is_said(from_bag: Convert, tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag.mcap", two_episodes())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 40 // 100])
    converted = from_bag(path)
    rows, ends, solved = converted.places
    assert (ends, solved) == ([20, rows - 1], SOLVED)
    assert 21 < rows < 42
    assert "it ends within a record" in converted.text
    assert f"ends without an outcome, so its last {rows - 22} commands do not count as a success" in converted.text


def test_pauses_in_what_is_taken_as_one_episode_are_said(from_bag: Convert, tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag.mcap", two_episodes(outcomes=False))
    converted = from_bag(path, options=["--every-episode-succeeds"])
    assert converted.places == (42, ENDS, [40, 41])
    assert "is taken as one episode, and its commands pause 1 times: only what follows the last pause" in converted.text


HALF = math.sqrt(0.5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_quaternion_and_its_negative_are_one_rotation(sign: float, from_bag: Convert, tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag.mcap", two_episodes(quaternion=(0.0, 0.0, sign * HALF, sign * HALF)))
    observation = from_bag(path, observation=(POSITION, YAW, TURN)).arrays["observations"][:, 3:]
    assert observation == pytest.approx(np.tile([math.pi / 2, HALF, 0.0, 0.0, HALF], (42, 1)), abs=1e-6)


def test_a_quaternion_that_is_no_rotation_is_refused_by_its_length(from_bag: Convert, tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag.mcap", two_episodes(quaternion=(0.0, 0.0, 2 * HALF, 2 * HALF)))
    converted = from_bag(path, observation=(POSITION, YAW, TURN))
    assert converted.code == 2
    assert "field yaw: topic pose gives a quaternion of length 2, which is no rotation" in converted.text
