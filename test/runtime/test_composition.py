"""What ONNX Runtime needs of a composed graph to be fast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the fast path needs onnx")

from qgf_ros.bundle.layers import Layer, Layers  # noqa: E402
from qgf_ros.runtime.composition import guided_flow, plain_flow  # noqa: E402

OBSERVATION, CHUNK, WIDTH = 3, 2, 8


def layers(inputs: int, outputs: int) -> Layers:
    one = np.ones(WIDTH, np.float32)
    hidden = [Layer(np.ones((fan_in, WIDTH), np.float32), one, one, one) for fan_in in (inputs, WIDTH, WIDTH)]
    return (*hidden, Layer(np.ones((WIDTH, outputs), np.float32), np.ones(outputs, np.float32)))


def products(graph: Any, around: tuple[set[str], ...] = ()) -> Iterator[tuple[str, int]]:
    """Yield, for every constant of a matrix product, how many graphs further out it lies."""
    scopes = ({tensor.name for tensor in graph.initializer}, *around)
    for node in graph.node:
        if node.op_type in ("Gemm", "MatMul", "MatMulNBits"):
            for name in node.input:
                yield from ((name, out) for out, names in enumerate(scopes) if name in names)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from products(attribute.g, scopes)


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
@pytest.mark.parametrize(("members", "aggregation"), [(1, "min"), (2, "min"), (3, "min"), (2, "mean")])
def test_no_weight_lies_where_onnx_runtime_would_not_pack_it(members: int, aggregation: str, precision: Any) -> None:
    """It packs those of the graph itself and of the one around it, and is many times slower with the others."""
    velocity = layers(OBSERVATION + CHUNK + 1, CHUNK)
    critic = [layers(OBSERVATION + CHUNK, 1)] * members
    for model in (
        plain_flow(velocity, OBSERVATION, CHUNK, precision),
        guided_flow(velocity, critic, aggregation, OBSERVATION, CHUNK, precision),
    ):
        found = list(products(onnx.load_from_string(model).graph))
        assert len(found) > 4
        assert {out for _, out in found} <= {0, 1}


def quantised(graph: Any) -> dict[str, tuple[int, int]]:
    """Return the sizes of the products with weights of 8 bits, by the name of the weight."""
    found: dict[str, tuple[int, int]] = {}
    for node in graph.node:
        values = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "MatMulNBits":
            found[node.input[1]] = values["K"].i, values["N"].i
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found.update(quantised(attribute.g))
    return found


def test_in_8_bits_are_the_products_between_hidden_layers_and_no_other() -> None:
    velocity = layers(OBSERVATION + CHUNK + 1, CHUNK)
    plain = onnx.load_from_string(plain_flow(velocity, OBSERVATION, CHUNK, "int8"))
    assert list(quantised(plain.graph).values()) == [(WIDTH, WIDTH)] * 2
    critic = [layers(OBSERVATION + CHUNK, 1)] * 2
    guided = onnx.load_from_string(guided_flow(velocity, critic, "min", OBSERVATION, CHUNK, "int8"))
    # The velocity's two, and of both members the two forwards and the two backwards.
    assert list(quantised(guided.graph).values()) == [(WIDTH, WIDTH)] * (2 + 2 * 4)
    assert quantised(onnx.load_from_string(plain_flow(velocity, OBSERVATION, CHUNK)).graph) == {}


def test_each_weight_is_there_once_in_each_graph_that_packs_it() -> None:
    """Forward products pack it in one way, backward products in another; no third copy is stored."""
    velocity, critic = layers(OBSERVATION + CHUNK + 1, CHUNK), [layers(OBSERVATION + CHUNK, 1)] * 2
    model = onnx.load_from_string(guided_flow(velocity, critic, "min", OBSERVATION, CHUNK))

    def hidden(graph: Any) -> int:
        inner = (hidden(a.g) for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
        return sum(list(tensor.dims) == [WIDTH, WIDTH] for tensor in graph.initializer) + sum(inner)

    assert hidden(model.graph) == 2 + 2 * (2 + 2)  # of the velocity field; of both members, forward and backward
