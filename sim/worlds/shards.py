"""Episodes that wait as files of their own until they are all there, and then become one data set.

The data set is what NumPy's `savez_compressed` would write of all rows, byte for byte, and is written an episode at a time:
however many pictures there are, one episode is in memory. Pictures are stored as they are, so that training maps them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.errors import DatasetError
from qgf_ros.files.destination import replacing
from qgf_ros.learning.data.picture_files import IMAGES

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
    said = note.read_text() if note.exists() else json.dumps(recipe)
    try:
        same = json.loads(said) == recipe
    except ValueError:  # as a power cut may leave it
        same = False
    if not same:
        raise DatasetError(
            f"{folder} holds episodes of another data set ({said}); finish that one or delete the folder"
        )
    for leftover in folder.glob(".*"):  # written halfway by a process that was killed
        leftover.unlink()
    write_whole(note, lambda path: path.write_text(json.dumps(recipe)))


def shard_path(folder: Path, split: int, index: int) -> Path:
    """Return where an episode waits; `split` is 0 for training and 1 for validation."""
    return folder / f"{('train', 'val')[split]}-{index:06d}.npz"


def waits(path: Path) -> bool:
    """Return whether an episode waits whole; a power cut may leave a file of nothing under its name."""
    return zipfile.is_zipfile(path)


def write_shard(path: Path, episode: Episode) -> None:
    """Write an episode in one move; raises DatasetError where it cannot."""

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **episode)  # type: ignore[arg-type]

    write_whole(path, save)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file in one move; raises DatasetError where it cannot."""
    with replacing(path, "--out, or free some space", DatasetError) as temporary:
        write(temporary)


def merge(shards: Sequence[Path], path: Path, texts: Mapping[str, str]) -> None:
    """Write the data set of some shards in one move.

    Args:
        shards: Episodes, in order, whose arrays have the same keys.
        path: File to write.
        texts: What it says beside them, by key.

    Raises:
        DatasetError: It cannot be written.
    """
    write_whole(path, lambda temporary: _merge(shards, temporary, texts))


def _merge(shards: Sequence[Path], path: Path, texts: Mapping[str, str]) -> None:
    with np.load(shards[0]) as first:
        keys = first.files
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in keys:
            with _member(archive, key) as file:
                for number, shard in enumerate(shards):
                    with np.load(shard) as arrays:
                        rows = np.ascontiguousarray(arrays[key])
                    if not number:
                        header = np.lib.format.header_data_from_array_1_0(rows)
                        header["shape"] = (_rows(shards, key), *rows.shape[1:])
                        np.lib.format.write_array_header_1_0(file, header)
                    file.write(rows.tobytes())
        for key, text in texts.items():
            with _member(archive, key) as file:
                np.lib.format.write_array(file, np.array(text))


def _rows(shards: Sequence[Path], key: str) -> int:
    """Return how many rows the arrays of a key have, by their headers alone."""
    count = 0
    for shard in shards:
        with zipfile.ZipFile(shard) as archive, archive.open(f"{key}.npy") as file:
            np.lib.format.read_magic(file)
            count += np.lib.format.read_array_header_1_0(file)[0][0]
    return count


def _member(archive: zipfile.ZipFile, key: str) -> Any:
    member = zipfile.ZipInfo(f"{key}.npy")
    member.compress_type = zipfile.ZIP_STORED if key.startswith(IMAGES) else zipfile.ZIP_DEFLATED
    return archive.open(member, "w", force_zip64=True)
