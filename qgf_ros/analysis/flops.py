"""Floating point operations of an ONNX graph, counted from its shapes.

What is counted, per node:

- Gemm and MatMul of [m, k] by [k, n]: 2 m k n, and m n for a Gemm's bias;
- Conv: 2 per element of the output and weight of its kernel, and one per element of the output for its bias;
- elementwise arithmetic and functions (Add, Mul, Tanh, Cos, Equal, …): one per element of the output, transcendental
  functions included, and one per addition in a Sum;
- reductions and ArgMin: one per element of the input;
- pooling: one per element of the output and place of its window, a global one per element of the input;
- Resize: 8 per element of the output, as for a linear one in two directions;
- LayerNormalization, GroupNormalization and InstanceNormalization: 8 per element of the input (two means, difference,
  square, root and scale, affine map); BatchNormalization, whose means are known: 2;
- moving data (Concat, Transpose, Cast, …): nothing.

An operator that is in none of these groups is an error, so that nothing is left out silently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from onnx import shape_inference

from qgf_ros.errors import BundleError

_ELEMENTWISE = {
    *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Tanh", "Sigmoid", "Erf"),
    *("LeakyRelu", "HardSigmoid", "HardSwish", "Softplus"),
    *("Cos", "Sin", "Sign", "Relu", "Gelu", "Clip", "Equal", "Less", "Greater", "Not", "Where", "Sum", "Min", "Max"),
}
_REDUCTIONS = {
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ArgMin", "ArgMax"),
    *("GlobalAveragePool", "GlobalMaxPool"),
}
_POOLS = {"AveragePool", "MaxPool"}
_PER_INPUT = {"LayerNormalization": 8, "GroupNormalization": 8, "InstanceNormalization": 8, "BatchNormalization": 2}
_RESIZE = 8
_MOVES = {
    *("Concat", "Transpose", "Unsqueeze", "Squeeze", "Identity", "Cast", "Reshape", "Constant", "Gather", "Slice"),
    *("Expand", "Shape", "Split", "Flatten", "SpaceToDepth"),
}


class Flops(NamedTuple):
    """Operations of a graph: those of matrix products, and all others."""

    products: int
    others: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.products + self.others


def count_flops(path: Path, rows: int = 1, outputs: Sequence[str] | None = None) -> Flops:
    """Count the operations of a model whose inputs have `rows` rows.

    Args:
        path: The model; its batch dimension is the first of every input.
        rows: Size of the batch.
        outputs: Count only what these outputs need; all of them by default.

    Raises:
        BundleError: The model cannot be read, a shape is unknown or an operator is not in the table above.
    """
    try:
        model = onnx.load(str(path))
    except Exception as error:  # onnx raises classes of protobuf's
        raise BundleError(f"{path}: not a readable ONNX model ({error}); export the bundle again") from error
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = rows
    for value in model.graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = rows
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = _shapes(graph)
    products = others = 0
    for node in needed_nodes(graph, outputs):
        counted = _node_flops(node, shapes, path)
        if node.op_type in ("Gemm", "MatMul", "Conv"):
            products += counted
        else:
            others += counted
    return Flops(products, others)


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if all(dimension.HasField("dim_value") for dimension in dimensions):
            shapes[value.name] = tuple(dimension.dim_value for dimension in dimensions)
    return shapes


def needed_nodes(graph: Any, outputs: Sequence[str] | None) -> list[Any]:
    """Return the nodes of a graph that some outputs, or all of them, depend on."""
    wanted = {value.name for value in graph.output} if outputs is None else set(outputs)
    kept = []
    for node in reversed(graph.node):  # nodes are in order of execution
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept


def _node_flops(node: Any, shapes: dict[str, tuple[int, ...]], path: Path) -> int:
    kind = node.op_type

    def size(name: str) -> int:
        if name not in shapes:
            raise BundleError(f"{path}: the shape of {name} is unknown; its operations cannot be counted")
        return math.prod(shapes[name])

    if kind in _MOVES:
        return 0
    if kind in ("Gemm", "MatMul"):
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        size(node.input[0])
        inner = shapes[node.input[0]][0 if transposed else -1]
        bias = size(node.output[0]) if kind == "Gemm" and len(node.input) > 2 else 0
        return 2 * inner * size(node.output[0]) + bias
    if kind == "Conv":
        size(node.input[1])
        bias = size(node.output[0]) if len(node.input) > 2 else 0
        # Of the weights [outputs, inputs of a group, height, width], each output sees all but the first axis.
        return 2 * math.prod(shapes[node.input[1]][1:]) * size(node.output[0]) + bias
    if kind in _POOLS:
        (window,) = (attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape")
        return int(math.prod(window)) * size(node.output[0])
    if kind == "Resize":
        return _RESIZE * size(node.output[0])
    if kind in _ELEMENTWISE:
        per_element = max(len(node.input) - 1, 1) if kind in ("Sum", "Min", "Max") else 1
        return per_element * size(node.output[0])
    if kind in _REDUCTIONS:
        return size(node.input[0])
    if kind in _PER_INPUT:
        return _PER_INPUT[kind] * size(node.input[0])
    raise BundleError(f"{path}: operations of {kind} cannot be counted; add the operator to qgf_ros/analysis/flops.py")
