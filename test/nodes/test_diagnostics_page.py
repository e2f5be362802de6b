"""docs/diagnostics.md explains every number and every sentence of the policy node, and none that there is not."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.extraction import JointReading, PoseReading, Reading, WrenchReading
from qgf_ros.control.run_options import RunOptions

pytest.importorskip("rclpy", reason="the pipeline counts garbage collections with a module that needs rclpy")

from qgf_ros.loop.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "diagnostics.md").read_text(encoding="utf-8")
READINGS: dict[str, Reading] = {
    "joint_states": JointReading(("shoulder", "elbow"), np.zeros(2), np.empty(0), np.empty(0)),
    "effector_pose": PoseReading(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])),
    "wrench": WrenchReading(np.zeros(3), np.zeros(3)),
}

#: Where what is said to people while the node runs is written down, below qgf_ros.
SPEAKERS = (
    "control/controller.py",
    "control/extraction.py",
    "control/sensing/orientation.py",
    "control/sensing/topic_parts.py",
    "control/sensing/transform_tree.py",
    "control/vision/decoding.py",
    "control/vision/newest_pictures.py",
    "control/vision/pictures.py",
    "control/joint_merge.py",
    "control/observation.py",
    "control/limit_overrides.py",
    "control/safety.py",
    "control/motion/tracking.py",
    "loop/clocks.py",
    "loop/gate.py",
    "loop/health.py",
    "nodes/guards.py",
    "nodes/hold_services.py",
    "nodes/messages.py",
    "loop/intake.py",
    "loop/pipeline.py",
    "nodes/policy_node.py",
    "loop/readiness.py",
    "loop/realtime.py",
    "loop/supervision.py",
    "nodes/neighbours.py",
    "loop/tick_loop.py",
    "loop/watchdog.py",
)


def documented_keys(column: int) -> set[str]:
    """Keys of the table of numbers that have a mark in a column, 1 for /diagnostics and 2 for ~/telemetry."""
    table = PAGE.partition("## Numbers")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| `")
    ]
    return {key for row in rows if row[column] for key in re.findall(r"`(\w+)`", row[0])}


#: Said only of a bundle with cameras.
OF_CAMERAS = {"frame_ages", "frame_stamps", "frame_age_ms", "decode_ms", "encode_ms", "encoder_runs"}


def test_every_number_is_explained_and_there_is_no_other(
    policy: Any, manifest: Manifest, recorder: Any, tiny_policy: Any
) -> None:
    zeros = np.zeros((1, 1, tiny_policy.manifest.chunk_size), np.float32)
    observation = np.zeros((1, tiny_policy.manifest.observation_size), np.float32)
    (chunk,) = tiny_policy.act(observation, zeros, "task1", 0.1)
    act = policy.act  # which infers nothing, and now says of it what a real bundle says
    policy.act = lambda *args, **options: [replace(faked, telemetry=chunk.telemetry) for faked in act(*args, **options)]
    pipeline = Pipeline(
        policy, RunOptions(0.5, "near", execution_horizon=1), recorder, by_observation=True, simulated_time=False
    )
    pipeline.open()
    for topic, reading in READINGS.items():
        pipeline.receive(topic, 1, reading, 1)
    recorder.wait(lambda r: r.telemetry)
    pipeline.stop()
    assert set(pipeline.figures()) == documented_keys(1) - OF_CAMERAS
    assert set(recorder.telemetry[0]) == documented_keys(2) - OF_CAMERAS


def test_every_number_of_cameras_is_explained(recorder: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="building encoders needs onnx")
    pytest.importorskip("cv2", reason="pictures need the camera extra")
    from camera_bundles import CAMERAS, write_camera_bundle

    from qgf_ros.control.vision.pictures import ImageReading
    from qgf_ros.runtime.policy import Policy

    wrist = {"wrist": CAMERAS["wrist"]}
    policy = Policy.load(write_camera_bundle(tmp_path / "seeing", wrist))
    pipeline = Pipeline(policy, RunOptions(0.1, "near"), recorder, by_observation=True, simulated_time=False)
    pipeline.open()
    pipeline.receive("joint_states", 1, READINGS["joint_states"], 1)
    pipeline.receive("wrist/image_raw", 1, ImageReading.of(np.zeros((12, 16, 3), np.uint8)), 1)
    recorder.wait(lambda r: r.telemetry)
    pipeline.stop()
    assert set(pipeline.figures()) == documented_keys(1)
    assert pipeline.figures()["frame_ages"] == "wrist 0 ms"
    for cost in ("decode_ms", "encode_ms"):
        assert pipeline.figures()[cost] == recorder.telemetry[-1][cost] > 0.0
    assert set(recorder.telemetry[0]) == documented_keys(2)


#: What is only ever a part of another sentence, or of `configure failed: …`.
PARTS = {
    "allow it with memlock unlimited in /etc/security/limits.conf, or with CAP_IPC_LOCK",
    "allow it with rtprio in /etc/security/limits.conf, or with CAP_SYS_NICE",
    "braking in time",
    "cpu_affinity … was given; it must be cores and ranges of cores, such as 2,4-6",
    "executor … was given; it must be …",
    "longer than it lasts",
    "name cores that this machine has and lends",
    "the node is not configured; run configure first",
    "leave the topic out of driver_state",
    "serve the field by another type in the robot contract",
    " or max_rate, or bring lower and upper nearer to hold",
    ", or lower its max_rate",
    "… … from its command …",
    # Of commands that others read, and of readings that nobody publishes.
    "command names … with … values were given, expected one value for each of …",
    "command … holds a value that is not finite",
    "a … was given, and nobody publishes one",
    "…, or raise watchdog_timeout from … s",
}


def sentences(path: str, words: int) -> list[str]:
    """What a module says in so many words or more, with … for what it fills in; docstrings left out."""
    tree = ast.parse((ROOT / "qgf_ros" / path).read_text(encoding="utf-8"))
    skipped = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    skipped |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        if (
            id(node) not in skipped
            and " " in text
            and len(re.findall("[a-z]{2,}", text)) >= words
            and text not in PARTS
        ):
            found.append(text)
    return found


SAID = sorted({sentence for path in SPEAKERS for sentence in sentences(path, words=3)})
EXPLAINED = re.findall(r"^\| `([^`]*[a-z] [^`]*)` \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize("sentence", SAID)
def test_every_sentence_is_explained(sentence: str) -> None:
    assert [pattern for pattern in EXPLAINED if sentence.startswith(pattern)], "no row of docs/diagnostics.md begins it"


@pytest.mark.parametrize("pattern", EXPLAINED)
def test_every_explained_sentence_is_said(pattern: str) -> None:
    said = (sentence for path in SPEAKERS for sentence in sentences(path, words=1))
    assert [sentence for sentence in said if sentence.startswith(pattern)], "nothing in the code begins like this"
