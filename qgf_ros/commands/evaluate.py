"""`qgf evaluate`: closed-loop success of a bundle, in process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from qgf_ros.commands.show.arguments import Integers, Options, Weights
from qgf_ros.control.options import DEFAULT_OPTIONS


def evaluate(
    bundle: Path,
    /,
    tasks: Annotated[Integers | None, tyro.conf.arg(aliases=["--task"])] = None,
    episodes: int = 50,
    seed: int = 0,
    weights: Weights | None = None,
    critic: str | None = None,
    num_samples: int = 1,
    execution_horizon: int | None = None,
    execution: Literal["synchronous", "asynchronous"] = "synchronous",
    seam: Literal["switch", "linear", "ensemble", "rtc"] = "switch",
    delay: int = 0,
    batch_size: int = 16,
    workers: int | None = None,
    shift: str | None = None,
    json: Path | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> None:
    """Measure the success of a bundle in simulation, without ROS.

    Episode i uses seed + i for the environment and for the noise at every weight. With --batch-size 1 the actions are
    those of the ROS node, bit for bit; in a larger batch they differ by rounding, from the first action on.

    Args:
        bundle: Folder or name of the bundle, such as cube-single.
        tasks: Single-task numbers, separated by commas; all of the bundle by default.
        episodes: Episodes per task and guidance weight.
        seed: Seed of the first episode.
        weights: Guidance weights, separated by commas; 0 and the recommended weight by default.
        critic: Critic that guides; the task's own by default.
        num_samples: Candidates of which the best is kept.
        execution_horizon: Actions executed of each chunk; the bundle's by default.
        execution: Whether the robot waits for each inference, or goes on with the chunk under way meanwhile.
        seam: How a chunk goes over into the next.
        delay: Inference delay [control steps].
        batch_size: Episodes that share an inference.
        workers: Processes; every core by default.
        shift: Domain shifts, such as observation_noise=0,0.005,0.01 or friction_factor=0.5,action_delay=1; each level is
            run beside no shift, and every weight compared with the first.
        json: Report to write, after every task.
        options: How the critic guides.
    """
    from rich.console import Console

    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.commands.show.display import RunDisplay
    from qgf_ros.commands.show.shifts import evaluate_levels
    from qgf_ros.errors import SimulationError
    from qgf_ros.evaluation.results import critic_for_task, default_weights, summaries, tasks_of, write_report
    from qgf_ros.reports.machine import usable_cores
    from qgf_ros.reports.origin import origin
    from qgf_sim.rollouts.evaluate import Plan
    from qgf_sim.rollouts.evaluate import evaluate as run

    bundle = locate_bundle(bundle)
    manifest = load_manifest(bundle)
    execution_horizon = manifest.execution_horizon if execution_horizon is None else execution_horizon
    steps: dict[str, Any] = {
        "num_samples": num_samples,
        "execution_horizon": execution_horizon,
        "execution": execution,
        "seam": seam,
    }
    console = Console()
    plans = []
    tasks = tasks or tasks_of(manifest)
    if not tasks:
        raise SimulationError(f"no critic of {manifest.name} belongs to a simulated task; give --task, and --critic")
    for task in tasks:
        guide = critic or critic_for_task(manifest, task)
        chosen = weights if weights is not None else default_weights(manifest, task, guide, **steps, **vars(options))
        plan = Plan(
            bundle,
            task,
            chosen,
            episodes,
            seed,
            critic=guide,
            **steps,
            delay=delay,
            batch_size=batch_size,
            workers=usable_cores() if workers is None else workers,
            options=options,
        )
        plan.check(manifest)  # of every task before the first episode
        plans.append(plan)
    settings = {"seed": seed, "batch_size": batch_size, **steps, "delay": delay, **options.record()}
    found: dict[str, list[Any]] = {"runs": []} if shift is None else {"levels": []}
    for plan in plans:
        title = f"{bundle.name}, task {plan.task}"
        who = {"critic": plan.critic}
        if shift is None:
            with RunDisplay(console, title, plan.weights, episodes) as display:
                results = run(plan, display.add)
            runs = summaries(plan.task, results)
            display.conclude(runs)
            found["runs"] += [{**record, **who} for record in runs]
        else:
            found["levels"] += [{**level, **who} for level in evaluate_levels(console, title, plan, shift)]
        if json is not None:  # of the tasks so far, which an interrupted evaluation keeps
            write_report(json, {**origin(bundle), **found, **settings})
