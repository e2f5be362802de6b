"""Operations of graphs small enough to count by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="counting operations needs the analysis extra")

import onnx
from onnx import TensorProto, helper, numpy_helper

from qgf_ros.analysis.flops import Flops, count_flops
from qgf_ros.errors import BundleError


def save(path: Path, nodes: list[Any], outputs: dict[str, list[int | str]], **constants: Any) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


NODES = [
    helper.make_node("Gemm", ["x", "w", "b"], ["h"]),  # [N, 3] x [3, 5] + [5]: 2 * 15 + 5
    helper.make_node("LayerNormalization", ["h", "one", "zero"], ["n"]),  # 8 * 5
    helper.make_node("Mul", ["n", "n"], ["square"]),  # 5
    helper.make_node("Tanh", ["square"], ["y"]),  # 5
    helper.make_node("Gemm", ["y", "w"], ["back"], transB=1),  # [N, 5] x [5, 3], no bias: 2 * 15
    helper.make_node("Sum", ["back", "x", "x"], ["total"]),  # 2 * 3
    helper.make_node("ReduceMean", ["y"], ["mean"], axes=[-1], keepdims=1),  # 5
    helper.make_node("Transpose", ["mean"], ["out"], perm=[1, 0]),  # nothing
]
CONSTANTS = {"w": np.ones((3, 5)), "b": np.ones(5), "one": np.ones(5), "zero": np.zeros(5)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "m.onnx", NODES, {"total": ["N", 3], "out": [1, "N"]}, **CONSTANTS)


def test_every_operation_is_counted(model: Path) -> None:
    assert count_flops(model) == Flops(products=(30 + 5) + 30, others=40 + 5 + 5 + 6 + 5)
    assert count_flops(model).total == 126


def test_rows_multiply_everything(model: Path) -> None:
    assert count_flops(model, rows=7).total == 7 * 126


def test_only_what_an_output_needs_is_counted(model: Path) -> None:
    assert count_flops(model, outputs=("out",)) == Flops(products=35, others=40 + 5 + 5 + 5)


def test_matrix_product_of_constants_on_the_left(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"y": ["N", 5]}, w=np.ones((3, 5)))
    assert count_flops(path, rows=2) == Flops(products=2 * 2 * 3 * 5, others=0)


def test_an_operator_that_cannot_be_counted_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Softmax", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"y": ["N", 3]})
    with pytest.raises(BundleError, match="operations of Softmax cannot be counted"):
        count_flops(path)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\xffnothing")
    with pytest.raises(BundleError, match="not a readable ONNX model"):
        count_flops(path)


def test_our_own_graphs_are_countable_and_their_products_as_derived(tmp_path: Path) -> None:
    from qgf_ros.bundle.layers import Layer
    from qgf_ros.learning.export.primitives import critic_graph, velocity_graph

    def layers(*sizes: int) -> list[Layer]:
        random = np.random.default_rng(0)
        return [
            Layer(*(random.standard_normal(shape).astype(np.float32) for shape in ((i, o), (o,))))
            for i, o in zip(sizes, sizes[1:])
        ]

    def products(model: bytes) -> int:
        path = tmp_path / "m.onnx"
        path.write_bytes(model)
        return count_flops(path).products

    frequencies = np.ones(8, np.float32)
    mlp = layers(4 + 2 + 16, 32, 32, 2)
    forward = sum(2 * i * o + o for i, o in ((22, 32), (32, 32), (32, 2)))
    back = sum(2 * i * o for i, o in ((2, 32), (32, 32), (32, 2)))  # the last to the 2 columns of the action
    assert products(velocity_graph(mlp, 4, 2, frequencies, 1e4, vjp=False)) == forward
    assert products(velocity_graph(mlp, 4, 2, frequencies, 1e4, vjp=True)) == forward + back
    members = [layers(6, 16, 1), layers(6, 16, 1)]
    one = (2 * 6 * 16 + 16) + (2 * 16 + 1) + 2 * 16 * 2
    assert products(critic_graph(members, 4, 2, "min")) == 2 * one


def test_what_an_encoder_of_pictures_does_is_counted(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "square"], ["picture"]),  # [N, 3] to [1, 3, 1, 1], nothing
        helper.make_node("Resize", ["picture", "", "scales"], ["large"]),  # [1, 3, 4, 4]: 8 * 48
        helper.make_node("Conv", ["large", "kernel", "bias"], ["seen"], strides=[2, 2]),  # [1, 5, 2, 2], 3 * 1 * 2 each
        helper.make_node("MaxPool", ["seen"], ["pooled"], kernel_shape=[2, 1]),  # [1, 5, 1, 2]: 2 * 10
        helper.make_node("GlobalAveragePool", ["pooled"], ["mean"]),  # 10
        helper.make_node("Flatten", ["mean"], ["flat"]),  # nothing
    ]
    kernel = np.ones((5, 3, 1, 2), np.float32)
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["N", 5])],
        [
            numpy_helper.from_array(np.array([-1, 3, 1, 1], np.int64), "square"),
            numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales"),
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.ones(5, np.float32), "bias"),
        ],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    assert count_flops(path) == Flops(products=2 * 6 * 20 + 20, others=8 * 48 + 20 + 10)
