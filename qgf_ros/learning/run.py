"""A training run: what is trained on, by which algorithm, and where it is kept; `learning.course` is how it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qgf_ros.bundle.fields import GOAL
from qgf_ros.errors import DatasetError, TrainingError
from qgf_ros.learning.algorithms.algorithm import Algorithm
from qgf_ros.learning.algorithms.catalogue import DEFAULT_ALGORITHM, algorithm_named
from qgf_ros.learning.algorithms.options import OF_CRITICS, StoredConfig
from qgf_ros.learning.course import Intervals, Progress, course
from qgf_ros.learning.data.chunks import ChunkData
from qgf_ros.learning.data.dataset import Dataset, Float
from qgf_ros.learning.data.goals import PartialGoal
from qgf_ros.learning.data.picture_files import CACHE
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
    kind: type[Algorithm] | None = None,
    given: Mapping[str, torch.Tensor] | None = None,
    begun_with: Mapping[str, torch.Tensor] | None = None,
    intervals: Intervals | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Path:
    """Train, from the newest checkpoint in `out` if there is one.

    A run that is interrupted and resumed on the same machine ends in the same bits as one that is not, and so does one that
    is made longer (see `learning.resumption`).

    Args:
        config: The run.
        training: What to train on; pictures that it has are read in every update.
        validation: What to validate on, or None.
        header: What the checkpoint says beside the configuration: tasks, contract, data set (see `export_bundle`).
        out: Folder of checkpoints and TensorBoard scalars.
        device: Where to train.
        algorithm: Name of the algorithm.
        options: The algorithm's own configuration; its defaults where there is none.
        critics_from: Folder of a run whose critics are taken as they are; None for critics that train.
        kind: The algorithm, where it is a form of the named one that the catalogue does not have.
        given: Tensors of networks of another run, which stay as they are; see `take_over`.
        begun_with: The same of networks that begin so, and train; a run that goes on has its own.
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
    kind = kind or algorithm_named(algorithm)
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
    data = _chunks(training, config, device, out)
    held_out = _chunks(validation, config, device, out) if validation else None
    networks = new_algorithm(config, kind, options, critics, data, source.form() if source else None)
    if source is not None:
        networks.take_critics(source.tensors)
    for network in take_over(networks, given or {}):
        network.requires_grad_(False)
    take_over(networks, begun_with or {})
    trainer = Trainer(config, networks, data, device)
    return course(trainer, held_out, header, out, intervals=intervals, report=report, interrupted=interrupted)


def take_over(networks: nn.Module, given: Mapping[str, torch.Tensor]) -> list[nn.Module]:
    """Return those of some networks that were given, with the tensors of another run.

    Args:
        networks: Those of a run.
        given: All tensors of some of them, by name.

    Raises:
        TrainingError: They are of other networks.
    """
    taken = []
    for name in sorted({key.partition(".")[0] for key in given}):
        try:
            network = networks.get_submodule(name)
            found = {key.removeprefix(f"{name}."): value for key, value in given.items() if key.startswith(f"{name}.")}
            network.load_state_dict(found)
        except (AttributeError, RuntimeError) as error:
            raise TrainingError(
                f"the {name} of another run does not fit ({error}); use another --out folder"
            ) from error
        taken.append(network)
    return taken


def _chunks(rewarded: Rewarded, config: TrainingConfig, device: torch.device, out: Path) -> ChunkData:
    dataset, rewards, goal = rewarded.dataset, rewarded.rewards, rewarded.goal
    seen = None if dataset.pictures is None else dataset.pictures.opened(out / CACHE)
    return ChunkData.build(dataset, rewards, config.horizon, config.discount, device, goal, seen, looks_ahead=True)
