"""The features of a data set: what a finished encoder makes of every row, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qgf_ros.errors import TrainingError
from qgf_ros.files.destination import replacing
from qgf_ros.learning.data.dataset import Dataset
from qgf_ros.learning.data.picture_files import Pictures
from qgf_ros.learning.vision.encoder import PictureEncoder

#: Rows that are in memory as pictures at a time.
ROWS_AT_ONCE = 256


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of networks: names, types, shapes and every bit of their tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def with_features(
    dataset: Dataset,
    pictures: Pictures,
    encoder: PictureEncoder,
    cache: Path,
    *,
    device: torch.device,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """Return a data set that observes z, features and state, instead of pictures and state.

    Args:
        dataset: Its observations are the state [R, S].
        pictures: Of its rows.
        encoder: On the device.
        cache: File of features, FILE.npy, [R, F]; made unless it is there. Its name is to tell data set and encoder.
        device: Where to compute them.
        report: Called with rows done, and rows in all.

    Raises:
        TrainingError: The file cannot be written, or is of other features.
    """
    shape = (len(dataset.terminals), encoder.features)
    if not cache.is_file():
        with replacing(cache, "--out, or free some space", TrainingError) as temporary:
            found = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
            with torch.no_grad():
                for first in range(0, shape[0], ROWS_AT_ONCE):
                    rows = np.arange(first, min(first + ROWS_AT_ONCE, shape[0]))
                    taken = {name: torch.from_numpy(p).to(device) for name, p in pictures.take(rows).items()}
                    found[rows] = encoder(taken, torch.zeros(len(rows), 0, device=device)).cpu().numpy()
                    report(int(rows[-1]) + 1, shape[0])
            found.flush()
            del found
    features = np.load(cache, mmap_mode="r")
    if features.shape != shape or features.dtype != np.float32:
        raise TrainingError(f"{cache} has features of shape {features.shape}, expected {shape}; delete it")
    return replace(dataset, observations=np.concatenate([features, dataset.observations], axis=1), pictures=None)
