"""A bundle that is replaced: whoever reads finds the old one or the new one, and a writer that dies leaves one of them.

Each test runs once with the kernel's exchange of two folders and once without it, as on a system that has none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qgf_ros.bundle.locate import locate_bundle
from qgf_ros.bundle.store import load_manifest, read_bundle, write_bundle
from qgf_ros.errors import BundleError
from qgf_ros.files import folders

WAYS = ("exchange", "two steps")

COMMON = """
import os, shutil, signal, sys
from pathlib import Path
from qgf_ros.bundle.store import load_manifest, read_bundle, write_bundle
from qgf_ros.errors import QgfError
from qgf_ros.files import folders

source, target, way = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if way == "two steps":
    folders.exchange = lambda one, other: False
manifest, files = read_bundle(source)

def write(text):
    write_bundle(target, manifest.model_copy(update={"description": text}), files)
"""

WRITER = "for i in range(10):\n    write(f'{os.getpid()} {i}')\n"

READER = """
count = 0
while os.getppid() == int(sys.argv[4]) and not (target.parent / "stop").exists():
    read_bundle(target)
    load_manifest(target)
    count += 1
print(count)
"""

#: Dies before its n-th step of those that touch the disk; n goes up until a writer lives.
MORTAL = """
def mortal(number):
    left = iter(range(number))
    def before(function):
        def call(*arguments, **named):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)
        return call
    for module, names in (
        (os, ("rename", "open", "mkdir", "chmod", "fsync", "unlink", "rmdir", "close")),
        (Path, ("write_bytes", "write_text", "mkdir", "chmod")),
        (folders, ("exchange",)),
    ):
        for name in names:
            setattr(module, name, before(getattr(module, name)))
    write(f"writer {number}")
    os._exit(0)

write("writer -1")
number, newest = 0, -1
while True:
    child = os.fork()
    if child == 0:
        mortal(number)
    status = os.waitpid(child, 0)[1]
    found = read_bundle(target)[0].description
    assert found in (f"writer {newest}", f"writer {number}"), (number, newest, found)
    newest = number if found == f"writer {number}" else newest
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    number += 1
assert newest == number
write("last")
print(number)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COMMON + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.mark.parametrize("way", WAYS)
def test_processes_that_write_one_bundle_at_a_time_all_succeed_and_readers_find_it_whole(
    tiny_bundle: Path, tmp_path: Path, way: str
) -> None:
    target = tmp_path / "shared"
    manifest, files = read_bundle(tiny_bundle)
    write_bundle(target, manifest, files)
    readers = [start(READER, tiny_bundle, target, way, os.getpid()) for _ in range(2)]
    writers = [start(WRITER, tiny_bundle, target, way) for _ in range(3)]
    for writer in writers:
        result(writer)
    (tmp_path / "stop").touch()
    assert all(int(result(reader)) > 0 for reader in readers)
    assert load_manifest(target).description in [f"{writer.pid} 9" for writer in writers]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shared", "stop"]


@pytest.mark.parametrize("way", WAYS)
def test_a_writer_killed_at_any_step_leaves_the_old_bundle_or_the_new_one(
    tiny_bundle: Path, tmp_path: Path, way: str
) -> None:
    target = tmp_path / "killed"
    steps = int(result(start(MORTAL, tiny_bundle, target, way)))
    assert steps > 20
    assert load_manifest(target).description == "last"
    assert [path.name for path in tmp_path.iterdir()] == ["killed"], "what dead writers left is cleared by the next"


def test_a_bundle_left_aside_is_found_by_its_name_and_put_back(tiny_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "mine"
    write_bundle(target, *read_bundle(tiny_bundle))
    target.rename(target.with_name(".mine.old"))
    assert locate_bundle(target) == target
    assert [path.name for path in target.parent.iterdir()] == ["mine"]


def test_a_bundle_behind_a_link_is_replaced_where_it_lies(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest, files = read_bundle(tiny_bundle)
    write_bundle(tmp_path / "v1", manifest, files)
    (tmp_path / "newest").symlink_to("v1")
    write_bundle(tmp_path / "newest", manifest.model_copy(update={"description": "second"}), files)
    assert (tmp_path / "newest").is_symlink()
    assert load_manifest(tmp_path / "v1").description == "second"


@pytest.mark.parametrize("way", WAYS)
def test_what_fails_while_it_is_written_leaves_the_old_bundle_and_nothing_else(
    tiny_bundle: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "two steps":
        monkeypatch.setattr(folders, "exchange", lambda one, other: False)
    manifest, files = read_bundle(tiny_bundle)
    write_bundle(tmp_path / "mine", manifest, files)
    with pytest.raises(BundleError, match="mine cannot be written"):
        write_bundle(tmp_path / "mine", manifest, {**files, "x" * 300: b""})
    assert load_manifest(tmp_path / "mine") == manifest
    with pytest.raises(BundleError, match="other cannot be written"):
        write_bundle(tmp_path / "new" / "other", manifest, {**files, "x" * 300: b""})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
