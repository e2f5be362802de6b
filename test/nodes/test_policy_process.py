"""The policy node as a process of its own: how it ends, and what it says of arguments it cannot take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from peer import DOMAIN, STEP, TIMEOUT, Peer  # noqa: E402

from qgf_ros.bundle.fields import ObservationField  # noqa: E402
from qgf_ros.bundle.store import load_manifest  # noqa: E402
from qgf_ros.control.extraction import JointReading, PoseReading, Reading, WrenchReading  # noqa: E402


def readings_for(fields: Sequence[ObservationField]) -> dict[str, Reading]:
    """Return readings of zeros that fit a contract of joints, poses and wrenches."""
    made: dict[str, Reading] = {}
    for field in fields:
        if field.extraction.startswith("joint_"):
            names = tuple(name for other in fields if other.topic == field.topic for name in other.joints)
            made[field.topic] = JointReading(names, np.zeros(len(names)), np.zeros(len(names)), np.empty(0))
        elif "Pose" in field.message_type:
            made[field.topic] = PoseReading(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
        else:
            made[field.topic] = WrenchReading(np.zeros(3), np.zeros(3))
    return made


def process_environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(DOMAIN),
        "ROS_LOG_DIR": str(folder),
        "ROS_HOME": str(folder),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }


# One handler serves all, and the stand-ins of test/faults end their nodes with SIGTERM.
@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGHUP))],
)
def test_a_process_told_to_end_holds_the_robot_and_ends_cleanly(
    peer: Peer, tiny_bundle: Path, tmp_path: Path, number: int
) -> None:
    fields = load_manifest(tiny_bundle).observation
    values = {"bundle": tiny_bundle, "trigger": "observation"}
    values |= dict.fromkeys(("autostart", "use_sim_time", "enable_motion"), "true")
    arguments = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
    log = tmp_path / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "qgf_ros.nodes.policy_node", "--ros-args", *arguments],
            env=process_environment(tmp_path),
            stderr=stderr,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # ignored where the tests run under nohup
        )
    try:
        peer.connect(fields)
        peer.answer(STEP, readings_for(fields))
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 0
        assert list(peer.held(STEP)[-1].position) == [0.0] * 5
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def test_the_process_refuses_a_negative_weight_in_one_sentence(tmp_path: Path) -> None:
    arguments = ["--ros-args", "-p", "guidance_weight:=-1.0"]
    process = subprocess.run(
        [sys.executable, "-m", "qgf_ros.nodes.policy_node", *arguments],
        env=process_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr == "policy_node: guidance_weight -1.0 was given; it must be at least 0\n"
    assert "Traceback" not in process.stderr
