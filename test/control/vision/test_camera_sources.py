"""Cameras of a robot contract: other topics, never other pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="building encoders needs onnx")

from camera_bundles import CAMERAS, camera_manifest

from qgf_ros.bundle.cameras import COMPRESSED, IMAGE
from qgf_ros.control.robot_contract import RobotContract, read_robot_contract, template
from qgf_ros.errors import ContractError

MANIFEST = camera_manifest()


def contract(**wrist: Any) -> RobotContract:
    return RobotContract.model_validate({"cameras": {"wrist": wrist}})


def test_without_a_word_a_camera_is_the_bundles() -> None:
    assert RobotContract().apply_to_cameras(MANIFEST) == CAMERAS


def test_topic_transport_age_and_guards_are_the_robots() -> None:
    said = {"topic": "/realsense/color", "encoding": "bgr8", "max_age": 0.1, "clock_offset": 0.02, "frozen_after": 0.5}
    served = contract(**said, brightness=[5, 250], frame_id="wrist_optical").apply_to_cameras(MANIFEST)
    assert served["front"] == CAMERAS["front"]
    expected = {**said, "brightness": (5.0, 250.0), "frame_id": "wrist_optical"}
    assert served["wrist"] == CAMERAS["wrist"].model_copy(update=expected)


def test_a_compressed_topic_is_called_as_image_transport_calls_it() -> None:
    assert contract(type=COMPRESSED).apply_to_cameras(MANIFEST)["wrist"].topic == "wrist/image_raw/compressed"
    named = contract(type=COMPRESSED, topic="/jpeg").apply_to_cameras(MANIFEST)["wrist"]
    assert (named.topic, named.type) == ("/jpeg", COMPRESSED)
    same = RobotContract.model_validate({"cameras": {"front": {"type": COMPRESSED}}}).apply_to_cameras(MANIFEST)
    assert same["front"].topic == CAMERAS["front"].topic
    raw = RobotContract.model_validate({"cameras": {"front": {"type": IMAGE}}}).apply_to_cameras(MANIFEST)
    assert (raw["front"].topic, raw["front"].type) == ("front/image_raw", IMAGE)


@pytest.mark.parametrize(
    ("cameras", "sentence"),
    [
        ({"rear": {}}, "camera rear is in the contract, but bundle seeing has wrist, front"),
        ({"wrist": {"encoding": "mono8"}}, "camera wrist: encoding mono8 was given, the bundle was trained on rgb8"),
        ({"wrist": {"topic": CAMERAS["front"].topic}}, "camera front and camera wrist share topic"),
        ({"wrist": {"topic": "joint_states"}}, "camera wrist and field angle share topic joint_states"),
        ({"wrist": {"topic": "bad topic"}}, "camera wrist of the contract does not fit the bundle: topic"),
        ({"wrist": {"brightness": [9, 2]}}, "must be .lowest, highest."),
    ],
)
def test_what_does_not_fit_is_refused(cameras: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence):
        RobotContract.model_validate({"cameras": cameras}).apply_to_cameras(MANIFEST)


def test_a_bundle_without_cameras_has_none_to_map() -> None:
    blind = MANIFEST.model_copy(update={"cameras": {}, "encoding": None})
    with pytest.raises(ContractError, match="camera wrist is in the contract, but bundle seeing has no cameras"):
        contract().apply_to_cameras(blind)


@pytest.mark.parametrize("key", ["width", "size", "crop", "interpolation"])
def test_what_the_policy_sees_is_not_the_robots_to_say(tmp_path: Path, key: str) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(f"cameras:\n  wrist:\n    {key}: 64\n")
    with pytest.raises(ContractError, match=rf"cameras.wrist.{key}: Extra inputs"):
        read_robot_contract(path)


def test_one_node_may_publish_a_camera_unless_the_contract_says_more() -> None:
    publishers = contract(allow_publishers=2).publishers(MANIFEST)
    assert publishers == {
        "joint_states": ("angle", 1),
        "wrist/image_raw": ("wrist", 2),
        "front/image_raw/compressed": ("front", 1),
    }


def test_the_template_of_a_contract_names_every_camera(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(template(MANIFEST))
    assert read_robot_contract(path).apply_to_cameras(MANIFEST) == CAMERAS
    assert "  wrist:  # Image, rgb8, 16 x 12 pixels\n    topic: wrist/image_raw\n" in path.read_text()
