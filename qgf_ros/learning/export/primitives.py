"""ONNX graphs of the three primitives, forward and backward passes written out as operators.

Nothing is traced: each gradient is derived by hand (below, per layer) and built from weights alone, so no input can
be baked into it. Written for few and large operators, since at these sizes an elementwise node costs as much as it
computes. Needs neither torch nor onnxruntime.

Of a hidden layer  x -> z = x W + b -> n = (z - mean) r -> y = n gamma + beta -> h = GELU(y)  the backward pass is

    dy = dh * GELU'(y),   dn = dy * gamma,   dz = r (dn - mean(dn) - n mean(dn n)),   dx = dz W^T,

where r is the reciprocal standard deviation; a layer without LayerNorm has y = z and dz = dy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

from qgf_ros.bundle.aggregation import SMALLEST_STD, deviations
from qgf_ros.bundle.layers import (
    FREQUENCIES,
    LAYER_NORM_EPS,
    VELOCITY,
    Layer,
    Weights,
    member_network,
    weight_name,
)

OPSET = 17
IR_VERSION = 8
NOISED = "noised_q"
_GELU = float(np.sqrt(2.0 / np.pi))
_GELU_CUBIC = _GELU * 0.044715


@dataclass(frozen=True)
class Tape:
    """What the backward pass of one hidden layer needs: names of tensors in the graph."""

    y: str
    tanh: str
    square: str
    normalised: str = ""
    reciprocal: str = ""


class GraphBuilder:
    """Collects the nodes and constants of a graph under unique names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._count = 0

    def constant(self, value: NDArray[Any], name: str = "") -> str:
        array = np.ascontiguousarray(value)
        name = (
            name
            or f"constant_{hashlib.sha256(repr((array.dtype, array.shape)).encode() + array.tobytes()).hexdigest()[:16]}"
        )
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, dtype=np.float32))

    def add(self, operator: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        self._count += 1
        names = list(outputs) or [f"{operator.lower()}_{self._count}"]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0]

    def mean(self, x: str) -> str:
        return self.add("ReduceMean", x, axes=[-1], keepdims=1)

    def model(self, inputs: dict[str, int | None], outputs: dict[str, Sequence[int | str]]) -> bytes:
        def info(name: str, shape: Sequence[int | str]) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

        graph = helper.make_graph(
            self.nodes,
            "qgf",
            [info(name, ["N"] if size is None else ["N", size]) for name, size in inputs.items()],
            [info(name, shape) for name, shape in outputs.items()],
            list(self.constants.values()),
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="qgf_ros"
        )
        checker.check_model(model, full_check=True)
        serialised: bytes = model.SerializeToString()
        return serialised


def forward_pass(g: GraphBuilder, x: str, layers: Sequence[Layer], network: str) -> tuple[str, list[Tape]]:
    """Return the output of an MLP with GELU, and what its backward pass needs."""
    tapes: list[Tape] = []
    for number, layer in enumerate(layers):
        weight = g.constant(layer.weight, weight_name(network, number, "weight"))
        bias = g.constant(layer.bias, weight_name(network, number, "bias"))
        x = g.add("Gemm", x, weight, bias)
        if number == len(layers) - 1:
            break
        normalised = reciprocal = ""
        if layer.scale is not None and layer.shift is not None:
            size = len(layer.scale)
            ones, zeros = g.constant(np.ones(size, np.float32)), g.constant(np.zeros(size, np.float32))
            normalised, reciprocal = f"{network}.{number}.n", f"{network}.{number}.r"
            names = [normalised, f"{network}.{number}.mean", reciprocal]
            g.add("LayerNormalization", x, ones, zeros, outputs=names, epsilon=LAYER_NORM_EPS)
            x = g.add("Mul", normalised, g.constant(layer.scale, weight_name(network, number, "scale")))
            x = g.add("Add", x, g.constant(layer.shift, weight_name(network, number, "shift")))
        y, square = x, g.add("Mul", x, x)
        inner = g.add("Mul", y, g.add("Add", g.add("Mul", square, g.scalar(_GELU_CUBIC)), g.scalar(_GELU)))
        tanh = g.add("Tanh", inner)
        half = g.add("Mul", y, g.scalar(0.5))
        x = g.add("Add", half, g.add("Mul", half, tanh))
        tapes.append(Tape(y, tanh, square, normalised, reciprocal))
    return x, tapes


def _gelu_slope(g: GraphBuilder, tape: Tape) -> str:
    """Return GELU'(y) = (1 + tanh + y (1 - tanh^2) (c + 3 d y^2)) / 2, with GELU(y) = y (1 + tanh(c y + d y^3)) / 2."""
    inner_slope = g.add("Add", g.add("Mul", tape.square, g.scalar(3.0 * _GELU_CUBIC)), g.scalar(_GELU))
    sech = g.add("Sub", g.scalar(1.0), g.add("Mul", tape.tanh, tape.tanh))
    curve = g.add("Mul", g.add("Mul", tape.y, inner_slope), sech)
    return g.add("Mul", g.add("Add", g.add("Add", curve, tape.tanh), g.scalar(1.0)), g.scalar(0.5))


def backward_pass(
    g: GraphBuilder,
    cotangent: str,
    layers: Sequence[Layer],
    tapes: Sequence[Tape],
    wanted: slice,
    network: str,
    output: str = "",
) -> str:
    """Return the cotangent of the input columns `wanted`, given that of the last hidden layer's output."""
    dh = cotangent
    for number in range(len(tapes) - 1, -1, -1):
        tape, layer = tapes[number], layers[number]
        d = g.add("Mul", dh, _gelu_slope(g, tape))
        if tape.normalised:
            dn = g.add("Mul", d, weight_name(network, number, "scale"))
            along = g.add("Mul", tape.normalised, g.mean(g.add("Mul", dn, tape.normalised)))
            d = g.add("Mul", g.add("Sub", g.add("Sub", dn, g.mean(dn)), along), tape.reciprocal)
        if number:
            dh = g.add("Gemm", d, weight_name(network, number, "weight"), transB=1)
        else:
            columns = g.constant(np.ascontiguousarray(layer.weight[wanted].T), f"{network}.0.wanted")
            dh = g.add("Gemm", d, columns, outputs=[output] if output else ())
    return dh


def _embedded(g: GraphBuilder, frequencies: Weights | None, period: float) -> str:
    column = g.add("Unsqueeze", "t", g.constant(np.array([1], dtype=np.int64)))
    if frequencies is None:
        return column
    angles = g.add("Mul", g.add("Mul", column, g.scalar(period)), g.constant(frequencies, FREQUENCIES))
    return g.add("Concat", g.add("Cos", angles), g.add("Sin", angles), axis=1)


def velocity_graph(
    layers: Sequence[Layer],
    observation_size: int,
    chunk_size: int,
    frequencies: Weights | None,
    period: float,
    *,
    vjp: bool,
) -> bytes:
    """Build ``velocity.onnx`` (s, a, t -> v) or ``velocity_vjp.onnx`` (s, a, t, u -> v, u_dv_da).

    Args:
        layers: Dense layers of the MLP over [s, a, embedding(t)].
        observation_size: S.
        chunk_size: C.
        frequencies: Of the time embedding [F]; None where t itself is the embedding.
        period: Factor on t before the frequencies.
        vjp: Whether to add the vector-Jacobian product by a.

    Returns:
        The serialised model.
    """
    g = GraphBuilder()
    x = g.add("Concat", "s", "a", _embedded(g, frequencies, period), axis=1)
    out, tapes = forward_pass(g, x, layers, VELOCITY)
    g.add("Identity", out, outputs=["v"])
    inputs: dict[str, int | None] = {"s": observation_size, "a": chunk_size, "t": None}
    outputs: dict[str, Sequence[int | str]] = {"v": ["N", chunk_size]}
    if vjp:
        dh = g.add("Gemm", "u", weight_name(VELOCITY, len(layers) - 1, "weight"), transB=1)
        action = slice(observation_size, observation_size + chunk_size)
        backward_pass(g, dh, layers, tapes, action, VELOCITY, "u_dv_da")
        inputs["u"] = chunk_size
        outputs["u_dv_da"] = ["N", chunk_size]
    return g.model(inputs, outputs)


def critic_graph(members: Sequence[Sequence[Layer]], observation_size: int, chunk_size: int, aggregation: str) -> bytes:
    """Build ``q_grad.onnx`` (s, a -> q [E, N], dq_da [N, C]).

    The gradient is that of the aggregated value: of the smallest member for "min" (the first at a tie), else of all
    members, each with its weight in the mean, or in the mean less some standard deviations.

    Args:
        members: Dense layers of each ensemble member, an MLP over [s, a].
        observation_size: S.
        chunk_size: C.
        aggregation: See `bundle.aggregation`.

    Returns:
        The serialised model.
    """
    g = GraphBuilder()
    x = g.add("Concat", "s", "a", axis=1)
    passes = [forward_pass(g, x, layers, member_network(e)) for e, layers in enumerate(members)]
    columns = g.add("Concat", *(q for q, _ in passes), axis=1)
    g.add("Transpose", columns, outputs=["q"], perm=[1, 0])
    rho = deviations(aggregation)
    if rho is None:
        smallest = g.add("ArgMin", columns, axis=1, keepdims=1)
    elif rho:
        weights = _member_columns(g, columns, len(members), rho)
    gradients = []
    for e, (layers, (_, tapes)) in enumerate(zip(members, passes)):
        row = layers[-1].weight.T  # dq/dh of the last hidden layer, the same for every row of the batch
        if rho is None:
            chosen = g.add("Equal", smallest, g.constant(np.array([[e]], dtype=np.int64)))
            dh = g.add("Mul", g.add("Cast", chosen, to=TensorProto.FLOAT), g.constant(row, f"{member_network(e)}.row"))
        elif rho:
            dh = g.add("Mul", weights[e], g.constant(row, f"{member_network(e)}.row"))
        else:
            dh = g.constant(row / len(members), f"{member_network(e)}.row")
        action = slice(observation_size, observation_size + chunk_size)
        gradients.append(backward_pass(g, dh, layers, tapes, action, member_network(e)))
    g.add("Sum", *gradients, outputs=["dq_da"])
    outputs: dict[str, Sequence[int | str]] = {"q": [len(members), "N"], "dq_da": ["N", chunk_size]}
    return g.model({"s": observation_size, "a": chunk_size}, outputs)


def noised_critic_graph(
    layers: Sequence[Layer], observation_size: int, chunk_size: int, frequencies: Weights, period: float
) -> bytes:
    """Build ``q_robust_grad.onnx`` (s, a, t -> q [1, N], dq_da [N, C]), a critic of noised chunks.

    Args:
        layers: Dense layers of the MLP over [s, a, embedding(t)].
        observation_size, chunk_size, frequencies, period: As for `velocity_graph`.

    Returns:
        The serialised model.
    """
    g = GraphBuilder()
    x = g.add("Concat", "s", "a", _embedded(g, frequencies, period), axis=1)
    q, tapes = forward_pass(g, x, layers, NOISED)
    g.add("Transpose", q, outputs=["q"], perm=[1, 0])
    action = slice(observation_size, observation_size + chunk_size)
    backward_pass(g, g.constant(layers[-1].weight.T, f"{NOISED}.row"), layers, tapes, action, NOISED, "dq_da")
    outputs: dict[str, Sequence[int | str]] = {"q": [1, "N"], "dq_da": ["N", chunk_size]}
    return g.model({"s": observation_size, "a": chunk_size, "t": None}, outputs)


def _member_columns(g: GraphBuilder, columns: str, count: int, rho: float) -> list[str]:
    """Return the weight of each member in mean - rho std [N, 1], given the values [N, E].

    d(mean - rho std)/dq_e = (1 - rho (q_e - mean) / std) / E.
    """
    above = g.add(
        "Sub", columns, g.add("ReduceMin", columns, axes=[-1], keepdims=1)
    )  # exact for members near one another
    distance = g.add("Sub", above, g.mean(above))
    std = g.add("Max", g.add("Sqrt", g.mean(g.add("Mul", distance, distance))), g.scalar(SMALLEST_STD))
    part = g.add("Mul", g.add("Div", distance, std), g.scalar(rho / count))
    weights = g.add("Sub", g.scalar(1.0 / count), part)
    if count == 1:
        return [weights]
    names = [f"weight_of_{member_network(e)}" for e in range(count)]
    g.add("Split", weights, outputs=names, axis=1)
    return names
