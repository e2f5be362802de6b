"""Where a command writes: looked at before the work, filled in one move after it.

What is finished is not replaced unless somebody says so, and a place that cannot be written is known before hours have
gone into what was to be written there. Both are one sentence, and neither leaves anything behind.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qgf_ros.errors import OutputError, QgfError

#: Bytes by which a place is tried [bytes]: a block of most file systems.
_TRIED = 4096


def check_destination(*paths: Path | None, force: bool = False, option: str = "--out", folder: bool = False) -> None:
    """Look at what is to be written before the work that it is the result of.

    Args:
        paths: Files or folders to write; None is nothing.
        force: Whether one that is there is to be replaced.
        option: How the command calls the path, for the message.
        folder: Whether they are folders.

    Raises:
        OutputError: One exists, and `force` was not given, or is something else than what is to take its place; or the
            place cannot be made or written, or its disk is full. Nothing is left behind.
    """
    for path in filter(None, paths):
        try:
            _check_what_is_there(path, force, option, folder)
            _try_to_write(path)
        except OSError as error:
            raise _unwritable(path, error, option, OutputError) from error


def check_folder(folder: Path, option: str = "--out") -> None:
    """Look whether files can be put into a folder, which is made if it is missing, before the work that they come of.

    Raises:
        OutputError: The folder cannot be made or written, or its disk is full. Nothing is left behind.
    """
    try:
        _try_to_write(folder / "any")
    except OSError as error:
        raise _unwritable(folder, error, option, OutputError) from error


def _check_what_is_there(path: Path, force: bool, option: str, folder: bool) -> None:
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            found = os.stat(path)
    except FileNotFoundError:
        if not os.path.islink(path):
            return
        raise OutputError(f"{path} is a link to nothing; choose another {option}") from None
    right = stat.S_ISDIR(found.st_mode) if folder else stat.S_ISREG(found.st_mode)
    if not right:
        raise OutputError(f"{path} exists and is no {'folder' if folder else 'regular file'}; choose another {option}")
    if not force:
        raise OutputError(f"{path} exists; give --force to replace it, or choose another {option}")


def _try_to_write(path: Path) -> None:
    """Make a file beside `path`, in folders that are made for it, and take all of it back; raises OSError."""
    made = []
    folder = path.parent
    while not folder.exists():  # which raises where a name is too long
        made.append(folder)
        folder = folder.parent
    temporary = temporary_path(path)
    try:
        for folder in reversed(made):
            folder.mkdir(exist_ok=True)
        with temporary.open("xb", buffering=0) as file:
            # A short write is a disk with less than that left: the next one would say so.
            written = 0
            while written < _TRIED:
                written += file.write(bytes(_TRIED - written))
        with suppress(FileNotFoundError):
            os.lstat(path)  # raises where the name is too long, but only once its folder is there
    finally:
        with suppress(OSError):
            temporary.unlink()
        for folder in made:
            with suppress(OSError):  # somebody else has put something into it meanwhile
                folder.rmdir()


def temporary_path(path: Path) -> Path:
    """Return a hidden name beside `path`, with its suffix, that no other process takes."""
    return path.with_name(f".{os.getpid()}-{path.stem[:64]}.partial{path.suffix[-64:]}")


@contextmanager
def replacing(path: Path, option: str = "--out", error: type[QgfError] = OutputError) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` if nothing went wrong.

    Args:
        path: File to write; one that is there is replaced, see `check_destination`.
        option: How the command calls it, for the message.
        error: What is raised.

    Raises:
        QgfError: The folder or the file cannot be written; as it was before, and no temporary file, is what stays.
    """
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as cause:
        raise _unwritable(path, cause, option, error) from cause
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str, option: str = "--out", error: type[QgfError] = OutputError) -> None:
    """Write a text in one move, in UTF-8; see `replacing`."""
    with replacing(path, option, error) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _unwritable(path: Path, cause: OSError, option: str, error: type[QgfError]) -> QgfError:
    return error(f"{path} cannot be written ({cause.strerror or cause}); choose another {option}")
