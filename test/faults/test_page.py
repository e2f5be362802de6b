"""docs/reliability.md and the tests say the same: each claim has a test beside it, and each test a claim."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"


def named() -> set[str]:
    """Return every `FILE::TEST` of the page, FILE below test/faults/ unless it names another folder of test/."""
    found = re.findall(r"`([\w/]+\.py::\w+)`", PAGE.read_text(encoding="utf-8"))
    return {name if "/" in name else f"faults/{name}" for name in found}


def rows(header: str) -> list[list[str]]:
    """Return the cells of each row of the tables whose header has such a column."""
    found: list[list[str]] = []
    inside = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif inside and not set(line) <= set("|-"):
            found.append(cells)
        inside = inside or header in cells
    return found


def defined(path: Path) -> set[str]:
    """Return the tests of a file, those of its classes too."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    return {f"{path.relative_to(TESTS).as_posix()}::{name}" for name in names}


def test_every_test_that_the_page_names_exists() -> None:
    files = {name.split("::")[0] for name in named()}
    exist = set().union(*(defined(TESTS / file) for file in files if (TESTS / file).is_file()))
    assert sorted(named() - exist) == []


def test_every_test_of_faults_stands_on_the_page() -> None:
    files = [path for path in sorted((TESTS / "faults").glob("test_*.py")) if path != Path(__file__)]
    assert len(files) > 5
    assert sorted(set().union(*map(defined, files)) - named()) == []


def test_every_claim_in_a_table_has_a_test_beside_it() -> None:
    claims = rows("test")
    assert len(claims) > 20
    assert [row for row in claims if ".py::test_" not in row[-1]] == []


def test_the_table_of_sensors_has_a_row_for_each_case() -> None:
    tree = ast.parse((TESTS / "faults" / "robot.py").read_text(encoding="utf-8"))
    assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    cases = [ast.literal_eval(key) for key in assigned["SENSOR_FAULTS"].keys]  # type: ignore[attr-defined]
    assert [row[0] for row in rows("the node says")] == cases
