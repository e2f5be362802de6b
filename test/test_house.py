"""House rules that keep a stranger's way short: one name for one thing, small folders, small modules."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("qgf_ros", "sim", "launch", "scripts")
#: Most files of a folder beside its ``__init__`` and its sub-rooms, lines of a module, and modules that are longer.
MOST_FILES, MOST_LINES, MOST_LONG_MODULES = 15, 300, 5


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def doubled(named: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """Return what has a name that something else has too, by name."""
    places = defaultdict(list)
    for name, path in named:
        places[name].append(name_of(path))
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_two_classes_share_a_name() -> None:
    classes = [
        (node.name, path)
        for path in sources(*PRODUCT)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert not doubled(classes)


def test_no_two_modules_share_a_name() -> None:
    """But a sub-command's module, which is called as it is."""
    modules = [(path.stem, path) for path in sources("qgf_ros", "sim") if path.stem != "__init__"]
    assert not doubled((stem, path) for stem, path in modules if ROOT / "qgf_ros" / "commands" not in path.parents)


def test_no_two_test_files_share_a_name() -> None:
    """pytest plugins of ROS 2 import test files by their base name."""
    assert not doubled((path.stem, path) for path in sources("test") if path.stem != "conftest")


def test_tests_lie_beside_what_they_test() -> None:
    """A folder of tests is named for a folder of product code; `faults` tests what goes wrong across them."""
    folders = {path.parent.relative_to(ROOT / "test") for path in sources("test")} - {Path(), Path("faults")}
    product = [ROOT / folder if folder.parts[0] == "sim" else ROOT / "qgf_ros" / folder for folder in folders]
    assert not [name_of(folder) for folder in product if not (folder / "__init__.py").is_file()]


def test_the_linter_leaves_no_file_out() -> None:
    """A bare name in what it excludes is that of any folder."""
    pytest.importorskip("ruff", reason="linting needs the dev extra")
    command = [sys.executable, "-m", "ruff", "check", "--show-files", str(ROOT)]
    looked_at = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert not {str(path) for path in sources(*PRODUCT, "test")} - set(looked_at)


@pytest.mark.parametrize("folder", sorted({path.parent for path in sources("qgf_ros", "sim")}), ids=name_of)
def test_a_folder_can_be_read_at_a_glance(folder: Path) -> None:
    files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES, f"{len(files)} files: {', '.join(sorted(files))}; make a sub-room"


def test_long_modules_are_few_and_the_design_says_why() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*PRODUCT)}
    long = [name_of(path) for path, lines in lengths.items() if lines > MOST_LINES]
    explained = re.findall(
        r"^\| `([\w/]+\.py)` \|", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(long) <= MOST_LONG_MODULES, f"more than {MOST_LINES} lines: {', '.join(long)}"
    assert sorted(explained) == sorted(long), "docs/design.md explains each module that is too long, and no other"
