"""docs/reliability.md and the tests say the same: each claim has a test beside it, and each test a claim."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
#: Columns that `scripts/fill_reliability.py` fills.
MEASURED = {"measured", "safe after, `timer`", "safe after, `observation`", "last command of before", "tried"}


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


def script() -> ModuleType:
    """Return `scripts/fill_reliability.py`."""
    spec = importlib.util.spec_from_file_location("fill_reliability", PAGE.parents[1] / "scripts/fill_reliability.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numbers_of_a_run_go_into_their_cells_and_nothing_else_changes(tmp_path: Path) -> None:
    def case(inside: str, *cells: tuple[str, str, float | str, str]) -> str:
        properties = "".join(
            f"<property name='docs/reliability.md' value='{json.dumps(dict(zip(('row', 'column', 'value', 'text'), cell)))}'/>"
            for cell in cells
        )
        return f"<testcase><properties>{properties}</properties>{inside}</testcase>"

    jump = "test_after_a_jump_of_the_simulators_clock_only_new_observations_are_answered"
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite><properties><property name='machine' value='7 cores, load average 0.1 before it'/>"
        "</properties>"
        + case("", ("dies", "safe after, `timer`", 12.5, "{:.2f} s"))
        + case("", (jump, "last command of before", 65.25, "{:.2f} s"))
        + case("", (jump, "last command of before", 7.0, "{:.2f} s"))
        + case("", ("3600 s", "faults", "98,765", ""), ("nothing like it", "measured", 1.0, "{}"))
        + case("<failure/>", ("freezes", "safe after, `timer`", 99.0, "{:.2f} s"))
        + "</testsuite></testsuites>"
    )
    fill_in = script()
    before = PAGE.read_text(encoding="utf-8")
    page, filled = fill_in.fill(before, *fill_in.read(report))
    new = [(a, b) for a, b in zip(before.splitlines(), page.splitlines(), strict=True) if a != b]
    assert [b for _, b in new if "7 cores, load average 0.1 before it" in b]
    changed = [b.split(" | ") for _, b in new if b.startswith("|")]
    assert [(cells[0], next(c for c in cells if c in ("12.50 s", "65.25 s", "98,765"))) for cells in changed] == [
        ("| dies", "12.50 s"),
        ("| the simulator's clock jumps by an hour, forwards or back", "65.25 s"),
        ("| 3600 s", "98,765"),
    ]
    assert len(new) == 4
    assert ("nothing like it", "measured") not in filled
    assert fill_in.fill(before, {}, "") == (before, set())


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


def test_no_cell_that_a_run_fills_is_empty() -> None:
    """The numbers of the page are of a run, and a fault whose number is missing was not in it."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    header: list[str] = []
    empty = []
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        header = (header or cells) if cells else []
        empty += [(cells[0], column) for column, cell in zip(header, cells) if column in MEASURED and not cell]
    assert empty == []


def test_the_table_of_sensors_has_a_row_for_each_case() -> None:
    tree = ast.parse((TESTS / "faults" / "robot.py").read_text(encoding="utf-8"))
    assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    cases = [ast.literal_eval(key) for key in assigned["SENSOR_FAULTS"].keys]  # type: ignore[attr-defined]
    assert [row[0] for row in rows("the node says")] == cases
