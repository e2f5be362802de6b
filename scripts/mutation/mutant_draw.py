"""A random but repeatable draw of mutants.

A place in the code has a number that follows from the seed and from what is there: its module, definition, line and kind.
The places with the lowest numbers are drawn, so that a change elsewhere leaves the draw as it was.

Places where a mutant would be equivalent by construction, or change only what people read, are no places: type annotations
and aliases, the star before keyword-only arguments, decorators, f-strings, calls of a logger, ``__repr__`` and ``__str__``,
``__all__`` and ``if TYPE_CHECKING``. Docstrings and other plain strings have no operator.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_item import MutationSpec, WorkItem
from mutation_areas import modules
from mutation_operators import KINDS, Node

_LOGGERS = ("_log", "log", "logger", "logging", "warnings")
_FOR_PEOPLE = ("__repr__", "__str__")


class Place(NamedTuple):
    """Where a mutant may be made.

    Attributes:
        number: Decides whether it is drawn; uniform and fixed by seed and code.
        choices: Operators by name, each with which of its occurrences in the module this is.
    """

    number: str
    module: str
    definition: str
    start: tuple[int, int]
    end: tuple[int, int]
    choices: tuple[tuple[str, int], ...]


def draw(root: Path, area: str, count: int, seed: int) -> list[WorkItem]:
    """Return ``count`` mutants of an area, or all where it has fewer.

    The identity of each holds the module's digest: a result of a module that has changed since is none.
    """
    items: list[WorkItem] = []
    texts = {module: (root / module).read_text(encoding="utf-8") for module in modules(root, area)}
    for place in sorted(place for module, text in texts.items() for place in _places(module, text, seed)):
        if len(items) == count:
            break
        operator, occurrence = place.choices[int(place.number[-4:], 16) % len(place.choices)]
        if not changes(texts[place.module], operator, occurrence):
            continue
        mutation = MutationSpec(
            module_path=Path(place.module),
            operator_name=operator,
            occurrence=occurrence,
            start_pos=place.start,
            end_pos=place.end,
            definition_name=place.definition,
        )
        items.append(WorkItem.single(f"{area} {place.number[:16]} {_digest(texts[place.module])[:16]}", mutation))
    return items


def mutated(text: str, operator: str, occurrence: int) -> str:
    """Return the text of a module with one mutation."""
    result: str = mutate_code(text, get_operator(operator)(), occurrence)
    return result


def changes(text: str, operator: str, occurrence: int) -> bool:
    """Return whether a mutant is a program, and another one than the original."""
    try:
        return ast.dump(ast.parse(mutated(text, operator, occurrence))) != ast.dump(ast.parse(text))
    except SyntaxError:
        return False


def _places(module: str, text: str, seed: int) -> Iterator[Place]:
    tree = parso.parse(text)
    nodes = list(ast_nodes(tree))
    lines = text.splitlines()
    twins: Counter[str] = Counter()
    for kind, operators in KINDS.items():
        choices = defaultdict(list)
        for operator in operators:
            spans_in = get_operator(operator)().mutation_positions
            positions = (span for node in nodes for span in spans_in(node))
            for occurrence, span in enumerate(positions):
                choices[span].append((operator, occurrence))
        for (start, end), found in sorted(choices.items()):
            leaf = tree.get_leaf_for_position(start)
            if _is_no_place(leaf):
                continue
            definition = ".".join(scope.name.value for scope in reversed(_scopes(leaf)))
            what = f"{seed} {module} {definition} {kind} {lines[start[0] - 1].strip()}"
            twins[what] += 1
            yield Place(_digest(f"{what} {twins[what]}"), module, definition, start, end, tuple(found))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _scopes(node: Node) -> list[Node]:
    found = []
    while node is not None:
        if node.type in ("funcdef", "classdef"):
            found.append(node)
        node = node.parent
    return found


def _is_no_place(node: Node) -> bool:
    while node.parent is not None:
        if _hides(node.parent, node):
            return True
        node = node.parent
    return False


def _hides(parent: Node, child: Node) -> bool:
    """Return whether what lies in this child of a node does nothing that a test should notice."""
    kind = parent.type
    if kind in ("fstring", "decorator"):
        return True
    if kind == "parameters":
        return bool(child.type == "operator")
    if kind in ("annassign", "tfpdef"):
        return child is parent.children[2 if kind == "tfpdef" else 1] or "TypeAlias" in parent.get_code()
    if kind == "funcdef":
        return child is parent.annotation or parent.name.value in _FOR_PEOPLE
    if kind in ("atom_expr", "power"):
        return parent.get_first_leaf().value in _LOGGERS
    if kind == "expr_stmt":
        return parent.get_first_leaf().value == "__all__"
    return kind == "if_stmt" and "TYPE_CHECKING" in parent.children[1].get_code()
