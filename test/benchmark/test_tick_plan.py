"""A plan says which backends time which methods, and refuses what it does not know."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.analysis.compute import Case
from qgf_ros.benchmark.tick_plan import TickPlan
from qgf_ros.errors import GuidanceError


def test_the_fast_path_has_no_other_methods_than_its_own() -> None:
    assert TickPlan().variants(Case("qgf", 1)) == [("reference", "fp32"), ("fused", "fp32")]
    assert TickPlan().variants(Case("bptt", 1)) == [("reference", "fp32")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("qfg",)}, "methods: 'qfg' was given; expected some of bc, qgf"),
        ({"methods": ()}, "methods: 'nothing' was given"),
        ({"backends": ("tensorflow",)}, "expected some of reference, fused, torch, torch.compile, jax"),
        ({"precisions": ("fp4",)}, "expected some of fp32, int8"),
        ({"candidates": (1, 0)}, "candidates: 0 was given"),
        ({"threads": 0}, "threads: 0 was given"),
    ],
)
def test_a_plan_of_nothing_known_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GuidanceError, match=message):
        TickPlan(**options)
