"""`qgf dataset from-bag` says before the work that --out cannot be written, and leaves nothing behind."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="reading recordings needs the record extra")

from qgf_ros.cli import main
from qgf_ros.errors import RecordingError
from qgf_ros.recording.rows.data_file import write_data_set


def contents(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("", "--out . was given, expected the name of a file, FILE.npz"),
        ("..", "expected the name of a file, FILE.npz"),
        ("data", "expected the name of a file, FILE.npz"),
        ("v1.2", "expected the name of a file, FILE.npz"),
        (".npz", "expected the name of a file, FILE.npz"),
        ("folder.npz", "folder.npz"),
        ("file/d.npz", "d.npz cannot be written"),
        ("file/deeper/d.npz", "cannot be written (Not a directory)"),
        ("new/folders/" + "d" * 300 + ".npz", "cannot be written (File name too long)"),
        ("/proc/d.npz", "cannot be written (No such file or directory)"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_a_recording_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, out: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder.npz").mkdir()
    before = contents(tmp_path)
    assert main(["dataset", "from-bag", "no.mcap", "--bundle", "cube-single", "--out", out]) == 2
    assert says in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_name_with_spaces_and_folders_to_come_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then the recording is read, which is not there; and no folder was made for nothing."""
    out = tmp_path / "my data" / "v1.2" / "first try.npz"
    assert main(["dataset", "from-bag", "no.mcap", "--bundle", "cube-single", "--out", str(out)]) == 2
    assert "no.mcap" in capsys.readouterr().err
    assert contents(tmp_path) == []


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    out = tmp_path / "new" / "d.npz"
    if there:
        write_data_set(out, {"observations": np.zeros(3)}, {})
    before = {path: path.read_bytes() for path in contents(tmp_path) if path.is_file()}

    def full(file: Any, **arrays: Any) -> None:
        with file if hasattr(file, "write") else file.open("wb") as begun:
            begun.write(b"PK\x03\x04")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(RecordingError, match="d.npz cannot be written \\(No space left on device\\)"):
        write_data_set(out, {"observations": np.ones(3)}, {})
    assert {path: path.read_bytes() for path in contents(tmp_path) if path.is_file()} == before
