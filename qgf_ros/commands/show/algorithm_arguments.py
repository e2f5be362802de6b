"""The options of `qgf train` that belong to an algorithm, made from the rows of `learning.algorithms.options`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, get_type_hints

import tyro

from qgf_ros.commands.show.arguments import Integers, flat
from qgf_ros.learning.algorithms.options import OPTIONS


def algorithm_arguments() -> Any:
    """Return what makes a mapping of those options that are given; whatever is not has the algorithm's own default."""

    def build(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    options = {name: _kind(name, defaults) for name, defaults in defaults_by_option().items()}
    return flat(build, options, dict.fromkeys(options))


def defaults_by_option() -> dict[str, dict[str, Any]]:
    """Return the options of all algorithms, and the default of each by the name of the algorithm that has it."""
    found: dict[str, dict[str, Any]] = {}
    for algorithm, kind in OPTIONS.items():
        for row in dataclasses.fields(kind):
            found.setdefault(row.name, {})[algorithm] = row.default
    return found


def _kind(name: str, defaults: dict[str, Any]) -> Any:
    """Return the type of an option, its words and its defaults."""
    kind = OPTIONS[next(iter(defaults))]
    row = next(row for row in dataclasses.fields(kind) if row.name == name)
    hint = get_type_hints(kind)[name]
    about = tyro.conf.arg(help=row.metadata["text"], help_behavior_hint=f"({_said(defaults)})")
    return Annotated[(Integers if hint == tuple[int, ...] else hint) | None, about]


def _said(defaults: dict[str, Any]) -> str:
    """Return for people which algorithms have an option, and with which default."""
    values = {name: _words(value) for name, value in defaults.items()}
    if len(values) == len(OPTIONS) and len(set(values.values())) == 1:
        return f"default: {next(iter(values.values()))}"
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _words(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
