"""Oracle data sets in OGBench's own format: same oracles, same keys, same conventions, but seeded.

Every episode draws from a generator derived from (seed, split, episode number) alone, so the file is the same bytes
whatever the number of workers and however often generation was interrupted; pictures as far as the machines draw alike.
Finished episodes wait as shards in ``OUT.partial/``; a second run of the same command picks them up.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from ogbench.manipspace.oracles.markov.button_markov import ButtonMarkovOracle
from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle
from ogbench.manipspace.oracles.markov.drawer_markov import DrawerMarkovOracle
from ogbench.manipspace.oracles.markov.window_markov import WindowMarkovOracle
from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

from qgf_ros.errors import DatasetError
from qgf_ros.files.destination import check_destination
from qgf_ros.learning.data.picture_files import IMAGES, RENDERING_KEY
from qgf_ros.reports.machine import usable_cores
from qgf_sim.cluster import RayCluster, join_cluster
from qgf_sim.processes import WorkerContext
from qgf_sim.worlds.environment import COLLECTION_STEPS, collection_environment, seed_everything
from qgf_sim.worlds.families import CAMERA, ROBOT_SIZE, Family, family_of
from qgf_sim.worlds.picture_setting import RENDERING
from qgf_sim.worlds.rendering import check_drawing
from qgf_sim.worlds.shards import Episode, merge, open_shards, shard_path, waits, write_shard, write_whole

DataType = Literal["play", "noisy"]
#: Environment, data type, seed of the data set, and rows of an episode: with its number, all that decides an episode.
Recipe = tuple[str, DataType, int, int]
#: Split, 0 for training and 1 for validation, and number of an episode.
Job = tuple[int, int]

# OGBench's data script: action noise, its smoothing for plan oracles, smallest action norm for Markov oracles.
NOISE = 0.1
NOISE_SMOOTHING = 0.5
MIN_NORM = 0.4
# Markov oracles get noise of this many times the episode's level, per action component.
MARKOV_NOISE = (1.0, 1.0, 1.0, 3.0, 10.0)

# Plan and Markov oracle of each kind of sub-goal; OGBench draws the sub-goals.
ORACLES = {
    "cube": (CubePlanOracle, CubeMarkovOracle),
    "button": (ButtonPlanOracle, ButtonMarkovOracle),
    "drawer": (DrawerPlanOracle, DrawerMarkovOracle),
    "window": (WindowPlanOracle, WindowMarkovOracle),
}

_TYPES = {
    "observations": np.float32,
    "actions": np.float32,
    "terminals": np.bool_,
    "qpos": np.float32,
    "qvel": np.float32,
    "button_states": np.int64,
    f"{IMAGES}{CAMERA}": np.uint8,
}


#: Lies among the shards while they are made into the two files.
_WRITING = "writing"


def episode_seed(seed: int, split: int, index: int) -> int:
    """Return the 32-bit seed of one episode; `split` is 0 for training and 1 for validation."""
    return int(np.random.SeedSequence(entropy=seed, spawn_key=(split, index)).generate_state(1)[0])


def run_episode(env: Any, data_type: DataType, seed: int) -> Episode:
    """Let OGBench's oracles act for one episode, one sub-goal after the other.

    Args:
        env: From `collection_environment`.
        data_type: "play" for plan oracles, "noisy" for Markov oracles with Gaussian action noise and, now and then, a
            random action.
        seed: From `episode_seed`.

    Returns:
        Arrays of one row per step: observations, actions, terminals (True on the last row), qpos, qvel and, where
        there are buttons, button_states, and where the robot sees, images/camera; the state of a row is the one its action
        was taken in.
    """
    family = family_of(env.spec.id.removesuffix("-v0"))
    for attempt in itertools.count():
        # The rare episode that loses its cube is run again, from another seed.
        again = np.random.SeedSequence(entropy=seed, spawn_key=(attempt,)).generate_state(1)[0]
        episode = _run_oracles(env, family, data_type, int(again) if attempt else seed)
        if not (family.cubes and family.slides) or cube_in_sight(episode["qpos"][:, 14:17]):
            break
    return episode


def cube_in_sight(positions: NDArray[np.floating[Any]]) -> bool:
    """Whether a cube is never beyond the right edge of the table, and beyond the left one only inside the drawer.

    OGBench's data script discards the other episodes of ``scene``.

    Args:
        positions: Of the cube [m], [R, 3].
    """
    _, y, z = positions.T
    return not np.any(y >= 0.29) and not np.any((y <= -0.3) & ((z < 0.06) | (z > 0.08)))


def _make_oracles(env: Any, family: Family, data_type: DataType) -> dict[str, Any]:
    # A gripper that has nothing to grasp stays closed.
    options = {"button": {"gripper_always_closed": not family.cubes}}
    play: dict[str, Any] = {"noise": NOISE, "noise_smoothing": NOISE_SMOOTHING}
    noisy: dict[str, Any] = {"min_norm": MIN_NORM}
    return {
        kind: plan(env=env, **play, **options.get(kind, {}))
        if data_type == "play"
        else markov(env=env, **noisy, **options.get(kind, {}))
        for kind, (plan, markov) in ORACLES.items()
    }


def _run_oracles(env: Any, family: Family, data_type: DataType, seed: int) -> Episode:
    ob, info = seed_everything(env, seed)
    oracles = _make_oracles(env, family, data_type)
    low, high = family.stacking
    stacking = np.random.uniform(low, high) if low < high else low
    noise = np.random.uniform(0.0, NOISE) if data_type == "noisy" else 0.0
    random_actions = family.random_actions if data_type == "noisy" else 0.0
    oracle = oracles[info["privileged/target_task"]]
    oracle.reset(ob, info)
    size = ROBOT_SIZE if family.visual else len(ob)
    seen = [f"{IMAGES}{CAMERA}"] if family.visual else []
    rows: dict[str, list[Any]] = {k: [] for k in ("observations", "actions", "terminals", *family.state_keys, *seen)}
    done = False
    while not done:
        pictures = [env.unwrapped.picture() for _ in seen]
        if random_actions and np.random.rand() < random_actions:
            action = env.unwrapped.action_space.sample()
        else:
            action = np.array(oracle.select_action(ob, info))
            if data_type == "noisy":
                action = action + np.random.normal(0.0, noise * np.asarray(MARKOV_NOISE))
        action = np.clip(action, -1.0, 1.0)
        next_ob, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        if oracle.done:
            target_ob, target_info = env.unwrapped.set_new_target(p_stack=stacking)
            oracle = oracles[target_info["privileged/target_task"]]
            oracle.reset(target_ob, target_info)
        state = [info[f"prev_{key}"] for key in family.state_keys]
        for column, value in zip(rows.values(), (ob[:size], action, done, *state, *pictures), strict=True):
            column.append(value)
        ob = next_ob
    return {key: np.array(values, dtype=_TYPES[key]) for key, values in rows.items()}


def generate(
    name: str,
    data_type: DataType,
    episodes: int,
    seed: int,
    out: Path,
    *,
    workers: int | None = None,
    ray: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    steps: int = COLLECTION_STEPS,
    force: bool = False,
) -> tuple[Path, Path]:
    """Write a training file and a validation file a tenth its size (at least one episode).

    Args:
        name: Environment, such as ``cube-single``.
        data_type: "play" or "noisy".
        episodes: Training episodes.
        seed: Seed of the whole data set.
        out: Path of the training file, ending in ``.npz``; the other is named ``…-val.npz``.
        workers: Processes; every core by default.
        ray: Address of the Ray cluster that runs the oracles instead; the files are written here.
        progress: Called with (episodes done, episodes in all).
        steps: Rows of an episode; OGBench's own 1001 make 1000 transitions.
        force: Whether files that are there are replaced.

    Returns:
        Paths of the training and the validation file.

    Raises:
        KeyboardInterrupt: Ctrl-C; its message says how many episodes are kept and how to go on.
        DatasetError: A bad path or number, shards of another data set lie in the way, or the disk is full.
        OutputError: A file is there already, and `force` was not given; or none can be written.
        SimulationError: The environment is unknown, or has a camera and no GL back end draws its pictures; or the cluster
            cannot be joined or run it.
    """
    if out.suffix != ".npz":
        raise DatasetError(f"{out} does not end in .npz; name the data set something.npz")
    if data_type not in get_args(DataType):
        raise DatasetError(f"data type {data_type} is unknown; the known ones are {', '.join(get_args(DataType))}")
    if episodes < 1 or steps < 2 or seed < 0:
        raise DatasetError(
            f"{episodes} episodes of {steps} steps with seed {seed} were asked for; "
            "at least 1 episode of 2 steps and a seed of at least 0 are needed"
        )
    family = family_of(name)
    shards = out.with_name(out.name + ".partial")
    paths = (out, out.with_name(out.stem + "-val.npz"))
    # A run that ended while it wrote the two files goes on; what it wrote is its own.
    check_destination(*paths, force=force or (shards / _WRITING).exists())
    recipe = {"environment": name, "type": data_type, "seed": seed, "steps": steps}
    texts = {}
    if family.visual:
        check_drawing()
        recipe["rendering"] = RENDERING.record()
        texts[RENDERING_KEY] = json.dumps(RENDERING.record())
    splits = (episodes, max(1, episodes // 10))
    jobs = [(split, index) for split, count in enumerate(splits) for index in range(count)]
    with nullcontext() if ray is None else join_cluster(ray) as cluster:
        open_shards(shards, recipe)
        todo = [job for job in jobs if not waits(shard_path(shards, *job))]
        done = len(jobs) - len(todo)
        if progress is not None:
            progress(done, len(jobs))
        try:
            for _ in _run_jobs(todo, (name, data_type, seed, steps), shards, workers, cluster):
                done += 1
                if progress is not None:
                    progress(done, len(jobs))
        except KeyboardInterrupt:
            kept = sum(waits(shard_path(shards, *job)) for job in jobs)
            raise KeyboardInterrupt(
                f"stopped; {kept} of {len(jobs)} episodes are kept in {shards}, the same command goes on from there"
            ) from None
    write_whole(shards / _WRITING, Path.touch)
    for split, path in enumerate(paths):
        merge([shard_path(shards, split, index) for index in range(splits[split])], path, texts)
    shutil.rmtree(shards)
    return paths


_environment: tuple[tuple[str, int], Any] | None = None


def _collect(job: tuple[Recipe, Job]) -> Episode:
    """Run an episode in this process, in the environment of the one before where it fits."""
    global _environment
    (name, data_type, seed, steps), (split, index) = job
    if _environment is None or _environment[0] != (name, steps):
        if _environment is not None:
            _environment[1].close()
        _environment = (name, steps), collection_environment(name, steps)
    return run_episode(_environment[1], data_type, episode_seed(seed, split, index))


def _keep(work: tuple[Recipe, Job, Path]) -> None:
    recipe, job, shards = work
    write_shard(shard_path(shards, *job), _collect((recipe, job)))


def _run_jobs(
    jobs: list[Job], recipe: Recipe, shards: Path, workers: int | None, cluster: RayCluster | None
) -> Iterator[None]:
    """Have the episodes of jobs among the shards, and yield after each one."""
    if cluster is not None:
        for (_, job), episode in cluster.run(_collect, [(recipe, job) for job in jobs]):
            write_shard(shard_path(shards, *job), episode)
            yield
        return
    work = [(recipe, job, shards) for job in jobs]
    count = min(workers or usable_cores(), len(jobs))
    if count <= 1:
        yield from map(_keep, work)
        return
    with WorkerContext().Pool(count) as pool:
        yield from pool.imap_unordered(_keep, work)
