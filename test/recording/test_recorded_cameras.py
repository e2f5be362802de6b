"""A run of a policy that sees: recorded as it came, replayed to the bit, and made a data set of what it saw."""

from __future__ import annotations

import errno
import json
import re
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")
pytest.importorskip("onnx", reason="building encoders needs onnx")
cv2 = pytest.importorskip("cv2", reason="pictures need the camera extra")

from camera_bundles import CAMERAS, write_camera_bundle  # noqa: E402
from recorded_runs import Run, joints, record_run  # noqa: E402
from recorded_runs import received as as_recorded  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Float64MultiArray  # noqa: E402

from qgf_ros.cli import main  # noqa: E402
from qgf_ros.control.controller import Controller  # noqa: E402
from qgf_ros.control.observation import ObservationAssembler  # noqa: E402
from qgf_ros.control.vision import decoding, newest_pictures  # noqa: E402
from qgf_ros.control.vision.pictures import stamps_of, stamps_text  # noqa: E402
from qgf_ros.control.vision.pixels import seen  # noqa: E402
from qgf_ros.loop.tick_loop import Tick, TickLoop  # noqa: E402
from qgf_ros.loop.tick_statistics import TickStatistics  # noqa: E402
from qgf_ros.nodes.messages import received, to_time  # noqa: E402
from qgf_ros.recording import picture_reel, readings  # noqa: E402
from qgf_ros.recording.replay import replay  # noqa: E402
from qgf_ros.recording.rows.parts import Parts  # noqa: E402
from qgf_ros.recording.rows.picture_rows import PictureRows  # noqa: E402
from qgf_ros.recording.rows.source import Source  # noqa: E402
from qgf_ros.runtime.policy import Policy  # noqa: E402

#: The clock of the wrist's camera is ahead by so much [s], and pictures come so long after they were taken [ns].
AHEAD, LATE = 0.25, 10_000_000
SEEING = {**CAMERAS, "wrist": CAMERAS["wrist"].model_copy(update={"clock_offset": AHEAD})}


def scene(stamp: int, height: int, width: int) -> Any:
    return np.random.default_rng(stamp % 2**32).integers(0, 256, (height, width, 3), dtype=np.uint8)


def shots(taken: int) -> dict[str, Any]:
    """Return the messages of the cameras of a picture that each took at a time of the host's clock [ns]."""
    wrist = Image(height=12, width=16, encoding="rgb8", step=48, data=scene(taken, 12, 16).tobytes())
    file = cv2.imencode(".png", scene(taken, 20, 20))[1].tobytes()
    front = CompressedImage(format="rgb8; png compressed ", data=file)
    wrist.header.stamp, front.header.stamp = to_time(taken + round(AHEAD * 1e9)), to_time(taken)
    return {"wrist": wrist, "front": front}


class SeeingRun(Run):
    """A run whose pictures come late: one that was taken before a tick comes after it."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy.manifest)
        self.controller = Controller(policy, self.settings)
        self.loop = TickLoop(self.controller, self, TickStatistics(0.05))
        self.assembler = ObservationAssembler(policy.manifest.observation, 0.05, cameras=policy.manifest.cameras)
        self.taken: list[int] = []
        self.look()

    def slow(self) -> bool:
        """Whether a camera of half the rate of the ticks takes a picture now."""
        return (self.stamp - self.START) % (2 * self.PERIOD) == 0

    def look(self) -> None:
        """Let the pictures come that were taken a little before now."""
        taken = self.stamp - LATE
        self.taken.append(taken)
        for name, message in shots(taken).items():
            self.hear(f"/{SEEING[name].topic}", message)
            self.assembler.update(SEEING[name].topic, taken, received(message))

    def tick(self, *angles: float, publish: bool = True) -> None:
        message = joints(self.stamp, *angles)
        message.name = ["shoulder", "elbow"]
        self.hear("/joint_states", message)
        self.assembler.update("joint_states", self.stamp, received(message))
        self.loop.handle(Tick(self.assembler.assemble(self.stamp)))
        self.look()
        self.stamp += self.PERIOD


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "seeing"
    return write_camera_bundle(folder, SEEING, {"near": None, "far": 5})


@pytest.fixture(scope="module")
def policy(bundle: Path) -> Policy:
    return Policy.load(bundle)


@pytest.fixture
def run(policy: Policy) -> SeeingRun:
    run = SeeingRun(policy)
    run.ticks(6)
    assert len(run.commands) == 6
    return run


def test_a_run_is_replayed_to_the_bit_with_the_pictures_that_the_node_saw(
    tmp_path: Path, policy: Policy, run: SeeingRun
) -> None:
    """Not with those that had been taken by then: some were still on their way."""
    recording = record_run(tmp_path / "run.mcap", run)
    found = replay(recording, policy, policy.manifest.observation).record()
    assert (found["ticks"], found["identical"], found["not_replayed"]) == (6, 6, {})


def test_a_picture_that_is_not_in_the_recording_is_told_and_its_tick_is_not_replayed(
    tmp_path: Path, policy: Policy, run: SeeingRun
) -> None:
    messages = list(run.messages)
    pictures = [message for message in messages if message.topic == "/wrist/image_raw"]
    messages.remove(pictures[2])  # which the third tick saw
    found = replay(record_run(tmp_path / "run.mcap", run, messages), policy, policy.manifest.observation).record()
    (reason,) = [text for text in found["not_replayed"] if "camera wrist" in text]
    assert reason.endswith("camera wrist: the picture that the node saw is not on topic wrist/image_raw")
    # The tick after it goes on with its chunk, and those after that with another last command, for the rate limit.
    assert (found["identical"], sum(found["not_replayed"].values())) == (2, 2)


def test_what_was_seen_becomes_rows_of_a_data_set(tmp_path: Path, bundle: Path, run: SeeingRun) -> None:
    record_run(tmp_path / "run.mcap", run)
    out = tmp_path / "data.npz"
    command = ["dataset", "from-bag", str(tmp_path / "run.mcap"), "--bundle", str(bundle), "--out", str(out)]
    assert main([*command, "--every-episode-succeeds"]) == 0
    with np.load(out) as data:
        rows = len(data["actions"])
        assert rows == 7  # and one that closes the trajectory
        assert {name: data[f"images/{name}"].shape for name in SEEING} == {
            "wrist": (rows, 6, 8, 3),
            "front": (rows, 8, 8, 3),
        }
        for row, taken in enumerate(run.taken[:6]):
            wrist = seen(scene(taken, 12, 16), SEEING["wrist"])
            front = seen(scene(taken, 20, 20)[..., ::-1], SEEING["front"])
            np.testing.assert_array_equal(data["images/wrist"][row], wrist)
            np.testing.assert_array_equal(data["images/front"][row], front)
        assert data["images/wrist"].dtype == np.uint8


def test_where_times_of_arrival_tell_it_counts_for_nothing_what_the_clock_of_a_camera_is_ahead(
    tmp_path: Path, bundle: Path, policy: Policy
) -> None:
    """As where commands have no stamp: a picture arrives by the clock of the host."""
    run, size = SeeingRun(policy), len(policy.manifest.action)
    messages = []
    for row in range(5):
        now, measured = 9 * 10**9 + row * run.PERIOD, joints(run.START, 0.1 * row, 0.0)
        measured.name = ["shoulder", "elbow"]
        told = {"/joint_states": measured}
        told |= {f"/{SEEING[name].topic}": message for name, message in shots(run.START + row).items()}
        told["/leader"] = Float64MultiArray(data=[0.01 * row] * size)
        messages += [as_recorded(topic, one, now + 10**6 * at) for at, (topic, one) in enumerate(told.items())]
    record_run(tmp_path / "run.mcap", run, messages)
    words = "--bundle", bundle, "--command", "/leader", "--out", tmp_path / "data.npz"
    assert from_bag(tmp_path / "run.mcap", *words) == 0
    with np.load(tmp_path / "data.npz") as data:
        for row in range(5):
            wrist = seen(scene(run.START + row, 12, 16), SEEING["wrist"])
            np.testing.assert_array_equal(data["images/wrist"][row], wrist)


def from_bag(*words: object) -> int:
    return main(["dataset", "from-bag", *map(str, words), "--every-episode-succeeds"])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The camera of each picture that is decoded from now on."""
    names: list[str] = []
    decode = decoding.decode

    def counted(name: str, *rest: Any) -> Any:
        names.append(name)
        return decode(name, *rest)

    monkeypatch.setattr(newest_pictures, "decode", counted)
    return names


def test_however_long_a_recording_is_few_of_its_pictures_are_in_memory_and_each_is_decoded_once(
    tmp_path: Path, bundle: Path, policy: Policy, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SeeingRun(policy)
    run.ticks(40)
    record_run(tmp_path / "run.mcap", run)
    monkeypatch.setattr(picture_reel, "MOST_KEPT", 3000)  # four pictures, about
    monkeypatch.setattr(picture_reel, "LEAST_KEPT", 2)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = {"messages": 0, "pictures": 0}
    keep, to_picture = picture_reel.PictureReel._keep, readings.to_picture

    def kept(self: Any, recorded: Any) -> None:
        keep(self, recorded)
        most["messages"] = max(most["messages"], sum(map(len, self._kept.values())))

    def made(recorded: Any) -> Any:
        picture = to_picture(recorded)
        alive.add(picture)
        most["pictures"] = max(most["pictures"], len(alive))
        return picture

    monkeypatch.setattr(picture_reel.PictureReel, "_keep", kept)
    monkeypatch.setattr(readings, "to_picture", made)
    decoded.clear()
    assert from_bag(tmp_path / "run.mcap", "--bundle", bundle, "--out", tmp_path / "data.npz") == 0
    assert 2 <= most["messages"] <= 6
    assert most["pictures"] <= 4  # of each camera the one that is seen, and the one before that it is compared with
    assert sorted(decoded) == ["front"] * 39 + ["wrist"] * 39  # the first two ticks see the same


def test_a_picture_that_several_rows_see_is_decoded_once(
    tmp_path: Path, bundle: Path, policy: Policy, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SeeingRun, "look", lambda self, look=SeeingRun.look: look(self) if self.slow() else None)
    run = SeeingRun(policy)
    run.ticks(6)
    record_run(tmp_path / "run.mcap", run)
    decoded.clear()
    assert from_bag(tmp_path / "run.mcap", "--bundle", bundle, "--out", tmp_path / "data.npz") == 0
    with np.load(tmp_path / "data.npz") as data:
        assert len(data["images/front"]) == 7
    assert decoded.count("front") == decoded.count("wrist") == len(set(run.taken)) == 3


@pytest.fixture
def three(tmp_path: Path, policy: Policy) -> list[Path]:
    """Three recordings, of which each has pictures of its own."""
    paths = []
    for number in range(3):
        run = SeeingRun(policy)
        run.stamp += number * 10**9
        run.look()
        run.ticks(4)
        paths.append(record_run(tmp_path / f"run{number}.mcap", run).path)
    return paths


def untimed(said: str) -> str:
    """Return what was said without how long it took."""
    return re.sub(r"\d+:\d\d:\d\d", "", said)


def interrupted_at(rows: int) -> Callable[..., int]:
    """Return `PictureRows.append` that is interrupted by Ctrl-C after so many rows."""
    append, left = PictureRows.append, [rows]

    def some(self: PictureRows, images: Any) -> int:
        if not left[0]:
            signal.raise_signal(signal.SIGINT)
        left[0] -= 1
        return append(self, images)

    return some


def test_after_ctrl_c_the_same_command_goes_on_with_the_recordings_that_are_left(
    tmp_path: Path,
    bundle: Path,
    three: list[Path],
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, whole = tmp_path / "data.npz", tmp_path / "whole.npz"
    partial = tmp_path / "data.npz.partial"
    decoded.clear()
    assert from_bag(*three, "--bundle", bundle, "--out", whole) == 0
    each = len(decoded) // 3
    said = capsys.readouterr().out
    with monkeypatch.context() as patched:
        patched.setattr(PictureRows, "append", interrupted_at(5))
        assert from_bag(*three, "--bundle", bundle, "--out", out) == 130
    assert f"1 of 3 recordings are kept in {partial}, the same command goes on from there" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not out.exists() and len(list(partial.iterdir())) == 1
    decoded.clear()
    assert from_bag(*three, "--bundle", bundle, "--out", out) == 0
    assert len(decoded) == 2 * each
    assert not partial.exists() and sorted(tmp_path.glob(".*")) == []
    assert untimed(capsys.readouterr().out) == untimed(said.replace("whole.npz", "data.npz"))
    with np.load(out) as resumed, np.load(whole) as once:
        assert resumed.files == once.files
        assert all(np.array_equal(resumed[name], once[name]) for name in once.files)


def test_what_is_kept_of_other_recordings_or_another_conversion_is_not_gone_on_with(
    tmp_path: Path, bundle: Path, three: list[Path], decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data.npz"
    with monkeypatch.context() as patched:
        patched.setattr(PictureRows, "append", interrupted_at(9))
        assert from_bag(*three, "--bundle", bundle, "--out", out) == 130
    others = out.with_name("data.npz.partial") / "recipe.json"  # as an interrupted `qgf generate` leaves
    others.touch()
    three[0].write_bytes(three[0].read_bytes() + b"more")  # whose rows were kept, as those of the second
    decoded.clear()
    assert from_bag(*three[:2], "--bundle", bundle, "--out", out) == 0
    anew = len(decoded)
    with monkeypatch.context() as patched:
        patched.setattr(PictureRows, "append", interrupted_at(9))
        assert from_bag(*three, "--bundle", bundle, "--out", out, "--force") == 130
    decoded.clear()
    (tmp_path / "robot.yaml").write_text("alignment: nearest\n")
    words = "--bundle", bundle, "--contract", tmp_path / "robot.yaml", "--out", out, "--force"
    assert from_bag(*three[:2], *words) == 0
    assert (anew, len(decoded)) == (6, 12)
    assert list(others.parent.iterdir()) == [others]


def test_demonstrations_are_aligned_as_the_robot_will_be_before_there_is_a_bundle(
    tmp_path: Path, bundle: Path, three: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    robot, contract, rows = tmp_path / "robot.yaml", tmp_path / "contract.json", {}
    told = json.loads((bundle / "manifest.json").read_text())
    ways = {"with": ("--bundle", bundle, "--contract", robot), "without": ("--contract", contract)}
    for alignment in ("latest", "nearest"):
        robot.write_text(f"alignment: {alignment}\n")
        contract.write_text(json.dumps({**told, "alignment": alignment}))
        for way, words in ways.items():
            out = tmp_path / f"{alignment}-{way}.npz"
            assert from_bag(three[0], *words, "--out", out) == 0
            rows[alignment, way] = np.load(out)["observations"]
        np.testing.assert_array_equal(rows[alignment, "with"], rows[alignment, "without"])
    assert not np.array_equal(rows["latest", "with"], rows["nearest", "with"])
    contract.write_text(json.dumps({**told, "alignment": "newest"}))
    assert from_bag(three[0], "--contract", contract, "--out", tmp_path / "more.npz") == 2
    assert "alignment 'newest' was given, expected latest or nearest" in " ".join(capsys.readouterr().err.split())


def test_a_part_that_a_power_cut_left_empty_is_none(tmp_path: Path) -> None:
    file = tmp_path / "run.mcap"
    file.touch()
    recording: Any = SimpleNamespace(path=file, files=[file])
    parts = Parts(tmp_path / "data.npz.partial", Source((), (), 20.0), {})
    parts._path(recording).mkdir(parents=True)
    (parts._path(recording) / "rows.npz").touch()
    assert parts.find(recording) is None


def test_a_full_disk_is_one_sentence_and_only_what_is_finished_stays(
    tmp_path: Path,
    bundle: Path,
    three: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, partial = tmp_path / "data.npz", tmp_path / "data.npz.partial"
    before = sorted(tmp_path.iterdir())

    class Full(bytearray):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    full = PictureRows._begun
    monkeypatch.setattr(PictureRows, "_begun", lambda self, name: Full())
    assert from_bag(*three, "--bundle", bundle, "--out", out) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot be written (No space left on device); choose another --out, or free some space" in said
    assert "kept" not in said and sorted(tmp_path.iterdir()) == before
    begun = iter([full] * 4 + [lambda self, name: Full()] * 2)
    monkeypatch.setattr(PictureRows, "_begun", lambda self, name: next(begun)(self, name))
    assert from_bag(*three, "--bundle", bundle, "--out", out) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith(f"2 of 3 recordings are kept in {partial}, the same command goes on from there")
    assert sorted(tmp_path.iterdir()) == sorted([*before, partial])


def test_stamps_of_pictures_are_read_as_they_are_written() -> None:
    stamps = {"wrist": 1_700_000_000_000_000_000, "front-2": 0}
    assert stamps_of(stamps_text(stamps)) == stamps
    assert stamps_of("") == stamps_of("nonsense") == {}
