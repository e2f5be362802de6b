"""The documented parameters are those that the nodes declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the nodes need the ros extra or a ROS 2 installation")
pytest.importorskip("mcap", reason="the recorder needs the record extra")

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor

from qgf_ros.nodes import parameter_table, parameters
from qgf_ros.nodes.declarations import declarations

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parameters.md"


def rows(node: str) -> dict[str, list[str]]:
    """Cells of each line of a table by the name of its parameter."""
    lines = parameter_table.table(node).splitlines()[2:]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {name.strip("`"): rest for name, *rest in cells}


def test_the_page_has_the_tables_that_the_code_gives() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert parameter_table.with_tables(text) == text, "run `make docs`"
    assert all(parameter_table.table(node) in text for node in parameter_table.NODES)


def test_every_parameter_has_a_row_that_says_when_it_changes() -> None:
    changes = {name: cells[3] for name, cells in rows("policy_node").items()}
    assert changes.keys() == declarations().keys()
    assert {name for name, when in changes.items() if when == "configure"} == set(parameters.FIXED)
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

    monkeypatch.setitem(parameter_table.NODES, "recorder", declare)
    assert parameter_table.table("recorder").splitlines()[2:] == [row]


def test_only_what_is_between_the_marks_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- parameters of recorder -->\nold\n<!-- end -->\nafter\n", encoding="utf-8")
    parameter_table.main([str(page)])
    table = parameter_table.table("recorder")
    assert page.read_text(encoding="utf-8") == (
        f"before\n<!-- parameters of recorder -->\n{table}<!-- end -->\nafter\n"
    )
