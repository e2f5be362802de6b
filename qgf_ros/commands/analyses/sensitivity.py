"""`qgf analyze sensitivity`: how far a small shift of the noised action turns each gradient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from qgf_ros.commands.analyses.output import at_least_one, settings_of, write
from qgf_ros.commands.show.arguments import Integers, Numbers

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console


@dataclass(frozen=True)
class Sensitivity:
    """Measure how far a small shift of the noised action turns each estimator's gradient.

    Attributes:
        bundle: Folder or name of the bundle, such as cube-single.
        tasks: Single-task numbers whose critics are asked, separated by commas; all of the bundle by default.
        dataset: Data set to take states from; without one they come from simulated episodes.
        states: States per critic.
        deviations: Standard deviations of the shift, separated by commas [normalised action].
        episodes: Simulated episodes per task.
        seed: Of states, noises, shifts and episodes.
        out: Folder for sensitivity.json, .png and .svg.
    """

    bundle: tyro.conf.Positional[Path]
    tasks: Integers | None = None
    dataset: Path | None = None
    states: int = 256
    deviations: Numbers = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    episodes: int = 4
    seed: int = 0
    out: Path = Path("results/sensitivity")

    def run(self, console: Console) -> None:
        """Run the analysis."""
        import numpy as np

        from qgf_ros.analysis.inputs import load_primitives, load_states
        from qgf_ros.analysis.plots import draw_sensitivity
        from qgf_ros.analysis.sensitivity import combine, measure_sensitivity
        from qgf_ros.bundle.locate import locate_bundle
        from qgf_ros.commands.show.analysis_tables import sensitivity_table
        from qgf_ros.commands.show.display import progress_bar
        from qgf_ros.guidance.estimators import ESTIMATORS

        at_least_one(states=self.states, episodes=self.episodes)
        bundle = locate_bundle(self.bundle)
        primitives = load_primitives(bundle, self.tasks)
        manifest = primitives.manifest
        drawn = None if self.dataset is None else load_states(self.dataset, manifest, self.states, self.seed)[0]
        parts = {}
        with progress_bar(console, "gradients") as bar:
            for name in primitives.critics:
                row = bar.add_task(name, total=manifest.denoising_steps * len(ESTIMATORS))
                states = self._simulated(bundle, name) if drawn is None else (drawn.observations, drawn.pictures)
                random = np.random.default_rng(self.seed)
                noise, shift = random.standard_normal((2, self.states, manifest.chunk_size), dtype=np.float32)
                parts[name] = measure_sensitivity(
                    *(*primitives.asked_about(name, *states), noise, shift),
                    steps=manifest.denoising_steps,
                    deviations=self.deviations,
                    progress=lambda row=row: bar.advance(row),  # type: ignore[misc]
                )
        numbers = {
            **settings_of(self, bundle),
            "steps": manifest.denoising_steps,
            "mean": combine(parts),
            "critics": parts,
        }
        console.print(sensitivity_table(numbers))
        write(console, self.out, "sensitivity", numbers, draw_sensitivity(numbers))

    def _simulated(self, bundle: Path, critic: str) -> Any:
        import numpy as np

        from qgf_ros.bundle.store import load_manifest
        from qgf_ros.errors import GuidanceError
        from qgf_ros.learning.data.picture_files import Pictures
        from qgf_sim.rollouts.states import collect_states

        task = load_manifest(bundle).critics[critic].task_id
        if task is None:
            raise GuidanceError(f"critic {critic} belongs to no simulated task; give --dataset to take states from")
        observations, images = collect_states(bundle, task, self.states, episodes=self.episodes, seed=self.seed)
        return observations, Pictures(images, np.arange(self.states)) if images else None
