"""The features of a data set: what a finished encoder makes of every row, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
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
        cache: File of features, FILE.npy, [R, F]; made unless it is there, and whole. Its name is to tell data set and
            encoder.
        device: Where to compute them.
        report: Called with rows done, and rows in all.

    Raises:
        TrainingError: The file cannot be written.
    """
    shape = (len(dataset.terminals), encoder.features)
    if _kept(cache, shape) is None:
        with replacing(cache, "--out, or free some space", TrainingError) as temporary, temporary.open("wb") as file:
            # Not mapped: a disk that fills up under a mapped file kills the process.
            header = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(file, header)
            for first in range(0, shape[0], ROWS_AT_ONCE):
                rows = np.arange(first, min(first + ROWS_AT_ONCE, shape[0]))
                taken = {name: torch.from_numpy(p).to(device) for name, p in pictures.take(rows).items()}
                with torch.no_grad():
                    file.write(encoder(taken, torch.zeros(len(rows), 0, device=device)).cpu().numpy().tobytes())
                report(int(rows[-1]) + 1, shape[0])
    features = _kept(cache, shape)
    if features is None:
        raise TrainingError(f"{cache} was changed while it was read; give the same command again")
    return replace(dataset, observations=np.concatenate([features, dataset.observations], axis=1), pictures=None)


def _kept(cache: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """Return the features in a file, or None where it is not there, not whole or of another shape."""
    try:
        found = np.lib.format.open_memmap(cache, mode="r")
    except (OSError, ValueError):
        return None
    return found if found.shape == shape and found.dtype == np.float32 else None
