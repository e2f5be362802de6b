"""Cameras that fail, on a running node: nothing is commanded from what they send, the node says why, and goes on by itself."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")
pytest.importorskip("onnx", reason="building encoders needs onnx")
cv2 = pytest.importorskip("cv2", reason="pictures need the camera extra")

from camera_bundles import write_camera_bundle  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from robot import SECOND, Distortion, Fault, Robot, changed, dies, freezes, shifted  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from qgf_ros.bundle.cameras import COMPRESSED, CameraField  # noqa: E402
from qgf_ros.nodes.messages import to_time  # noqa: E402

WIDTH, HEIGHT = 32, 24
WRIST, FRONT = "wrist/image_raw", "front/image_raw/compressed"
WATCHED: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "frozen_after": 0.2, "brightness": (5.0, 250.0)}
CAMERAS = {
    "wrist": CameraField(topic=WRIST, frame_id="wrist_optical", crop=(4, 0, 24, 24), size=(8, 8), **WATCHED),
    "front": CameraField(topic=FRONT, type=COMPRESSED, frame_id="front_optical", size=(6, 8), **WATCHED),
}


def scene(stamp: int) -> Any:
    """Return what there is to see at a time [ns]: something that moves, and the noise of a sensor."""
    random = np.random.default_rng(stamp % 2**32)
    pixels = random.integers(90, 110, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:, stamp // 10**7 % WIDTH] = 220
    return pixels


def packed(pixels: Any) -> bytes:
    return bytes(cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]))[1])


class SeeingRobot(Robot):
    """A robot of two joints and two cameras, one of which sends JPEG."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        super().__init__(write_camera_bundle(folder / "seeing", CAMERAS), folder)
        newest = QoSProfile(depth=1)
        cameras = {
            topic: self.node.create_publisher(kind, topic, newest)
            for topic, kind in ((WRIST, Image), (FRONT, CompressedImage))
        }
        with self._changed:
            self._publishers = {"joint_states": self._publishers["joint_states"], **cameras}

    def sound_message(self, topic: str, stamp: int) -> Any:
        if topic not in (WRIST, FRONT):
            return super().sound_message(topic, stamp)
        message: Any = (
            image(scene(stamp))
            if topic == WRIST
            else CompressedImage(format="rgb8; jpeg compressed bgr8", data=packed(scene(stamp)))
        )
        message.header.stamp = to_time(stamp)
        message.header.frame_id = topic.partition("/")[0] + "_optical"
        return message


def image(pixels: Any, encoding: str = "rgb8") -> Image:
    height, width = pixels.shape[:2]
    return Image(height=height, width=width, encoding=encoding, step=pixels.size // height, data=pixels.tobytes())


def becomes(picture: Callable[[], Any]) -> Distortion:
    """Under new stamps and the same frame it sends another picture."""

    def distort(message: Any, last: Any) -> list[Any]:
        other = picture()
        other.header = message.header
        return [other]

    return distort


def again(message: Any, last: Any) -> list[Any]:
    """The same picture under a new stamp."""
    message.data = last.data
    return [message]


def level(value: int) -> Distortion:
    """A picture of one brightness but for the noise of the sensor, without which the camera would be frozen, too."""
    random = np.random.default_rng(value)

    def noisy() -> Image:
        noise = random.integers(-1, 2, (HEIGHT, WIDTH, 3))
        return image(np.clip(value + noise, 0, 255).astype(np.uint8))

    return becomes(noisy)


def cut(message: Any, last: Any) -> list[Any]:
    message.data = message.data[: len(message.data) // 2]
    return [message]


LARGE = Image(encoding="rgb8", width=WIDTH, height=HEIGHT, step=3 * WIDTH, data=array("B", bytes(10**7)))


def large(message: Any, last: Any) -> list[Any]:
    """Four times a second 10 MB, which is what a machine may still carry; nothing else."""
    LARGE.header = message.header
    return [LARGE] if message.header.stamp.nanosec % (SECOND // 4) < SECOND // 20 else []


def hollow(message: Any, last: Any) -> list[Any]:
    """The head and the end of a JPEG are whole, and what lies between is lost; a comment differs from file to file."""
    data = bytes(message.data)
    comment = b"\xff\xfe\x00\x0a" + message.header.stamp.nanosec.to_bytes(8, "big")
    message.data = data[:2] + comment + data[2 : data.index(b"\xff\xda")] + b"\xff\xd9"
    return [message]


TO_WRIST, TO_FRONT = (WRIST,), (FRONT,)
#: A frame of 10 MB is refused for its size, comes seconds late, or is lost on the way and the camera is stale.
CAMERA_FAULTS = {
    "a camera dies": Fault(TO_WRIST, dies, "camera wrist: topic wrist/image_raw is stale"),
    "a camera repeats itself, stamp and all": Fault(TO_FRONT, freezes, f"camera front: topic {FRONT} is stale"),
    "a camera is frozen under new stamps": Fault(
        TO_WRIST, again, "camera wrist: topic wrist/image_raw is frozen, it sends the"
    ),
    "a camera is black": Fault(TO_WRIST, level(0), "camera wrist: topic wrist/image_raw is black, its mean is 0."),
    "a camera is overexposed": Fault(TO_WRIST, level(255), "camera wrist: topic wrist/image_raw is overexposed"),
    "a camera sends half a JPEG": Fault(
        TO_FRONT, cut, f"camera front: topic {FRONT} gives a picture that is cut short"
    ),
    "a camera sends a JPEG without a picture in it": Fault(
        TO_FRONT, hollow, f"camera front: topic {FRONT} gives a picture that cannot be decoded"
    ),
    "a camera sends text": Fault(
        TO_FRONT, changed(data=b"<html>"), f"camera front: topic {FRONT} gives no JPEG and no PNG"
    ),
    "a camera sends another encoding": Fault(
        TO_WRIST, changed(encoding="bgr8"), "topic wrist/image_raw gives bgr8, expected rgb8"
    ),
    "a camera sends the Bayer pattern": Fault(
        TO_WRIST,
        changed(encoding="bayer_rggb8", step=WIDTH, data=bytes(WIDTH * HEIGHT)),
        "gives bayer_rggb8, the raw pattern",
    ),
    "a camera sends another size": Fault(
        TO_WRIST,
        becomes(lambda: image(np.zeros((48, 64, 3), dtype=np.uint8))),
        "gives 64 x 48 pixels, the bundle was trained on 32 x 24",
    ),
    "a camera sends a frame of 10 MB": Fault(TO_WRIST, large, "topic wrist/image_raw"),
    "cameras are swapped": Fault(
        TO_WRIST, changed(header__frame_id="front_optical"), "comes from frame front_optical, expected wrist_optical"
    ),
    "a camera is 300 ms late": Fault(TO_WRIST, shifted(-0.3), "camera wrist: topic wrist/image_raw is stale"),
    "a camera's clock is 10 s ahead": Fault(TO_WRIST, shifted(10.0), "topic wrist/image_raw is stamped"),
}

#: Those that nothing tells but that there is no new picture any more.
TOLD_BY_AGE = {
    "a camera dies",
    "a camera repeats itself, stamp and all",
    "a camera is frozen under new stamps",
    "a camera sends a frame of 10 MB",
    "a camera is 300 ms late",
}


@pytest.fixture(scope="module", params=["timer", pytest.param("observation", marks=pytest.mark.slow)])
def running(request: pytest.FixtureRequest, make_robot: Callable[..., SeeingRobot]) -> SeeingRobot:
    """A robot that sees with a policy node, one for all tests of a trigger: each fault must be recovered from."""
    robot = make_robot(SeeingRobot)
    robot.start(trigger=request.param)
    return robot


@pytest.fixture
def robot(running: SeeingRobot) -> Iterator[SeeingRobot]:
    running.is_commanded()
    running.judge.wrong.clear()
    yield running
    assert running.judge.wrong == []


@pytest.mark.parametrize("name", CAMERA_FAULTS)
def test_a_camera_fault_is_a_hold_that_names_it_and_ends_by_itself(
    robot: SeeingRobot, name: str, on_page: Callable[..., None]
) -> None:
    fault = CAMERA_FAULTS[name]
    with robot.suffering(fault) as since:
        seconds = robot.is_safe(fault.reason, since)
    robot.is_commanded()
    on_page(seconds, row=name, column=f"safe after, `{robot.trigger}`")
    # A picture may be used until it is max_age old, or frozen; what only decoding tells comes with the next chunk.
    waits = robot.max_age if name in TOLD_BY_AGE else 0.0
    assert seconds < waits + 4 * robot.period + robot.load(since, since + seconds)


@pytest.fixture
def timed(robot: SeeingRobot) -> SeeingRobot:
    """A robot whose cameras may have stamps of their own."""
    if robot.trigger != "timer":
        pytest.skip("by observation a set is complete when every camera, too, has its stamp")
    return robot


def test_a_camera_that_is_100_ms_late_is_used_and_its_age_is_told(timed: SeeingRobot) -> None:
    robot = timed
    with robot.suffering(Fault(TO_WRIST, shifted(-0.1), "")):
        robot.goes_on(3)
        robot.is_commanded(10)
        robot.hears("commanding", level=0)
        assert float(robot.telemetry[-1]["frame_age_ms"]) > 99.0
        wrist, front = robot.figures["frame_ages"].split(", ")
    assert wrist.startswith("wrist 1")
    assert front.startswith("front ")
    assert float(robot.telemetry[-1]["decode_ms"]) > 0.0
    assert float(robot.telemetry[-1]["encode_ms"]) > 0.0


def test_a_camera_at_ten_times_the_rate_commands_no_faster_and_only_its_newest_picture_counts(
    timed: SeeingRobot,
) -> None:
    robot = timed

    def ten(message: Any, last: Any) -> list[Any]:
        stamp = message.header.stamp.sec * SECOND + message.header.stamp.nanosec
        stamps = [stamp + k * 1_000_000 for k in range(10)]
        for one in stamps:  # each is sound, and a command may be of any of them
            robot.judge.sent(one)
        return [robot.sound_message(WRIST, one) for one in stamps]

    with robot.suffering(Fault(TO_WRIST, ten, "")):
        robot.goes_on(3)
        heard = len(robot.commands)
        robot.until(lambda: len(robot.commands) >= heard + 20)
        stamps = [command.stamp for command in robot.commands[heard : heard + 20]]
        robot.hears("commanding", level=0)
    assert (stamps[-1] - stamps[0]) / SECOND > 0.8 * 19 * robot.period


def test_a_camera_that_was_swapped_at_the_start_is_never_commanded_from(make_robot: Callable[..., SeeingRobot]) -> None:
    robot = make_robot(SeeingRobot)
    robot.goes_on(1)
    fault = CAMERA_FAULTS["cameras are swapped"]
    with robot.suffering(fault):
        robot.start()
        robot.hears(fault.reason, level=1)
        assert robot.commands == []
    robot.is_commanded()
