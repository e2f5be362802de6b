"""Graphs are judged from their bytes: what is not plain arithmetic with its weights inside never reaches ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.graphs import MOST_FIELDS, OPERATORS, Signature, check_graph
from qgf_ros.bundle.layers import Layer

onnx = pytest.importorskip("onnx", reason="building graphs needs onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SIGNATURE = Signature({"s": (None, 3)}, {"v": (None, 2)})
WEIGHT = np.ones((3, 2), dtype=np.float32)


def model() -> Any:
    """A graph that fits the signature: v = s W."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["s", "W"], ["v"], transB=0)],
        "plain",
        [helper.make_tensor_value_info("s", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("v", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(WEIGHT, "W")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def external(m: Any) -> None:
    tensor = m.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_by_name_only(m: Any) -> None:
    m.graph.initializer[0].external_data.add(key="location", value="../secret")


def function(m: Any) -> None:
    body = [helper.make_node("Identity", ["x"], ["y"])]
    m.functions.append(helper.make_function("own", "Copy", ["x"], ["y"], body, [helper.make_opsetid("", 17)]))


def branch(m: Any) -> None:
    m.graph.node[0].attribute.append(helper.make_attribute("then_branch", helper.make_graph([], "inner", [], [])))


def many_branches(m: Any) -> None:
    m.graph.node[0].attribute.append(helper.make_attribute("branches", [helper.make_graph([], "inner", [], [])]))


def sparse(m: Any) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "W")
    m.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [6])
    )


def enormous(m: Any) -> None:
    m.graph.initializer[0].dims[:] = [10**6, 10**6]


def overflowing(m: Any) -> None:
    m.graph.initializer[0].dims[:] = [2**62, 8, 6]  # 24 modulo 2^64


def negative(m: Any) -> None:
    m.graph.initializer[0].dims[:] = [-3, -2]


def many_axes(m: Any) -> None:
    m.graph.initializer[0].dims[:] = [1] * 9


def of_text(m: Any) -> None:
    m.graph.initializer[0].data_type = TensorProto.STRING


def set_field(path: str, value: Any) -> Callable[[Any], None]:
    def change(m: Any) -> None:
        *owners, name = path.split(".")
        target = m
        for owner in owners:
            target = target[int(owner)] if owner.isdigit() else getattr(target, owner)
        setattr(target, name, value)

    return change


def renamed(m: Any) -> None:
    m.graph.output[0].name = "action"


def twice_the_same_input(m: Any) -> None:
    m.graph.input.append(m.graph.input[0])


def without_shape(m: Any) -> None:
    m.graph.input[0].type.tensor_type.ClearField("shape")


def trained(m: Any) -> None:
    m.training_info.add()


def tensor_attribute(m: Any) -> None:
    m.graph.node[0].attribute.append(helper.make_attribute("value", numpy_helper.from_array(WEIGHT, "W")))


def located_elsewhere(m: Any) -> None:
    m.graph.initializer[0].data_location = TensorProto.EXTERNAL


def of_no_type(m: Any) -> None:
    m.graph.initializer[0].ClearField("data_type")


def fixed_batch(m: Any) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


REFUSED = [
    (external, "external data was found in its tensor"),
    (external_by_name_only, "external data was found in its tensor"),
    (function, "functions of its own was found"),
    (branch, "a subgraph was found in its attribute"),
    (many_branches, "subgraphs was found in its attribute"),
    (sparse, "sparse weights was found"),
    (trained, "training information was found in its model"),
    (tensor_attribute, "a tensor was found in its attribute"),
    (located_elsewhere, "external data was found in its tensor"),
    (of_no_type, "weights 'W' of element type 0 were found"),
    (enormous, "weights 'W' of 24 bytes were found, expected 4000000000000"),
    (overflowing, "weights 'W' of 24 bytes were found"),
    (negative, "weights 'W' of 24 bytes were found"),
    (many_axes, "more than 8 axes"),
    (of_text, "weights 'W' of element type 8"),
    (set_field("graph.node.0.op_type", "Loop"), "operator 'Loop'"),
    (set_field("graph.node.0.op_type", "ConstantOfShape"), "operator 'ConstantOfShape'"),
    (set_field("graph.node.0.op_type", "RandomNormal"), "operator 'RandomNormal'"),
    (set_field("graph.node.0.domain", "com.example"), "domain 'com.example'"),
    (set_field("opset_import.0.domain", "com.example"), "domain 'com.example'"),
    (renamed, "outputs action were found, expected v"),
    (twice_the_same_input, "inputs s, s were found, expected s"),
    (without_shape, "'s' without a shape"),
    (fixed_batch, r"input s of shape \[1, 3\] was found, expected \[N, 3\]"),
    (set_field("graph.output.0.type.tensor_type.shape.dim.1.dim_value", 5), r"output v of shape \[N, 5\]"),
    (set_field("graph.input.0.type.tensor_type.elem_type", TensorProto.DOUBLE), "'s' of another type than float32"),
]


def test_a_plain_graph_passes() -> None:
    check_graph(model().SerializeToString(), SIGNATURE)


def test_whatever_a_plain_graph_may_say_of_itself_passes() -> None:
    m = model()
    m.producer_name, m.producer_version, m.domain, m.model_version, m.doc_string = "a", "1", "b", 2, "c"
    m.metadata_props.add(key="k", value="v")
    m.opset_import[0].domain = "ai.onnx"
    m.graph.name, m.graph.doc_string = "d", "e"
    m.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 2]))
    m.graph.input[0].doc_string = "f"
    m.graph.initializer[0].doc_string = "g"
    node = m.graph.node[0]
    node.name, node.doc_string, node.domain = "h", "i", "ai.onnx"
    values = {"alpha": 1.5, "axis": 3, "approximate": "tanh", "scales": [0.5, 2.0], "axes": [1, 300]}
    node.attribute.extend(helper.make_attribute(name, value, "j") for name, value in values.items())
    check_graph(m.SerializeToString(), SIGNATURE)


@pytest.mark.parametrize("kind", ["float32", "uint8", "int8", "int32", "int64", "bool", "float16", "float64"])
def test_weights_have_as_many_bytes_as_their_shape_and_type_say(kind: str) -> None:
    m = model()
    m.graph.initializer.append(numpy_helper.from_array(np.ones((5, 3), dtype=kind), "other"))
    check_graph(m.SerializeToString(), SIGNATURE)
    size = 15 * np.dtype(kind).itemsize
    for data in (m.graph.initializer[1].raw_data[:-1], m.graph.initializer[1].raw_data + b"0"):
        m.graph.initializer[1].raw_data = data
        with pytest.raises(ValueError, match=f"weights 'other' of {len(data)} bytes were found, expected {size} for"):
            check_graph(m.SerializeToString(), SIGNATURE)


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_no_plain_graph_is_refused(change: Callable[[Any], None], message: str) -> None:
    changed = model()
    change(changed)
    with pytest.raises(ValueError, match=message):
        check_graph(changed.SerializeToString(), SIGNATURE)


def test_a_file_that_onnx_runtime_would_take_for_its_own_format_is_refused() -> None:
    changed = model()
    changed.ClearField("ir_version")
    changed.producer_name = "__ORTM"  # two bytes of tag and length, two of the name: the mark stands at the fifth byte
    content = changed.SerializeToString()
    assert content[4:8] == b"ORTM"
    onnx.load_model_from_string(content)
    with pytest.raises(ValueError, match="ONNX Runtime's own format"):
        check_graph(content, SIGNATURE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no graph"),
        (b"\x3a\x7f", "ends in the middle"),
        (b"\x3a", "ends in the middle"),
        (b"\xff" * 11, "more than 10 bytes"),
        (b"\x0b\x0c", "wire type 3|another encoding"),
        (b"\x38\x01", "another encoding"),
        (b"\x08\x01\x08\x02", "ir_version of a model was found twice"),
        (b"\x3a\x00\x3a\x00", "graph of a model was found twice"),
        (b"\x72\x00" * (MOST_FIELDS + 1), "more than 200000 fields"),
    ],
)
def test_what_is_no_model_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_graph(content, SIGNATURE)


def test_dimensions_are_read_packed_or_one_by_one() -> None:
    content = model().SerializeToString()
    single = b"\x08\x03\x08\x02"
    assert content.count(single) == 1
    check_graph(content.replace(single, b"\x0a\x02\x03\x02"), SIGNATURE)


def test_what_passes_says_the_same_to_the_library() -> None:
    """A damaged graph that passes holds, as protobuf reads it, none of what is refused."""
    random = np.random.default_rng(8)
    content = np.frombuffer(model().SerializeToString(), dtype=np.uint8)
    passed = 0
    for _ in range(3000):
        damaged = content.copy()
        damaged[random.integers(len(content), size=random.integers(1, 4))] ^= np.uint8(1 << random.integers(8))
        try:
            check_graph(damaged.tobytes(), SIGNATURE)
        except ValueError:
            continue
        passed += 1
        read = onnx.load_model_from_string(damaged.tobytes())
        assert not read.functions and not read.training_info
        assert {node.op_type for node in read.graph.node} <= OPERATORS
        assert not any(node.domain for node in read.graph.node)
        assert not any(tensor.external_data or tensor.data_location for tensor in read.graph.initializer)
        assert [value.name for value in (*read.graph.input, *read.graph.output)] == ["s", "v"]
    assert passed > 100


def test_operators_of_the_exporter_are_known() -> None:
    graphs = pytest.importorskip("qgf_ros.learning.export.primitives")
    layer = Layer(np.ones((7, 4), np.float32), np.ones(4, np.float32), np.ones(4, np.float32), np.ones(4, np.float32))
    last = Layer(np.ones((4, 3), np.float32), np.ones(3, np.float32))
    signature = {"s": (None, 2), "a": (None, 3), "t": (None,)}
    frequencies = np.ones(1, np.float32)
    plain = graphs.velocity_graph([layer, last], 2, 3, frequencies, 30.0, vjp=False)
    check_graph(plain, Signature(signature, {"v": (None, 3)}))
    vjp = graphs.velocity_graph([layer, last], 2, 3, frequencies, 30.0, vjp=True)
    check_graph(vjp, Signature({**signature, "u": (None, 3)}, {"v": (None, 3), "u_dv_da": (None, 3)}))
    for aggregation in ("min", "mean"):
        first = Layer(layer.weight[:5], layer.bias, layer.scale, layer.shift)
        value = Layer(last.weight[:, :1], last.bias[:1])
        critic = graphs.critic_graph([[first, value]] * 10, 2, 3, aggregation)
        check_graph(critic, Signature({"s": (None, 2), "a": (None, 3)}, {"q": (10, None), "dq_da": (None, 3)}))
