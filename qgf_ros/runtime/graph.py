"""A builder of ONNX graphs with control flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 9
#: Operators of ONNX Runtime itself.
CONTRIB = "com.microsoft"


def tensor(name: str, shape: Sequence[int | str] | None = None, kind: int = TensorProto.FLOAT) -> Any:
    """Return an input or output of a graph: name, shape (None: not stated) and element type."""
    return helper.make_tensor_value_info(name, kind, shape)


class Graph:
    """Collects the nodes of a graph, or of the body of a control flow operator.

    A body sees every name of the graphs around it. Its constants belong to the graph around it, where another body, or
    that graph itself, may share them: ONNX Runtime packs a weight for the kernel that reads it if it comes from there,
    and leaves it as it is if it comes from further out, at twice to a hundred times the cost.

    Args:
        parent: The graph around a body.
    """

    def __init__(self, parent: Graph | None = None) -> None:
        self._nodes: list[Any] = []
        self._own: dict[str, Any] = {}
        self._constants = self._own if parent is None else parent._own
        self._numbers: count[int] = count() if parent is None else parent._numbers

    def constant(self, value: NDArray[Any], name: str = "constant") -> str:
        """Return the name of a constant. One name is one constant of a graph: the value counts the first time."""
        if name not in self._constants:
            value = np.ascontiguousarray(value).reshape(value.shape)
            self._constants[name] = numpy_helper.from_array(value, self._fresh(name))
        return str(self._constants[name].name)

    def scalar(self, value: float) -> str:
        """Return the name of a float32 constant of no axis."""
        return self.constant(np.array(value, dtype=np.float32), f"scalar {value!r}")

    def integers(self, *values: int) -> str:
        """Return the name of an int64 constant [len(values)]."""
        return self.constant(np.array(values, dtype=np.int64), f"integers {values}")

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator and return the name of its output."""
        return self.split(operator, 1, *inputs, **attributes)[0]

    def split(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Append an operator of several outputs and return their names."""
        names = [self._fresh(operator) for _ in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def scan(self, body: Graph, states: Sequence[tuple[str, str, str]], slices: Sequence[tuple[str, str]]) -> list[str]:
        """Append a loop over the first axis of some tensors; return the last state.

        Args:
            body: One step of it.
            states: For each state its first value, its name in the body, and the name of its next value.
            slices: For each tensor looped over its name, and that of one slice in the body.
        """
        inner = [tensor(name) for _, name, _ in states] + [tensor(name) for _, name in slices]
        graph = body._graph(inner, [tensor(after) for _, _, after in states])
        outer = [first for first, _, _ in states] + [name for name, _ in slices]
        return self.split("Scan", len(states), *outer, body=graph, num_scan_inputs=len(slices))

    def choose(self, condition: str, then: Callable[[Graph], str], otherwise: Callable[[Graph], str]) -> str:
        """Append an ``If``; each branch is a function that fills a graph and returns the name of its result."""
        bodies = []
        for fill in (then, otherwise):
            branch = Graph(self)
            result = branch.add("Identity", fill(branch))
            bodies.append(branch._graph([], [tensor(result)]))
        return self.add("If", condition, then_branch=bodies[0], else_branch=bodies[1])

    def model(self, inputs: Sequence[Any], outputs: dict[str, str]) -> bytes:
        """Return the serialised model; outputs are given as the names they get and the names they have."""
        for name, source in outputs.items():
            self._nodes.append(helper.make_node("Identity", [source], [name]))
        graph = self._graph(inputs, [tensor(name) for name in outputs])
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="qgf_ros")
        serialised: bytes = model.SerializeToString()
        return serialised

    def _graph(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        constants = list(self._own.values())
        return helper.make_graph(self._nodes, self._fresh("graph"), list(inputs), list(outputs), constants)

    def _fresh(self, stem: str) -> str:
        return f"{stem.lower()} {next(self._numbers)}"
