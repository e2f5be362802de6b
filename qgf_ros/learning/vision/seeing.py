"""A run that sees: first the encoder with the policy, then the features of all rows, on which everything else trains.

In the folder of a run lie, beside its own checkpoints,

    encoder/    checkpoints of encoder and velocity field, trained end to end
    cache/      pictures that were compressed in the data set, and the features of every row; may be deleted when it has ended

When the encoder has done its updates it stays as it is. Critics then train on features, as fast as on any vector, and the
velocity field is the one that the encoder was trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms.algorithm import Problem
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint
from qgf_ros.learning.course import Intervals, Progress, course
from qgf_ros.learning.data.chunks import ChunkData
from qgf_ros.learning.data.dataset import Dataset
from qgf_ros.learning.run import Rewarded
from qgf_ros.learning.trainer import Trainer, TrainingConfig
from qgf_ros.learning.vision.encoder import PictureEncoder, Sizes
from qgf_ros.learning.vision.features import fingerprint, with_features
from qgf_ros.learning.vision.picture_flow import NAME, PictureFlow, PictureFlowConfig

#: Folders of a run.
ENCODER, CACHE = "encoder", "cache"
#: Where the header of a checkpoint says which encoder its features come from.
ENCODER_KEY = "encoder"


@dataclass(frozen=True)
class Seen:
    """What the rest of a run needs of its encoder.

    Attributes:
        training, validation: Data that observe features and state.
        record: For the header: features F, sizes of the pictures, updates, configuration and fingerprint of the encoder.
        velocity: Tensors of the velocity field, which stays as it is.
    """

    training: Rewarded
    validation: Rewarded | None
    record: dict[str, Any]
    velocity: dict[str, Tensor]


def train_encoder(
    config: TrainingConfig,
    options: PictureFlowConfig,
    training: Dataset,
    validation: Dataset | None,
    header: Mapping[str, Any],
    out: Path,
    *,
    device: torch.device,
    intervals: Intervals,
    report: Callable[[Progress], None] = lambda progress: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Path:
    """Train encoder and velocity field end to end, from the newest checkpoint in ``out/encoder`` if there is one.

    Args:
        config: Of the encoder's updates.
        options: Of the networks.
        training, validation: Data with pictures.
        header: What the checkpoints of the whole run say.
        out: Folder of the run.
        device, intervals, report, interrupted: As in `learning.course`.

    Returns:
        The newest checkpoint.

    Raises:
        TrainingError: The folder holds another run or cannot be written, or a loss is not finite.
        DatasetError: No trajectory is long enough, or pictures cannot be read.
    """

    def chunks(dataset: Dataset) -> ChunkData:
        pictures = _pictures_of(dataset).opened(out / CACHE)
        return ChunkData.build(dataset, {}, config.horizon, config.discount, device, pictures=pictures)

    data = chunks(training)
    problem = Problem((), data.observations.shape[1], data.actions.shape[1])
    generator = torch.Generator().manual_seed(config.seed)
    networks = PictureFlow(options, problem, generator, _pictures_of(training).sizes)
    told = {**header, "algorithm": NAME, "config": {**config.to_dict(), **options.to_dict()}, "critics": []}
    trainer = Trainer(config, networks, data, device)
    held_out = None if validation is None else chunks(validation)
    return course(trainer, held_out, told, out / ENCODER, intervals=intervals, report=report, interrupted=interrupted)


def see(
    path: Path,
    training: Rewarded,
    validation: Rewarded | None,
    out: Path,
    *,
    device: torch.device,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Seen:
    """Return what a finished encoder makes of the data of a run.

    Args:
        path: Its newest checkpoint, from `train_encoder`.
        training, validation: Data with pictures, and their rewards.
        out: Folder of the run.
        device: Where to compute features.
        report: Called with rows done, and rows in all.

    Raises:
        TrainingError: The checkpoint does not fit its header, or features cannot be written.
    """
    tensors, header = load_checkpoint(path)
    sizes = _pictures_of(training.dataset).sizes
    encoder = load_encoder(tensors, header, sizes).to(device)
    own = fingerprint({key: value for key, value in tensors.items() if key.startswith("encoder.")})

    def seen(rewarded: Rewarded, name: str) -> Rewarded:
        dataset = rewarded.dataset
        cache = out / CACHE / f"{name}-{_told_apart(dataset)}-{own[:12]}.npy"
        pictures = _pictures_of(dataset).opened(out / CACHE)
        return replace(rewarded, dataset=with_features(dataset, pictures, encoder, cache, device=device, report=report))

    record = {
        "features": encoder.features,
        "pictures": {name: list(size) for name, size in sizes.items()},
        "updates": int(tensors["step"]),
        "config": header["config"],
        "sha256": own,
    }
    velocity = {key: value for key, value in tensors.items() if key.startswith("velocity.")}
    held_out = None if validation is None else seen(validation, "validation")
    return Seen(seen(training, "training"), held_out, record, velocity)


def load_encoder(tensors: Mapping[str, Tensor], header: Mapping[str, Any], sizes: Sizes) -> PictureEncoder:
    """Return the encoder of a checkpoint of `train_encoder`.

    Args:
        tensors, header: From `load_checkpoint`.
        sizes: Of the pictures.

    Raises:
        TrainingError: They do not fit together.
    """
    encoder = PictureEncoder(sizes, PictureFlowConfig.from_dict(header["config"]).features)
    own = {key.removeprefix("encoder."): value for key, value in tensors.items() if key.startswith("encoder.")}
    try:
        encoder.load_state_dict(own)
    except RuntimeError as error:
        raise TrainingError(f"the encoder does not fit its pictures ({error}); train again") from error
    return encoder.requires_grad_(False)


def encoder_of(run: Path, record: Mapping[str, Any]) -> PictureEncoder:
    """Return the encoder that the features of a run come from.

    Args:
        run: Its folder.
        record: What its checkpoint says of the encoder.

    Raises:
        TrainingError: It is not there, or is another one.
    """
    path = latest_checkpoint(run / ENCODER)
    if path is None:
        raise TrainingError(f"{run / ENCODER} holds no checkpoint of the encoder; restore it, or train again")
    tensors, header = load_checkpoint(path)
    own = fingerprint({key: value for key, value in tensors.items() if key.startswith("encoder.")})
    if own != record["sha256"]:
        raise TrainingError(f"{path} is another encoder than the critics were trained with; restore it, or train again")
    return load_encoder(
        tensors, header, {name: (height, width) for name, (height, width) in record["pictures"].items()}
    )


def _pictures_of(dataset: Dataset) -> Any:
    if dataset.pictures is None:
        raise TrainingError("the data set has no pictures; give one with images/NAME, see docs/data.md")
    return dataset.pictures


def _told_apart(dataset: Dataset) -> str:
    """Return what tells the pictures of a data set from others: the checksums in its file."""
    return "-".join(f"{header.crc:08x}" for header in _pictures_of(dataset).cameras.values())
