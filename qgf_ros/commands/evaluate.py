"""`qgf evaluate`: closed-loop success of a bundle, in process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from qgf_ros.commands.show.arguments import Integers, Numbers, run_arguments
from qgf_ros.control.run_options import RunOptions


def evaluate(
    bundle: Path,
    /,
    *,
    tasks: Annotated[Integers | None, tyro.conf.arg(aliases=["--task"])] = None,
    episodes: int = 50,
    guidance_weights: Numbers | None = None,
    delay: int = 0,
    batch_size: int = 16,
    workers: int | None = None,
    ray: str | None = None,
    shift: str | None = None,
    json: Path | None = None,
    force: bool = False,
    options: Annotated[RunOptions, run_arguments(without=["guidance_weight"])],
) -> None:
    """Measure the success of a bundle in simulation, without ROS.

    Episode i uses seed + i for the environment and for the noise at every weight. With --batch-size 1 the actions are
    those of the ROS node, bit for bit; in a larger batch they differ by rounding, from the first action on.

    Args:
        bundle: Folder or name of the bundle, such as cube-single.
        tasks: Single-task numbers, separated by commas; all of the bundle by default.
        episodes: Episodes per task and guidance weight.
        guidance_weights: One run each, separated by commas; by default 0, and the recommended weight with what is recommended
            beside it.
        delay: Inference delay [control steps].
        batch_size: Episodes that share an inference.
        workers: Processes; every core by default.
        ray: Ray cluster to run on: auto, local, HOST:PORT or ray://HOST:10001; it needs the bundle at the same path.
        shift: Domain shifts, such as observation_noise=0,0.005,0.01 or friction_factor=0.5,action_delay=1; each level is
            run beside no shift, and every weight compared with the first.
        json: Report to write, after every task.
        force: Replace a report that is there.
        options: How the episodes are run; an empty critic is the task's own.
    """
    from contextlib import nullcontext

    from rich.console import Console

    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.bundle.own_graphs import estimator_meant
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.commands.show.arguments import here_or_on_a_cluster
    from qgf_ros.commands.show.display import RunDisplay
    from qgf_ros.commands.show.shifts import evaluate_levels
    from qgf_ros.errors import SimulationError
    from qgf_ros.evaluation.plan import with_settings
    from qgf_ros.evaluation.results import critic_for_task, default_weights, summaries, tasks_of, write_report
    from qgf_ros.files.destination import check_destination
    from qgf_ros.reports.machine import usable_cores
    from qgf_ros.reports.origin import origin
    from qgf_sim.cluster import join_cluster
    from qgf_sim.rollouts.evaluate import EvaluationPlan
    from qgf_sim.rollouts.evaluate import evaluate as run

    here_or_on_a_cluster(workers, ray)
    bundle = locate_bundle(bundle)
    manifest = load_manifest(bundle)
    console = Console()
    plans: list[EvaluationPlan] = []
    tasks = tasks or tasks_of(manifest)
    if not tasks:
        raise SimulationError(f"no critic of {manifest.name} belongs to a simulated task; give --task, and --critic")
    for task in tasks:
        chosen = default_weights(manifest, task, options) if guidance_weights is None else guidance_weights
        plan = EvaluationPlan(
            bundle,
            task,
            chosen,
            episodes,
            replace(options, critic=options.critic or critic_for_task(manifest, task)),
            delay=delay,
            batch_size=batch_size,
            workers=usable_cores() if workers is None else workers,
            as_recommended=guidance_weights is None,
        )
        plan.check(manifest)  # of every task before the first episode
        plans += plan.beside_plain(manifest)
    check_destination(json, force=force, option="--json")
    horizon = options.execution_horizon or manifest.execution_horizon
    estimator = estimator_meant(manifest, options.estimator)
    columns = {**options.record(), "execution_horizon": horizon, "estimator": estimator}
    settings = {"seed": options.seed, "batch_size": batch_size, "delay": delay, **columns}
    found: dict[str, list[Any]] = {"runs": []} if shift is None else {"levels": []}
    with nullcontext() if ray is None else join_cluster(ray) as cluster:
        for plan in plans:
            title = f"{bundle.name}, task {plan.task}"
            who = {"critic": plan.options.critic}
            if told := plan.announcement(manifest):
                console.print(told, highlight=False, soft_wrap=True)
            if shift is None:
                with RunDisplay(console, title, plan.guidance_weights, episodes) as display:
                    results = run(plan, display.add, cluster)
                runs = with_settings(summaries(plan.task, results), plan, manifest)
                display.conclude(runs)
                found["runs"] += [{**record, **who} for record in runs]
            else:
                found["levels"] += [{**level, **who} for level in evaluate_levels(console, title, plan, shift, cluster)]
            if json is not None:  # of the tasks so far, which an interrupted evaluation keeps
                write_report(json, {**origin(bundle), **found, **settings})
