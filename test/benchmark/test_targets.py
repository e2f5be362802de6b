"""The targets find their numbers in a benchmark, and say so where they are not there."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from qgf_ros.benchmark.targets import BENCHMARKS, CAMERAS, GROWTH, NODE, TICK, TRAINING, fastest

MAKEFILE = Path(__file__).parents[2] / "Makefile"


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
    return [target.measure({"results": results}) for target in TICK]


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
            10.0 / 4.0,  # the worst of N 1 in fp32
            20.0,  # 4x512, from 2.5 to 50 ms
        ],
        nan_ok=True,
    )


def test_without_peers_no_ratio_is_measured() -> None:
    alone = [{**r, "ratios": {}} for r in RESULTS]
    assert [math.isnan(value) for value in measured(alone)] == [True] * 5 + [False] * 3


def test_the_node_is_taken_at_its_rate_and_without_a_neighbour() -> None:
    def answer(subject: str, rate: int, neighbour: bool, p50: float) -> dict[str, Any]:
        overhead = {"p50": p50, "p99": 2.0 * p50}
        times = {"overhead_ms": overhead, "processor_seconds_per_minute": 0.1 * rate}
        return {"subject": subject, "rate": rate, "neighbour": neighbour, **times}

    results = [answer("echo", 50, False, 0.3), answer("node", 50, True, 3.0), answer("node", 50, False, 0.9)]
    assert [target.measure({"results": results}) for target in NODE] == pytest.approx([0.9, 1.8, math.nan], nan_ok=True)
    results.append(answer("node", 20, False, 0.8))
    assert NODE[2].measure({"results": results}) == pytest.approx(2.0 / 60.0)


def test_the_worst_network_counts_and_a_missing_one_is_no_success() -> None:
    (target,) = TRAINING
    trainer = [{"backend": "torch", "ratio": ratio} for ratio in (0.9, 1.2)]
    assert target.measure({"results": [*trainer, {"backend": "torch.compile", "ratio": 2.0}]}) == 1.2
    assert math.isnan(target.measure({"results": [*trainer, {"backend": "torch", "ratio": None}]}))
    assert math.isnan(target.measure({"results": []}))


def test_growth_is_taken_from_every_network() -> None:
    def grown(deviation: float, share: float, memory: float | None) -> dict[str, Any]:
        gained = {"ticks": 1_000_000, "growth_mb": memory}
        return {"steps": {"deviation": deviation}, "candidates": {"share": share}, "memory": gained}

    results = [grown(0.02, 0.3, 0.1), grown(0.05, 0.2, 0.4)]
    assert [target.measure({"results": results}) for target in GROWTH] == [0.05, 0.3, 0.4]
    assert math.isnan(GROWTH[2].measure({"results": [*results, grown(0.0, 0.1, None)]}))
    results[0]["memory"]["ticks"] = 20_000  # of which a million cannot be told
    assert math.isnan(GROWTH[2].measure({"results": results}))


def test_what_cameras_cost_is_taken_at_20_hz_over_long_enough_and_of_the_encoder_that_runs_most_often() -> None:
    answer = {"subject": "node", "rate": 20, "neighbour": False, "answer_ms": {"p50": 9.0, "p99": 30.0}}
    numbers: dict[str, Any] = {
        "pictures": {"full": {"ms": {"p50": 3.5}}},
        "loop": [answer],
        "memory": {"minutes": 10.0, "start_mb": 180.0, "end_mb": 180.5},
        "calls": {"inferences": 20, "calls": {"policy": 20, "near": 40}},
    }
    assert [target.measure(numbers) for target in CAMERAS] == [3.5, 9.0, 30.0, 0.5, 2.0]
    short = {**numbers, "memory": {**numbers["memory"], "minutes": 1.0}, "loop": [{**answer, "rate": 30}]}
    assert [math.isnan(target.measure(short)) for target in CAMERAS] == [False, True, True, True, False]


def test_every_benchmark_has_targets_and_the_command_that_shows_them() -> None:
    for kind, benchmark in BENCHMARKS.items():
        assert benchmark.targets
        name = "tick" if kind == "benchmark" else kind
        assert benchmark.command.split()[:3] == ["qgf", "benchmark", name]


def test_make_bench_measures_every_target() -> None:
    (recipe,) = re.findall(r"^bench:.*\n((?:\t.*\n)+)", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE)
    *commands, last = [line.removeprefix("\t$(BIN)/") for line in recipe.splitlines()]
    assert last == "qgf benchmark targets"  # when all has been measured
    told = [command.removesuffix(" $(ARGS)") for command in commands]
    assert told == [benchmark.command for benchmark in BENCHMARKS.values()]
