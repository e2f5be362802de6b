"""`qgf benchmark evaluation`: what the policy adds to the time of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from qgf_ros.commands.benchmarks.output import located, run_benchmark, table_of

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.table import Table


@dataclass(frozen=True)
class EvaluationBenchmark:
    """Measure what the policy adds to the time of an evaluation of the critic's task.

    Attributes:
        bundle: Folder or name of a bundle; cube-single by default.
        guidance_weight: Guidance weight; the critic's recommended one by default.
        critic: Critic that guides, of a simulated task; the first by default.
        rounds: Jobs of 32 episodes.
        seed: Of the first episode.
        out: Folder for evaluation.json.
    """

    bundle: tyro.conf.Positional[Path | None] = None
    guidance_weight: float | None = None
    critic: str | None = None
    rounds: int = 40
    seed: int = 0
    out: Path = Path("results/benchmark")

    def run(self) -> None:
        """Measure an evaluation, print it and write evaluation.json."""
        from qgf_ros.bundle.store import load_manifest
        from qgf_ros.control.run_options import RunOptions
        from qgf_ros.errors import GuidanceError
        from qgf_ros.reports.machine import usable_cores
        from qgf_sim.benchmark.evaluation import measure
        from qgf_sim.rollouts.evaluate import EvaluationPlan

        path = located(self.bundle)
        critics = load_manifest(path).critics
        name = next(iter(critics), None) if self.critic is None else self.critic
        if name is None or critics.get(name) is None or critics[name].task_id is None:
            known = ", ".join(key for key, card in critics.items() if card.task_id is not None)
            raise GuidanceError(
                f"critic {name!r} was given; expected one of a simulated task, {path.name} has {known or 'none'}"
            )
        card = critics[name]
        assert card.task_id is not None
        weight = card.recommended_weight if self.guidance_weight is None else self.guidance_weight
        plan = EvaluationPlan(path, card.task_id, (weight,), 1, RunOptions(critic=name, seed=self.seed))
        workers = sorted({1, usable_cores()})
        run_benchmark(
            lambda progress: measure(plan, self.rounds, workers, progress),
            self.rounds + len(workers),
            evaluation_table,
            self.out / "evaluation.json",
        )


def evaluation_table(numbers: Mapping[str, Any]) -> Table:
    """Return the table of `sim.benchmark.evaluation.measure`."""
    table = table_of(
        f"The policy adds {100 * numbers['policy_share']:.0f} % to the time of the bare environments",
        ("", "episodes/s", "control steps/s"),
    )
    for name, key in (("under the policy, one process", "seconds"), ("bare environments, one process", "bare_seconds")):
        episodes, steps, seconds = (sum(r[of] for r in numbers["rounds"]) for of in ("episodes", "steps", key))
        table.add_row(name, f"{episodes / seconds:.2f}", f"{steps / seconds:.0f}")
    for record in numbers["scaling"]:
        name = f"qgf evaluate from start to end, --workers {record['workers']}"
        table.add_row(name, f"{record['episodes_per_second']:.2f}", f"{record['steps_per_second']:.0f}")
    return table
