"""The parameter `precision` on a real node."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")
pytest.importorskip("onnx", reason="the fast path needs onnx")

from lifecycle_msgs.msg import Transition
from peer import Peer

from qgf_ros.analysis.precision import compare_on_data, load_pair, record_evidence
from qgf_ros.bundle.store import load_manifest
from qgf_ros.nodes.policy_node import PolicyNode, load_policy


def test_int8_is_refused_until_it_was_measured_and_then_runs(
    start: Callable[..., PolicyNode], peer: Peer, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))
    start(loader=load_policy, bundle=str(bundle), precision="int8")
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    peer.hears("bundle tiny has no int8 variant; make and measure one with: qgf quantize tiny --precision int8")

    observations = np.random.default_rng(0).standard_normal((20, 28), dtype=np.float32)
    found = compare_on_data(load_pair(bundle, "int8", ["task1"]), "task1", 0.1, observations, 0)
    record_evidence(bundle, load_manifest(bundle), "int8", {"task1": found})
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    peer.wait(lambda: peer.values(peer.diagnostics[-1]).get("inference") == "fused int8")
