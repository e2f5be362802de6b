"""Forward and backward passes of the networks, appended to a graph.

A forward pass keeps nothing but z, the input of each LayerNorm; the backward pass starts from there, with the activations
of all layers side by side in one tensor. The mean over a layer's units is taken out of its weights and bias beforehand
(`centred`): LayerNorm cannot tell, and the backward pass need not subtract it. Of a hidden layer
x -> z = x W + b -> n = z r -> y = n gamma + beta -> h = GELU(y)  it is

    dn = dh F,   F = r gamma GELU'(y),   dz = dn - n mean(dn n),   dx = dz W^T,

where r is the reciprocal standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from qgf_ros.bundle.aggregation import SMALLEST_STD, deviations
from qgf_ros.bundle.layers import LAYER_NORM_EPS, Layer, Layers, Weights
from qgf_ros.runtime.graph import CONTRIB, Graph
from qgf_ros.runtime.precision import Precision
from qgf_ros.runtime.weights import UnknownFormError

#: GELU(y) = y sigmoid(w + _CUBIC w^3) with w = _LINEAR y, in its tanh form.
_LINEAR = 2.0 * float(np.sqrt(2.0 / np.pi))
_CUBIC = 0.044715 / _LINEAR**2
#: Weights that share a scale, and the accuracy level at which `MatMulNBits` multiplies in 8 bits.
_BLOCK, _INT8_ACCUMULATION = 128, 4


def centred(layers: Layers) -> Layers:
    """Return the layers with the mean over the units taken out of weights and bias wherever a LayerNorm follows."""

    def without_mean(layer: Layer) -> Layer:
        if layer.scale is None:
            return layer
        weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
        weight, bias = weight - weight.mean(axis=1, keepdims=True), bias - bias.mean()
        return Layer(weight.astype(np.float32), bias.astype(np.float32), layer.scale, layer.shift)

    return tuple(without_mean(layer) for layer in layers)


class Network:
    """An MLP over [s, a, ...], its layers centred."""

    def __init__(self, layers: Layers, name: str, observation_size: int, chunk_size: int, precision: Precision) -> None:
        self._layers = layers
        self._name = name
        self._precision = precision
        self._observation = slice(observation_size)
        self._action = slice(observation_size, observation_size + chunk_size)

    def observe(self, g: Graph, s: str) -> str:
        """Append what the observation and the bias add to the first layer [N, O]."""
        first = self._layers[0]
        weight = g.constant(first.weight[self._observation], f"{self._name} observation")
        return g.add("Gemm", s, weight, g.constant(first.bias, f"{self._name} bias 0"))

    def forward(self, g: Graph, a: str, first: str) -> tuple[str, list[str]]:
        """Append the forward pass for actions [N, C]; return its output and z of each hidden layer [N, O].

        Args:
            g: The graph.
            a: The actions.
            first: What everything else adds to the first layer [N, O].
        """
        z = [self._product(g, a, 0, first)]
        for number, layer in enumerate(self._layers[:-1]):
            x = z[-1]
            if layer.scale is not None and layer.shift is not None:
                scale = g.constant(layer.scale, f"{self._name} scale {number}")
                shift = g.constant(layer.shift, f"{self._name} shift {number}")
                x = g.add("LayerNormalization", x, scale, shift, epsilon=LAYER_NORM_EPS)
            bias = g.constant(self._layers[number + 1].bias, f"{self._name} bias {number + 1}")
            z.append(self._product(g, g.add("Gelu", x, approximate="tanh"), number + 1, bias))
        return z[-1], z[:-1]

    def backward(self, g: Graph, z: str) -> str:
        """Append the backward pass of a network of one output; return its gradient by the action [N, C].

        Args:
            g: The graph.
            z: Of all hidden layers, side by side [N, L O].
        """
        n, factor = self._slopes(g, z)
        dx = ""
        for number in range(len(n) - 1, -1, -1):
            dn = g.add("Mul", dx, factor[number]) if dx else factor[number]
            along = g.add("ReduceMean", g.add("Mul", dn, n[number]), g.integers(1))
            dz = g.add("Sub", dn, g.add("Mul", n[number], along))
            dx = self._product(g, dz, number)
        return dx

    def _slopes(self, g: Graph, z: str) -> tuple[list[str], list[str]]:
        """Append n and F of each hidden layer [N, O]; the last F includes the weights of the output."""
        hidden, size = len(self._layers) - 1, len(self._layers[0].bias)
        scale, shift = (
            np.stack([np.asarray(getattr(layer, part)) for layer in self._layers[:-1]]) for part in ("scale", "shift")
        )
        ones, zeros = g.constant(np.ones(size, np.float32), "ones"), g.constant(np.zeros(size, np.float32), "zeros")
        z = g.add("Reshape", z, g.integers(0, hidden, size))
        n, _, r = g.split("LayerNormalization", 3, z, ones, zeros, epsilon=LAYER_NORM_EPS)
        w = g.add("Mul", n, g.constant(np.float32(_LINEAR) * scale, f"{self._name} scale w"))
        w = g.add("Add", w, g.constant(np.float32(_LINEAR) * shift, f"{self._name} shift w"))
        # With u = _CUBIC w^3 and p = sigmoid(w + u), GELU' = p (1 + (1 - p) (w + 3 u)).
        u = g.add("Mul", g.add("Mul", g.add("Mul", w, w), w), g.scalar(_CUBIC))
        p = g.add("Sigmoid", g.add("Add", w, u))
        bend = g.add("Mul", g.add("Sub", g.scalar(1.0), p), g.add("Sum", w, u, u, u))
        slope = g.add("Mul", p, g.add("Add", bend, g.scalar(1.0)))
        scale[-1] *= self._layers[-1].weight[:, 0]
        factor = g.add("Mul", g.add("Mul", slope, g.constant(scale, f"{self._name} scale F")), r)
        return self._apart(g, n), self._apart(g, factor)

    def _apart(self, g: Graph, x: str) -> list[str]:
        """Return the layers [N, O] of a tensor [N, L, O]."""
        hidden, size = len(self._layers) - 1, len(self._layers[0].bias)
        flat = g.add("Reshape", x, g.integers(0, hidden * size))
        return g.split("Split", hidden, flat, g.integers(*[size] * hidden), axis=1) if hidden > 1 else [flat]

    def _product(self, g: Graph, x: str, number: int, bias: str = "") -> str:
        """Append x W + b for the output of the layer before, or, without b, x W^T for a cotangent."""
        weight = self._layers[number].weight if number else self._layers[0].weight[self._action]
        name = f"{self._name} weight {number}"
        if self._precision != "fp32" and 0 < number < len(self._layers) - 1:  # the others are small
            name = name if bias else f"{name} transposed"
            product = _int8_product if self._precision == "int8" else _fp16_product
            x = product(g, x, weight.T if bias else weight, name)
            return g.add("Add", x, bias) if bias else x
        weights = g.constant(weight, name)
        return g.add("Gemm", x, weights, bias) if bias else g.add("Gemm", x, weights, transB=1)


def _fp16_product(g: Graph, x: str, weight: Weights, name: str) -> str:
    """Append x W^T for a weight [O, I] in 16 bits."""
    half = g.add("Cast", x, to=TensorProto.FLOAT16)
    product = g.add("MatMul", half, g.constant(weight.T.astype(np.float16), name))
    return g.add("Cast", product, to=TensorProto.FLOAT)


def _int8_product(g: Graph, x: str, weight: Weights, name: str) -> str:
    """Append x W^T for a weight [O, I] in 8 bits, a scale to each block of a row."""
    outputs, inputs = weight.shape
    blocks = -(-inputs // _BLOCK)
    padded = np.zeros((outputs, blocks * _BLOCK), np.float32)
    padded[:, :inputs] = weight
    padded = padded.reshape(outputs, blocks, _BLOCK)
    scale = np.maximum(np.abs(padded).max(axis=2), np.finfo(np.float32).tiny) / np.float32(127.0)
    quantised = (np.rint(padded / scale[:, :, None]) + 128.0).astype(np.uint8)
    return g.add(
        "MatMulNBits",
        x,
        g.constant(quantised, name),
        g.constant(scale.reshape(-1), f"{name} scale"),
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=8,
        block_size=_BLOCK,
        accuracy_level=_INT8_ACCUMULATION,
    )


class Ensemble:
    """A critic."""

    def __init__(
        self,
        members: Sequence[Layers],
        aggregation: str,
        observation_size: int,
        chunk_size: int,
        precision: Precision,
    ) -> None:
        for layers in members:
            if layers[0].weight.shape[0] != observation_size + chunk_size or layers[-1].weight.shape[1] != 1:
                raise UnknownFormError("a member does not map an observation and a chunk to one value")
            if any(layer.scale is None or len(layer.bias) != len(layers[0].bias) for layer in layers[:-1]):
                raise UnknownFormError("its hidden layers are not all of one size with a LayerNorm")
        self._members = [
            Network(layers, f"q{e}", observation_size, chunk_size, precision) for e, layers in enumerate(members)
        ]
        self._rho = deviations(aggregation)
        self._no_rows = np.zeros((0, chunk_size), np.float32)
        self._first: list[str]  # of each member, by `observe`

    def observe(self, g: Graph, s: str) -> None:
        """Append what the observations of all further passes add to the first layers."""
        self._first = [member.observe(g, s) for member in self._members]

    def forward(self, g: Graph, a: str) -> tuple[str, list[str]]:
        """Append the forward passes for actions [N, C]; return the values [N, E] and z of each member [N, L O]."""
        passes = [member.forward(g, a, first) for member, first in zip(self._members, self._first)]
        q = g.add("Concat", *(value for value, _ in passes), axis=1)
        return q, [g.add("Concat", *z, axis=1) for _, z in passes]

    def gradient(self, g: Graph, q: str, z: Sequence[str]) -> str:
        """Append dq/da of the aggregated value [N, C], given what `forward` returned."""
        if self._rho is not None or len(self._members) == 1:
            return self.whole_gradient(g, q, z)
        selected = g.add("ArgMin", q, axis=1, keepdims=0)
        rows = [
            g.add("Squeeze", g.add("NonZero", g.add("Equal", selected, g.integers(e))), g.integers(0))
            for e in range(len(self._members))
        ]
        parts = [self._part(g, member, *of) for member, *of in zip(self._members, z, rows)]
        grouped = g.add("Concat", *parts, axis=0)
        # Every row of the result is written once.
        order = g.add("Unsqueeze", g.add("Concat", *rows, axis=0), g.integers(1))
        return g.add("ScatterND", grouped, order, grouped)

    def whole_gradient(self, g: Graph, q: str, z: Sequence[str]) -> str:
        """Append what `gradient` does, but send every row through the backward pass of every member."""
        parts = [member.backward(g, z[e]) for e, member in enumerate(self._members)]
        if not self._rho and (self._rho is not None or len(parts) == 1):
            return g.add("Mul", g.add("Sum", *parts), g.scalar(1.0 / len(parts)))
        if self._rho is not None:
            return g.add("Sum", *(g.add("Mul", *pair) for pair in zip(parts, self._weights(g, q, self._rho))))
        selected, result = g.add("ArgMin", q, axis=1, keepdims=1), parts[0]
        for e, part in enumerate(parts[1:], start=1):
            result = g.add("Where", g.add("Equal", selected, g.integers(e)), part, result)
        return result

    def _weights(self, g: Graph, q: str, rho: float) -> list[str]:
        """Append how much each member counts in mean - rho std [N, 1]; see `bundle.aggregation.member_weights`."""
        count = len(self._members)
        above = g.add("Sub", q, g.add("ReduceMin", q, g.integers(1)))  # exact for members near one another
        distance = g.add("Sub", above, g.add("ReduceMean", above, g.integers(1)))
        variance = g.add("ReduceMean", g.add("Mul", distance, distance), g.integers(1))
        std = g.add("Max", g.add("Sqrt", variance), g.scalar(SMALLEST_STD))
        part = g.add("Mul", g.add("Div", distance, std), g.scalar(rho / count))
        weights = g.add("Sub", g.scalar(1.0 / count), part)
        if count == 1:
            return [weights]
        return g.split("Split", count, weights, g.integers(*[1] * count), axis=1)

    def _part(self, g: Graph, member: Network, z: str, rows: str) -> str:
        """Append the gradient of a member [n, C] for its own rows alone; without any, its weights are not touched."""
        return g.choose(
            g.add("Greater", g.add("Size", rows), g.integers(0)),
            lambda branch: member.backward(branch, branch.add("Gather", z, rows, axis=0)),
            lambda branch: branch.constant(self._no_rows, "no rows"),
        )
