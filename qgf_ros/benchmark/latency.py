"""Timing that a drifting machine cannot bend: contenders take turns, and every call is recorded."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qgf_ros.errors import GuidanceError
from qgf_ros.reports.statistics import percentiles

Float = NDArray[np.float32]
#: (observation [1, S], noise [N, C]) -> action [C]
Act = Callable[[Float, Float], Float]


@dataclass(frozen=True)
class Schedule:
    """How often everything runs.

    Attributes:
        rounds: Turns of each contender.
        ticks: Timed calls in a turn.
        inputs: Different pairs of observation and noise that the calls go through.
        seed: Of the inputs and of the order within each round.
    """

    rounds: int = 40
    ticks: int = 5
    inputs: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "ticks", "inputs"):
            if getattr(self, name) < 1:
                raise GuidanceError(f"{name} {getattr(self, name)} was given; it must be at least 1")


@dataclass
class Times:
    """What was measured of one contender.

    Attributes:
        rounds: Duration of every timed call [s], a list per round.
        processor: Processor time of all threads of this process during these calls [s].
    """

    rounds: list[list[float]] = field(default_factory=list)
    processor: float = 0.0

    def summary(self) -> dict[str, float]:
        """Return the latency [ms], its jitter (standard deviation), throughput [1/s] and cores kept busy."""
        seconds = np.concatenate([np.asarray(one, dtype=np.float64) for one in self.rounds])
        p50, p90, p99 = percentiles(list(seconds * 1e3), (50.0, 90.0, 99.0))
        total = float(seconds.sum())
        return {
            "p50": p50,
            "p90": p90,
            "p99": p99,
            "max": float(seconds.max()) * 1e3,
            "jitter": float(seconds.std()) * 1e3,
            "throughput": len(seconds) / total,
            "cores": self.processor / total,
        }


def draw_inputs(schedule: Schedule, observation: int, candidates: int, chunk: int) -> list[tuple[Float, Float]]:
    """Return observations [1, S] and noises [N, C], standard normal."""
    random = np.random.default_rng(schedule.seed)
    return [
        (
            random.standard_normal((1, observation), dtype=np.float32),
            random.standard_normal((candidates, chunk), dtype=np.float32),
        )
        for _ in range(schedule.inputs)
    ]


def take_turns(
    contenders: Sequence[tuple[Act, Sequence[tuple[Float, Float]]]],
    schedule: Schedule,
    progress: Callable[[], None] = lambda: None,
) -> list[Times]:
    """Time every contender in every round.

    A round is one turn of each, in an order drawn anew, so that neither drift nor what a predecessor leaves in the
    caches or running on its threads can favour one. A turn is one call that is not timed, which fetches the contender's
    weights back and lets the predecessor's threads fall asleep, then `ticks` that are. Python collects no garbage
    meanwhile.

    Args:
        contenders: What to call, and with which inputs in turn; warmed up.
        schedule: How often.
        progress: Called after each round.

    Returns:
        One for each contender.
    """
    order = np.random.default_rng(schedule.seed)
    times = [Times() for _ in contenders]
    with no_garbage_collection():
        for round_number in range(schedule.rounds):
            for chosen in order.permutation(len(contenders)):
                act, inputs = contenders[chosen]
                first = round_number * schedule.ticks
                act(*inputs[first % len(inputs)])
                processor, turn = time.process_time(), []
                for tick in range(first, first + schedule.ticks):
                    observation, noise = inputs[tick % len(inputs)]
                    start = time.perf_counter()
                    act(observation, noise)
                    turn.append(time.perf_counter() - start)
                times[chosen].processor += time.process_time() - processor
                times[chosen].rounds.append(turn)
            progress()
    return times


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage now, and none until the end."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def ratio(ours: Times, theirs: Times) -> float:
    """Return the median latency of the first over that of the second; nan where there is none."""
    (first,), (second,) = (percentiles([t for one in times.rounds for t in one], (50.0,)) for times in (ours, theirs))
    return first / second if second > 0.0 else math.nan
