"""The documented parameters are those that the nodes declare."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the nodes need the ros extra or a ROS 2 installation")
pytest.importorskip("mcap", reason="the recorder needs the record extra")

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor

from qgf_ros.nodes import parameters
from qgf_ros.nodes.declarations import FIXED, declarations

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "parameters.md"
_SPEC = importlib.util.spec_from_file_location("parameter_tables", ROOT / "scripts" / "parameter_tables.py")
assert _SPEC is not None and _SPEC.loader is not None
parameter_tables = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(parameter_tables)


def rows(node: str) -> dict[str, list[str]]:
    """Cells of each line of a table by the name of its parameter."""
    lines = parameter_tables.table(node).splitlines()[2:]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {name.strip("`"): rest for name, *rest in cells}


def test_the_page_has_the_tables_that_the_code_gives() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert parameter_tables.with_tables(text) == text, "run `make docs`"
    assert all(parameter_tables.table(node) in text for node in parameter_tables.NODES)


def test_every_parameter_has_a_row_that_says_when_it_changes() -> None:
    changes = {name: cells[3] for name, cells in rows("policy_node").items()}
    assert changes.keys() == declarations().keys()
    assert {name for name, when in changes.items() if when == "configure"} == set(FIXED)
    assert {name for name, when in changes.items() if when == "live"} == {*parameters.LIVE, "enable_motion"}
    assert {cells[3] for cells in rows("recorder").values()} == {"start"}


@pytest.mark.parametrize(
    ("default", "descriptor", "row"),
    [
        (
            0.5,
            ParameterDescriptor(
                description="a | b", floating_point_range=[FloatingPointRange(from_value=0.0, to_value=2.0, step=0.0)]
            ),
            "| `x` | double | `0.5` | 0.0 to 2.0 | live | a \\| b |",
        ),
        (
            "",
            ParameterDescriptor(description="a", additional_constraints="One of a, b. Read by configure; or not."),
            "| `x` | string | `''` | One of a, b | configure | a |",
        ),
        (False, ParameterDescriptor(description="a", read_only=True), "| `x` | bool | `false` |  | start | a |"),
        (
            "word",
            ParameterDescriptor(description="a", dynamic_typing=True, additional_constraints="Live: at once."),
            "| `x` | dynamic | `word` |  | live | a |",
        ),
    ],
)
def test_a_row_says_type_default_range_and_when_it_changes(
    default: Any, descriptor: ParameterDescriptor, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def declare(node: Any) -> None:
        node.declare_parameter("x", default, descriptor)

    monkeypatch.setitem(parameter_tables.NODES, "recorder", declare)
    assert parameter_tables.table("recorder").splitlines()[2:] == [row]


def test_only_what_is_between_the_marks_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- parameters of recorder -->\nold\n<!-- end -->\nafter\n", encoding="utf-8")
    parameter_tables.main([str(page)])
    table = parameter_tables.table("recorder")
    assert page.read_text(encoding="utf-8") == (
        f"before\n<!-- parameters of recorder -->\n{table}<!-- end -->\nafter\n"
    )
