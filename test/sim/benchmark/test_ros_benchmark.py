"""The loop over DDS, measured: a stand-in for the robot, the node and the floor as processes of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the loop needs the ros extra or a ROS 2 installation")
pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.benchmark.ros_latency import Setting
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.messages.message_types import DETECTIONS, TRANSFORMS
from qgf_ros.control.extraction import instant
from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.control.vision.pictures import refusal
from qgf_ros.errors import SimulationError
from qgf_ros.nodes.messages import received
from qgf_sim.benchmark.processor import processor_time
from qgf_sim.benchmark.ros import RosPlan, measure
from qgf_sim.benchmark.stand_in import PICTURES, StandIn, camera_messages, still_messages, still_readings


def field(name: str, kind: str, extraction: str, size: int, **options: Any) -> ObservationField:
    return ObservationField(
        name=name, topic=kind.lower(), message_type=kind, extraction=extraction, size=size, unit="1", **options
    )


CONTRACT = (
    field("angle", "sensor_msgs/msg/JointState", "joint_position", 2, joints=("a", "b")),
    field("speed", "sensor_msgs/msg/JointState", "joint_velocity", 1, joints=("c",)),
    field("place", "geometry_msgs/msg/PoseStamped", "quaternion_xyzw", 4),
    field("twist", "geometry_msgs/msg/TwistStamped", "angular", 3),
    field("force", "geometry_msgs/msg/WrenchStamped", "force", 3),
    field("goal", "std_msgs/msg/Float64MultiArray", "data", 2, components=(1, 4)),
)


def test_a_robot_at_rest_serves_any_contract() -> None:
    assembler = ObservationAssembler(CONTRACT, 0.05)
    for topic, reading in still_readings(CONTRACT).items():
        assembler.update(topic, 0, reading)
    vector = assembler.assemble(0).vector
    assert np.flatnonzero(vector).tolist() == [6]  # w of the orientation


def test_answers_to_topics_without_a_stamp_could_not_be_told_apart() -> None:
    with pytest.raises(SimulationError, match="no stamp"):
        StandIn({}, CONTRACT, {})


def test_a_robot_at_rest_has_the_frames_of_its_contract_and_sees_nothing() -> None:
    imu = field("turn", "sensor_msgs/msg/Imu", "quaternion_xyzw", 4, frame_id="imu")
    near = field("near", "sensor_msgs/msg/Range", "range", 1)
    messages = still_messages((imu, near, *CONTRACT[:-1]))
    assert set(messages) == {one.topic for one in (imu, near, *CONTRACT[:-1])}
    assert instant(imu, received(messages[imu.topic])).tolist() == [0.0, 0.0, 0.0, 1.0]
    assert instant(near, received(messages[near.topic])).tolist() == [0.0]
    cup = field("cup", DETECTIONS, "position", 3, object_id="cup")
    tag = field("tag", TRANSFORMS, "position", 3, frame_id="base", child_frame_id="tag")
    for unseen, reason in ((cup, "sees nothing"), (tag, "no stamp")):
        unheard = unseen.model_copy(update={"topic": "unheard"})
        with pytest.raises(SimulationError, match=reason):
            still_messages((unheard,))


@pytest.mark.parametrize("changes", [{"rates": ()}, {"rates": (20, 0)}, {"rounds": 0}, {"ticks": 0}, {"threads": 0}])
def test_a_plan_of_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SimulationError, match=f"{next(iter(changes))} .* at least 1"):
        RosPlan(Path("x"), **changes)


def test_every_subject_is_asked_at_every_rate_with_and_without_a_neighbour() -> None:
    assert len(RosPlan(Path("x"), (20, 50), True).settings()) == 8
    assert RosPlan(Path("x"), (20,)).settings() == [Setting("node", 20, False), Setting("echo", 20, False)]


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="processor times are read from /proc")
def test_processor_time_grows_with_work() -> None:
    before = processor_time(os.getpid())
    sum(k * k for k in range(300_000))
    assert 0.0 < processor_time(os.getpid()) - before < 60.0


def children() -> set[str]:
    """Return the numbers of this process's children, the dead ones that nobody waited for included."""
    return {pid for thread in Path("/proc/self/task").iterdir() for pid in (thread / "children").read_text().split()}


@pytest.mark.parametrize("name", ["wrist", "front"])
def test_a_robot_without_a_body_sends_pictures_that_its_contract_allows_and_that_move(name: str) -> None:
    pytest.importorskip("cv2", reason="pictures need the camera extra")
    from camera_bundles import CAMERAS

    camera = CAMERAS[name].model_copy(update={"frame_id": f"{name}_optical"})
    pictures: list[Any] = [received(message) for message in camera_messages({name: camera})[camera.topic]]
    assert [refusal(name, camera, picture) for picture in pictures] == [None] * PICTURES
    assert len({picture.data.tobytes() for picture in pictures}) == PICTURES


@pytest.mark.slow
@pytest.mark.parametrize("sees", [False, True])
def test_node_and_echo_are_measured_and_leave_nothing_behind(tiny_bundle: Path, tmp_path: Path, sees: bool) -> None:
    if sees:
        pytest.importorskip("cv2", reason="pictures need the camera extra")
        from camera_bundles import write_camera_bundle

        tiny_bundle = write_camera_bundle(tmp_path / "seeing")
    before = children()  # of other tests in this process
    notes: list[str] = []
    numbers = measure(RosPlan(tiny_bundle, (10,), neighbour=True, rounds=1, ticks=3), notes.append)
    assert sorted(notes) == ["echo at 10 Hz answers", "node at 10 Hz answers", "timing"]
    results = {(result["subject"], result["neighbour"]): result for result in numbers["results"]}
    assert set(results) == {(subject, busy) for subject in ("node", "echo") for busy in (False, True)}
    for (subject, _), result in results.items():
        assert (result["ticks"], result["unanswered"]) == (3, 0)
        assert (result["inference_ms"]["p50"] > 0.0) == (subject == "node")
        assert 0.0 < result["overhead_ms"]["p50"] < result["round_trip_ms"]["max"]
        assert result["processor_seconds_per_minute"] > 0.0
    assert children() <= before
