"""YAML that somebody wrote by hand: plain data only, within bounds that are checked before anything is built of it.

YAML lets a few bytes stand for a lot: an alias repeats what it names, a merge copies it, a number may have any length or
be written to the base of 60. So the events of the parser are counted first, an alias for as much as it stands for, and
only what stays within the bounds is built.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

#: A larger file is none that somebody wrote by hand [bytes].
LARGEST_FILE = 1_000_000
#: Most values in a file, keys included, aliases counted for what they stand for; a contract of 30 joints has 300.
MOST_VALUES = 10_000
#: How deep lists and mappings may lie in one another.
DEEPEST = 32
#: Most characters of a number; float64 needs 24.
LONGEST_NUMBER = 64

# libyaml is part of PyYAML's wheels, and reads a megabyte in the time that Python takes for some ten kilobytes.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(content: bytes | str) -> Any:
    """Return what a YAML text says: text, numbers, true, false, null, dates, bytes, lists, and mappings of text to these.

    Args:
        content: The text; bytes are UTF-8, or UTF-16 with a byte order mark. It may be hostile.

    Returns:
        None for a text that says nothing.

    Raises:
        ValueError: It is no YAML, has two documents, a key twice or one that is no text, a tag that is not plain data, or
            more than the bounds of this module allow; in one line.
    """
    try:
        _check_bounds(content)
        return yaml.load(content, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # The last ones are how PyYAML's own constructors fail on values that do not fit an explicit tag.
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError("".join(character if character.isprintable() else "?" for character in text)) from error


def _check_bounds(content: bytes | str) -> None:
    """Raise ValueError where a text has more in it than it may, reading no further than that."""
    sizes: dict[str, int] = {}  # of what an anchor names, once it has ended
    open_: list[tuple[str | None, int]] = []  # anchor of each list or mapping under way, and values before it
    values = 0
    event: Any  # whose marks are optional in the stubs alone
    for event in yaml.parse(content, Loader=_Parser):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"*{event.anchor:.40} in line {line} stands for what it is part of, or for nothing")
            values += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, values))
            if event.anchor is not None:
                sizes.pop(event.anchor, None)  # of another that had the same name
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        if values > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values, aliases counted for what they stand for, in line {line}")
        if len(open_) > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep in line {line}")


class _PlainLoader(_Parser):  # type: ignore[misc]  # one of two classes, which mypy cannot know
    """Text keys only, none twice, since the second would silently win, and no number of any length."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"a key in line {line} is a list or a mapping, expected text")
            if key.tag not in _KEYS:
                raise ValueError(f"the key {key.value:.60} in line {line} is no text; put it in quotes")
            if key.value in seen:
                raise ValueError(f"{key.value:.60} stands twice in one mapping, line {line}")
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_number(self, node: yaml.Node) -> int | float:
        """Return an integer or a float."""
        if isinstance(node, yaml.ScalarNode) and len(node.value) > LONGEST_NUMBER:
            raise ValueError(
                f"a number in line {node.start_mark.line + 1} has {len(node.value)} characters, expected at most "
                f"{LONGEST_NUMBER}"
            )
        construct = self.construct_yaml_int if node.tag.endswith(":int") else self.construct_yaml_float
        number: int | float = construct(node)
        return number


_KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
for _tag in ("int", "float"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _PlainLoader.construct_number)
