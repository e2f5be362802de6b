"""One rule for a value of another type than its parameter: it is taken if it says the same in that type.

A whole number is a double as well, and a double that is whole an integer; a text that reads as a number, or as true or
false, is that (ROS tools send infinity and 1e-05 as texts); a number is the text that it is written as; lists go by
their items, and an empty one is a list of any type. Whatever would have to be guessed is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import yaml
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.parameter import Parameter

from qgf_ros.errors import ParameterError

Type = Parameter.Type

#: What a value has to be, for people.
WORDS = {
    Type.BOOL: "true or false",
    Type.INTEGER: "an integer",
    Type.DOUBLE: "a number",
    Type.STRING: "a text",
    Type.BOOL_ARRAY: "a list of true and false",
    Type.INTEGER_ARRAY: "a list of integers",
    Type.DOUBLE_ARRAY: "a list of numbers",
    Type.STRING_ARRAY: "a list of texts, such as [a, b]",
}
_ITEMS = {
    Type.BOOL_ARRAY: Type.BOOL,
    Type.INTEGER_ARRAY: Type.INTEGER,
    Type.DOUBLE_ARRAY: Type.DOUBLE,
    Type.STRING_ARRAY: Type.STRING,
}
_LARGEST_INTEGER = 2**63


def fitted(name: str, given: Any, wanted: Parameter.Type | None, present: Any) -> Any:
    """Return a value in the type of its parameter.

    Args:
        name: Of the parameter.
        given: The value, as rclpy has it; None is an empty list of a parameter file.
        wanted: Type of the parameter; None for any.
        present: The value in force. What `ros2 param load` makes of a dump of it is taken as unchanged.

    Raises:
        ParameterError: The value says nothing in that type.
    """
    given = [] if given is None else given
    if wanted is not None and _is(given, wanted):
        return given
    if is_same(given, _as_loaded(present)):
        return present
    if wanted is None:
        return given
    try:
        return _read(given, wanted)
    except ValueError:
        raise ParameterError(f"{name} {_shown(given)} was given; it must be {WORDS[wanted]}") from None


def check_range(name: str, value: Any, descriptor: ParameterDescriptor) -> None:
    """Raise ParameterError unless a value is within the range of its parameter."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    for bounds in (*descriptor.integer_range, *descriptor.floating_point_range):
        low, high = bounds.from_value, bounds.to_value
        if not low <= value <= high:
            ends = f"{low} to {high}" if isinstance(low, int) else f"{low:g} to {high:g}"
            raise ParameterError(f"{name} {value} was given; it must be {ends}")


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same, of the same type; NaN is NaN."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, (bool, int, float, str)) or isinstance(other, (bool, int, float, str)):
        return type(one) is type(other) and bool(one == other)
    return list(one) == list(other)


def _read(given: Any, wanted: Parameter.Type) -> Any:
    """Return a value in another type; raises ValueError where that would take a guess."""
    if wanted in _ITEMS:
        if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
            raise ValueError
        item = _ITEMS[wanted]
        return [value if _is(value, item) else _READERS[item](value) for value in given]
    return _READERS[wanted](given)


def _is(value: Any, kind: Parameter.Type) -> bool:
    return bool(kind.check(value)) and not (kind is Type.INTEGER and isinstance(value, bool))


def _to_bool(given: Any) -> bool:
    words = {"true": True, "True": True, "false": False, "False": False}
    if not isinstance(given, str) or given not in words:
        raise ValueError
    return words[given]


def _to_integer(given: Any) -> int:
    if isinstance(given, float) and given.is_integer() and abs(given) < _LARGEST_INTEGER:
        return int(given)
    if isinstance(given, str) and re.fullmatch(r"[-+]?\d{1,18}", given):
        return int(given)
    raise ValueError


def _to_double(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        raise ValueError
    return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", given.lower()) if isinstance(given, str) else given)


def _to_text(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise ValueError
    return str(given)


_READERS: dict[Parameter.Type, Callable[[Any], Any]] = {
    Type.BOOL: _to_bool,
    Type.INTEGER: _to_integer,
    Type.DOUBLE: _to_double,
    Type.STRING: _to_text,
}


def _as_loaded(value: Any) -> Any:
    """Return what `ros2 param load` sends for a value that `ros2 param dump` wrote: it reads the text once more."""
    text = str(value if isinstance(value, (bool, int, float, str)) or value is None else list(value))
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return text if read is None or not isinstance(read, (bool, int, float, list)) else read


def _shown(given: Any) -> str:
    return repr(given if isinstance(given, (bool, int, float, str)) else list(given))
