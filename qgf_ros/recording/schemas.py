"""Message definitions as MCAP holds them: the text of a type and of every type in it, from the installed packages."""

from __future__ import annotations

import os
import re
import struct
import sys
from pathlib import Path

from qgf_ros.errors import RecordingError

PRIMITIVES = frozenset(
    [
        *("bool", "byte", "char", "float32", "float64", "string", "wstring"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    ]
)

_TYPE_NAME = re.compile(r"([a-z][a-z0-9_]*)/msg/([A-Z][A-Za-z0-9]*)")
_STAMPS = ("std_msgs/Header", "builtin_interfaces/Time")


def definition(type_name: str) -> str:
    """Return the complete definition of a message type, in the form MCAP calls ``ros2msg``.

    Args:
        type_name: Such as ``sensor_msgs/msg/JointState``.

    Raises:
        RecordingError: The type, or one inside it, is not installed.
    """
    match = _TYPE_NAME.fullmatch(type_name)
    if match is None:
        raise RecordingError(
            f"message type {type_name!r} was given, expected a name such as sensor_msgs/msg/JointState"
        )
    root = "/".join(match.groups())
    texts = {root: _text(root)}
    waiting = [root]
    while waiting:
        name = waiting.pop(0)
        for inner in _types_within(name, texts[name]):
            if inner not in texts:
                texts[inner] = _text(inner)
                waiting.append(inner)
    root_text, *others = texts.items()
    return root_text[1] + "".join(f"{'=' * 80}\nMSG: {name}\n{text}" for name, text in others)


def starts_with_stamp(type_name: str, text: str) -> bool:
    """Whether messages of this definition begin with a header or a stamp."""
    return next(iter(_types_within(type_name.replace("/msg/", "/"), text, primitives=True)), "") in _STAMPS


def leading_stamp(data: bytes, log_time: int) -> int:
    """Return the stamp at the beginning of a serialised message, or `log_time` if it is cut short [ns]."""
    if len(data) < 12:  # four bytes of encapsulation, eight of the stamp
        return log_time
    seconds, rest = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(rest)


def _text(name: str) -> str:
    """Return the .msg file of ``package/Name``."""
    package, message = name.split("/")
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    for prefix in filter(None, prefixes):
        path = Path(prefix, "share", package, "msg", f"{message}.msg")
        if path.is_file():
            return path.read_text(encoding="utf-8").rstrip() + "\n"
    raise RecordingError(f"message type {package}/msg/{message} is not installed; install the ROS package {package}")


def _types_within(owner: str, text: str, *, primitives: bool = False) -> list[str]:
    """Return the types of the fields of a definition, as ``package/Name``, in order."""
    found = []
    for line in text.partition("=" * 80)[0].splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2:
            continue
        base = re.split(r"[\[<]", words[0])[0]
        if base in PRIMITIVES:
            if primitives:
                found.append(base)
            continue
        parts = base.split("/")
        package = parts[0] if len(parts) > 1 else owner.split("/")[0]
        found.append(f"{package}/{parts[-1]}")
    return found
