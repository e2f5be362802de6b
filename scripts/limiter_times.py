"""Prints the table of docs/safety.md: processor time of a command of the motion limiter, and of its simulation.

    python scripts/limiter_times.py [COMMANDS]

Seven components like joints of an arm, limited all the time: every 20 periods each gets another value to go to, out of
its reach until then. Times are of the thread's processor time, to which other programs add nothing but cold caches: run it
where nothing else runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "control")]

from simulated_limiter import SimulatedLimiter  # noqa: E402  (the oracle of the tests, and there it stays)

from qgf_ros.control.motion.limits import MotionLimiter  # noqa: E402

SIZE, RATES = 7, (20.0, 100.0, 250.0, 500.0)
#: Position [unit], rate [unit/s], and how long a stop takes [s], or how many periods where that is less.
REACH, SPEED, STOP, MOST_PERIODS = 2.0, 1.0, 0.4, 75.0
#: Commands for each wanted value, and commands that are made before any is timed.
CHUNK, WARM_UP = 20, 100
HEADER = (
    "| control rate | longest stop [control periods] | median [ms] | 99 % [ms] | by simulation: median [ms] | 99 % [ms] |\n"
    "|---|---|---|---|---|---|"
)


def limits(rate: float) -> list[NDArray[np.float64]]:
    """Return lower, upper, rate, acceleration and jerk of each component at a control rate [Hz], float64 [A]."""
    stop = min(STOP, MOST_PERIODS / rate)
    acceleration = 2.0 * SPEED / stop
    return [np.full(SIZE, value) for value in (-REACH, REACH, SPEED, acceleration, acceleration * (4.0 / stop))]


def times(limiter: MotionLimiter | SimulatedLimiter, commands: int) -> list[float]:
    """Return how long each of so many commands takes, in processor time [ms]."""
    random = np.random.default_rng(0)
    limiter.restart(np.zeros(SIZE))
    took = []
    for number in range(WARM_UP + commands):
        if number % CHUNK == 0:
            wanted = 1.25 * REACH * random.uniform(-1.0, 1.0, SIZE)
        since = time.thread_time_ns()
        limiter.step(wanted)
        took.append((time.thread_time_ns() - since) * 1e-6)
    return took[WARM_UP:]


def rows(commands: int) -> Iterator[str]:
    """Yield the rows of the table."""
    for rate in RATES:
        given = limits(rate)
        limiters = [kind(*given, 1.0 / rate) for kind in (MotionLimiter, SimulatedLimiter)]
        stop = limiters[0].longest_rest(np.full(SIZE, np.nan)).max()
        cells = [f"{value:.2g}" for one in limiters for value in np.percentile(times(one, commands), (50.0, 99.0))]
        yield " | ".join([f"| {rate:.0f} Hz", f"{stop:.0f}", *cells]) + " |"


def main(words: Sequence[str]) -> int:
    """Print the table; return the exit code."""
    print(HEADER)
    for row in rows(int(words[0]) if words else 400):
        print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
