"""Parameter files of ROS 2, as far as they decide what is started: which sections are a node's, and their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from qgf_ros.errors import ParameterError

_PARAMETERS = "ros__parameters"


def parameters_for(path: Path, node: str) -> dict[str, Any]:
    """Return the values that a parameter file has for a node; the last section that is about it decides.

    Args:
        path: YAML file.
        node: Full name, such as ``/cell/policy_node``.

    Raises:
        ParameterError: The file cannot be read, or no section of it is about the node.
    """
    sections = list(_read(path))
    values: dict[str, Any] = {}
    found = False
    for pattern, given in sections:
        if _matches(pattern, node):
            found = True
            values.update(given)
    if not found:
        others = ", ".join(pattern for pattern, _ in sections) or "none at all"
        raise ParameterError(
            f"parameter file {path} has no section for {node}; it has {others}: call one {node}, or /** for every node"
        )
    return values


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"parameter file {path} cannot be read ({error}); give another path") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ParameterError(f"parameter file {path} is no YAML ({reason}); mend it") from error
    if content is None:
        return
    if not isinstance(content, dict):
        raise ParameterError(f"parameter file {path} holds no sections; begin it with NODE: {{{_PARAMETERS}: {{...}}}}")
    yield from _sections(content, "")


def _sections(content: Mapping[Any, Any], above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, below in content.items():
        if not isinstance(below, dict):
            continue
        name = f"{above}/{str(key).strip('/')}"
        if isinstance(below.get(_PARAMETERS), dict):
            yield name, below[_PARAMETERS]
        yield from _sections({one: value for one, value in below.items() if one != _PARAMETERS}, name)


def _matches(pattern: str, node: str) -> bool:
    """Whether a section, whose `**` is any names or none and whose `*` is one name, is about a node."""
    expression = "".join(
        r"(/[^/]+)*" if name == "**" else r"/[^/]+" if name == "*" else "/" + re.escape(name)
        for name in pattern.strip("/").split("/")
    )
    return re.fullmatch(expression, node) is not None
