"""What the tick should achieve, and whether a benchmark shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: One record of `benchmark.measure`.
Result = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A number that should not be exceeded.

    Attributes:
        name: What is measured.
        limit: Largest value that meets it.
        measure: Takes it from the results of a benchmark; nan where they do not show it.
    """

    name: str
    limit: float
    measure: Callable[[Sequence[Result]], float]


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
    return math.nan if found is None else float(found["ratios"].get(peer, math.nan))


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


def _growth(results: Sequence[Result]) -> float:
    pairs = [
        [fastest(results, network=network, method="qgf", candidates=n) for n in (1, 16)]
        for network in dict.fromkeys(result["network"] for result in results)
    ]
    grown = [b["latency_ms"]["p50"] / a["latency_ms"]["p50"] for a, b in pairs if a is not None and b is not None]
    return max(grown, default=math.nan)


#: Ratios are of median latencies, for chunks of 5 actions; of several backends and precisions the fastest counts.
TARGETS = (
    Target(
        "4x1024, N 1, fp32: over the jitted JAX sampler",
        1.0,
        lambda results: _ratio(results, "jax", network="4x1024", candidates=1, precision="fp32"),
    ),
    Target(
        "4x1024, N 1, int8: over the jitted JAX sampler",
        0.4,
        lambda results: _ratio(results, "jax", network="4x1024", candidates=1, precision="int8"),
    ),
    Target(
        "4x512, N 1, int8: over the jitted JAX sampler",
        0.6,
        lambda results: _ratio(results, "jax", network="4x512", candidates=1, precision="int8"),
    ),
    Target(
        "4x1024, N 16: over the jitted JAX sampler",
        0.5,
        lambda results: _ratio(results, "jax", network="4x1024", candidates=16),
    ),
    Target(
        "every setting: over torch eager",
        0.2,
        lambda results: _worst(results, lambda result: float(result["ratios"].get("torch", math.nan))),
    ),
    Target(
        "every setting: p99 over p50",
        1.3,
        lambda results: _worst(results, lambda result: result["latency_ms"]["p99"] / result["latency_ms"]["p50"]),
    ),
    Target(
        "N 1: over the memory-traffic floor",
        2.0,
        lambda results: _worst(results, lambda result: float(result["floor"]["multiple"]), candidates=1),
    ),
    Target("N 16 over N 1", 16.0, _growth),
)
