"""What the text of a manifest may hold, beyond being JSON; and messages that stay on one line, whatever they quote."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import ValidationError

#: Control characters but for tabs and line ends: a terminal obeys them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LARGEST_NUMBER = 2.0**63
_LONGEST_MESSAGE = 500


def check_text(content: bytes) -> None:
    """Check JSON for what readers understand differently, or could be harmed by.

    Args:
        content: Valid JSON, nested at most 200 deep.

    Raises:
        ValueError: A key is there twice, a number is not finite or larger than 64 bits hold, or a text has a control
            character.
    """
    _check_characters(
        json.loads(content, object_pairs_hook=_unique, parse_constant=_number, parse_float=_number, parse_int=_number)
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items: dict[str, Any] = {}
    for key, value in pairs:
        if key in items:
            raise ValueError(f"the key {key!r} is there twice, expected once")
        items[key] = value
    return items


def _number(text: str) -> float:
    value = float(text)
    if not abs(value) <= _LARGEST_NUMBER:
        raise ValueError(f"the number {text} was given, expected a finite one of at most 64 bits")
    return value


def _check_characters(value: Any) -> None:
    if isinstance(value, str) and _CONTROL.search(value):
        raise ValueError(f"the text {value!r} has a control character, expected plain text")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_characters(key)
            _check_characters(item)
    elif isinstance(value, list):
        for item in value:
            _check_characters(item)


def first_complaint(error: ValidationError) -> str:
    """Return the first complaint of a validation, with the place it is about, on one line."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    return one_line(f"{place}: {text}" if place else text)


def one_line(message: str) -> str:
    """Return a message without line ends and control characters, cut where it is very long."""
    cut = message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}..."
    return "".join(character if character.isprintable() else "?" for character in cut)
