"""Puts the numbers of a run of `test/faults` into the tables of docs/reliability.md.

    pytest test/faults test/sim/bridge/test_restart.py --junitxml=faults.xml && python scripts/fill_reliability.py faults.xml

A test notes a number with the fixture `on_page`: a column, and a row by its first cell or by the test that it names.
Where several cases of a test note the same cell, the largest number counts.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
#: Value and how it is written, by row and column.
Numbers: TypeAlias = Mapping[tuple[str, str], tuple[float | str, str]]


def read(report: Path) -> tuple[dict[tuple[str, str], tuple[float | str, str]], str]:
    """Return the numbers of a JUnit report, and the machine it is of; tests that failed give none."""
    numbers: dict[tuple[str, str], tuple[float | str, str]] = {}
    machine = ""
    tree = ElementTree.parse(report)
    for case in tree.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            continue
        for item in case.iter("property"):
            if item.get("name") == "docs/reliability.md":
                cell = json.loads(item.get("value", ""))
                key, value = (cell["row"], cell["column"]), cell["value"]
                known = numbers.get(key)
                if known is None or isinstance(value, str) or value > known[0]:
                    numbers[key] = value, cell["text"]
    for item in tree.iter("property"):
        if item.get("name") == "machine":
            machine = item.get("value", "")
    return numbers, machine


def fill(page: str, numbers: Numbers, machine: str) -> tuple[str, set[tuple[str, str]]]:
    """Return the page with the numbers in their cells, and which of them found one."""
    lines: list[str] = []
    header: list[str] = []
    filled: set[tuple[str, str]] = set()
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and not header:
            header = cells
        elif cells:
            for i, column in enumerate(header[: len(cells)]):
                for (row, wanted), (value, text) in numbers.items():
                    if column == wanted and (row == cells[0] or f"::{row}`" in cells[-1]):
                        cells[i] = value if isinstance(value, str) else text.format(value)
                        filled.add((row, wanted))
            if not set(line) <= set("|-"):
                line = "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)
        else:
            header = []
        lines.append(line)
    text = "\n".join(lines) + "\n"
    if machine and len(filled) > 1:
        text = re.sub(r"\d+ cores, load average [\d.]+ before it", machine, text)
    return text, filled


def main(report: Path) -> int:
    """Fill the page in from a report; return the exit code."""
    numbers, machine = read(report)
    text, filled = fill(PAGE.read_text(encoding="utf-8"), numbers, machine)
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE}: {len(filled)} numbers of {report}")
    for row, column in sorted(numbers.keys() - filled):
        print(f"no cell for {row}, {column}")
    return 0 if filled else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} REPORT.xml")
    sys.exit(main(Path(sys.argv[1])))
