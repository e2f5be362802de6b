"""`qgf benchmark targets`: what the benchmarks should show, and what they have shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class TargetsTable:
    """Print all targets with what the benchmarks that wrote to a folder measured; nothing is measured anew.

    Attributes:
        results: Folder that was their --out.
    """

    results: tyro.conf.Positional[Path] = Path("results/benchmark")

    def run(self) -> None:
        """Print the table."""
        from qgf_ros.commands.show.benchmark_tables import targets_table
        from qgf_ros.commands.show.display import plain_console

        plain_console().print(targets_table(self.results))
