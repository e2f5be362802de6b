"""What the package should achieve, and whether a benchmark shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What one run of a benchmark returns, as it is in its JSON.
Numbers = Mapping[str, Any]
#: One record of `benchmark.measure`.
Result = Mapping[str, Any]
#: Ticks over which memory should not grow.
MILLION = 1_000_000
#: Minutes for which two cameras should not make it grow.
LONG = 10.0


@dataclass(frozen=True)
class Target:
    """A number that should not be exceeded.

    Attributes:
        name: What is measured.
        limit: Largest value that meets it.
        measure: Takes it from what the benchmark of its kind returned; nan where that does not show it.
    """

    name: str
    limit: float
    measure: Callable[[Numbers], float]


def fastest(results: Sequence[Result], **wanted: Any) -> Result | None:
    """Return the record of least median latency among our own backends that has these values, or None."""
    ours = [
        result
        for result in results
        if result["backend"] in ("reference", "fused") and all(result[key] == value for key, value in wanted.items())
    ]
    return min(ours, key=lambda result: float(result["latency_ms"]["p50"]), default=None)


def _ratio(results: Sequence[Result], peer: str, **wanted: Any) -> float:
    found = fastest(results, method="qgf", **wanted)
    return math.nan if found is None else _number(found["ratios"].get(peer))


def _number(value: float | None) -> float:
    """Return a number of a JSON, in which null stands for nan."""
    return math.nan if value is None else float(value)


def _worst(results: Sequence[Result], measure: Callable[[Result], float], **wanted: Any) -> float:
    """Return the largest value over all settings, each at its fastest backend; nan where there is none."""
    settings = dict.fromkeys((result["network"], result["method"], result["candidates"]) for result in results)
    chosen = [
        fastest(results, **{"network": network, "method": method, "candidates": n, **wanted})
        for network, method, n in settings
        if wanted.get("candidates", n) == n
    ]
    values = [measure(result) for result in chosen if result is not None]
    return max((value for value in values if math.isfinite(value)), default=math.nan)


def _candidates(numbers: Numbers) -> float:
    """Return the largest growth of the latency from N = 1 to N = 16."""
    results = numbers["results"]
    pairs = [
        [fastest(results, network=network, method="qgf", candidates=n) for n in (1, 16)]
        for network in dict.fromkeys(result["network"] for result in results)
    ]
    grown = [b["latency_ms"]["p50"] / a["latency_ms"]["p50"] for a, b in pairs if a is not None and b is not None]
    return max(grown, default=math.nan)


def _node(numbers: Numbers, rate: int, measure: Callable[[Result], float]) -> float:
    """Return a number of the policy node at one rate, without a neighbour."""
    asked = {"subject": "node", "rate": rate, "neighbour": False}
    found = [result for result in numbers["results"] if all(result[key] == value for key, value in asked.items())]
    return _number(measure(found[0])) if found else math.nan


def _largest(values: Iterable[float | None]) -> float:
    """Return the largest value; nan where one is missing, or there is none."""
    known = [_number(value) for value in values]
    return max(known) if known and not any(math.isnan(value) for value in known) else math.nan


def _memory(numbers: Numbers) -> float:
    """Return the memory [MB] gained over at least `MILLION` ticks."""
    readings = [one["memory"] for one in numbers["results"]]
    return _largest(memory["growth_mb"] if memory["ticks"] >= MILLION else None for memory in readings)


#: Of the tick. Ratios are of median latencies, for chunks of 5 actions; of several backends and precisions the fastest
#: counts.
TICK = (
    Target(
        "4x1024, N 1, fp32: over the jitted JAX sampler",
        1.0,
        lambda numbers: _ratio(numbers["results"], "jax", network="4x1024", candidates=1, precision="fp32"),
    ),
    Target(
        "4x1024, N 1, int8: over the jitted JAX sampler",
        0.4,
        lambda numbers: _ratio(numbers["results"], "jax", network="4x1024", candidates=1, precision="int8"),
    ),
    Target(
        "4x512, N 1, int8: over the jitted JAX sampler",
        0.6,
        lambda numbers: _ratio(numbers["results"], "jax", network="4x512", candidates=1, precision="int8"),
    ),
    Target(
        "4x1024, N 16: over the jitted JAX sampler",
        0.5,
        lambda numbers: _ratio(numbers["results"], "jax", network="4x1024", candidates=16),
    ),
    Target(
        "every setting: over torch eager",
        0.2,
        lambda numbers: _worst(numbers["results"], lambda result: _number(result["ratios"].get("torch"))),
    ),
    Target(
        "every setting: p99 over p50",
        1.3,
        lambda numbers: _worst(
            numbers["results"], lambda result: result["latency_ms"]["p99"] / result["latency_ms"]["p50"]
        ),
    ),
    Target(
        "N 1, fp32: over the memory-traffic floor",
        2.0,
        lambda numbers: _worst(
            numbers["results"], lambda result: _number(result["floor"]["multiple"]), candidates=1, precision="fp32"
        ),
    ),
    Target("N 16 over N 1", 16.0, _candidates),
)
#: Of the node over DDS, without a busy neighbour.
NODE = (
    Target(
        "overhead at 50 Hz, without inference, p50 in ms",
        0.5,
        lambda numbers: _node(numbers, 50, lambda result: result["overhead_ms"]["p50"]),
    ),
    Target(
        "overhead at 50 Hz, without inference, p99 in ms",
        1.5,
        lambda numbers: _node(numbers, 50, lambda result: result["overhead_ms"]["p99"]),
    ),
    Target(
        "share of a core at 20 Hz",
        0.15,
        lambda numbers: _node(numbers, 20, lambda result: result["processor_seconds_per_minute"] / 60.0),
    ),
)
EVALUATION = (
    Target("what the policy adds to the bare environments", 0.3, lambda numbers: _number(numbers["policy_share"])),
)
TRAINING = (
    Target(
        "one update over the jitted JAX update",
        1.0,
        lambda numbers: _largest(one["ratio"] for one in numbers["results"] if one["backend"] == "torch"),
    ),
)
GROWTH = (
    Target(
        "latency against T: distance from a line",
        0.1,
        lambda numbers: _largest(one["steps"]["deviation"] for one in numbers["results"]),
    ),
    Target(
        "one of 16 candidates over one alone",
        1.0,
        lambda numbers: _largest(one["candidates"]["share"] for one in numbers["results"]),
    ),
    Target("memory gained over a million ticks, in MB", 1.0, _memory),
)
#: Of cameras: two JPEG of 640 x 480, and the tick of whatever bundle was asked.
CAMERAS = (
    Target(
        "two pictures decoded and encoded, full, p50 in ms",
        4.0,
        lambda numbers: _number(numbers["pictures"]["full"]["ms"]["p50"]),
    ),
    Target(
        "tick at 20 Hz, stamp to command, p50 in ms",
        12.0,
        lambda numbers: _node({"results": numbers["loop"]}, 20, lambda result: result["answer_ms"]["p50"]),
    ),
    Target(
        "tick at 20 Hz, stamp to command, p99 in ms",
        20.0,
        lambda numbers: _node({"results": numbers["loop"]}, 20, lambda result: result["answer_ms"]["p99"]),
    ),
    Target(
        "memory gained in 10 minutes, in MB",
        1.0,
        lambda numbers: (
            _number(numbers["memory"]["end_mb"]) - _number(numbers["memory"]["start_mb"])
            if numbers["memory"]["minutes"] >= LONG
            else math.nan
        ),
    ),
    Target(
        "calls of an encoder per inference",
        1.0,
        lambda numbers: max(numbers["calls"]["calls"].values()) / numbers["calls"]["inferences"],
    ),
)


@dataclass(frozen=True)
class Benchmark:
    """One kind of run of `qgf benchmark`.

    Attributes:
        title: What it is about.
        command: What measures its targets.
        targets: What it should show.
    """

    title: str
    command: str
    targets: tuple[Target, ...]


#: By the name of the JSON file that each of them writes.
BENCHMARKS: Mapping[str, Benchmark] = {
    "benchmark": Benchmark(
        "tick",
        "qgf benchmark tick --random 4x512,4x1024 --num-samples 1,16 --precisions fp32,int8 --peers",
        TICK,
    ),
    "ros": Benchmark("node over DDS", "qgf benchmark ros --threads 1 --executor events --rounds 10 --ticks 20", NODE),
    "evaluation": Benchmark("evaluation", "qgf benchmark evaluation --rounds 4", EVALUATION),
    "training": Benchmark("training", "qgf benchmark training --peers --rounds 10", TRAINING),
    "growth": Benchmark(
        "growth",
        "qgf benchmark growth --random 3x64 --denoising-steps 2 --threads 1 --growth-ticks 1000000",
        GROWTH,
    ),
    "cameras": Benchmark("cameras", "qgf benchmark cameras", CAMERAS),
}
