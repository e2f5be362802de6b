"""A training run: the trainer, and around it checkpoints, validation, TensorBoard and resumption."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from qgf_ros import __version__
from qgf_ros.bundle.fields import GOAL
from qgf_ros.errors import DatasetError, TrainingError
from qgf_ros.learning.algorithms.catalogue import DEFAULT_ALGORITHM, algorithm_named
from qgf_ros.learning.algorithms.options import OF_CRITICS, StoredConfig
from qgf_ros.learning.checkpoint import latest_checkpoint, save_checkpoint
from qgf_ros.learning.data.chunks import ChunkData
from qgf_ros.learning.data.dataset import Dataset, Float
from qgf_ros.learning.data.goals import PartialGoal
from qgf_ros.learning.resumption import resume
from qgf_ros.learning.taken_critics import CriticSource
from qgf_ros.learning.trainer import Trainer, TrainingConfig, new_algorithm

Rewards = Mapping[str, tuple[Float, Float]]


@dataclass(frozen=True)
class Rewarded:
    """A data set with rewards and masks [R] by critic name.

    There are none where the critic is goal-conditioned; then `goal` is what goals hold, None for whole observations.
    """

    dataset: Dataset
    rewards: Rewards
    goal: PartialGoal | None = None


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Updates done.
        updates: Updates in all.
        losses: Training losses at this step, by name; empty between reports.
        validation: Validation losses, likewise.
    """

    step: int
    updates: int
    losses: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Intervals:
    """How often a run reports and saves [updates].

    Raises:
        TrainingError: One is not positive.
    """

    log: int = 100
    validate: int = 500
    save: int = 2500

    def __post_init__(self) -> None:
        if min(self.log, self.validate, self.save) < 1:
            raise TrainingError(
                f"intervals log {self.log}, validate {self.validate} and save {self.save} were given; "
                "each must be 1 update or more"
            )


def choose_device(name: str) -> torch.device:
    """Return the device of ``auto``, ``cpu`` or ``cuda``.

    Raises:
        TrainingError: There is no GPU that torch can use, or the name is unknown.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise TrainingError(f"device {name!r} was given; expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device cuda was given, but torch finds no GPU; use --device cpu or a CUDA build of torch")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def own_rewards(dataset: Dataset, critic: str) -> dict[str, tuple[Float, Float]]:
    """Return the rewards and masks that a data set carries itself, under the name of its one critic.

    Raises:
        DatasetError: It carries none.
    """
    missing = [key for key in ("rewards", "masks") if key not in dataset.extras]
    if missing:
        lacking = " and no ".join(missing)
        raise DatasetError(f"the data set has no {lacking}; give --env, or add the arrays to it, see docs/data.md")
    return {critic: (dataset.extras["rewards"].astype("float32"), dataset.extras["masks"].astype("float32"))}


def dataset_record(path: Path, dataset: Dataset) -> dict[str, Any]:
    """Return what a checkpoint remembers of its data set: name, SHA-256, transitions and trajectories."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    ends = len(dataset.trajectory_ends)
    return {
        "name": path.name,
        "sha256": digest.hexdigest(),
        "transitions": len(dataset.terminals) - ends,
        "trajectories": ends,
    }


@contextmanager
def _denormals_are_zero() -> Iterator[None]:
    """Flush denormal numbers, which slow products down, for a while only: others in this process may count on them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@_denormals_are_zero()
def train(
    config: TrainingConfig,
    training: Rewarded,
    validation: Rewarded | None,
    header: Mapping[str, Any],
    out: Path,
    *,
    device: torch.device,
    algorithm: str = DEFAULT_ALGORITHM,
    options: StoredConfig | None = None,
    critics_from: Path | None = None,
    intervals: Intervals | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Path:
    """Train, from the newest checkpoint in `out` if there is one.

    A run that is interrupted and resumed on the same machine ends in the same bits as one that is not, and so does one that
    is made longer (see `learning.resumption`).

    Args:
        config: The run.
        training: What to train on.
        validation: What to validate on, or None.
        header: What the checkpoint says beside the configuration: tasks, contract, data set (see `export_bundle`).
        out: Folder of checkpoints and TensorBoard scalars.
        device: Where to train.
        algorithm: Name of the algorithm.
        options: The algorithm's own configuration; its defaults where there is none.
        critics_from: Folder of a run whose critics are taken as they are; None for critics that train.
        intervals: How often to report and save.
        report: Called after every update.
        interrupted: Asked after every update; when it says yes the run saves and ends.

    Returns:
        The newest checkpoint.

    Raises:
        TrainingError: There is no such algorithm, the folder holds another run or cannot be written, the critics do not
            fit, or a loss is not finite.
        DatasetError: No trajectory is long enough.
    """
    intervals = intervals or Intervals()
    critics = (GOAL,) if config.goal_conditioned else tuple(training.rewards)
    kind = algorithm_named(algorithm)
    options = options or kind.config_class()
    header = {
        **header,
        "algorithm": algorithm,
        "config": {**config.to_dict(), **options.to_dict()},
        "critics": list(critics),
    }
    source = None
    if critics_from is not None:
        source = CriticSource.read(critics_from, kind, header)
        settings = {name: value for name, value in header["config"].items() if name not in OF_CRITICS}
        header = {**header, "config": settings, "critics_from": source.record}
    data = _chunks(training, config, device)
    held_out = _chunks(validation, config, device) if validation else None
    networks = new_algorithm(config, kind, options, critics, data, source.form() if source else None)
    if source is not None:
        networks.take_critics(source.tensors)
    trainer = Trainer(config, networks, data, device)
    seconds = resume(trainer, header, out)
    clock = time.monotonic()

    def save() -> Path:
        spent = seconds + time.monotonic() - clock
        about = {"hardware": _hardware(device, spent), "versions": _versions()}
        return save_checkpoint(out, trainer.step, trainer.state(), {**header, **about})

    path = latest_checkpoint(out)
    report(Progress(trainer.step, config.updates))
    with _scalars(out, trainer.step) as writer:
        while trainer.step < config.updates:
            losses = trainer.update()
            step, last = trainer.step, trainer.step == config.updates or interrupted()
            progress = Progress(
                step,
                config.updates,
                losses() if last or step % intervals.log == 0 else {},
                trainer.validate(held_out) if held_out and (last or step % intervals.validate == 0) else {},
            )
            _write_scalars(writer, trainer, progress)
            if last or step % intervals.save == 0:
                path = save()
            report(progress)
            if last:
                break
    if path is None:
        raise TrainingError(f"nothing to train: {config.updates} updates were asked for")
    return path


def _chunks(rewarded: Rewarded, config: TrainingConfig, device: torch.device) -> ChunkData:
    dataset, rewards, goal = rewarded.dataset, rewarded.rewards, rewarded.goal
    return ChunkData.build(dataset, rewards, config.horizon, config.discount, device, goal)


def _scalars(out: Path, step: int) -> SummaryWriter:
    """Open the folder of TensorBoard scalars, from which those after `step` are dropped."""
    try:
        return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
    except OSError as error:
        raise TrainingError(f"{out} cannot be written ({error.strerror}); choose another --out folder") from error


def _write_scalars(writer: SummaryWriter, trainer: Trainer, progress: Progress) -> None:
    for kind, losses in (("train", progress.losses), ("validation", progress.validation)):
        for name, value in losses.items():
            writer.add_scalar(f"{kind}/{name}", value, progress.step)
    if progress.losses:
        writer.add_scalar("learning_rate", trainer.learning_rate(), progress.step)


def _hardware(device: torch.device, seconds: float) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(), "seconds": round(seconds, 3)}


def _versions() -> dict[str, str]:
    return {"qgf_ros": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
