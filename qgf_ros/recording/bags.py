"""What a command is given as recordings: files, folders that rosbag2 wrote, and the parts of one recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from qgf_ros.bundle.text import one_line
from qgf_ros.errors import RecordingError
from qgf_ros.recording.recording import Recording

#: What rosbag2 writes beside the files of a recording; a larger one is not looked into [bytes].
METADATA_NAME, LARGEST_METADATA = "metadata.yaml", 256 * 1024
#: A file continues one whose last message came at most this long before its first, or so much after it [ns].
LONGEST_PAUSE, LONGEST_OVERLAP = 1_000_000_000, 100_000_000

#: What of it is needed, a line each, as rosbag2 writes it: to parse YAML of unknown origin takes time without bound.
_STORAGE = re.compile(r"^[ \t]*storage_identifier:[ \t]*(\S+)[ \t]*$", re.MULTILINE)
_LISTED = re.compile(r"^( *)relative_file_paths:[ \t]*\n((?:\1 *- .*(?:\n|$))+)", re.MULTILINE)
#: How rosbag2 numbers the parts of a recording.
_NUMBERED = re.compile(r"(?P<stem>.+)_(?P<number>\d{1,9})\.mcap(\.zstd)?")
_CONVERT = "which is not read yet; make an MCAP of it with 'ros2 bag convert' (docs/recording.md says how)"


def open_recordings(paths: Sequence[Path]) -> list[Recording]:
    """Open files and folders, and join what is one recording.

    The files of a folder with a ``metadata.yaml`` are one. Other files are, where they are numbered as rosbag2 numbers
    parts, one after the other, and each begins when the one before ends.

    Raises:
        RecordingError: Something cannot be read, is no recording, or is given twice.
    """
    opened: list[Recording] = []
    for path in paths:
        if not path.is_dir():
            opened.append(Recording.open(path))
        elif (path / METADATA_NAME).is_file():
            opened.append(_folder(path))
        else:
            opened += [Recording.open(file) for file in _files_in(path)]
    seen: set[Path] = set()
    for file in (file for recording in opened for file in recording.files):
        if file.resolve() in seen:
            raise RecordingError(f"{file} was given twice; give each recording once, its rows would count twice")
        seen.add(file.resolve())
    return _joined(opened)


def _files_in(folder: Path) -> list[Path]:
    """Return the MCAP files in a folder, by name and number; raises RecordingError if there is none."""
    files = [path for path in folder.iterdir() if path.name.endswith((".mcap", ".mcap.zstd"))]
    if not files:
        if any(folder.glob("*.db3*")):
            raise RecordingError(f"{folder} is a bag in SQLite (.db3), {_CONVERT}")
        raise RecordingError(f"{folder} is a folder without MCAP files; give a file, or a folder that rosbag2 wrote")
    return sorted(files, key=lambda path: (_part(path) or (path.name, 0), path.name))


def _folder(folder: Path) -> Recording:
    """Return the recording in a folder of rosbag2."""
    about = _metadata(folder / METADATA_NAME)
    storage = _STORAGE.search(about)
    if storage is not None and storage[1] == "sqlite3":
        raise RecordingError(f"{folder} is a bag in SQLite (.db3), {_CONVERT}")
    if storage is not None and storage[1] != "mcap":
        raise RecordingError(
            f"{folder} is a bag in the storage {one_line(storage[1])}, expected mcap; record it with -s mcap"
        )
    listed = _LISTED.search(about)
    names = [line.partition("- ")[2].strip("\"' ") for line in listed[2].splitlines()] if listed is not None else []
    # Older versions write the folder, too; nothing outside it is a part.
    named = [folder / Path(name).name for name in names] or _files_in(folder)
    there = [path for path in dict.fromkeys(named) if path.is_file()]
    if not there:
        raise RecordingError(f"{folder} has none of the files that {METADATA_NAME} lists; copy the folder whole")
    recording = Recording.joined(folder, [Recording.open(path) for path in there])
    recording.damage += [
        f"{one_line(path.name)}, which {METADATA_NAME} lists, is not there" for path in named if path not in there
    ]
    return recording


def _metadata(path: Path) -> str:
    """Return what rosbag2 says of a recording; nothing of what is too long."""
    try:
        return path.read_text("utf-8", errors="replace") if path.stat().st_size <= LARGEST_METADATA else ""
    except OSError as error:
        raise RecordingError(f"{path} cannot be read ({error.strerror}); give the files of the folder") from error


def _part(path: Path) -> tuple[str, int] | None:
    """Return of which recording a file is a part, and its number, as far as its name says."""
    match = _NUMBERED.fullmatch(path.name)
    return None if match is None else (match["stem"], int(match["number"]))


def _joined(recordings: Sequence[Recording]) -> list[Recording]:
    """Return the recordings, with the parts of one joined, each at the place of its first."""
    place = {id(recording): i for i, recording in enumerate(recordings)}
    found: list[list[Recording]] = []
    for recording in sorted(recordings, key=lambda one: (_part(one.path) or ("", 0))[1]):
        before = next((parts for parts in found if _continues(parts[-1], recording)), None)
        if before is None:
            found.append([recording])
        else:
            before.append(recording)
    found.sort(key=lambda parts: min(place[id(part)] for part in parts))
    return [parts[0] if len(parts) == 1 else Recording.joined(parts[0].path, parts) for parts in found]


def _continues(before: Recording, after: Recording) -> bool:
    """Return whether a file is the next part of the recording that another one is a part of."""
    if before.run or after.run or before.span is None or after.span is None:  # qgf record writes one file
        return False
    last, next_ = _part(before.path), _part(after.path)
    if last is None or next_ is None or before.path.parent != after.path.parent:
        return False
    pause = after.span[0] - before.span[1]
    return next_ == (last[0], last[1] + 1) and -LONGEST_OVERLAP <= pause <= LONGEST_PAUSE
