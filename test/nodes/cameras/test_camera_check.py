"""`qgf contract check` of a bundle that sees: the verdict on each camera, and its picture for a person to look at."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="listening to topics needs the ros extra or a ROS 2 installation")
pytest.importorskip("onnx", reason="building encoders needs onnx")
cv2 = pytest.importorskip("cv2", reason="pictures need the camera extra")

from camera_bundles import CAMERAS, camera_files, camera_manifest  # noqa: E402
from rclpy.context import Context  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image, JointState  # noqa: E402

from qgf_ros.bundle.cameras import IMAGE  # noqa: E402
from qgf_ros.bundle.store import reference_picture_file, write_bundle  # noqa: E402
from qgf_ros.control.vision.pictures import CompressedReading, ImageReading  # noqa: E402
from qgf_ros.control.vision.pixels import seen  # noqa: E402
from qgf_ros.nodes.cameras.camera_check import delivered, judge_camera, write_pictures  # noqa: E402
from qgf_ros.nodes.contract_check import Heard  # noqa: E402
from qgf_ros.nodes.messages import to_time  # noqa: E402
from qgf_sim.processes import reserve_domain  # noqa: E402

WRIST = CAMERAS["wrist"]


def scene(height: int = 12, width: int = 16) -> Any:
    ramp = np.linspace(0, 250, width, dtype=np.uint8)[None].repeat(height, axis=0)
    return np.dstack([ramp, 250 - ramp, np.full_like(ramp, 30)])


def heard(**changes: Any) -> Heard:
    values = {"types": (IMAGE,), "arrivals": [0.0, 0.1, 0.2], "ages": [0.01] * 3, "picture": ImageReading.of(scene())}
    return Heard(**{**values, **changes})


def test_a_camera_that_is_served_has_no_complaint_and_is_seen_as_the_policy_would_see_it() -> None:
    complaint, pixels = judge_camera("wrist", WRIST, heard(), 0.3)
    assert complaint is None
    np.testing.assert_array_equal(pixels, seen(scene(), WRIST))


@pytest.mark.parametrize(
    ("changes", "complaint", "visible"),
    [
        ({"types": (), "arrivals": [], "ages": [], "picture": None}, "nobody publishes wrist/image_raw", False),
        ({"types": ("sensor_msgs/msg/CompressedImage",)}, "wrist/image_raw carries sensor_msgs/msg/Comp", False),
        ({"picture": None}, "wrist/image_raw has a publisher, but nothing was heard", False),
        (
            {"publishers": ("/driver", "/bag")},
            "wrist/image_raw is published by /driver and /bag, and only 1 may",
            False,
        ),
        ({"picture": ImageReading.of(scene(24, 32))}, "topic wrist/image_raw gives 32 x 24 pixels", False),
        ({"picture": ImageReading.of(scene(), "bgr8")}, "topic wrist/image_raw gives bgr8, expected rgb8", False),
        ({"ages": [0.5] * 3}, "stamps are old by 0.500 s on arrival, at most 0.2 s allowed", True),
        ({"arrivals": [0.0, 0.9, 1.0]}, "nothing for 0.900 s at a time", True),
    ],
)
def test_what_is_wrong_with_a_camera_is_said(changes: dict[str, Any], complaint: str, visible: bool) -> None:
    said, pixels = judge_camera("wrist", WRIST, heard(**changes), 1.1 if "arrivals" in changes else 0.3)
    assert str(said).startswith(complaint)
    assert (pixels is not None) is visible


def test_a_picture_that_is_black_is_a_complaint() -> None:
    dark = heard(picture=ImageReading.of(np.zeros((12, 16, 3), dtype=np.uint8)))
    said, pixels = judge_camera("wrist", WRIST.model_copy(update={"brightness": (5.0, 250.0)}), dark, 0.3)
    assert str(said).startswith("topic wrist/image_raw is black")
    assert pixels is None


def test_what_a_camera_gives_is_words_a_terminal_can_show() -> None:
    assert delivered(None) == ("-", "-")
    assert delivered(ImageReading.of(scene(), frame_id="optical")) == ("16 x 12, rgb8", "optical")
    assert "\x1b" not in delivered(ImageReading.of(scene(), "\x1b[2J"))[0]
    jpeg = cv2.imencode(".jpg", scene())[1].reshape(-1)
    assert delivered(CompressedReading("jpeg", jpeg))[0] == "16 x 12, 1 KiB, jpeg"
    assert delivered(CompressedReading("png", jpeg[2:]))[0] == "no picture, 1 KiB, png"


def test_pictures_are_written_beside_what_was_seen_in_training(tmp_path: Path) -> None:
    now = seen(scene(), WRIST)
    before = np.ascontiguousarray(255 - now)
    known = cv2.imencode(".png", np.ascontiguousarray(before[..., ::-1]))[1].tobytes()
    other = cv2.imencode(".png", np.zeros((3, 3, 3), np.uint8))[1].tobytes()
    files = {reference_picture_file("wrist"): known, reference_picture_file("rear"): other}
    paths = write_pictures(tmp_path / "new", {"wrist": now, "front": now, "rear": now}, files)
    assert [path.name for path in paths] == ["wrist.png", "front.png", "rear.png"]
    pictures = [cv2.imread(str(path))[..., ::-1] for path in paths]
    np.testing.assert_array_equal(pictures[0][:, :8], before)
    np.testing.assert_array_equal(pictures[0][:, -8:], now)
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, now)


@pytest.mark.parametrize("known", [b"", b"no picture", "huge", "cut short", "hollow"])
def test_a_picture_of_a_bundle_that_is_none_is_left_out_unread(
    known: bytes | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = seen(scene(), WRIST)
    png = cv2.imencode(".png", now)[1].tobytes()
    decoded = []
    imdecode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *given: decoded.append(given) or imdecode(*given))
    wrong = {"huge": png[:16] + b"\0\0\x75\x30" * 2 + png[24:], "cut short": png[:33], "hollow": png[:33] + png[-12:]}
    files = {reference_picture_file("wrist"): known if isinstance(known, bytes) else wrong[known]}
    (path,) = write_pictures(tmp_path, {"wrist": now}, files)
    assert bool(decoded) is (known == "hollow"), "which only decoding tells"
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], now)


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A robot that sees, in a graph of its own; the value is its environment."""
    variables = {
        "ROS_DOMAIN_ID": str(reserve_domain()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(tmp_path),
        "COLUMNS": "220",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    context = Context()
    rclpy.init(context=context, domain_id=int(variables["ROS_DOMAIN_ID"]))
    node = rclpy.create_node("robot", context=context)
    wrist, front = (
        node.create_publisher(kind, CAMERAS[name].topic, 1)
        for name, kind in (("wrist", Image), ("front", CompressedImage))
    )
    joints = node.create_publisher(JointState, "joint_states", 1)
    stop = threading.Event()

    def publish() -> None:
        jpeg = cv2.imencode(".jpg", np.ascontiguousarray(scene(20, 20)[..., ::-1]))[1].tobytes()
        while not stop.wait(0.03):
            messages = [
                Image(height=12, width=16, encoding="rgb8", step=48, data=scene().tobytes()),
                CompressedImage(format="jpeg", data=jpeg),
                JointState(name=["shoulder", "elbow"], position=[0.1, 0.2]),
            ]
            for publisher, message in zip((wrist, front, joints), messages):
                message.header.stamp = to_time(node.get_clock().now().nanoseconds)
                message.header.frame_id = "optical"
                publisher.publish(message)

    thread = threading.Thread(target=publish)
    thread.start()
    yield variables
    stop.set()
    thread.join()
    node.destroy_node()
    context.try_shutdown()


def test_the_command_judges_cameras_and_writes_what_they_see(tmp_path: Path, robot: dict[str, str]) -> None:
    lasting = {name: camera.model_copy(update={"max_age": 5.0}) for name, camera in CAMERAS.items()}
    manifest = camera_manifest(lasting)
    angle = manifest.observation[0].model_copy(update={"max_age": 5.0})
    manifest = manifest.model_copy(update={"observation": (angle,)})
    write_bundle(tmp_path / "seeing", manifest, camera_files(lasting, 2, {"near": None}))
    folder = tmp_path / "pictures"
    command = [sys.executable, "-m", "qgf_ros.cli", "contract", "check", "--bundle", str(tmp_path / "seeing")]
    command += ["--duration", "1.5", "--pictures", str(folder)]
    for _ in range(5):  # a check that ends before the two have discovered each other says so, and is asked again
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **robot})
        if "nobody publishes" not in done.stdout:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if "image_raw" in line]
    assert "16 x 12, rgb8" in rows[0]
    assert "20 x 20, 1 KiB, jpeg" in rows[1]
    assert all("optical" in row and "ok" in row for row in rows)
    np.testing.assert_array_equal(cv2.imread(str(folder / "wrist.png"))[..., ::-1], seen(scene(), WRIST))
    assert cv2.imread(str(folder / "front.png")).shape == (8, 8, 3)
