"""Calls of every method, derived by hand from the estimators' definitions; and the cost made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="counting operations needs the analysis extra")
pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.analysis.compute import (
    Calls,
    Case,
    cases,
    count_algorithm,
    count_node,
    measure_compute,
    primitive_flops,
)
from qgf_ros.analysis.inputs import Primitives, load_primitives
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.names import METHODS

T = 10
#: The rest of the flow after step k takes T - k - 1 velocities, and T - k vector-Jacobian products on the way back.
AHEAD, BACK = sum(T - k - 1 for k in range(T)), sum(T - k for k in range(T))


@pytest.fixture(scope="module")
def primitives(tiny_bundle: Path) -> Primitives:
    loaded = load_primitives(tiny_bundle, [2])
    assert loaded.manifest.denoising_steps == T
    return loaded


def noise(primitives: Primitives, candidates: int) -> np.ndarray:
    return np.zeros((candidates, primitives.manifest.chunk_size), dtype=np.float32)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("bc", Calls(velocity=T)),
        ("qgf", Calls(velocity=T, critic_gradient=T)),
        ("noisy", Calls(velocity=T, critic_gradient=T)),
        ("qgf_jacobian", Calls(velocity=T, vjp=T, critic_gradient=T)),
        ("qgf_chain", Calls(velocity=T + AHEAD, critic_gradient=T)),
        ("bptt", Calls(velocity=T + AHEAD, vjp=BACK, critic_gradient=T)),
        ("grad_step", Calls(velocity=T, critic_gradient=1)),
    ],
)
def test_calls_of_the_algorithm(primitives: Primitives, method: str, expected: Calls, n: int) -> None:
    rows = {name: n * count for name, count in vars(expected).items()}
    choosing = {"critic_value": n if n > 1 else 0}  # one value of each candidate
    assert count_algorithm(Case(method, n), primitives, noise(primitives, n)) == Calls(**{**rows, **choosing})


def test_the_node_adds_an_unguided_twin_and_the_value_of_the_action(primitives: Primitives) -> None:
    one = noise(primitives, 1)
    assert count_node(Case("qgf", 1), primitives, one) == Calls(velocity=2 * T, critic_value=1, critic_gradient=T)
    assert count_node(Case("bc", 1), primitives, one) == Calls(velocity=T)
    four = noise(primitives, 4)
    assert count_node(Case("bc", 4), primitives, four) == Calls(velocity=4 * T, critic_value=4)


def test_every_method_and_n_is_a_case() -> None:
    assert [(case.method, case.candidates) for case in cases((1, 16))] == [
        (method, n) for method in ("bc", *METHODS) for n in (1, 16)
    ]


def test_cost_is_calls_times_operations(tiny_bundle: Path, primitives: Primitives) -> None:
    rounds: list[None] = []
    measured = measure_compute(
        tiny_bundle, primitives, candidates=(1, 2), rounds=3, warm_up=1, progress=lambda: rounds.append(None)
    )
    assert len(rounds) == 4
    flops = primitive_flops(tiny_bundle, "task2")
    assert flops["vjp"].total > flops["velocity"].total > 0
    assert flops["critic_gradient"].total > flops["critic_value"].total > 0
    assert [(record["method"], record["candidates"]) for record in measured["cases"]] == [
        (case.method, case.candidates) for case in cases((1, 2))
    ]
    for record in measured["cases"]:
        for counted in (record["algorithm"], record["node"]):
            by_hand = sum(rows * sum(flops[name]) for name, rows in counted["calls"].items())
            assert counted["gflops"] == pytest.approx(by_hand / 1e9)
        assert 0.0 < record["latency_ms"]["p50"] <= record["latency_ms"]["p99"]


def test_no_rounds_are_refused(tiny_bundle: Path, primitives: Primitives) -> None:
    with pytest.raises(GuidanceError, match="rounds 0"):
        measure_compute(tiny_bundle, primitives, rounds=0)


@pytest.mark.parametrize(
    ("critic", "case", "encoder", "critic_encoder"),
    [
        ("near", Case("bc", 1), 1, 0),
        ("near", Case("qgf", 4), 1, 0),
        ("far", Case("bc", 1), 1, 0),
        ("far", Case("bc", 4), 1, 1),
        ("far", Case("qgf", 1), 1, 1),
    ],
)
def test_an_encoder_sees_an_observation_once_whatever_the_method(
    tmp_path: Path, critic: str, case: Case, encoder: int, critic_encoder: int
) -> None:
    from camera_bundles import write_camera_bundle

    bundle = write_camera_bundle(tmp_path / "seeing", critics={critic: None if critic == "near" else 5})
    loaded = load_primitives(bundle)
    flops = primitive_flops(bundle, critic)
    assert flops["encoder"].products > 0
    assert ("critic_encoder" in flops) == (critic == "far")
    for count in (count_algorithm, count_node):
        calls = count(case, loaded, noise(loaded, case.candidates))
        assert (calls.encoder, calls.critic_encoder) == (encoder, critic_encoder)
