"""Observations of recorded readings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

from mcap_ros2.writer import Writer as MessageWriter
from std_msgs.msg import Float64MultiArray

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.errors import ObservationError, RecordingError
from qgf_ros.nodes.diagnostics import diagnostic_array
from qgf_ros.recording.epochs import Restart
from qgf_ros.recording.readings import observation_sources
from qgf_ros.recording.recorded_commands import TELEMETRY, commanded
from qgf_ros.recording.recorded_readings import by_topic
from qgf_ros.recording.recording import Recorded, Recording
from qgf_ros.recording.schemas import definition

Make = Callable[..., Any]


def test_a_goal_outlives_a_restart_of_the_clock_and_a_measurement_does_not(
    write: Make, as_received: Make, joint_message: Make, manifest_of: Make
) -> None:
    goal = ObservationField(
        name="goal",
        topic="goal",
        message_type="std_msgs/msg/Float64MultiArray",
        extraction="data",
        size=1,
        unit="1",
        max_age=None,
    )
    fields = (*manifest_of().observation, goal)
    path = write(
        as_received("/goal", Float64MultiArray(data=[3.0]), 1),
        as_received("/joint_states", joint_message(100, 0.1, 0.2), 10),
        as_received("/joint_states", joint_message(90, 0.5, 0.6), 30),
        as_received("/goal", Float64MultiArray(data=[4.0]), 50),
        as_received("/joint_states", joint_message(100, 0.7, 0.8), 60),
    )
    old, new = observation_sources(Recording.open(path), fields, 0.05, "latest", [Restart(15, 20, 40)])
    assert np.allclose(old.observe(100, 15).vector, [0.1, 0.2, 3.0])
    assert np.allclose(new.observe(95, 40).vector, [0.5, 0.6, 3.0])
    assert np.allclose(new.observe(100, 70).vector, [0.7, 0.8, 4.0])


def test_recorded_joints_in_several_messages_are_merged_as_the_node_merged_them(
    write: Make, as_received: Make, joint_message: Make, manifest_of: Make
) -> None:
    def part(stamp: int, which: int, value: float) -> Any:
        message = joint_message(stamp, 0.0, 0.0)
        message.name, message.position = [message.name[which]], [value]
        return as_received("/joint_states", message, stamp)

    path = write(part(10, 0, 0.1), part(12, 1, 0.2), part(20, 0, 0.3), part(22, 1, 0.4))
    (source,) = observation_sources(Recording.open(path), manifest_of().observation, 0.05)
    assert np.allclose(source.observe(12, 13).vector, [0.1, 0.2])
    assert np.allclose(source.observe(20, 21).vector, [0.3, 0.2])
    assert np.allclose(source.observe(22, 23).vector, [0.3, 0.4])


#: As a machine with these packages writes them; here they need not be installed.
TRANSFORMS = "geometry_msgs/TransformStamped[] transforms\n"
DETECTIONS = """std_msgs/Header header
vision_msgs/Detection3D[] detections
"""
PARTS = {
    "vision_msgs/Detection3D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nstring id\n",
    "vision_msgs/ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "vision_msgs/ObjectHypothesis": "string class_id\nfloat64 score\n",
}


def schema(text: str, of: str, parts: dict[str, str]) -> str:
    """Return a definition with those of its parts, and of all in an installed message."""
    rest = {**parts, of: definition(of.replace("/", "/msg/"))}
    return text + "".join(f"{'=' * 80}\nMSG: {name}\n{part}" for name, part in rest.items())


def transform(frame: str, child: str, stamp: int, x: float) -> dict[str, Any]:
    where = {"translation": {"x": x, "y": 0.0, "z": 0.0}, "rotation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}}
    return {"header": header(stamp, frame), "child_frame_id": child, "transform": where}


def header(stamp: int, frame: str) -> dict[str, Any]:
    return {"stamp": {"sec": stamp // 10**9, "nanosec": stamp % 10**9}, "frame_id": frame}


def detection(stamp: int, x: float) -> dict[str, Any]:
    pose = {"position": {"x": x, "y": 0.0, "z": 0.0}, "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}}
    result = {
        "hypothesis": {"class_id": "cup", "score": 0.9},
        "pose": {"pose": pose, "covariance": [0.0] * 36},
    }
    found = [{"header": header(stamp, ""), "results": [result], "id": "1"}] if x else []
    return {"header": header(stamp, "base"), "detections": found}


POSES = tuple(
    ObservationField(name=name, extraction="position", components=(0,), size=1, unit="m", **source)
    for name, source in {
        "tag": {
            "topic": "/tf",
            "message_type": "tf2_msgs/msg/TFMessage",
            "frame_id": "base",
            "child_frame_id": "tag",
        },
        "cup": {"topic": "/detections", "message_type": "vision_msgs/msg/Detection3DArray", "object_id": "cup"},
    }.items()
)


@pytest.fixture
def poses(tmp_path: Path) -> Path:
    """A recording of transforms and detections, whose clock is restarted once; static transforms come at its beginning."""
    path = tmp_path / "poses.mcap"
    with path.open("wb") as file:
        writer = MessageWriter(file)
        seen = schema(DETECTIONS, "geometry_msgs/PoseWithCovarianceStamped", PARTS)
        moved = schema(TRANSFORMS, "geometry_msgs/TransformStamped", {})
        kinds = {
            "/tf": writer.register_msgdef("tf2_msgs/msg/TFMessage", moved),
            "/detections": writer.register_msgdef("vision_msgs/msg/Detection3DArray", seen),
        }
        kinds["/tf_static"] = kinds["/tf"]
        for time, topic, message in (
            (10, "/tf_static", {"transforms": [transform("tool", "camera", 0, 0.5)]}),
            (100, "/tf", {"transforms": [transform("base", "tool", 100, 1.0), transform("map", "odom", 900, 9.0)]}),
            (101, "/tf", {"transforms": [transform("camera", "tag", 100, 0.25)]}),
            (102, "/detections", detection(100, 3.0)),
            (200, "/tf", {"transforms": [transform("base", "tool", 200, 2.0), transform("camera", "tag", 200, 0.25)]}),
            (202, "/detections", detection(200, 0.0)),
            (300, "/tf", {"transforms": [transform("base", "tool", 50, 4.0), transform("camera", "tag", 50, 0.25)]}),
            (301, "/detections", detection(50, 5.0)),
        ):
            writer.write_message(topic, kinds[topic], message, log_time=time, publish_time=time)
        writer.finish()
    return path


def test_poses_out_of_transforms_and_detections_are_those_that_the_node_had(poses: Path) -> None:
    old, new = observation_sources(Recording.open(poses), POSES, 0.05, "latest", [Restart(150, 250, 300)])
    with pytest.raises(ObservationError, match="nothing received yet on topic /tf from base to tag"):
        old.observe(100, 150)  # it is of that time, but it took a while until somebody had seen it
    assert old.observe(110, 150).vector.tolist() == [1.75, 3.0]
    with pytest.raises(ObservationError, match="field cup: topic /detections of cup has no detection of cup among 0"):
        old.observe(210, 250)
    assert new.observe(310, 350).vector.tolist() == [4.75, 5.0], "what never changes was said before the restart"


def test_detections_count_from_their_arrival_where_everything_does(poses: Path) -> None:
    """Where a command has no stamp, arrivals take the place of all stamps, and of that of each detection."""
    recording, (_, cup) = Recording.open(poses), POSES
    came = [replace(one, stamp=one.log_time) for one in by_topic(recording, ["/detections"])["/detections"]]
    (source,) = observation_sources(recording, [cup], 0.05, heard={"/detections": came})
    assert source.observe(301, 302).vector.tolist() == [5.0], (
        "its own stamp, 50, is of another clock, and older than the rest"
    )


def test_a_recording_needs_no_static_transforms_but_the_others(poses: Path, write: Make, as_received: Make) -> None:
    seen = (POSES[1].model_copy(update={"message_type": "nav_msgs/msg/Odometry", "object_id": None}),)
    with pytest.raises(
        RecordingError, match="/detections is recorded as vision_msgs/msg/Detection3DArray, and the contract"
    ):
        observation_sources(Recording.open(poses), seen, 0.05)
    empty = write(as_received("/goal", Float64MultiArray(data=[3.0]), 1))
    with pytest.raises(RecordingError, match="has no topic /tf, /detections; it has /goal"):
        observation_sources(Recording.open(empty), POSES, 0.05)


@pytest.mark.parametrize(
    "said",
    ["", "0.5", "null", "[1.0]", "[1.0, 2.0, 3.0]", "[[1.0, 2.0]]", '{"a": 1.0, "b": 2.0}', '["x", "y"]', "[1.0"],
)
def test_telemetry_that_does_not_say_what_was_commanded_is_one_sentence(said: str) -> None:
    figures = {"command": said, "motion": "1"}
    recorded = Recorded("/telemetry", TELEMETRY, 1, 1, diagnostic_array(1, "tick", "fake", 0, "", figures), True)
    with pytest.raises(
        RecordingError, match=r"/telemetry does not say what was commanded, expected 2 values as command"
    ):
        commanded(2, recorded)
