"""The targets find their numbers in a benchmark, and say so where they are not there."""

from __future__ import annotations

import math
from typing import Any

import pytest

from qgf_ros.analysis.targets import TARGETS, fastest


def result(network: str, n: int, backend: str, p50: float, precision: str = "fp32", **ratios: float) -> dict[str, Any]:
    return {
        "network": network,
        "method": "qgf",
        "candidates": n,
        "backend": backend,
        "precision": precision,
        "latency_ms": {"p50": p50, "p99": 1.1 * p50},
        "floor": {"multiple": p50 / 4.0},
        "ratios": ratios,
    }


RESULTS = [
    result("4x1024", 1, "reference", 20.0, jax=1.6, torch=0.4),
    result("4x1024", 1, "fused", 10.0, jax=0.8, torch=0.15),
    result("4x1024", 1, "fused", 5.0, "int8", jax=0.39, torch=0.1),
    result("4x1024", 1, "jax", 12.5),
    result("4x1024", 16, "fused", 30.0, jax=0.45, torch=0.18),
    result("4x512", 1, "fused", 2.5, jax=0.9, torch=0.14),
    result("4x512", 16, "fused", 50.0, jax=0.9, torch=0.14),
]


def measured(results: list[dict[str, Any]]) -> list[float]:
    return [target.measure(results) for target in TARGETS]


def test_the_fastest_of_our_own_backends_counts() -> None:
    found = fastest(RESULTS, network="4x1024", candidates=1)
    assert found is not None
    assert found["precision"] == "int8"
    assert fastest(RESULTS, network="4x1024", candidates=4) is None


def test_every_target_by_hand() -> None:
    assert measured(RESULTS) == pytest.approx(
        [
            0.8,  # fp32 of the fast path
            0.39,  # int8
            math.nan,  # no int8 at 4x512
            0.45,
            0.18,  # the worst setting: 4x1024, N 16
            1.1,
            5.0 / 4.0,  # the worst of N 1, each at its fastest
            20.0,  # 4x512, from 2.5 to 50 ms
        ],
        nan_ok=True,
    )


def test_without_peers_no_ratio_is_measured() -> None:
    alone = [{**r, "ratios": {}} for r in RESULTS]
    assert [math.isnan(value) for value in measured(alone)] == [True] * 5 + [False] * 3
