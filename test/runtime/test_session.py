"""Sessions leave the machine alone between ticks."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.guidance.shaping import QGF, Guidance
from qgf_ros.runtime.policy import Policy

SHIPPED = Path(__file__).parents[2] / "models" / "cube-single"
TICKS, PAUSE = 10, 0.02


@pytest.mark.parametrize("guidance", [QGF, Guidance(estimator="noisy")], ids=["fused", "primitives"])
def test_no_thread_burns_a_core_between_ticks(guidance: Guidance) -> None:
    """As those of ONNX Runtime do by default, waiting for the next run."""
    policy = Policy.load(SHIPPED, threads=2)
    rng = np.random.default_rng(0)
    observation = rng.standard_normal((1, policy.manifest.observation_size), dtype=np.float32)
    noise = rng.standard_normal((1, 16, policy.manifest.chunk_size), dtype=np.float32)
    burnt = 0.0  # processor time of all threads
    for _ in range(TICKS):
        policy.act(observation, noise, "task1", 0.1, guidance)
        start = time.process_time()
        time.sleep(PAUSE)
        burnt += time.process_time() - start
    assert burnt < 0.2 * TICKS * PAUSE
