"""Argument types shared by the sub-commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import tyro

from qgf_ros.control.options import GuidanceOptions

Number = TypeVar("Number", int, float)


def _comma_separated(
    kind: Callable[[str], Number], metavar: str
) -> tyro.constructors.PrimitiveConstructorSpec[tuple[Number, ...]]:
    def parse(words: list[str]) -> tuple[Number, ...]:
        try:
            return tuple(kind(part) for part in words[0].split(","))
        except ValueError:
            raise ValueError(
                f"{words[0]!r} was given, expected numbers separated by commas, such as {metavar}"
            ) from None

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda values: [",".join(f"{value:g}" for value in values)],
    )


Weights = Annotated[tuple[float, ...], _comma_separated(float, "0,0.1")]
Options = Annotated[GuidanceOptions, tyro.conf.arg(name="")]
Integers = Annotated[tuple[int, ...], _comma_separated(int, "1,2,3")]
Words = Annotated[
    tuple[str, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="qgf,noisy",
        instance_from_str=lambda words: tuple(word.strip() for word in words[0].split(",") if word.strip()),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda values: [",".join(values)],
    ),
]
