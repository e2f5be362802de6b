"""`qgf train`: fit a velocity field and its critics to a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qgf_ros.commands.show.arguments import Integers
from qgf_ros.commands.show.interruptions import interruptions

if TYPE_CHECKING:
    from rich.console import Console

    from qgf_ros.learning.data.dataset import Dataset
    from qgf_ros.learning.run import Progress, Rewarded
    from qgf_ros.learning.trainer import TrainingConfig

#: What --smoke puts in place of the given size of a run.
SMOKE = {"updates": 20, "restart_at": 0, "batch_size": 32, "hidden": (32, 32), "compile": False}


def train(
    dataset: Path,
    out: Path,
    algorithm: str = "iql_flow",
    env: str | None = None,
    tasks: Integers = (1, 2, 3, 4, 5),
    critic: str = "task",
    contract: Path | None = None,
    control_rate: float = 20.0,
    horizon: int = 1,
    updates: int = 75_000,
    batch_size: int = 256,
    hidden: Integers = (256, 256, 256),
    learning_rate: float = 3e-4,
    final_learning_rate: float = 3e-4,
    restart_at: int = 0,
    discount: float = 0.99,
    expectile: float = 0.9,
    target_rate: float = 0.005,
    ensemble: int = 2,
    denoising_steps: int = 10,
    seed: int = 0,
    compile: bool = False,
    goal_conditioned: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    save_every: int = 2500,
    smoke: bool = False,
) -> None:
    """Fit a velocity field, shared by all tasks, and one critic per task, or a single one for every goal.

    A run goes on from the newest checkpoint in --out, to the bit; Ctrl-C saves one first. Losses on FILE-val.npz, if
    that exists, and on the data set go to TensorBoard in --out/tensorboard.

    Args:
        dataset: Data set, FILE.npz, of OGBench's or another convention that docs/data.md names.
        out: Folder of checkpoints.
        algorithm: How to train; see docs/training.md.
        env: Environment whose single-task rewards to use; without it the data set must carry rewards and masks, unless
            --goal-conditioned is given.
        tasks: With --env, single-task numbers.
        critic: Without --env, the name of the one critic.
        contract: Without --env, JSON with observation, action and control_rate as in a manifest; by default the
            observation is one vector and actions are plain numbers.
        control_rate: Without --env and --contract, control rate [Hz].
        horizon: Actions per chunk H.
        updates: Number of updates.
        batch_size: Chunks per update.
        hidden: Hidden layer sizes of every network.
        learning_rate: Adam's, at the start.
        final_learning_rate: Adam's at the last update, reached along a cosine.
        restart_at: Update at which that cosine begins again; 0 for never.
        discount: Per control step.
        expectile: Of the value regression.
        target_rate: Share of the critic that enters the target critic at each update.
        ensemble: Q networks per critic E.
        denoising_steps: Euler steps T.
        seed: Of the initial weights and of every batch.
        compile: Fuse the losses with torch.compile; needs a C++ compiler.
        goal_conditioned: Tell the policy and a critic named goal what to reach, instead of --tasks or --critic; goals are
            drawn in hindsight from the data.
        device: auto is cuda where there is a GPU, else cpu.
        threads: CPU threads; every core by default.
        save_every: Updates between checkpoints.
        smoke: A few updates of tiny networks, to see that everything works.
    """
    import torch
    from rich.console import Console

    from qgf_ros.errors import TrainingError
    from qgf_ros.files.destination import check_folder
    from qgf_ros.learning.algorithms import algorithm_named
    from qgf_ros.learning.data.dataset import validation_path
    from qgf_ros.learning.run import Intervals, choose_device, dataset_record
    from qgf_ros.learning.run import train as run
    from qgf_ros.learning.trainer import TrainingConfig
    from qgf_ros.reports.machine import usable_cores

    given = {**locals(), **SMOKE} if smoke else locals()
    kind = algorithm_named(algorithm)
    config, options = TrainingConfig.from_dict(given), kind.config_class.from_dict(given)
    intervals = Intervals(log=5, validate=10, save=10) if smoke else Intervals(save=save_every)
    where = choose_device(device)
    if threads is not None and threads < 1:
        raise TrainingError(f"{threads} threads were given; give 1 or more, or none for every core")
    torch.set_num_threads(threads or usable_cores())
    check_folder(out, "--out folder")
    training = _load(dataset, config.horizon)
    beside = validation_path(dataset)
    held_out = _load_beside(training, beside, config.horizon) if beside.is_file() else None

    console = Console()
    header = {
        **_origin(env, tasks, critic, contract, control_rate, training, goal_conditioned, dataset.name),
        "dataset": dataset_record(dataset, training),
    }
    rewarded = _rewarded(env, tasks, critic, training, goal_conditioned)
    validation = None
    if held_out is not None:
        with _about(beside):
            validation = _rewarded(env, tasks, critic, held_out, goal_conditioned)
    _introduce(console, config, rewarded, validation, where.type)
    with interruptions() as interrupted, _display(console, config) as report:
        path = run(
            config,
            rewarded,
            validation,
            header,
            out,
            device=where,
            algorithm=algorithm,
            options=options,
            intervals=intervals,
            report=report,
            interrupted=interrupted,
        )
    console.print(f"saved {path}", highlight=False, soft_wrap=True)
    interrupted.grant()


def _load(path: Path, horizon: int) -> Dataset:
    """Read a data set whose trajectories are long enough."""
    from qgf_ros.learning.data.dataset import load_dataset

    dataset = load_dataset(path)
    with _about(path):
        dataset.chunk_starts(horizon)
    return dataset


def _load_beside(training: Dataset, path: Path, horizon: int) -> Dataset:
    """Read a validation set, which is to be of the same kind as the data set."""
    from qgf_ros.errors import DatasetError

    held_out = _load(path, horizon)
    sizes, expected = (
        (data.observations.shape[1], data.actions.shape[1], data.normalisation) for data in (held_out, training)
    )
    if sizes != expected:
        raise DatasetError(
            f"{path} has observations of size {sizes[0]} and actions of size {sizes[1]}, the data set {expected[0]} and "
            f"{expected[1]}, or they were scaled otherwise; make both in one way, or take the validation file away"
        )
    return held_out


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Name the file that an error is about."""
    from qgf_ros.errors import DatasetError

    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def _origin(
    env: str | None,
    tasks: tuple[int, ...],
    critic: str,
    contract: Path | None,
    control_rate: float,
    dataset: Dataset,
    goal_conditioned: bool,
    name: str,
) -> dict[str, Any]:
    """Return the part of a checkpoint's header that says what the policy is for."""
    from qgf_ros.bundle.fields import GOAL
    from qgf_ros.learning.data.contract import Contract, plain_contract, read_contract

    names = [critic]
    numbers: list[int | None] = [None]
    if env is None:
        chosen = read_contract(contract) if contract is not None else plain_contract(dataset, control_rate)
    else:
        from qgf_sim.worlds.environment import CONTROL_PERIOD
        from qgf_sim.worlds.families import action_fields, observation_fields

        chosen = Contract(observation_fields(env), action_fields(), 1.0 / CONTROL_PERIOD)
        names, numbers = [f"{env} task {task}" for task in tasks], list(tasks)
    chosen.check(dataset)
    if goal_conditioned:
        names, numbers, chosen = ["any goal"], [None], chosen.with_goal()
    chosen, demonstrations = chosen.described(dataset, name)
    header = {**chosen.header(), "demonstrations": demonstrations.model_dump(mode="json")}
    goal = {"goal": GOAL} if goal_conditioned else {}
    return {"environment": env, "tasks": names, "task_ids": numbers, **header, **goal}


def _rewarded(
    env: str | None, tasks: tuple[int, ...], critic: str, dataset: Dataset, goal_conditioned: bool
) -> Rewarded:
    from qgf_ros.learning.run import Rewarded, own_rewards

    if goal_conditioned:
        return Rewarded(dataset.observed(), {})
    if env is None:
        return Rewarded(dataset, own_rewards(dataset, critic))
    from qgf_sim.worlds.rewards import task_rewards

    seen = dataset.observed()
    return Rewarded(seen, task_rewards(env, tasks, seen))


def _introduce(
    console: Console, config: TrainingConfig, training: Rewarded, validation: Rewarded | None, device: str
) -> None:
    from qgf_ros.learning.data.dataset import solved_chunks

    horizon, rows = config.horizon, len(training.dataset.terminals)
    starts = training.dataset.chunk_starts(horizon)
    shares = {name: solved_chunks(starts, masks, horizon).mean() for name, (_, masks) in training.rewards.items()}
    solved = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    aim = f"solved in {solved} of {len(starts)} chunks" if solved else "goals in hindsight"
    for note in training.dataset.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{rows} rows, {aim}; horizon {horizon}, {device}", highlight=False, soft_wrap=True)
    if validation is None:
        console.print("there is no validation file, so no validation loss", highlight=False)


@contextmanager
def _display(console: Console, config: TrainingConfig) -> Iterator[Callable[[Progress], None]]:
    """Show a progress bar with the losses on a terminal, a line per validation elsewhere."""
    from qgf_ros.commands.show.display import progress_bar

    with progress_bar(console, "updates") as bar:
        task = bar.add_task("training", total=config.updates)

        def report(progress: Progress) -> None:
            bar.update(task, completed=progress.step)
            if progress.losses and console.is_terminal:
                bar.update(task, description=_losses(progress.losses))
            if progress.validation:
                text = f"update {progress.step}: {_losses(progress.losses)}; validation {_losses(progress.validation)}"
                console.print(text, highlight=False, soft_wrap=True)

        yield report


def _losses(losses: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in losses.items())
