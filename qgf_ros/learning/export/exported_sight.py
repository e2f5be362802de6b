"""What a bundle that sees has beside the primitives: its encoders, proven equal to torch, and its cameras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from qgf_ros.bundle.store import encoder_file, reference_picture_file
from qgf_ros.learning.export.encoder_graph import STATE, encoder_graph
from qgf_ros.learning.vision.encoder import PictureEncoder
from qgf_ros.learning.vision.picture_critics import FOLLOWING
from qgf_ros.learning.vision.seeing import CRITIC_ENCODER_KEY, ENCODER_KEY, OWN, encoder_of, load_encoder

_PARITY_ROWS = 64


class ExportedSight(NamedTuple):
    """The part of a bundle by which it sees; nothing where the run has no cameras.

    Attributes:
        features: Numbers F that come before the state in what velocity field and critics see.
        state_size: Length S of the state.
        files: File contents by path.
        encoders: What they were made of, by path: the policy's, and those of critics with one of their own.
        manifest: Fields of the manifest.
    """

    features: int
    state_size: int
    files: dict[str, bytes]
    encoders: dict[str, PictureEncoder]
    manifest: dict[str, Any]


def exported_sight(
    run: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any], state_size: int
) -> ExportedSight:
    """Return how a run sees.

    Args:
        run: Its folder.
        tensors, header: Of its checkpoint.
        state_size: Length S of the state.

    Raises:
        TrainingError: The encoder is not there, or not the one that the features came from.
    """
    record = header.get(ENCODER_KEY)
    if record is None:
        return ExportedSight(0, state_size, {}, {}, {})
    sizes = {name: (height, width) for name, (height, width) in record["pictures"].items()}
    policy = encoder_of(run, record)
    encoders: dict[str, PictureEncoder] = {encoder_file(): policy}
    encoding: dict[str, Any] = {"features": policy.features + state_size}
    files = {encoder_file(): encoder_graph(policy, sizes, state_size)}
    if header.get(CRITIC_ENCODER_KEY) == OWN:
        own = load_encoder(tensors, header, sizes, FOLLOWING)
        paths = [encoder_file(name) for name in header["critics"]]
        encoders |= dict.fromkeys(paths, own)
        files |= dict.fromkeys(paths, encoder_graph(own, sizes, state_size))
        encoding["critics"] = dict.fromkeys(header["critics"], own.features + state_size)
    # Runs of before kept none; a bundle need not have any.
    kept = (name for name in map(reference_picture_file, sizes) if (run / name).is_file())
    files |= {name: (run / name).read_bytes() for name in kept}
    about = {"cameras": header["cameras"], "encoding": encoding}
    return ExportedSight(policy.features, state_size, files, encoders, about)


def encoder_inputs(pictures: Mapping[str, list[int]], state_size: int) -> dict[str, Any]:
    """Return pictures and states at random, of which half the pictures are of one colour, by input of the encoder."""
    random = np.random.default_rng(20261130)
    inputs: dict[str, Any] = {}
    for name, (height, width) in pictures.items():
        noise = random.integers(0, 256, (_PARITY_ROWS, height, width, 3), dtype=np.uint8)
        noise[::2] = random.integers(0, 256, (_PARITY_ROWS // 2, 1, 1, 3), dtype=np.uint8)
        inputs[name] = noise
    if state_size:
        inputs[STATE] = random.standard_normal((_PARITY_ROWS, state_size), dtype=np.float32)
    return inputs


def encoder_outputs(encoder: PictureEncoder, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Return what torch makes of such inputs, z [N, F + S]."""
    pictures = {name: torch.from_numpy(inputs[name]) for name in encoder.cameras}
    state = torch.from_numpy(inputs.get(STATE, np.zeros((_PARITY_ROWS, 0), np.float32)))
    with torch.no_grad():
        z: torch.Tensor = encoder(pictures, state)
    return z
