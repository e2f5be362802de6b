"""A run of a policy that sees: recorded as it came, replayed to the bit, and made a data set of what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")
pytest.importorskip("onnx", reason="building encoders needs onnx")
cv2 = pytest.importorskip("cv2", reason="pictures need the camera extra")

from camera_bundles import CAMERAS, write_camera_bundle  # noqa: E402
from recorded_runs import Run, joints, record_run  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from qgf_ros.cli import main  # noqa: E402
from qgf_ros.control.controller import Controller  # noqa: E402
from qgf_ros.control.observation import ObservationAssembler  # noqa: E402
from qgf_ros.control.vision.pictures import stamps_of, stamps_text  # noqa: E402
from qgf_ros.control.vision.pixels import seen  # noqa: E402
from qgf_ros.loop.tick_loop import Tick, TickLoop  # noqa: E402
from qgf_ros.loop.tick_statistics import TickStatistics  # noqa: E402
from qgf_ros.nodes.messages import received, to_time  # noqa: E402
from qgf_ros.recording.replay import replay  # noqa: E402
from qgf_ros.runtime.policy import Policy  # noqa: E402

#: The clock of the wrist's camera is ahead by so much [s], and pictures come so long after they were taken [ns].
AHEAD, LATE = 0.25, 10_000_000
SEEING = {**CAMERAS, "wrist": CAMERAS["wrist"].model_copy(update={"clock_offset": AHEAD})}


def scene(stamp: int, height: int, width: int) -> Any:
    return np.random.default_rng(stamp % 2**32).integers(0, 256, (height, width, 3), dtype=np.uint8)


class SeeingRun(Run):
    """A run whose pictures come late: one that was taken before a tick comes after it."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy.manifest)
        self.controller = Controller(policy, self.settings)
        self.loop = TickLoop(self.controller, self, TickStatistics(0.05))
        self.assembler = ObservationAssembler(policy.manifest.observation, 0.05, cameras=policy.manifest.cameras)
        self.taken: list[int] = []
        self.look()

    def look(self) -> None:
        """Let the pictures come that were taken a little before now."""
        taken = self.stamp - LATE
        self.taken.append(taken)
        wrist = Image(height=12, width=16, encoding="rgb8", step=48, data=scene(taken, 12, 16).tobytes())
        jpeg = cv2.imencode(".png", scene(taken, 20, 20))[1].tobytes()
        front = CompressedImage(format="rgb8; png compressed ", data=jpeg)
        for name, message, ahead in (("wrist", wrist, round(AHEAD * 1e9)), ("front", front, 0)):
            message.header.stamp = to_time(taken + ahead)
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


def test_stamps_of_pictures_are_read_as_they_are_written() -> None:
    stamps = {"wrist": 1_700_000_000_000_000_000, "front-2": 0}
    assert stamps_of(stamps_text(stamps)) == stamps
    assert stamps_of("") == stamps_of("nonsense") == {}
