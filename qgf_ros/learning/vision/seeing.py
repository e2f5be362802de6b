"""A run that sees: first the encoder with the policy, then the features of all rows, on which everything else trains.

In the folder of a run lie, beside its own checkpoints,

    encoder/    checkpoints of encoder and velocity field, trained end to end
    cache/      pictures that were compressed in the data set, and the features of every row; may be deleted when it has ended
    pictures/   what each camera saw in the first row of the data set, which goes with the bundle

When the encoder has done its updates it stays as it is. Critics then train on features, as fast as on any vector, or through
an encoder of their own on pictures (`vision.picture_critics`). The velocity field is the one that the encoder was trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qgf_ros.errors import TrainingError
from qgf_ros.files.destination import replacing
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint
from qgf_ros.learning.course import Intervals, Progress, course
from qgf_ros.learning.data.chunks import ChunkData
from qgf_ros.learning.data.dataset import Dataset
from qgf_ros.learning.data.picture_files import CACHE, PictureFile
from qgf_ros.learning.data.reference_pictures import reference_pictures
from qgf_ros.learning.run import Rewarded
from qgf_ros.learning.trainer import Trainer, TrainingConfig, new_algorithm
from qgf_ros.learning.vision.encoder import PictureEncoder, Sizes
from qgf_ros.learning.vision.features import fingerprint, with_features
from qgf_ros.learning.vision.picture_flow import NAME, PictureFlow, PictureFlowConfig

#: Folder of a run.
ENCODER = "encoder"
#: Where the header of a checkpoint says which encoder its features come from, and whose encoder its critics see through.
ENCODER_KEY, CRITIC_ENCODER_KEY = "encoder", "critic_encoder"
#: Whose that is: the policy's, which a header does not say, or one that the critics train.
SHARED, OWN = "shared", "own"
#: Where it says what becomes of the velocity field behind a finished encoder: it is kept, which is not said, or trained on.
VELOCITY_KEY, KEPT, TRAINED_ON = "velocity_field", "kept", "trained"


@dataclass(frozen=True)
class Seen:
    """What the rest of a run needs of its encoder.

    Attributes:
        training, validation: Data that observe features and state; with pictures for critics that have an encoder.
        record: For the header: features F, sizes of the pictures, updates, configuration and fingerprint of the encoder.
        velocity: Tensors of the velocity field.
        encoder: Those of the encoder, without its name.
    """

    training: Rewarded
    validation: Rewarded | None
    record: dict[str, Any]
    velocity: dict[str, Tensor]
    encoder: dict[str, Tensor]


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
        TrainingError: The folder holds another run, or critics of an encoder of other updates, or cannot be written; or a
            loss is not finite.
        DatasetError: No trajectory is long enough, or pictures cannot be read.
    """
    _check_finished(config, out)

    def chunks(dataset: Dataset) -> ChunkData:
        pictures = _pictures_of(dataset).opened(out / CACHE)
        return ChunkData.build(dataset, {}, config.horizon, config.discount, device, pictures=pictures)

    data = chunks(training)
    networks = new_algorithm(config, PictureFlow, options, (), data)
    told = {**header, "algorithm": NAME, "config": {**config.to_dict(), **options.to_dict()}, "critics": []}
    trainer = Trainer(config, networks, data, device)
    held_out = None if validation is None else chunks(validation)
    return course(trainer, held_out, told, out / ENCODER, intervals=intervals, report=report, interrupted=interrupted)


def _check_finished(config: TrainingConfig, out: Path) -> None:
    """Raise TrainingError where critics are there that know the features of an encoder of fewer updates, or of more.

    To train it on would take hours and leave neither a run that goes on nor one that can be exported.
    """
    path = latest_checkpoint(out)
    record = {} if path is None else load_checkpoint(path)[1].get(ENCODER_KEY, {})
    if record.get("updates", config.updates) != config.updates:
        raise TrainingError(
            f"{out} holds critics on the features of an encoder of {record['updates']} updates, {config.updates} were asked "
            f"for; give --encoder-updates {record['updates']}, or another --out folder"
        )


def see(
    path: Path,
    training: Rewarded,
    validation: Rewarded | None,
    out: Path,
    *,
    device: torch.device,
    critic_encoder: str = SHARED,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Seen:
    """Return what a finished encoder makes of the data of a run.

    Args:
        path: Its newest checkpoint, from `train_encoder`.
        training, validation: Data with pictures, and their rewards.
        out: Folder of the run.
        device: Where to compute features.
        critic_encoder: Whose the critics see through; the pictures are kept where it is their `OWN`.
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
        given = with_features(dataset, pictures, encoder, cache, device=device, report=report)
        kept = dataset.pictures if critic_encoder == OWN else None
        return replace(rewarded, dataset=replace(given, pictures=kept))

    record = {
        "features": encoder.features,
        "pictures": {name: list(size) for name, size in sizes.items()},
        "updates": int(tensors["step"]),
        "config": header["config"],
        "sha256": own,
    }
    _keep_references(_pictures_of(training.dataset), out)
    velocity = {key: value for key, value in tensors.items() if key.startswith("velocity.")}
    held_out = None if validation is None else seen(validation, "validation")
    return Seen(seen(training, "training"), held_out, record, velocity, _tensors_of(tensors, ENCODER))


def _keep_references(pictures: PictureFile, out: Path) -> None:
    """Put what each camera saw first into the folder of a run, unless it is there."""
    for name, content in reference_pictures(pictures).items():
        if not (out / name).exists():
            with replacing(out / name, "--out, or free some space", TrainingError) as temporary:
                temporary.write_bytes(content)


def load_encoder(
    tensors: Mapping[str, Tensor], header: Mapping[str, Any], sizes: Sizes, name: str = ENCODER
) -> PictureEncoder:
    """Return an encoder of a checkpoint.

    Args:
        tensors, header: From `load_checkpoint`.
        sizes: Of the pictures.
        name: Of the network; that of `train_encoder` by default.

    Raises:
        TrainingError: They do not fit together.
    """
    encoder = PictureEncoder(sizes, PictureFlowConfig.from_dict(header["config"]).features)
    try:
        encoder.load_state_dict(_tensors_of(tensors, name))
    except RuntimeError as error:
        raise TrainingError(f"the {name} does not fit its pictures ({error}); train again") from error
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


def _tensors_of(tensors: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Return the tensors of a network of a checkpoint, without its name."""
    begin = f"{network}."
    return {key.removeprefix(begin): value for key, value in tensors.items() if key.startswith(begin)}


def _pictures_of(dataset: Dataset) -> PictureFile:
    if dataset.pictures is None:
        raise TrainingError("the data set has no pictures; give one with images/NAME, see docs/data.md")
    return dataset.pictures


def _told_apart(dataset: Dataset) -> str:
    """Return what tells the pictures of a data set from others: the checksums in its file."""
    return "-".join(f"{header.crc:08x}" for header in _pictures_of(dataset).cameras.values())
