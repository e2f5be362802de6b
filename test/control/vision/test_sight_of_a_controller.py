"""Pictures among the readings: one observation with what the cameras see, decoded where a chunk is inferred."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2", reason="pictures need the camera extra")
pytest.importorskip("onnx", reason="building encoders needs onnx")

from camera_bundles import CAMERAS, camera_manifest, write_camera_bundle

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control import inference
from qgf_ros.control.controller import Controller
from qgf_ros.control.extraction import JointReading
from qgf_ros.control.inference import infer
from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.control.run_options import RunOptions
from qgf_ros.control.vision import newest_pictures
from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.errors import ObservationError
from qgf_ros.loop.degradation import Degradation, Fallback
from qgf_ros.runtime.policy import Policy

STEP = 50_000_000
RAW = {
    name: camera.model_copy(update={"type": "sensor_msgs/msg/Image", "topic": f"{name}/image_raw"})
    for name, camera in CAMERAS.items()
}
ARM = ("shoulder", "elbow")


def joints(position: float) -> JointReading:
    return JointReading(ARM, np.full(2, position), np.empty(0), np.empty(0))


def picture(name: str, level: int) -> ImageReading:
    camera = RAW[name]
    return ImageReading.of(np.full((camera.height, camera.width, 3), level, dtype=np.uint8))


def assembler_of(manifest: Manifest, **options: Any) -> ObservationAssembler:
    return ObservationAssembler(manifest.observation, 0.05, cameras=manifest.cameras, **options)


def fill(assembler: ObservationAssembler, stamp: int, level: int = 100) -> None:
    if "joint_states" in assembler.topics:
        assembler.update("joint_states", stamp, joints(0.1))
    for name in RAW:
        assembler.update(f"{name}/image_raw", stamp, picture(name, level))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return Policy.load(write_camera_bundle(tmp_path_factory.mktemp("bundles") / "seeing", RAW))


def test_an_observation_has_what_is_measured_and_what_is_seen() -> None:
    assembler = assembler_of(camera_manifest(RAW))
    assert assembler.live_topics == ("joint_states", "wrist/image_raw", "front/image_raw")
    fill(assembler, STEP)
    assert assembler.synchronised_stamp == STEP
    observation = assembler.assemble(STEP)
    np.testing.assert_allclose(observation.vector, [0.1, 0.1])
    assert observation.stamp == STEP
    assert observation.sight is not None
    assert {name: pixels.shape for name, pixels in observation.sight.images().items()} == {
        "wrist": (6, 8, 3),
        "front": (8, 8, 3),
    }


def test_a_policy_may_see_and_measure_nothing(tmp_path: Path) -> None:
    policy = Policy.load(write_camera_bundle(tmp_path / "seeing", RAW, state=False))
    assembler = assembler_of(policy.manifest)
    fill(assembler, STEP)
    controller = Controller(policy, RunOptions(0.1))
    command = controller.tick(assembler.assemble(STEP))
    assert (command.stamp, command.inferred) == (STEP, True)


def test_missing_stale_and_refused_pictures_are_no_observation() -> None:
    assembler = assembler_of(camera_manifest(RAW))
    assembler.update("joint_states", STEP, joints(0.1))
    with pytest.raises(ObservationError, match="camera wrist: nothing received yet on topic wrist/image_raw"):
        assembler.assemble(STEP)
    fill(assembler, STEP)
    assembler.update("joint_states", 6 * STEP, joints(0.1))
    with pytest.raises(ObservationError, match="camera wrist: topic wrist/image_raw is stale, 0.250 s old"):
        assembler.assemble(6 * STEP)
    fill(assembler, 6 * STEP)
    assembler.update("front/image_raw", 6 * STEP, picture("wrist", 3))
    with pytest.raises(ObservationError, match="camera front: topic front/image_raw gives 16 x 12 pixels"):
        assembler.assemble(6 * STEP)
    assembler.clear()
    with pytest.raises(ObservationError, match="field angle: nothing received yet"):
        assembler.assemble(6 * STEP)


def test_pictures_from_the_future_are_forgotten() -> None:
    assembler = assembler_of(camera_manifest(RAW))
    fill(assembler, STEP)
    assembler.update("wrist/image_raw", 100 * STEP, picture("wrist", 3))
    assert assembler.forget_future(STEP) == ["wrist/image_raw"]
    assembler.update("wrist/image_raw", STEP, picture("wrist", 3))
    assert assembler.assemble(STEP).sight is not None


def test_by_nearest_what_is_measured_is_that_of_the_instant_of_the_oldest_newest_picture() -> None:
    assembler = assembler_of(camera_manifest(RAW), alignment="nearest")
    for k in range(1, 5):
        assembler.update("joint_states", k * STEP, joints(k / 10.0))
    assembler.update("wrist/image_raw", 2 * STEP + STEP // 10, picture("wrist", 1))
    assembler.update("front/image_raw", 3 * STEP, picture("front", 1))
    observation = assembler.assemble(4 * STEP)
    np.testing.assert_allclose(observation.vector, [0.2, 0.2])
    assert observation.stamp == 4 * STEP


def test_a_picture_is_decoded_when_a_chunk_is_inferred_and_never_between(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    decode = newest_pictures.decode
    monkeypatch.setattr(newest_pictures, "decode", lambda *given: decoded.append(given[0]) or decode(*given))
    assembler, controller = assembler_of(policy.manifest), Controller(policy, RunOptions(0.1))
    counts = []
    for k in range(1, 5):  # two actions of a chunk are executed
        fill(assembler, k * STEP, level=20 * k)
        command = controller.tick(assembler.assemble(k * STEP))
        counts.append(len(decoded))
        assert command.telemetry["decode_ms"] > 0.0
        assert command.telemetry["frame_age_ms"] == 0.0
        assert command.telemetry["encode_ms"] > 0.0
    assert counts == [2, 2, 4, 4]


def test_decoding_counts_as_inference_so_that_slow_pictures_lead_to_less(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes a chunk late, be it network, encoder or JPEG, is met by degradation."""

    class Slow:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    clock, decode = Slow(), newest_pictures.decode

    def slowly(*given: Any) -> Any:
        clock.now += 0.3
        return decode(*given)

    monkeypatch.setattr(newest_pictures, "decode", slowly)
    monkeypatch.setattr(inference, "time", clock)
    assembler, controller = assembler_of(policy.manifest), Controller(policy, RunOptions(0.1))
    degradation = Degradation(0.05, policy.manifest.horizon, deadline=None)
    for k in range(1, 6, 2):
        fill(assembler, k * STEP)
        assert controller.tick(assembler.assemble(k * STEP)).inferred
        assert controller.inference.seconds == pytest.approx(0.6)
        assert degradation.note(controller.inference.seconds, controller.settings)
    assert degradation.fallback is Fallback.PLAIN_BC


def test_what_is_seen_decides_what_is_done_and_a_batch_is_its_rows(policy: Policy) -> None:
    requests = []
    for level in (10, 240):
        assembler, controller = assembler_of(policy.manifest), Controller(policy, RunOptions(0.1))
        fill(assembler, STEP, level)
        requests.append(controller.request(assembler.assemble(STEP)))
    np.testing.assert_array_equal(requests[0].noise, requests[1].noise)
    together = infer(policy, requests)
    assert not np.allclose(together[0].actions, together[1].actions)
    for request, chunk in zip(requests, together, strict=True):
        (alone,) = infer(policy, [request])
        np.testing.assert_allclose(alone.actions, chunk.actions, atol=1e-5)


def test_a_picture_that_cannot_be_decoded_ends_the_inference(policy: Policy) -> None:
    """Not before: whether what its message promises is inside, only decoding tells."""
    dark = {name: camera.model_copy(update={"brightness": (5.0, 250.0)}) for name, camera in RAW.items()}
    assembler = ObservationAssembler(policy.manifest.observation, 0.05, cameras=dark)
    controller = Controller(policy, RunOptions(0.1))
    fill(assembler, STEP, level=0)
    observation = assembler.assemble(STEP)
    with pytest.raises(ObservationError, match="camera wrist: topic wrist/image_raw is black"):
        controller.tick(observation)
    fill(assembler, 2 * STEP, level=50)
    assert controller.tick(assembler.assemble(2 * STEP)).inferred
