"""Folders that are replaced whole: whoever looks finds the old one or the new one, and a writer that dies leaves one.

The kernel exchanges two folders in one step, where it can (Linux, most local file systems). Elsewhere the old folder is
put aside and the new one into its place; a writer that dies between these two steps leaves the old one aside, under a
name that `recover_folder` knows.

Writers of one folder take turns by a lock on its parent, which needs no file and ends with the process that holds it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_TRIES = 10


@contextmanager
def replacing_folder(folder: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Give a temporary folder to fill, and put it into the place of `folder` if nothing went wrong.

    Args:
        folder: Folder to write; of a link, the one that it points to. Its parent is made if it is missing.
        check: Called with `folder` where there is one, before anything is written and again before it is replaced; what
            it raises comes through.

    Raises:
        OSError: It cannot be written; the old one is there as it was, and nothing else.
    """
    target = Path(os.path.realpath(folder))
    recover_folder(target)
    if os.path.lexists(target):
        with _turn(target.parent):  # another writer may be between its two steps
            if os.path.lexists(target):
                check(target)
    made = [parent for parent in (target.parent, *target.parent.parents) if not parent.exists()]
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _turn(target.parent):
            _clear(target)
            temporary = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
            owner = os.open(temporary, os.O_RDONLY)
            _lock(owner, fcntl.LOCK_EX)  # until it has been filled; a dead writer's is free, and cleared by the next
        try:
            yield temporary
            temporary.chmod(0o755)
            _to_disk(temporary)
            with _turn(target.parent):
                if os.path.lexists(target):
                    check(target)
                _put(temporary, target)
        finally:
            os.close(owner)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # where it has come to hold something
                parent.rmdir()


def recover_folder(folder: Path) -> bool:
    """Put a folder back that a writer which died has left aside, and say whether there is one now.

    Raises:
        OSError: It lies aside and cannot be put back.
    """
    if not folder.name:  # the root, or where we are
        return folder.is_dir()
    aside = _aside(folder)
    if os.path.lexists(folder) or not aside.is_dir():
        return folder.is_dir()
    with _turn(folder.parent):  # the writer may be alive, between its two steps
        if not os.path.lexists(folder) and aside.is_dir():
            os.rename(aside, folder)
    return folder.is_dir()


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the kernel or the file system cannot.

    Raises:
        OSError: One of them is missing, or the place is read-only.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a system without it
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def _put(temporary: Path, target: Path) -> None:
    """Put a folder into the place of another; what was there, if anything, has the temporary name or none."""
    for more in reversed(range(_TRIES)):
        try:
            if not os.path.lexists(target):
                os.rename(temporary, target)
            elif not exchange(temporary, target):
                _put_in_two_steps(temporary, target)
            return
        except OSError as error:
            # Where there are no locks, somebody else may have come in between.
            if not more or error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT):
                raise


def _put_in_two_steps(temporary: Path, target: Path) -> None:
    aside = _aside(target)
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(target, aside)
    try:
        os.rename(temporary, target)
    except OSError:
        with suppress(OSError):
            os.rename(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _clear(target: Path) -> None:
    """Remove what writers that died have left beside a folder."""
    if os.path.lexists(target):
        shutil.rmtree(_aside(target), ignore_errors=True)
    for leftover in target.parent.glob(f"{_escaped(_prefix(target))}*"):
        with suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its writer lives
                shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(descriptor)


def _prefix(target: Path) -> str:
    return f".{target.name}.partial-"


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _escaped(text: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)


@contextmanager
def _turn(parent: Path) -> Iterator[None]:
    """Hold the lock on a folder."""
    descriptor = os.open(parent, os.O_RDONLY)
    try:
        _lock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int) -> None:
    with suppress(OSError):  # a file system without locks, where writers at the same time are on their own
        fcntl.flock(descriptor, how)


def _to_disk(folder: Path) -> None:
    """Wait until files and folders are on the disk, so that a power cut finds no names without content."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
