"""What the policy adds to the time of an evaluation: the same episodes with it, and again with nothing but the physics."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qgf_ros.evaluation.results import Episode
from qgf_ros.reports.machine import LoadMeter, describe_machine
from qgf_sim.rollouts.evaluate import BATCHES_PER_JOB, EvaluationPlan, EvaluationWorker, evaluate
from qgf_sim.worlds.environment import TaskEnvironment

SCHEMA = 1


def measure(
    plan: EvaluationPlan, rounds: int, workers: Sequence[int], progress: Callable[[str], None] = lambda note: None
) -> dict[str, Any]:
    """Time an evaluation in this process beside its own environments, then whole evaluations on several processes.

    In each round one job of an evaluation runs under the policy; then the same environments do the same episodes once more,
    of which only the recorded commands are left. The physics of both is the same, step by step. Both run on one thread,
    and what is taken is processor time, which other processes hardly change.

    Args:
        plan: What to evaluate, at its first weight; its number of episodes follows from `rounds`.
        rounds: Jobs of `evaluate`.
        workers: Numbers of processes to time as many jobs on, each from its start to its end.
        progress: Called after each round, and once for each number of processes.

    Returns:
        ``machine``, ``load``, ``rounds`` (one record each), ``policy_share`` (time under the policy over that of the
        bare environments, minus 1) and ``scaling``, episodes and control steps per second by number of processes.
    """
    meter = LoadMeter()
    time.sleep(1.0)
    load = meter.cores()
    size = BATCHES_PER_JOB * plan.batch_size
    plan = replace(plan, guidance_weights=plan.guidance_weights[:1], episodes=rounds * size, record=True)
    worker = EvaluationWorker(plan)
    try:
        worker.build(plan.batch_size)
        for env in worker.environments:
            env.reset(plan.options.seed)  # the first one takes longer than any other
        records = []
        for start in plan.seeds[::size]:
            records.append(_round(plan, worker, tuple(range(start, start + size))))
            progress("timing")
    finally:
        worker.close()
    scaling = []
    for count in workers:
        scaling.append(_whole(replace(plan, workers=count, record=False)))
        progress(f"{count} processes")
    whole, bare = (sum(record[key] for record in records) for key in ("seconds", "bare_seconds"))
    return {
        "schema": SCHEMA,
        "machine": describe_machine(1),
        "load": {"before": load},
        "plan": {
            **vars(plan),
            "bundle": plan.bundle.name,
            "options": plan.options.record(),
            "shift": plan.shift.changed,
        },
        "rounds": records,
        "policy_share": whole / bare - 1.0,
        "scaling": scaling,
    }


def _round(plan: EvaluationPlan, worker: EvaluationWorker, seeds: tuple[int, ...]) -> dict[str, Any]:
    start = time.process_time()
    episodes = list(worker.run((plan.guidance_weights[0], seeds)))
    middle = time.process_time()
    for env, episode in zip(itertools.cycle(worker.environments), episodes):
        _step_bare(env, episode)
    return {
        "episodes": len(episodes),
        "steps": sum(episode.length for episode in episodes),
        "seconds": middle - start,
        "bare_seconds": time.process_time() - middle,
    }


def _step_bare(env: TaskEnvironment, episode: Episode) -> None:
    """Do an episode again with OGBench's environment alone, and what the robot's cameras see of it."""
    actions = np.clip(episode.commands / env.action_scale, -1.0, 1.0)
    env.reset(episode.seed)
    for action in actions:
        env.gymnasium_env.step(action)
        env.frames()


def _whole(plan: EvaluationPlan) -> dict[str, Any]:
    start = time.perf_counter()
    (episodes,) = evaluate(plan).values()
    seconds = time.perf_counter() - start
    return {
        "workers": plan.workers,
        "cores": os.cpu_count(),
        "episodes_per_second": len(episodes) / seconds,
        "steps_per_second": sum(episode.length for episode in episodes) / seconds,
    }
