"""A process that keeps one core busy with arithmetic and memory until it is killed."""

from __future__ import annotations

import os

import numpy as np


def main() -> None:
    """Never return."""
    if hasattr(os, "SCHED_OTHER"):  # an ordinary process, although the benchmark may be started under SCHED_FIFO
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    values = np.random.default_rng(0).random(1_000_000)
    while True:
        np.sqrt(values, out=values)


if __name__ == "__main__":
    main()
