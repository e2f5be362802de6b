"""Every test that the documentation names is there, and docs/safety.md promises nothing without naming one."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SAFETY = ROOT / "docs" / "safety.md"
#: Sections of it in which every paragraph promises something, but for the first, which introduces.
PROMISES = ("Watchdogs", "What is not")
#: First cells of the headers of its tables that hold measurements, and no promises.
MEASURED = ("bundle", "control rate")


@functools.cache
def in_file(path: Path) -> frozenset[str]:
    """Return the tests of a file, and its classes of tests."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    return frozenset(name for name in names if name.lower().startswith("test"))


@functools.cache
def every_test() -> frozenset[str]:
    return frozenset().union(*map(in_file, (ROOT / "test").rglob("test_*.py")))


def blocks(text: str) -> list[list[str]]:
    """Return paragraphs, items of lists and whole tables, as lists of lines."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        in_table = bool(found[-1]) and found[-1][0].startswith("|")
        if not line.strip() or line.startswith(("- ", "#")) or in_table != line.startswith("|"):
            found.append([])
        if line.strip():
            found[-1].append(line)
    return [block for block in found if block]


def sections() -> dict[str, list[list[str]]]:
    """Return the blocks of each section of docs/safety.md."""
    parts = re.split(r"^## (.*)$", SAFETY.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {title: blocks(body) for title, body in zip(["", *parts[1::2]], parts[::2], strict=True)}


def shorthand() -> dict[str, Path]:
    """Return the files that words stand for, and that of tests without one under the empty word."""
    text = " ".join(SAFETY.read_text(encoding="utf-8").split())
    (default,) = re.findall(r"tests without a folder are in `([\w/.]+)`", text)
    found = {"": ROOT / default}
    listed = r"`[\w/.]+`(?:, `[\w/.]+`)*(?: and `[\w/.]+`)?"
    for words, files in re.findall(rf"({listed}) stand for ({listed})", text):
        pairs = zip(re.findall(r"`([^`]+)`", words), re.findall(r"`([^`]+)`", files), strict=True)
        found.update({word: ROOT / file for word, file in pairs})
    return found


def named(text: str) -> list[tuple[Path, str]]:
    """Return the tests that a promise of docs/safety.md names, each with the file in which it says they are."""
    files = shorthand()
    place, found = files[""], []
    for path, word, name in re.findall(r"`(test/[\w/]+\.py)`:|\b(\w+):\s+(?=`test_)|`(test_\w+)`", text):
        if name:
            found.append((place, name))
        else:
            place = ROOT / path if path else files.get(word, place)  # any other word ends a sentence
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:test/)[\w/]+\.py)(?:::(\w+))?", text)
    assert [path for path, _ in paths if not (ROOT / path).is_file()] == []
    assert [f"{path}::{name}" for path, name in paths if name and name not in in_file(ROOT / path)] == []
    assert [name for name in re.findall(r"`(test_\w+)`", text) if name not in every_test()] == []


def test_every_test_that_the_page_of_safety_names_is_where_it_says() -> None:
    tests = [one for found in sections().values() for block in found for line in joined(block) for one in named(line)]
    assert len(tests) > 150
    assert [f"{path.relative_to(ROOT)}: {name}" for path, name in tests if name not in in_file(path)] == []


def joined(block: list[str]) -> list[str]:
    """Return the rows of a table, or a paragraph in one."""
    return block if block[0].startswith("|") else [" ".join(block)]


def test_every_row_of_the_page_of_safety_that_promises_something_names_a_test() -> None:
    tables = [block for found in sections().values() for block in found if block[0].startswith("|")]
    assert len(tables) > 7
    for header, _, *rows in tables:
        columns = [cell.strip() for cell in header.strip("|").split("|")]
        if columns[0] not in MEASURED:
            assert columns[-1] == "test", f"{header}: its last column should name tests"
            assert [row for row in rows if not named(row.rsplit(" | ", 1)[-1])] == []


@pytest.mark.parametrize("section", PROMISES)
def test_every_paragraph_of_the_page_of_safety_that_promises_something_names_a_test(section: str) -> None:
    paragraphs = [" ".join(block) for block in sections()[section] if not block[0].startswith("|")]
    introduction = 1 if section == "Watchdogs" else 0
    promises = [text for text in paragraphs[introduction:] if not text.endswith(":")]
    assert len(promises) > 4
    assert [text for text in promises if not named(text)] == []
