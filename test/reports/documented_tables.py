"""The tables of the documentation, and how they are held to the data that they are of.

Above each table stands a comment, such as `<!-- table: reporting, of results/scene.json -->`: which kind it is, and which files
it is of, relative to its page. A kind is a function of those files and the table's header; it returns, for the label in the
first cell of each row, the texts of the other cells. Words are free, numbers and verdicts are not: each cell must hold the same
ones in the same order, as exact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Cells = list[str]
Rows = dict[str, Cells]

_COMMENT = re.compile(r"<!-- table: (?P<kind>\w+), of (?P<files>[^>]+?) -->")
_LINK = re.compile(r"\]\([^)]*\)")
#: Not the numbers in names such as `cube-single-2`, `f32` or `-v0`.
_NUMBER = re.compile(r"(?<![\w.])(?<!\w-)[-+]?\d[\d,]*(?:\.\d+)?")
#: What `qgf analyze success` says of a method beside another one.
_VERDICT = re.compile(r"\b(?:better|worse|equivalent|undecided)\b")
#: A rate, a count of how many, or an interval.
_MEASURED = re.compile(r"\d ?%|\d/\d|\[[-+]?\d+(\.\d+)?, [-+]?\d+(\.\d+)?\]")


@dataclass(frozen=True)
class Kind:
    """A kind of table.

    Attributes:
        rows: From the files and the header: by label, the texts of the other cells of each row.
        label: Which row of the data a row of the table is.
        optional: Labels that a table may leave out; None for all.
    """

    rows: Callable[[Sequence[Any], Cells], Rows]
    label: Callable[[Cells], str] = lambda row: row[0]
    optional: frozenset[str] | None = frozenset()

    def may_be_left_out(self, labels: Rows) -> set[str]:
        """Return which of the labels a table need not have."""
        return set(labels) if self.optional is None else set(self.optional)


@dataclass(frozen=True)
class DocumentedTable:
    """A table of a page.

    Attributes:
        page: Where it stands.
        line: Of its header, from 1.
        comment: The line above it.
        header: Cells of its first line.
        rows: Cells of each line after the rule.
    """

    page: Path
    line: int
    comment: str
    header: Cells
    rows: tuple[Cells, ...]

    @property
    def measured(self) -> bool:
        """Whether there is a rate, a count or an interval in it."""
        return any(_MEASURED.search(_LINK.sub("]", cell)) for row in self.rows for cell in row)

    def complaints(self, kinds: Mapping[str, Kind]) -> list[str]:
        """Return what is wrong with it, a sentence each; `kinds` are those there are, by name."""
        found = _COMMENT.fullmatch(self.comment)
        if found is None:
            return [f"{self._place(0)}: no comment says which data the table is of"]
        if found["kind"] not in kinds:
            return [f"{self._place(0)}: there is no kind of table {found['kind']}; there are {', '.join(kinds)}"]
        kind = kinds[found["kind"]]
        files = tuple(self.page.parent / name for name in found["files"].split(", "))
        expected = _expected(kind.rows, files, tuple(self.header))
        wrong, told = [], []
        for number, row in enumerate(self.rows, 2):
            labels = _labels(kind.label(row), expected)
            told += labels
            if not labels:
                wrong.append(f"{self._place(number)}: the data have no row {kind.label(row)}")
            for label in labels:
                for title, cell, text in zip(self.header[1:], row[1:], expected[label], strict=True):
                    if (numbers(cell), verdicts(cell)) != (numbers(text), verdicts(text)):
                        wrong.append(f"{self._place(number)}, {title or label}: {cell!r}, the data say {text!r}")
        if len(set(told)) < len(told) or not set(expected) - kind.may_be_left_out(expected) <= set(told):
            wrong.append(f"{self._place(0)}: has the rows {told}, the data {list(expected)}, each once")
        return wrong

    def _place(self, row: int) -> str:
        return f"{self.page.name}:{self.line + row}"


def tables(page: Path, text: str | None = None) -> Iterator[DocumentedTable]:
    """Yield every table of a page, or of another text in its place."""
    lines = (page.read_text(encoding="utf-8") if text is None else text).splitlines()
    for number, line in enumerate(lines):
        if set(line) <= set("|- ") and line.startswith("|-"):
            end = next((i for i in range(number, len(lines)) if not lines[i].startswith("|")), len(lines))
            header, *rows = (_cells(lines[i]) for i in (number - 1, *range(number + 1, end)))
            yield DocumentedTable(page, number, lines[number - 2] if number > 1 else "", header, tuple(rows))


def numbers(text: str) -> list[str]:
    """Return the numbers in a cell, in order; where a link leads to counts for nothing, nor does a plus."""
    return [found.lstrip("+").replace(",", "") for found in _NUMBER.findall(_LINK.sub("]", text))]


def verdicts(text: str) -> list[str]:
    """Return what a cell says of a method beside another one."""
    return _VERDICT.findall(text)


@cache
def read(path: Path) -> Any:
    """Return what a file of JSON says."""
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def _expected(rows: Callable[[Sequence[Any], Cells], Rows], files: tuple[Path, ...], header: tuple[str, ...]) -> Rows:
    """Return what a table must say; counted once, however many tables of the same kind, files and header there are."""
    return rows([read(file) for file in files], [*header])


def _cells(line: str) -> Cells:
    return [cell.strip().replace("**", "") for cell in line.strip().strip("|").split("|")]


def _labels(cell: str, expected: Rows) -> list[str]:
    """Return the rows of the data that a line stands for; `2 to 5` is four that are alike."""
    if cell in expected:
        return [cell]
    if (found := re.fullmatch(r"(\d+) to (\d+)", cell)) is None:
        return []
    labels = [str(number) for number in range(int(found[1]), int(found[2]) + 1)]
    return labels if set(labels) <= set(expected) else []
