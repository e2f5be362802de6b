"""Argument types shared by the sub-commands; those of a run are made from the rows of `control.run_options`.

A list is one word, its parts separated by commas; its option has the plural name.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal

import tyro

from qgf_ros.control.run_options import DEFAULTS, KINDS, LARGEST_SEED, ROWS, Row, RunOptions

_EXAMPLES: dict[type, str] = {int: "1,2,3", float: "0,0.1", str: "qgf,noisy"}


def _list_of(kind: type, metavar: str = "") -> tyro.constructors.PrimitiveConstructorSpec[tuple[Any, ...]]:
    """Return how a tuple of a type is read from one word."""
    example = metavar or _EXAMPLES[kind]

    def parse(words: list[str]) -> tuple[Any, ...]:
        parts = [part.strip() for part in words[0].split(",")]
        try:
            return tuple(kind(part) for part in parts if part or kind is not str)
        except ValueError:
            raise ValueError(
                f"{words[0]!r} was given, expected numbers separated by commas, such as {example}"
            ) from None

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=example,
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda values: [",".join(f"{v:g}" if kind is float else str(v) for v in values)],
    )


Integers = Annotated[tuple[int, ...], _list_of(int)]
Numbers = Annotated[tuple[float, ...], _list_of(float)]
Words = Annotated[tuple[str, ...], _list_of(str)]


def here_or_on_a_cluster(workers: int | None, ray: str | None) -> None:
    """Raise SimulationError where processes of this machine and a Ray cluster are both asked for."""
    from qgf_ros.errors import SimulationError

    if ray is not None and workers is not None:
        raise SimulationError(
            f"--workers {workers} was given with --ray {ray}; a cluster uses each of its cores, leave one of them out"
        )


def run_arguments(*, without: Collection[str] = ()) -> Any:
    """Return what makes `RunOptions` of one option for each row; those left out are at their defaults."""
    names = [name for name in ROWS if name not in without]

    def build(**values: Any) -> RunOptions:
        return RunOptions(**values)

    options = {name: Annotated[_kind_of(name), tyro.conf.arg(help=_help(ROWS[name]))] for name in names}
    return flat(build, options, {name: DEFAULTS[name] for name in names})


def override_arguments(names: Collection[str]) -> Any:
    """Return what makes a mapping of those options that are given, in place of what was recorded."""

    def build(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    options = {
        name: Annotated[_kind_of(name) | None, tyro.conf.arg(help=f"In place of the recorded one: {_help(ROWS[name])}")]
        for name in names
    }
    return flat(build, options, dict.fromkeys(names))


def tried_arguments(*, without: Collection[str] = ()) -> Any:
    """Return what makes a mapping of option to the values to try, of one list for each row that has a plural name."""
    names = {ROWS[name].plural: name for name in ROWS if ROWS[name].plural and name not in without}

    def build(**values: Any) -> dict[str, tuple[Any, ...]]:
        return {names[plural]: found for plural, found in values.items()}

    options = {
        plural: Annotated[
            tuple.__class_getitem__((KINDS[name], ...)),
            _list_of(KINDS[name]),
            tyro.conf.arg(help=f"To try with every weight: {_help(ROWS[name])}"),
        ]
        for plural, name in names.items()
    }
    return flat(build, options, {plural: (DEFAULTS[name],) for plural, name in names.items()})


def flat(build: Callable[..., Any], options: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    """Return the setting of tyro that fills an argument through a function, each of whose options stands by itself."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    build.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, keyword, default=defaults[name], annotation=kind) for name, kind in options.items()]
    )
    build.__annotations__ = dict(options)
    return tyro.conf.arg(name="", constructor=build)


def _kind_of(name: str) -> Any:
    choices = ROWS[name].choices
    return Literal[choices] if choices else KINDS[name]


def _help(row: Row) -> str:
    if row.allowed:
        return f"{row.sentence()} Allowed: {row.allowed}."
    if row.limit:
        return f"{row.sentence()} Above 0, inf for none."
    if math.isfinite(row.lower):
        bounds = f"At least {row.lower:g}" if row.upper == LARGEST_SEED else f"{row.lower:g} to {row.upper:g}"
        return f"{row.sentence()} {bounds}."
    return row.sentence()
