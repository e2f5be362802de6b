"""What a mutant may be: operators of Cosmic Ray, and four that it has not.

Of Cosmic Ray's replacements those are taken that a slip of the hand would make: a comparison becomes its neighbour or its
opposite, an operation its counterpart. Most others (``a << b`` of floats) raise at once and would flatter the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import cosmic_ray.plugins
import parso
from cosmic_ray.operators.operator import Example, Operator

Node: TypeAlias = Any  # parso has no types of its own for its nodes
Span: TypeAlias = tuple[tuple[int, int], tuple[int, int]]

_COMPARISONS = ("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt")
_IDENTITIES = ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")
_BINARY = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul")
_BITS = ("BitOr_BitAnd", "BitAnd_BitOr", "RShift_LShift", "LShift_RShift")
_CALLS = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "any": "all",
    "all": "any",
    "floor": "ceil",
    "ceil": "floor",
}


class StatementRemoval(Operator):
    """Removes what is done for its effect: a call, an assignment to an attribute or an item, a ``raise``."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """See `Operator`."""
        if node.type == "simple_stmt" and _has_effect(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Node, index: int) -> Node:
        """See `Operator`."""
        node.children[0] = parso.parse(f"{node.children[0].get_first_leaf().prefix}pass")
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        """See `Operator`."""
        return Example("check(x)\n", "pass\n"), Example("self.x += 1\n", "pass\n"), Example("raise E\n", "pass\n")


def _has_effect(statement: Node) -> bool:
    if statement.type == "raise_stmt":
        return True
    if statement.type == "expr_stmt":
        kept = statement.children[0].type in ("atom_expr", "power")
        return kept and (statement.children[1].type != "annassign" or len(statement.children[1].children) > 2)
    return statement.type in ("atom_expr", "power") and statement.children[-1].get_first_leaf().value == "("


class CallReplacer(Operator):
    """Turns ``min`` into ``max``, ``any`` into ``all``, ``floor`` into ``ceil`` and back, and takes an ``abs`` away."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """See `Operator`."""
        if node.type == "name" and (node.value in _CALLS or node.value == "abs") and _is_called(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Node, index: int) -> Node:
        """See `Operator`."""
        bare = node.parent.type != "trailer"
        node.value = _CALLS.get(node.value, "" if bare else "positive")
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        """See `Operator`."""
        return Example("min(x, y)", "max(x, y)"), Example("abs(x)", "(x)"), Example("np.abs(x)", "np.positive(x)")


def _is_called(name: Node) -> bool:
    after = name.get_next_leaf()
    return after is not None and after.value == "(" and after.parent.type == "trailer"


class MembershipNegation(Operator):
    """Turns ``in`` into ``not in``, and back."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """See `Operator`."""
        if node.type == "comparison":
            for word in self._words(node):
                yield word.start_pos, word.end_pos

    def mutate(self, node: Node, index: int) -> Node:
        """See `Operator`."""
        word = self._words(node)[index]
        other = " not in" if word.get_code().split() == ["in"] else " in"
        node.children[node.children.index(word)] = parso.parse(other)
        return node

    @staticmethod
    def _words(node: Node) -> list[Node]:
        return [word for word in node.children[1::2] if word.get_code().split()[-1] == "in"]

    @classmethod
    def examples(cls) -> Iterable[Example]:
        """See `Operator`."""
        return Example("x in y", "x not in y"), Example("x not in y", "x in y")


class ReturnRemoval(Operator):
    """Goes on where the code would leave a function: a bare ``return`` becomes ``pass``."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """See `Operator`."""
        if node.type == "simple_stmt" and node.children[0].type == "keyword" and node.children[0].value == "return":
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Node, index: int) -> Node:
        """See `Operator`."""
        node.children[0].value = "pass"
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        """See `Operator`."""
        return (Example("def f():\n    return\n", "def f():\n    pass\n"),)


OWN: tuple[type[Operator], ...] = (StatementRemoval, CallReplacer, MembershipNegation, ReturnRemoval)
cosmic_ray.plugins.OPERATOR_PROVIDERS["qgf"] = {operator.__name__: operator for operator in OWN}

#: Names of operators, by the kind of thing they change: a place is drawn by its kind, then one operator of the kind.
KINDS: dict[str, tuple[str, ...]] = {
    "comparison": tuple(f"core/ReplaceComparisonOperator_{pair}" for pair in (*_COMPARISONS, *_IDENTITIES)),
    "binary operation": tuple(f"core/ReplaceBinaryOperator_{pair}" for pair in (*_BINARY, *_BITS)),
    "sign": tuple(f"core/ReplaceUnaryOperator_{pair}" for pair in ("USub_UAdd", "Delete_Not", "Delete_Invert")),
    "condition": ("core/AddNot",),
    "logic": ("core/ReplaceAndWithOr", "core/ReplaceOrWithAnd"),
    "truth": ("core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue"),
    "number": ("core/NumberReplacer",),
    "loop": ("core/ReplaceBreakWithContinue", "core/ReplaceContinueWithBreak", "core/ZeroIterationForLoop"),
    "exception": ("core/ExceptionReplacer",),
    **{operator.__name__: (f"qgf/{operator.__name__}",) for operator in OWN},
}
