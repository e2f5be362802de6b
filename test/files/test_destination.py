"""What is to be written is looked at before the work, and written in one move after it; neither leaves anything behind."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qgf_ros.errors import OutputError, QgfError
from qgf_ros.files.destination import check_destination, check_folder, replacing, write_text


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a disk with no room for more."""
    found = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, found[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, found)
        signal.signal(signal.SIGXFSZ, ignored)


def content(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_is_new_may_be_written_and_looking_leaves_nothing(tmp_path: Path) -> None:
    check_destination(tmp_path / "a" / "b" / "new.json", None, tmp_path / "new bundle v1.2", folder=False)
    check_folder(tmp_path / "a" / "b")
    assert content(tmp_path) == []


def test_what_is_there_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "years of work.npz"
    path.write_text("precious")
    with pytest.raises(OutputError) as caught:
        check_destination(tmp_path / "new.npz", path)
    assert str(caught.value) == f"{path} exists; give --force to replace it, or choose another --out"
    check_destination(path, force=True)
    assert (content(tmp_path), path.read_text()) == ([path.name], "precious")


def test_force_replaces_a_file_with_a_file_and_a_folder_with_a_folder_only(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for name, folder, expected in (
        ("folder", False, "is no regular file"),
        ("file", True, "is no folder"),
        ("pipe", False, "is no regular file"),
        ("link", False, "is a link to nothing"),
    ):
        with pytest.raises(OutputError, match=expected):
            check_destination(tmp_path / name, force=True, folder=folder)
    with pytest.raises(OutputError, match="is no regular file"):
        check_destination(Path("/dev/null"), force=True)


def test_a_place_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="out.json cannot be written .Not a directory.; choose another --json"):
        check_destination(tmp_path / "file" / "deeper" / "out.json", option="--json")
    with pytest.raises(OutputError, match="cannot be written .File name too long."):
        check_destination(tmp_path / ("x" * 300))
    with pytest.raises(OutputError, match="cannot be written .File name too long."):
        check_destination(tmp_path / "new" / ("x" * 300) / "out.json")
    with pytest.raises(OutputError, match="file cannot be written .Not a directory."):
        check_folder(tmp_path / "file")
    assert content(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_is_read_only_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written .Permission denied."):
        check_destination(tmp_path / "new" / "out.json")


def test_a_full_disk_is_one_sentence_before_the_work(tmp_path: Path) -> None:
    with largest_file(100), pytest.raises(OutputError, match="out.json cannot be written"):
        check_destination(tmp_path / "new" / "out.json")
    with largest_file(100), pytest.raises(OutputError, match="new cannot be written"):
        check_folder(tmp_path / "new")
    assert content(tmp_path) == []


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".json")  # 255 bytes
    check_destination(path)
    write_text(path, "ü")
    assert path.read_bytes() == "ü".encode()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    path.write_text("old")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(QgfError, match="f.txt cannot be written .No space left on device.; choose another --out"):
        write()
    assert path.read_text() == "old"
    assert content(tmp_path) == ["f.txt"]
