"""Episodes that wait as files of their own until they are all there, and then become one data set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.errors import DatasetError
from qgf_ros.files.destination import replacing

#: Arrays of one row per step, by key.
Episode = dict[str, NDArray[Any]]


def open_shards(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Make a folder of shards, or go on with the one that is there.

    Args:
        folder: For the shards.
        recipe: What decides what is in an episode of a number.

    Raises:
        DatasetError: It cannot be made, or has shards of another recipe.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder} cannot be made ({error.strerror}); choose another --out") from error
    note = folder / "recipe.json"
    if note.exists() and json.loads(note.read_text()) != recipe:
        raise DatasetError(
            f"{folder} holds episodes of another data set ({note.read_text()}); finish that one or delete the folder"
        )
    for leftover in folder.glob(".*"):  # written halfway by a process that was killed
        leftover.unlink()
    write_whole(note, lambda path: path.write_text(json.dumps(recipe)))


def shard_path(folder: Path, split: int, index: int) -> Path:
    """Return where an episode waits; `split` is 0 for training and 1 for validation."""
    return folder / f"{('train', 'val')[split]}-{index:06d}.npz"


def write_shard(path: Path, episode: Episode) -> None:
    """Write an episode in one move; raises DatasetError where it cannot."""
    write_whole(path, lambda temporary: _save(temporary, np.savez, episode))


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file in one move; raises DatasetError where it cannot."""
    with replacing(path, "--out, or free some space", DatasetError) as temporary:
        write(temporary)


def merge(shards: Sequence[Path], path: Path) -> None:
    """Write the data set of some shards in one move.

    Args:
        shards: Episodes, in order, whose arrays have the same keys.
        path: File to write.

    Raises:
        DatasetError: It cannot be written.
    """
    episodes = []
    for shard in shards:
        with np.load(shard) as arrays:
            episodes.append({key: arrays[key] for key in arrays.files})
    merged = {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
    write_whole(path, lambda temporary: _save(temporary, np.savez_compressed, merged))


def _save(path: Path, save: Callable[..., None], arrays: Episode) -> None:
    with path.open("wb") as file:
        save(file, **arrays)
