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

from qgf_ros.analysis.precision_cost import compare_on_data, load_pair, record_evidence
from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.nodes.policy_node import PolicyNode, load_policy
from qgf_ros.runtime.session import CPU


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


@pytest.mark.parametrize(("tolerance", "chosen"), [(1.0, "fused int8"), (0.0, "fused fp32")])
def test_auto_runs_int8_where_its_recorded_error_is_within_the_tolerance(
    tiny_bundle: Path, tmp_path: Path, tolerance: float, chosen: str
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))
    update_manifest(bundle, load_manifest(bundle).model_copy(update={"precision_tolerance": tolerance}))
    observations = np.random.default_rng(0).standard_normal((20, 28), dtype=np.float32)
    pair = load_pair(bundle, "int8", ["task1", "task2"])
    measured = {name: compare_on_data(pair, name, 0.1, observations, 0) for name in ("task1", "task2")}
    faster = {name: one.model_copy(update={"latency_ratio": 0.5}) for name, one in measured.items()}
    record_evidence(bundle, load_manifest(bundle), "int8", faster)
    policy = load_policy(bundle, (CPU,), 1, "auto")
    assert policy.backend("task1", "qgf") == chosen
