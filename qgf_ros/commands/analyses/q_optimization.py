"""`qgf analyze q-optimization`: which Q each method reaches, and how far from the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from qgf_ros.commands.analyses.output import at_least_one, settings_of, write
from qgf_ros.commands.show.arguments import Integers, Numbers

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console


@dataclass(frozen=True)
class QOptimization:
    """Compare the Q that each method reaches, and how far from the data set's actions it ends.

    Attributes:
        bundle: Folder or name of the bundle, such as cube-single.
        dataset: Data set the bundle was trained on; states come from its validation set where there is one.
        tasks: Single-task numbers whose critics are asked, separated by commas; all of the bundle by default.
        states: States per critic.
        guidance_weights: Guidance weights (step sizes of grad_step), separated by commas.
        candidates: Largest N of best-of-N.
        neighbours: Nearest observations whose actions count as the data set's.
        seed: Of states and noises.
        out: Folder for q-optimization.json, .png and .svg.
    """

    bundle: tyro.conf.Positional[Path]
    dataset: Path
    tasks: Integers | None = None
    states: int = 256
    guidance_weights: Numbers = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    candidates: int = 32
    neighbours: int = 10
    seed: int = 0
    out: Path = Path("results/q-optimization")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        from dataclasses import replace

        import numpy as np

        from qgf_ros.analysis.inputs import load_primitives, load_states
        from qgf_ros.analysis.plots import draw_q_optimization
        from qgf_ros.analysis.q_optimization import Neighbourhoods, measure_q_optimization, relative, rounds
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.commands.show.analysis_tables import q_table
        from qgf_ros.commands.show.display import progress_bar

        at_least_one(states=self.states, candidates=self.candidates, neighbours=self.neighbours)
        bundle = locate_bundle(self.bundle)
        primitives = load_primitives(bundle, self.tasks)
        manifest = primitives.manifest
        drawn, known = load_states(self.dataset, manifest, self.states, self.seed)
        seen, near = (primitives.features(None, one.observations, one.pictures) for one in (drawn, known))
        neighbourhoods = Neighbourhoods.of(replace(known, observations=near), seen, self.neighbours)
        shape = (self.states, self.candidates, manifest.chunk_size)
        noise = np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32)
        parts = {}
        with progress_bar(console, "runs") as bar:
            for name in primitives.critics:
                row = bar.add_task(name, total=rounds(self.guidance_weights))
                parts[name] = measure_q_optimization(
                    *primitives.asked_about(name, drawn.observations, drawn.pictures),
                    *(noise, drawn.actions, neighbourhoods),
                    steps=manifest.denoising_steps,
                    weights=self.guidance_weights,
                    progress=lambda row=row: bar.advance(row),  # type: ignore[misc]
                )
        numbers = {**settings_of(self, bundle), "mean": relative(parts), "critics": parts}
        console.print(q_table(numbers))
        write(console, self.out, "q-optimization", numbers, draw_q_optimization(numbers))
