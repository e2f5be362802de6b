"""A process that keeps one core busy with arithmetic and memory until it is killed."""

from __future__ import annotations

import numpy as np


def main() -> None:
    """Never return."""
    values = np.random.default_rng(0).random(1_000_000)
    while True:
        np.sqrt(values, out=values)


if __name__ == "__main__":
    main()
