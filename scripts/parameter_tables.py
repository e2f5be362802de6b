"""The parameters of the nodes as Markdown tables, so that the documentation cannot differ from the declarations.

`make docs` writes them anew into docs/parameters.md, between a line ``<!-- parameters of NODE -->`` and the next
``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rcl_interfaces.msg import ParameterDescriptor

from qgf_ros.nodes import recorder
from qgf_ros.nodes.declarations import declarations


def _declare_policy_node(node: Any) -> None:
    for name, row in declarations().items():
        node.declare_parameter(name, *row)


#: What declares the parameters of each node.
NODES: dict[str, Callable[[Any], None]] = {
    "policy_node": _declare_policy_node,
    "recorder": recorder.declare,
}

_HEADINGS = ("parameter", "type", "default", "allowed", "changes", "meaning")
_TYPES = {bool: "bool", int: "integer", float: "double", str: "string", list: "string array"}
_SECTION = re.compile(r"(<!-- parameters of (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


class _Rows(list[tuple[str, ...]]):
    """Stands in for a node, and makes a row of each parameter that is declared on it."""

    def declare_parameter(self, name: str, default: Any, descriptor: ParameterDescriptor) -> None:
        """Add a row; see `rclpy.node.Node.declare_parameter`."""
        allowed, changes = _constraints(descriptor)
        kind = "dynamic" if descriptor.dynamic_typing else _TYPES[type(default)]
        default = yaml.safe_dump(default, default_flow_style=True).splitlines()[0]
        self.append((f"`{name}`", kind, f"`{default}`", allowed, changes, descriptor.description))


def _constraints(descriptor: ParameterDescriptor) -> tuple[str, str]:
    """Return what values are allowed, and when the parameter may change: at `start`, before `configure`, or `live`."""
    text = descriptor.additional_constraints
    allowed = re.split(r"Live:|Read by configure|Read only", text)[0].strip().removesuffix(".")
    changes = "start" if descriptor.read_only else "configure" if "Read by configure" in text else "live"
    if not allowed:
        ranges = (*descriptor.integer_range, *descriptor.floating_point_range)
        allowed = ", ".join(f"{range_.from_value} to {range_.to_value}" for range_ in ranges)
    return allowed, changes


def table(node: str) -> str:
    """Return the table of one of `NODES`, a line for each parameter in the order of their declaration."""
    rows = _Rows()
    NODES[node](rows)
    lines = [_HEADINGS, ("---",) * len(_HEADINGS), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def with_tables(text: str) -> str:
    """Return a page with every table of parameters in it written anew."""
    return _SECTION.sub(lambda found: f"{found[1]}{table(found[2])}{found[4]}", text)


def main(pages: list[str]) -> None:
    """Write the tables of the pages anew."""
    for page in map(Path, pages):
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
