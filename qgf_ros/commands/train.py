"""`qgf train`: fit a velocity field and its critics to a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from qgf_ros.commands.show.algorithm_arguments import algorithm_arguments
from qgf_ros.commands.show.arguments import Integers
from qgf_ros.commands.show.interruptions import interruptions

if TYPE_CHECKING:
    from qgf_ros.learning.course import Progress
    from qgf_ros.learning.data.contract import Contract
    from qgf_ros.learning.data.dataset import Dataset
    from qgf_ros.learning.run import Rewarded
    from qgf_sim.worlds.families import Reward

#: What --smoke puts in place of the given size of a run.
SMOKE = {
    **{"updates": 20, "encoder_updates": 20, "restart_at": 0, "batch_size": 32, "compile": False},
    **{"hidden": (32, 32), "critic_hidden": ()},
}

#: Options that pictures alone have, and their defaults.
OF_SIGHT = {"features": 64, "encoder_updates": 20_000, "shift": 4, "critic_encoder": "shared", "velocity_field": "kept"}


def train(
    dataset: Path,
    out: Path,
    algorithm: str = "iql_flow",
    env: str | None = None,
    tasks: Integers = (1, 2, 3, 4, 5),
    reward: Literal["dense", "sparse"] | None = None,
    critic: str = "task",
    contract: Path | None = None,
    control_rate: float = 20.0,
    horizon: int = 1,
    updates: int = 75_000,
    batch_size: int = 256,
    learning_rate: float = 3e-4,
    final_learning_rate: float = 3e-4,
    restart_at: Integers = (),
    discount: float = 0.99,
    critics_from: Path | None = None,
    features: int = 64,
    encoder_updates: int = 20_000,
    shift: int = 4,
    critic_encoder: Literal["shared", "own"] = "shared",
    velocity_field: Literal["kept", "trained"] = "kept",
    seed: int = 0,
    compile: bool = False,
    goal_conditioned: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    save_every: int = 2500,
    smoke: bool = False,
    *,
    options: Annotated[dict[str, Any], algorithm_arguments()],
) -> None:
    """Fit a policy, and one critic per task, or a single one for every goal.

    A run goes on from the newest checkpoint in --out, to the bit; Ctrl-C saves one first. A finished one is made longer by
    more --updates, with --restart-at where it ended if its learning rate falls. Losses on FILE-val.npz, if
    that exists, and on the data set go to TensorBoard in --out/tensorboard.

    Args:
        dataset: Data set, FILE.npz, of OGBench's or another convention that docs/data.md names.
        out: Folder of checkpoints.
        algorithm: How to train: iql_flow, td_flow, edp, fql, qam, dac, qsm, cfgrl, robust_q; see docs/training_algorithms.md.
        env: Environment whose single-task rewards to use; without it the data set must carry rewards and masks, unless
            --goal-conditioned is given.
        tasks: With --env, single-task numbers.
        reward: With --env, dense for minus the number of wrong objects, sparse for -1 until all are right; by default sparse
            for scene and the puzzles, dense for the cubes.
        critic: Without --env, the name of the one critic.
        contract: Without --env, JSON with observation, action and control_rate as in a manifest; by default the
            observation is one vector and actions are plain numbers. Scale and offset that it does not give come from the
            data.
        control_rate: Without --env and --contract, control rate [Hz].
        horizon: Actions per chunk H.
        updates: Number of updates.
        batch_size: Chunks per update.
        learning_rate: Adam's, at the start.
        final_learning_rate: Adam's at the last update, reached along a cosine.
        restart_at: Updates at which that cosine begins again, in order; none by default.
        discount: Per control step.
        critics_from: Folder of another run of the same data and tasks; its critics are taken as they are, and none are trained.
        features: With pictures, numbers that an encoder makes of them; they go beside the state.
        encoder_updates: With pictures, updates of encoder and velocity field together, before critics train on the features.
        shift: With pictures, most pixels that each is moved at random where an encoder trains.
        critic_encoder: With pictures, shared for critics that train on the features, own for an encoder that their loss trains.
        velocity_field: With pictures, whether it is trained on beside the critics, on the features of the finished encoder.
        seed: Of the initial weights and of every batch.
        compile: Fuse the losses with torch.compile; needs a C++ compiler.
        goal_conditioned: Tell the policy and a critic named goal what to reach, instead of --tasks or --critic; goals are
            drawn in hindsight from the data: whole observations, or where the objects are, with --env scene or a puzzle.
        device: auto is cuda where there is a GPU, else cpu.
        threads: CPU threads; every core by default.
        save_every: Updates between checkpoints.
        smoke: A few updates of tiny networks, to see that everything works.
        options: Of the algorithm; one that it does not have is refused.
    """
    import torch
    from rich.console import Console

    from qgf_ros.commands.show import training_display as display
    from qgf_ros.errors import TrainingError
    from qgf_ros.files.destination import check_folder
    from qgf_ros.learning.algorithms.catalogue import configured
    from qgf_ros.learning.course import Intervals
    from qgf_ros.learning.data.dataset import check_alike, validation_path
    from qgf_ros.learning.data.normalisation import FROM_DATA, from_data, left_to_data, normalised
    from qgf_ros.learning.run import choose_device, dataset_record
    from qgf_ros.learning.run import train as run
    from qgf_ros.learning.trainer import TrainingConfig
    from qgf_ros.reports.machine import usable_cores
    from qgf_sim.worlds.families import goal_tolerances

    asked = locals()
    given = {**asked, **SMOKE} if smoke else asked
    reward = _reward(env, reward, goal_conditioned)
    if env is not None and contract is not None:
        raise TrainingError(f"--contract {contract} was given with --env {env}, which has one; leave one of them out")
    own = configured(algorithm, options, SMOKE if smoke else {}, critics_train=critics_from is None)
    config = TrainingConfig.from_dict(given)
    intervals = Intervals(log=5, validate=10, save=10) if smoke else Intervals(save=save_every)
    where = choose_device(device)
    if threads is not None and threads < 1:
        raise TrainingError(f"{threads} threads were given; give 1 or more, or none for every core")
    torch.set_num_threads(threads or usable_cores())
    check_folder(out, "--out folder")
    training = _load(dataset, config.horizon, env)
    chosen = {name: value for name, value in asked.items() if name in OF_SIGHT and value != OF_SIGHT[name]}
    display.check_sight(dataset, training, algorithm, chosen, critics_from)
    beside = validation_path(dataset)
    held_out = None
    if beside.is_file():
        held_out = check_alike(_load(beside, config.horizon, env), training, str(beside))
    told = _contract(env, contract, control_rate, training)
    fitted = from_data(told, training)
    training = normalised(training, told, fitted, str(dataset))
    held_out = None if held_out is None else normalised(held_out, told, fitted, str(beside))

    console = Console()
    goal = goal_tolerances(env) if goal_conditioned else None
    header = {
        **_origin(env, tasks, critic, told, fitted, training, goal, dataset.name),
        **({} if reward is None else {"reward": reward}),
        **({} if told == fitted else {FROM_DATA: left_to_data(told)}),
        **({"rendering": dict(training.rendering)} if training.rendering else {}),
        "dataset": dataset_record(dataset, training),
    }
    rewarded = _rewarded(env, tasks, critic, told, training, goal, reward)
    validation = None
    if held_out is not None:
        with _about(beside):
            validation = _rewarded(env, tasks, critic, told, held_out, goal, reward)
    display.introduce(console, config, rewarded, validation, where.type)
    if told != fitted:
        left = ", ".join([*sorted(told.observation_from_data), *sorted(told.action_from_data)])
        console.print(f"scale and offset are taken from the data: {left}", highlight=False, soft_wrap=True)
    if env is not None and reward is not None:
        display.warn_of_rest(console, env, tasks, config.discount, reward)
    steps: list[int] = []
    critics: Mapping[str, Any] = {"options": own}
    if training.pictures is not None:
        sight = display.SightTraining.of(config, {**given, **own.to_dict()}, where, intervals)
        found, header = display.seen(console, sight, rewarded, validation, header, out)
        rewarded, validation, critics = found.training, found.validation, sight.critics(found, own)
    with interruptions() as interrupted, display.training_progress(console, config.updates) as show:

        def report(progress: Progress) -> None:
            steps[1:] = [progress.step]
            show(progress)

        path = run(
            config,
            rewarded,
            validation,
            header,
            out,
            device=where,
            algorithm=algorithm,
            critics_from=critics_from,
            **critics,
            intervals=intervals,
            report=report,
            interrupted=interrupted,
        )
    words = "saved" if len(set(steps)) > 1 else f"nothing to do, all {config.updates} updates are in"
    console.print(f"{words} {path}", highlight=False, soft_wrap=True)
    interrupted.grant()


def _load(path: Path, horizon: int, env: str | None) -> Dataset:
    """Read a data set whose trajectories are long enough; own data may have actions in other units."""
    from qgf_ros.learning.data.dataset import load_dataset

    dataset = load_dataset(path, bounded=env is not None)
    with _about(path):
        dataset.chunk_starts(horizon)
    return dataset


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Name the file that an error is about."""
    from qgf_ros.errors import DatasetError

    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def _contract(env: str | None, contract: Path | None, control_rate: float, dataset: Dataset) -> Contract:
    """Return the contract that a data set was made with."""
    from qgf_ros.learning.data.contract import Contract, plain_contract, read_contract
    from qgf_ros.learning.data.dataset import check_bounds

    if env is not None:
        from qgf_sim.worlds.environment import CONTROL_PERIOD
        from qgf_sim.worlds.families import action_fields, camera_fields, observation_fields
        from qgf_sim.worlds.picture_setting import check_rendering

        check_rendering(dataset.rendering or None, "the data set")
        told = observation_fields(env) if dataset.observations.shape[1] else ()
        return Contract(told, action_fields(), 1.0 / CONTROL_PERIOD, cameras=camera_fields(env)).check(dataset)
    if contract is not None:
        return read_contract(contract).check(dataset)
    check_bounds(dataset.actions, "without --contract")
    return plain_contract(dataset, control_rate).check(dataset)


def _origin(
    env: str | None,
    tasks: tuple[int, ...],
    critic: str,
    told: Contract,
    chosen: Contract,
    dataset: Dataset,
    goal: dict[str, float] | None,
    name: str,
) -> dict[str, Any]:
    """Return the part of a checkpoint's header that says what the policy is for."""
    from qgf_ros.bundle.fields import GOAL

    names = [critic] if env is None else [f"{env} task {task}" for task in tasks]
    numbers: list[int | None] = [None] if env is None else list(tasks)
    if goal is not None:
        names, numbers, chosen = ["any goal"], [None], chosen.with_goal(told.observation_from_data, tuple(goal))
    chosen, demonstrations = chosen.described(dataset, name, tuple(goal or ()))
    header = {**chosen.header(), "demonstrations": demonstrations.model_dump(mode="json")}
    told_goal = {} if goal is None else {"goal": GOAL, **({"goal_tolerances": goal} if goal else {})}
    return {"environment": env, "tasks": names, "task_ids": numbers, **header, **told_goal}


def _reward(env: str | None, reward: Reward | None, goal_conditioned: bool) -> Reward | None:
    """Return how tasks of an environment are rewarded; None for own rewards, and for goals."""
    from qgf_ros.errors import TrainingError

    if reward is not None and (env is None or goal_conditioned):
        whose = "goals reward themselves" if goal_conditioned else "the data set's own rewards are taken as they are"
        raise TrainingError(f"--reward {reward} was given, but {whose}; leave it out, or give --env and --tasks alone")
    if env is None or goal_conditioned or reward is not None:
        return reward
    from qgf_sim.worlds.families import family_of

    return family_of(env).reward


def _rewarded(
    env: str | None,
    tasks: tuple[int, ...],
    critic: str,
    told: Contract,
    dataset: Dataset,
    goal: dict[str, float] | None,
    reward: Reward | None,
) -> Rewarded:
    from qgf_ros.learning.data.goals import PartialGoal
    from qgf_ros.learning.run import Rewarded, own_rewards

    if goal is not None:
        return Rewarded(dataset.observed(), {}, PartialGoal.of_fields(told.observation, goal) if goal else None)
    if env is None or reward is None:
        return Rewarded(dataset, own_rewards(dataset, critic))
    from qgf_sim.worlds.rewards import task_rewards

    seen = dataset.observed()
    return Rewarded(seen, task_rewards(env, tasks, seen, reward))
