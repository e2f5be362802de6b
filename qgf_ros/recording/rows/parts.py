"""Recordings that have become rows, kept on the disk until all of them are one data set: nothing is done twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.errors import RecordingError
from qgf_ros.files.destination import replacing
from qgf_ros.recording.recording import Recording
from qgf_ros.recording.rows.picture_rows import PictureRows
from qgf_ros.recording.rows.trajectories import Conversion, Trajectory

#: Of what a part holds; another one is made anew.
_FORMAT = 1
_ROWS = "rows.npz"
#: Name of a part: the beginning of a checksum.
_PART = re.compile(r"[0-9a-f]{32}")


class Parts:
    """A folder with a folder in it for each recording that was converted.

    A part is of one state of the recording's files and one way to convert them: where either is another, it is none.

    Args:
        folder: For them; made when the first is begun.
        recipe: A dataclass with all that decides what rows a recording becomes.
        cameras: Those of the rows.
    """

    def __init__(self, folder: Path, recipe: Any, cameras: Mapping[str, CameraField]) -> None:
        self.folder = folder
        self._cameras = cameras
        self._recipe = json.dumps([_FORMAT, dataclasses.asdict(recipe)], default=_plain, sort_keys=True)

    def finished(self, recordings: Sequence[Recording]) -> int:
        """Return of how many of some recordings a part is finished."""
        return sum((self._path(recording) / _ROWS).exists() for recording in recordings)

    def keep_only(self, recordings: Sequence[Recording]) -> None:
        """Delete parts of anything but these recordings, as they are and are to be converted now; nothing else is touched."""
        kept = set(map(self._path, recordings))
        if self.folder.is_dir():
            for found in self.folder.iterdir():
                if _PART.fullmatch(found.name) and found not in kept:
                    shutil.rmtree(found, ignore_errors=True)

    def begin(self, recording: Recording) -> PictureRows:
        """Begin a part, and return where its pictures are written; what was begun of it before is forgotten."""
        self.drop(recording)
        return PictureRows(self._path(recording), self._cameras)

    def drop(self, recording: Recording) -> None:
        """Take back what was begun of a part, and the folder where it was the only one."""
        shutil.rmtree(self._path(recording), ignore_errors=True)
        with suppress(OSError):
            self.folder.rmdir()

    def finish(self, recording: Recording, made: Conversion, pictures: PictureRows) -> None:
        """Keep what a recording gave, whose pictures are written; raises RecordingError where there is no room."""
        rows = made.trajectories
        arrays: dict[str, Any] = {
            "lengths": np.array([len(one.actions) for one in rows], dtype=np.int64),
            "solved": np.array([one.solved for one in rows], dtype=bool),
            "seen": np.array([number for one in rows for number in one.seen], dtype=np.int64),
            "said": np.array(json.dumps({"pictures": pictures.count, **_said(made)})),
        }
        if rows:
            arrays["observations"] = np.concatenate([one.observations for one in rows])
            arrays["actions"] = np.concatenate([one.actions for one in rows])
            arrays["rewards"] = np.concatenate([one.rewards for one in rows])
        path = self._path(recording) / _ROWS
        with replacing(path, "--out, or free some space", RecordingError) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    def find(self, recording: Recording) -> Conversion | None:
        """Return what a recording gave when it was converted, or None if it was not, or not whole."""
        folder = self._path(recording)
        pictures = PictureRows(folder, self._cameras)
        try:
            with np.load(folder / _ROWS, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            said = json.loads(str(arrays["said"]))
            pictures.count = said.pop("pictures")
            if not pictures.whole:
                return None
            return _conversion(arrays, said, pictures)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None

    def clear(self) -> None:
        """Delete all of them, and the folder, unless somebody else has put something into it."""
        self.keep_only(())
        with suppress(OSError):
            self.folder.rmdir()

    def _path(self, recording: Recording) -> Path:
        found = [(str(file.resolve()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in recording.files]
        key = hashlib.sha256(json.dumps([self._recipe, found]).encode()).hexdigest()
        return self.folder / key[:32]


def _said(made: Conversion) -> dict[str, Any]:
    """Return what a conversion says beside its rows, as JSON has it."""
    return {
        "left_out": made.left_out,
        "outcomes": made.outcomes,
        "inferred": made.inferred,
        "clipped": made.clipped,
        "notes": made.notes,
        "damage": made.damage,
        "measured": sorted(made.measured),
    }


def _conversion(arrays: Mapping[str, Any], said: dict[str, Any], pictures: PictureRows) -> Conversion:
    """Return what `_said` and the arrays beside it are of."""
    made = Conversion(**{**said, "left_out": Counter(said["left_out"]), "measured": set(said["measured"])})
    at = 0
    for length, solved in zip(arrays["lengths"].tolist(), arrays["solved"].tolist()):
        here = slice(at, at + length)
        values = list(arrays["observations"][here]), list(arrays["actions"][here]), arrays["rewards"][here].tolist()
        made.trajectories.append(Trajectory(*values, pictures, arrays["seen"][here].tolist(), solved))
        at += length
    return made


def _plain(value: Any) -> Any:
    """Return what JSON has for something that it does not know."""
    return sorted(value) if isinstance(value, (set, frozenset)) else value.model_dump(mode="json")
