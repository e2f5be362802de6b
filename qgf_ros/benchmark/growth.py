"""How a tick grows: its latency with the denoising steps and the candidates, and its memory with the ticks."""

from __future__ import annotations

import copy
import gc
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qgf_ros.analysis.compute import Case
from qgf_ros.benchmark.latency import Act, Float, Schedule, draw_inputs, take_turns
from qgf_ros.benchmark.tick_plan import Subject, TickPlan, load_policy, sights_of, tick
from qgf_ros.control.controller import Controller
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import GuidanceError
from qgf_ros.reports.machine import LoadMeter, describe_machine
from qgf_ros.runtime.policy import Policy

if TYPE_CHECKING:
    from qgf_ros.control.vision.synthetic_pictures import SyntheticSights

SCHEMA = 1
METHOD = "qgf"
#: Readings of the memory in one run; the first tenth of them, in which caches fill, is left out.
READINGS = 100
_SETTLED = READINGS // 10


@dataclass(frozen=True)
class GrowthPlan:
    """What to measure.

    Attributes:
        steps: Values of T, for N = 1.
        candidates: Values of N, for the T of the bundle.
        ticks: Ticks over which the memory is watched, at least `READINGS`; N = 1.
        threads: Threads per operator.
        providers: ONNX Runtime execution providers, in order of preference.
        schedule: Rounds, ticks, inputs and seed of the latencies.
    """

    steps: tuple[int, ...] = (1, 2, 5, 10, 20, 40)
    candidates: tuple[int, ...] = (1, 2, 4, 8, 16)
    ticks: int = 20_000
    threads: int = 2
    providers: tuple[str, ...] = ("cpu",)
    schedule: Schedule = Schedule()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        if self.ticks < READINGS:
            raise GuidanceError(f"growth_ticks {self.ticks} was given; it must be at least {READINGS}")


def measure(
    networks: Mapping[str, Path], plan: GrowthPlan, progress: Callable[[str], None] = lambda note: None
) -> dict[str, Any]:
    """Measure how the tick of each bundle grows.

    Args:
        networks: Bundles by the name they have in the results.
        plan: What to measure.
        progress: Called after each round of latencies, and at each reading of the memory.

    Returns:
        ``machine``, ``load``, ``plan`` and ``results``, one for each network: ``steps`` and ``candidates`` (see `growth`),
        and ``memory`` (see `watch_memory`).

    Raises:
        BundleError: A bundle is missing or damaged.
        GuidanceError: A critic fails, or there is no fast path.
    """
    meter = LoadMeter()
    time.sleep(1.0)
    load = meter.cores()
    common = TickPlan(threads=plan.threads, providers=plan.providers)
    results = []
    for name, bundle in networks.items():
        subject = Subject.load(name, bundle, common)
        policy = load_policy(subject, "fused", "fp32", common)
        latencies = _latencies(subject, policy, plan, partial(progress, f"{name}: timing"))
        controller = controller_of(policy, subject)
        memory = watch_memory(controller, plan.ticks, plan.schedule, partial(progress, f"{name}: ticking"))
        results.append({"network": name, **latencies, "memory": memory})
    return {
        "schema": SCHEMA,
        "machine": describe_machine(plan.threads),
        "load": {"before": load},
        "plan": asdict(plan),
        "results": results,
    }


def _latencies(subject: Subject, policy: Policy, plan: GrowthPlan, progress: Callable[[], None]) -> dict[str, Any]:
    """Return ``steps`` and ``candidates``, all timed in the same rounds."""
    manifest = subject.manifest
    inputs = draw_inputs(plan.schedule, manifest.observation_size, max(plan.candidates), manifest.chunk_size)
    settings = [(steps, 1) for steps in plan.steps]
    settings += [(manifest.denoising_steps, n) for n in plan.candidates]
    settings = list(dict.fromkeys(settings))
    contenders = []
    for steps, candidates in settings:
        act = _act(policy, subject, steps, candidates)
        given = [(observation, noise[:candidates]) for observation, noise in inputs]
        act(*given[0])
        contenders.append((act, given))
    times = take_turns(contenders, plan.schedule, progress)
    medians = {setting: one.summary()["p50"] for setting, one in zip(settings, times)}
    return {
        "steps": growth(plan.steps, [medians[steps, 1] for steps in plan.steps]),
        "candidates": growth(plan.candidates, [medians[manifest.denoising_steps, n] for n in plan.candidates]),
    }


def _act(policy: Policy, subject: Subject, steps: int, candidates: int) -> Act:
    """Return the tick of a policy that takes another number of denoising steps."""
    stepping = copy.copy(policy)  # which shares the models
    stepping.manifest = policy.manifest.model_copy(update={"denoising_steps": steps})
    infer = tick(stepping, subject, Case(METHOD, candidates))
    return lambda observation, noise: infer(observation, noise).actions.ravel()


def growth(sizes: Sequence[int], latencies: Sequence[float]) -> dict[str, Any]:
    """Return how latencies [ms] grow with a size.

    ``p50_ms`` are the latencies; ``fixed_ms`` + size times ``each_ms`` is the line nearest to them, in relative terms, and
    ``deviation`` the largest distance from it, relative to the latency (nan for fewer than three sizes, through which
    there always is a line); ``share`` is what one unit of the largest size costs over one of the smallest, below 1 where
    growth is sub-linear.
    """
    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(latencies, dtype=np.float64)
    each, fixed = np.polyfit(x, y, 1, w=1.0 / y) if len(x) > 1 else (math.nan, math.nan)
    return {
        "sizes": list(sizes),
        "p50_ms": y.tolist(),
        "fixed_ms": float(fixed),
        "each_ms": float(each),
        "deviation": float(np.abs((fixed + each * x) / y - 1.0).max()) if len(x) > 2 else math.nan,
        "share": float((y[-1] / x[-1]) / (y[0] / x[0])),
    }


def controller_of(policy: Policy, subject: Subject) -> Controller:
    """Return the controller of a bundle, with an inference at every tick."""
    return Controller(policy, RunOptions(subject.weight, subject.critic, execution_horizon=1))


def watch_memory(
    controller: Controller, ticks: int, schedule: Schedule, progress: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Tick a controller many times and return what it does to the memory of this process.

    ``resident_mb`` has `READINGS` readings, evenly spaced, ``objects`` what Python's garbage collector tracks at the first
    settled one and at the end. ``growth_mb`` is the median of the last tenth of the readings less that of the second;
    both are nan where the system does not tell (other than Linux).
    """
    sights = sights_of(controller.policy.manifest)
    size = controller.policy.manifest.observation_size
    vectors = [observation[0] for observation, _ in draw_inputs(schedule, size, 1, 1)]
    period = round(1e9 / controller.policy.manifest.control_rate)
    resident: list[float] = []
    objects: list[int] = []
    start, done = time.perf_counter(), 0
    for reading in range(1, READINGS + 1):
        for number in range(done, ticks * reading // READINGS):
            controller.tick(_observation(vectors, number, period, sights))
        done = ticks * reading // READINGS
        if reading in (_SETTLED, READINGS):
            gc.collect()
            objects.append(len(gc.get_objects()))
        resident.append(resident_bytes() / 1e6)
        progress()
    seconds = time.perf_counter() - start
    controller.close()
    settled = float(np.median(resident[_SETTLED : 2 * _SETTLED]))
    return {
        "ticks": ticks,
        "seconds": seconds,
        "resident_mb": resident,
        "growth_mb": float(np.median(resident[-_SETTLED:])) - settled,
        "objects": objects,
    }


def _observation(vectors: Sequence[Float], number: int, period: int, sights: SyntheticSights | None) -> Observation:
    sight = None if sights is None else sights.sight((number + 1) * period, number)
    return Observation(vectors[number % len(vectors)], (number + 1) * period, sight)


def resident_bytes() -> float:
    """Return the memory of this process that is in RAM; nan where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return math.nan
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
