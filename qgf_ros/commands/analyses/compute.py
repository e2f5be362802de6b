"""`qgf analyze compute`: what an action costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from qgf_ros.commands.analyses.output import at_least_one, settings_of, write
from qgf_ros.commands.show.arguments import Integers

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console


@dataclass(frozen=True)
class Compute:
    """Count the operations of an action, and measure its latency, for every method and N.

    Attributes:
        bundle: Folder or name of the bundle, such as cube-single.
        candidates: Values of N, separated by commas.
        rounds: Timed actions of each method and N; each round times all of them in turn.
        warm_up: Rounds before them that are not timed.
        out: Folder for compute.json, .png and .svg.
    """

    bundle: tyro.conf.Positional[Path]
    candidates: Integers = (1, 4, 16)
    rounds: int = 200
    warm_up: int = 10
    out: Path = Path("results/compute")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        from qgf_ros.analysis.compute import measure_compute
        from qgf_ros.analysis.inputs import load_primitives
        from qgf_ros.analysis.plots import draw_compute
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.commands.show.analysis_tables import compute_table
        from qgf_ros.commands.show.display import progress_bar

        at_least_one(rounds=self.rounds)
        bundle = locate_bundle(self.bundle)
        with progress_bar(console, "rounds") as bar:
            row = bar.add_task(bundle.name, total=self.rounds + self.warm_up)
            measured = measure_compute(
                *(bundle, load_primitives(bundle)),
                candidates=self.candidates,
                rounds=self.rounds,
                warm_up=self.warm_up,
                progress=lambda: bar.advance(row),
            )
        numbers = {**settings_of(self, bundle), **measured}
        console.print(compute_table(numbers))
        write(console, self.out, "compute", numbers, draw_compute(numbers))
