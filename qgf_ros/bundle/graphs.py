"""What an ONNX graph of a bundle may be, decided from its bytes before ONNX Runtime sees them.

The reader knows the fields that a plain graph of tensor operators needs (onnx.proto, IR version 8) and refuses every
other one, where a protobuf library would skip it: external data, functions, subgraphs, and whatever later versions add.
It copies no weights, never recurses, and needs no onnx package.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

#: Length of each axis; None where the graph leaves it open, as it must for the batch.
Shape: TypeAlias = tuple[int | None, ...]

#: Arithmetic on tensors, in the domain of ONNX itself. No control flow, no randomness, no text, and nothing that takes
#: a size from data (Expand, Range, Tile, ...), which a few bytes could make enormous.
_ARITHMETIC = """
    Abs Add And ArgMax ArgMin Cast Clip Concat Cos Div Equal Erf Exp Flatten Gather Gelu Gemm Greater Identity
    LayerNormalization LeakyRelu Less Log MatMul Max Mean Min Mul Neg Not Or Pow Reciprocal ReduceMax ReduceMean
    ReduceMin ReduceSum Relu Sigmoid Sign Sin Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh Transpose
    Unsqueeze Where
"""
OPERATORS = frozenset(_ARITHMETIC.split())
#: What an encoder of images needs beside that. A Resize is bounded below; a Conv gives as many channels as it has weights for.
_VISION = """
    AveragePool BatchNormalization Conv GlobalAveragePool GlobalMaxPool GroupNormalization HardSigmoid HardSwish
    InstanceNormalization MaxPool Reshape Resize SpaceToDepth
"""
ENCODER_OPERATORS = OPERATORS | frozenset(_VISION.split())
#: Most that all operators may enlarge an axis together [1], longest axis and most numbers that are resized to, most padding.
MOST_ENLARGEMENT, MOST_RESIZED, MOST_NUMBERS, MOST_PADDING = 8.0, 2048, 2**24, 4096
#: Most protobuf fields in a graph; an ensemble of ten critics of the paper's size has some 9,000.
MOST_FIELDS = 200_000

_MOST_AXES = 8
_FLOAT, _UINT8 = 1, 2
#: Bytes per element, by the number of the type in TensorProto.DataType.
_ITEM_SIZES = {_FLOAT: 4, _UINT8: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}
#: How `struct` reads those that say the size of an image.
_FORMATS = {_FLOAT: "<f", 7: "<q"}

#: Fields that each message may have, by number; a star marks those that repeat.
_FIELDS = {
    "model": {
        1: "ir_version",
        2: "producer_name",
        3: "producer_version",
        4: "domain",
        5: "model_version",
        6: "doc_string",
        7: "graph",
        8: "opset_import*",
        14: "metadata_props*",
    },
    "opset": {1: "domain", 2: "version"},
    "graph": {
        1: "node*",
        2: "name",
        5: "initializer*",
        10: "doc_string",
        11: "input*",
        12: "output*",
        13: "value_info*",
    },
    "node": {1: "input*", 2: "output*", 3: "name", 4: "op_type", 5: "attribute*", 6: "doc_string", 7: "domain"},
    "attribute": {1: "name", 2: "f", 3: "i", 4: "s", 7: "floats*", 8: "ints*", 13: "doc_string", 20: "kind"},
    "tensor": {1: "dims*", 2: "data_type", 8: "name", 9: "raw_data", 12: "doc_string"},
    "value": {1: "name", 2: "type", 3: "doc_string"},
    "type": {1: "tensor_type"},
    "tensor type": {1: "elem_type", 2: "shape"},
    "shape": {1: "dim*"},
    "dimension": {1: "dim_value", 2: "dim_param"},
}
#: What some other fields hold, for the message.
_REFUSED = {
    ("model", 20): "training information",
    ("model", 25): "functions of its own",
    ("graph", 15): "sparse weights",
    ("attribute", 5): "a tensor",
    ("attribute", 6): "a subgraph",
    ("attribute", 11): "subgraphs",
    ("tensor", 13): "external data",
    ("tensor", 14): "external data",
}
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
#: How fields are encoded that are not bytes.
_ENCODINGS = {
    **dict.fromkeys(("ir_version", "model_version", "version", "kind", "i", "ints"), _VARINT),
    **dict.fromkeys(("dims", "data_type", "elem_type", "dim_value"), _VARINT),
    **dict.fromkeys(("f", "floats"), _FIXED32),
}
#: Numbers that repeat may also be packed into bytes.
_PACKABLE = ("dims", "ints", "floats")


class Signature(NamedTuple):
    """Inputs and outputs of a graph by name, float32 but for images of uint8, and the operators that it may have."""

    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    images: Mapping[str, Shape] = {}
    operators: frozenset[str] = OPERATORS


def check_graph(content: bytes, signature: Signature) -> None:
    """Check that a file is a plain ONNX graph with the inputs and outputs it should have.

    Args:
        content: The serialised model.
        signature: Its inputs and outputs.

    Raises:
        ValueError: It is not; the message begins with what was found.
    """
    if content[4:8] == b"ORTM":  # ONNX Runtime would take its own format for it, unseen by this reader
        raise ValueError("a model in ONNX Runtime's own format was given, expected ONNX")
    reader = _ProtobufReader()
    model = reader.read("model", memoryview(content))
    if not model["graph"]:
        raise ValueError("no graph was found")
    for opset in model["opset_import"]:
        _check_domain(_text(reader.read("opset", opset)["domain"]))
    graph = reader.read("graph", model["graph"][0])
    nodes = [_checked_node(reader, node, signature.operators) for node in graph["node"]]
    weights = [reader.read("tensor", tensor) for tensor in graph["initializer"]]
    for tensor in weights:
        _check_weights(tensor)
    if signature.operators > OPERATORS:
        _check_growth(nodes, {_text(tensor["name"]): tensor for tensor in weights})
    taken = {**signature.images, **signature.inputs}
    for direction, expected in (("input", taken), ("output", signature.outputs)):
        values = [reader.value(value, images=signature.images) for value in graph[direction]]
        found = dict(values)
        if len(values) != len(found) or found.keys() != expected.keys():
            raise ValueError(
                f"the {direction}s {', '.join(n for n, _ in values)} were found, expected {', '.join(expected)}"
            )
        for name, shape in expected.items():
            if found[name] != shape:
                raise ValueError(f"{direction} {name} of shape {_show(found[name])} was found, expected {_show(shape)}")


def _checked_node(reader: _ProtobufReader, message: memoryview, allowed: frozenset[str]) -> dict[str, list[Any]]:
    """Return an operator; its attributes are read."""
    node = reader.read("node", message)
    _check_domain(_text(node["domain"]))
    operator = _text(node["op_type"])
    if operator not in allowed:
        raise ValueError(f"the operator {operator!r} was found, expected arithmetic on tensors")
    node["attribute"] = [reader.read("attribute", attribute) for attribute in node["attribute"]]
    return node


def _check_growth(nodes: Sequence[dict[str, list[Any]]], weights: Mapping[str, dict[str, list[Any]]]) -> None:
    """Raise ValueError where resizing, or padding, could make something enormous of an image."""
    enlargement, growth, padding = 1.0, 1.0, 0
    for node in nodes:
        padding += sum(sum(_dims(each["ints"])) for each in node["attribute"] if _text(each["name"]) == "pads")
        if _text(node["op_type"]) != "Resize":
            continue
        given = [_text([name]) for name in node["input"][2:] if len(name)]
        if len(given) != 1 or given[0] not in weights:
            raise ValueError("a Resize to what only an input can tell was found, expected constant scales or sizes")
        numbers = [abs(number) for number in _numbers(weights[given[0]])]
        largest = max(numbers, key=lambda value: (math.isnan(value), value))
        if len(node["input"]) == 3:
            enlargement *= max(largest, 1.0)
            growth *= math.prod(max(number, 1.0) for number in numbers)
        elif not (largest <= MOST_RESIZED and math.prod(numbers) <= MOST_NUMBERS):
            what = f"a Resize to {largest:g} was found, expected at most {MOST_RESIZED}"
            raise ValueError(f"{what}, and at most {MOST_NUMBERS} numbers in all")
    if not enlargement <= MOST_ENLARGEMENT:
        raise ValueError(f"Resizes by {enlargement:g} were found, expected at most {MOST_ENLARGEMENT:g} together")
    if growth > MOST_ENLARGEMENT**2:
        raise ValueError(f"Resizes to {growth:g} times the numbers were found, expected at most two axes enlarged so")
    if padding > MOST_PADDING:
        raise ValueError(f"{padding} rows and columns of padding were found, expected at most {MOST_PADDING}")


def _numbers(tensor: dict[str, list[Any]]) -> list[float]:
    """Return the numbers of weights with few of them, such as the sizes of a Resize."""
    if not 0 < math.prod(_dims(tensor["dims"])) <= _MOST_AXES:
        raise ValueError(f"a Resize of more than {_MOST_AXES} axes was found, or of none")
    kind = _FORMATS.get(tensor["data_type"][0])
    if kind is None:
        raise ValueError("a Resize by something else than numbers was found")
    return [float(value) for (value,) in struct.iter_unpack(kind, b"".join(map(bytes, tensor["raw_data"])))]


def _check_domain(domain: str) -> None:
    if domain not in ("", "ai.onnx"):
        raise ValueError(f"operators of the domain {domain!r} were found, expected those of ONNX itself")


def _check_weights(tensor: dict[str, list[Any]]) -> None:
    name, (number,) = _text(tensor["name"]), tensor["data_type"] or [0]
    if number not in _ITEM_SIZES:
        raise ValueError(f"weights {name!r} of element type {number} were found, expected numbers")
    expected = math.prod(_dims(tensor["dims"])) * _ITEM_SIZES[number]
    size = sum(len(data) for data in tensor["raw_data"])
    if size != expected:
        raise ValueError(f"weights {name!r} of {size} bytes were found, expected {expected} for their shape")


class _ProtobufReader:
    """Reads protobuf messages, one level at a time, until they have held too many fields."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def read(self, kind: str, message: memoryview) -> dict[str, list[Any]]:
        """Return the values of each known field: integers, or views of the bytes of everything else."""
        known = _FIELDS[kind]
        values: dict[str, list[Any]] = {name.rstrip("*"): [] for name in known.values()}
        at = 0
        while at < len(message):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {MOST_FIELDS} fields were found")
            tag, at = _varint(message, at)
            if tag >> 3 not in known:
                what = _REFUSED.get((kind, tag >> 3), f"field {tag >> 3}")
                raise ValueError(f"{what} was found in its {kind}, expected a plain graph with its weights inside")
            name, star, _ = known[tag >> 3].partition("*")
            value, at = _value(message, at, tag & 7)
            packed = name in _PACKABLE and tag & 7 == _BYTES
            if tag & 7 != _ENCODINGS.get(name, _BYTES) and not packed:
                raise ValueError(f"{name} of a {kind} was found in another encoding than its own")
            if values[name] and not star:
                raise ValueError(f"{name} of a {kind} was found twice")
            values[name].append(value)
        return values

    def value(self, message: memoryview, *, images: Container[str] = ()) -> tuple[str, Shape]:
        """Return name and shape of an input or output; those named as images are of uint8, all others of float32."""
        value = self.read("value", message)
        name = _text(value["name"])
        try:
            tensor = self.read("tensor type", self.read("type", value["type"][0])["tensor_type"][0])
            dimensions = [self.read("dimension", dim) for dim in self.read("shape", tensor["shape"][0])["dim"]]
        except IndexError:
            raise ValueError(f"{name!r} without a shape was found") from None
        kind, called = (_UINT8, "uint8") if name in images else (_FLOAT, "float32")
        if tensor["elem_type"] != [kind]:
            raise ValueError(f"{name!r} of another type than {called} was found")
        return name, tuple(dim["dim_value"][0] if dim["dim_value"] else None for dim in dimensions)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return an integer of 7 bits per byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at == len(data):
            raise ValueError("the file ends in the middle of a field")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("an integer of more than 10 bytes was found")


def _value(data: memoryview, at: int, wire: int) -> tuple[Any, int]:
    if wire == _VARINT:
        return _varint(data, at)
    if wire == _BYTES:
        size, at = _varint(data, at)
    elif wire == _FIXED32:
        size = 4
    else:
        raise ValueError(f"a field of wire type {wire} was found")
    if size > len(data) - at:
        raise ValueError("the file ends in the middle of a field")
    return data[at : at + size], at + size


def _dims(values: list[int | memoryview]) -> list[int]:
    """Return the lengths of a tensor's axes, each written by itself or packed together."""
    dims: list[int] = []
    for value in values:
        if isinstance(value, int):
            dims.append(value)
            continue
        at = 0
        while at < len(value) and len(dims) <= _MOST_AXES:
            length, at = _varint(value, at)
            dims.append(length)
    if len(dims) > _MOST_AXES:
        raise ValueError(f"weights of more than {_MOST_AXES} axes were found")
    return dims


def _text(values: list[memoryview]) -> str:
    return str(bytes(values[0][:100]), "utf-8", "replace") if values else ""


def _show(shape: Shape) -> str:
    return f"[{', '.join('N' if axis is None else str(axis) for axis in shape)}]"
