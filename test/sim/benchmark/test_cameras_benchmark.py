"""What cameras cost is measured with pictures that a node takes, and once whole with all its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the loop needs the ros extra or a ROS 2 installation")
pytest.importorskip("cv2", reason="pictures need the camera extra")
pytest.importorskip("torch", reason="random bundles need the train extra")
pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.benchmark.random_bundle import NetworkShape, write_seeing_bundle
from qgf_ros.bundle.cameras import COMPRESSED, CameraField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.vision.pictures import refusal
from qgf_ros.errors import SimulationError
from qgf_ros.nodes.messages import received
from qgf_sim.benchmark import picture_costs
from qgf_sim.benchmark.stand_in import camera_messages
from qgf_sim.benchmark.transports import TRANSPORTS, Transport, measure_transport

SMALL: dict[str, Any] = {"width": 64, "height": 48, "size": (12, 16)}
TWO = {
    "wrist": CameraField(topic="wrist/compressed", type=COMPRESSED, **SMALL),
    "front": CameraField(topic="front/compressed", type=COMPRESSED, **SMALL),
}
SHAPE = NetworkShape(layers=1, width=8, observation=3, action=2, horizon=2, steps=3)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("benchmark") / "seeing"
    return folder, write_seeing_bundle(folder, TWO, SHAPE, rate=30.0)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
@pytest.mark.parametrize("kind", ["sensor_msgs/msg/Image", COMPRESSED])
def test_a_stand_in_sends_pictures_that_the_contract_takes_each_unlike_the_one_before(kind: str, encoding: str) -> None:
    camera = CameraField(topic="c", type=kind, encoding=encoding, frame_id="optical", **SMALL)
    sent = [received(message) for message in camera_messages({"c": camera})["c"]]
    assert [refusal("c", camera, picture) for picture in sent] == [None] * len(sent)
    assert len({picture.data.tobytes() for picture in sent}) == len(sent) > 1


def test_pictures_become_features_decoded_in_full_and_reduced(seeing: tuple[Path, Manifest]) -> None:
    for way in ("full", "reduced"):
        found = picture_costs.measure_pictures(*seeing, way, frames=10)
        assert 0.0 < found["decode_ms"]["p50"] <= found["ms"]["p50"] <= found["ms"]["p99"]
        assert found["pictures"] == 2


def test_an_encoder_is_called_once_an_inference_whatever_the_steps_and_candidates(
    seeing: tuple[Path, Manifest],
) -> None:
    found = picture_costs.count_calls(seeing[0])
    assert found["calls"] == {"policy": found["inferences"]}
    assert (found["denoising_steps"], found["candidates"]) == (3, 4)


@pytest.mark.parametrize("changes", [{"rate": 0}, {"frames": 0}, {"rounds": 0}, {"minutes": 0.0}, {"threads": 0}])
def test_a_plan_of_nothing_of_cameras_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SimulationError, match=f"{next(iter(changes))} .* above 0"):
        picture_costs.CamerasPlan(**changes)


def test_a_middleware_that_is_not_installed_is_left_out() -> None:
    assert Transport("here").there
    assert not Transport("nowhere", package="rmw_of_nobody").there
    assert len({transport.name for transport in TRANSPORTS}) == len(TRANSPORTS)


@pytest.mark.slow
def test_memory_and_transport_are_measured(seeing: tuple[Path, Manifest], tmp_path: Path) -> None:
    notes: list[str] = []
    plan = picture_costs.CamerasPlan(minutes=0.05)
    found = picture_costs.watch_node(*seeing, plan, tmp_path, notes.append)
    assert len(found["resident_mb"]) == len(notes) == plan.readings == 10
    assert found["start_mb"] > 10.0
    assert found["answered"] > 0
    assert np.isfinite(found["slope_mb_per_minute"])
    (jpeg,) = (one for one in TRANSPORTS if one.name == "JPEG, best effort")
    sent = measure_transport(jpeg, 1.0)
    assert sent["sent"] > 0
    assert 0.0 < sent["share"] <= 1.0
    assert sent["age_ms"]["p50"] > 0.0
