"""A node that sees, over DDS: what it commands is what the same pictures lead to in process, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")
pytest.importorskip("onnx", reason="building encoders needs onnx")
cv2 = pytest.importorskip("cv2", reason="pictures need the camera extra")

from camera_bundles import write_camera_bundle  # noqa: E402
from peer import STEP, Peer  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from qgf_ros.control.controller import Controller  # noqa: E402
from qgf_ros.control.extraction import JointReading  # noqa: E402
from qgf_ros.control.observation import ObservationAssembler  # noqa: E402
from qgf_ros.control.run_options import RunOptions  # noqa: E402
from qgf_ros.control.vision.pictures import CompressedReading, ImageReading  # noqa: E402
from qgf_ros.nodes.messages import to_time  # noqa: E402
from qgf_ros.nodes.policy_node import load_policy  # noqa: E402
from qgf_ros.runtime.policy import Policy  # noqa: E402

JPEG = "rgb8; jpeg compressed bgr8"


@pytest.mark.parametrize(("critic", "encoders"), [("near", 1), ("far", 2)])
def test_commands_over_dds_are_those_in_process_to_the_bit_and_each_encoder_runs_once(
    start: Callable[..., Any], peer: Peer, tmp_path: Path, critic: str, encoders: int
) -> None:
    bundle = write_camera_bundle(tmp_path / "seeing", critics={"near": None, "far": 5})
    policy = Policy.load(bundle)
    manifest = policy.manifest
    chosen = {"critic": critic, "guidance_weight": 0.3, "seed": 3}
    start(
        **{"loader": load_policy, "bundle": str(bundle), "use_sim_time": True, "observation_reliability": "reliable"},
        use_recommended_weight=False,
        **chosen,
    )
    peer.activate(manifest.observation)
    cameras = {
        manifest.cameras[name].topic: peer.node.create_publisher(kind, manifest.cameras[name].topic, 1)
        for name, kind in (("wrist", Image), ("front", CompressedImage))
    }
    peer.until(lambda: all(publisher.get_subscription_count() for publisher in cameras.values()))
    wrist, front = cameras.values()
    controller = Controller(policy, RunOptions(**chosen))
    assembler = ObservationAssembler(manifest.observation, 1.0 / manifest.control_rate, cameras=manifest.cameras)
    random, sent = np.random.default_rng(0), set()
    for stamp in range(STEP, 6 * STEP, STEP):
        pixels = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        file = cv2.imencode(".jpg", random.integers(0, 256, (20, 20, 3), dtype=np.uint8))[1].reshape(-1)
        joints = JointReading(("shoulder", "elbow"), random.standard_normal(2), np.empty(0), np.empty(0))
        image = Image(encoding="rgb8", width=16, height=12, step=48, data=pixels.tobytes())
        compressed = CompressedImage(format=JPEG, data=file.tobytes())
        image.header.stamp = compressed.header.stamp = to_time(stamp)
        wrist.publish(image)
        front.publish(compressed)
        command = peer.answer(stamp, {"joint_states": joints})
        for topic, reading in zip(
            ("joint_states", *cameras), (joints, ImageReading.of(pixels), CompressedReading(JPEG, file))
        ):
            assembler.update(topic, stamp, reading)
        here = controller.tick(assembler.assemble(stamp))
        assert np.array(command.position).tobytes() == here.values.tobytes()
        assert here.telemetry["encoder_runs"] == encoders
        told = peer.wait(lambda stamp=stamp: peer.telemetry_for(stamp))
        assert float(peer.values(told)["encoder_runs"]) == encoders
        sent.add(here.values.tobytes())
    assert len(sent) == 5
