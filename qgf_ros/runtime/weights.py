"""Networks read back out of a bundle's primitives, so that the robot can compose them anew.

A primitive is a graph of operators whose weights carry the names that the exporter gave them. Reading is no proof that
the graph computes what its names say: `runtime.proof` holds what is composed to the primitive itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from qgf_ros.bundle.layers import FREQUENCIES, PARTS, VELOCITY, Layer, Layers, Weights, member_network, weight_name


class UnknownFormError(Exception):
    """A primitive is not of the form that the fast path composes; the message says in what."""


@dataclass(frozen=True)
class VelocityWeights:
    """A velocity field: an MLP over [s, a, embedding(t)].

    Attributes:
        layers: Of the MLP.
        frequencies: Of the time embedding [F]; None where t itself is the embedding.
        period: Factor on t before the frequencies.
    """

    layers: Layers
    frequencies: Weights | None
    period: np.float32

    def embed(self, t: Weights) -> Weights:
        """Return the embedding of times [N]: cosines, then sines, of t * period * frequencies, [N, 2F], or t [N, 1]."""
        if self.frequencies is None:
            return t[:, None]
        # In the order of the primitive: angles reach 10000 rad, where another rounding moves a cosine by 1e-4.
        angles = t[:, None] * self.period * self.frequencies
        embedding: Weights = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        return embedding


def read_velocity(model: bytes) -> VelocityWeights:
    """Read ``velocity.onnx``.

    Raises:
        UnknownFormError: The graph is not one that the exporter writes.
    """
    graph = onnx.load_from_string(model).graph
    weights = _initialisers(graph)
    frequencies = weights.get(FREQUENCIES)
    period = np.float32(1.0) if frequencies is None else _period(graph, weights)
    return VelocityWeights(_layers(weights, VELOCITY), frequencies, period)


def read_critic(model: bytes) -> tuple[Layers, ...]:
    """Read the ensemble of a ``q_grad.onnx``, a tuple of layers for each member.

    Raises:
        UnknownFormError: The graph is not one that the exporter writes.
    """
    weights = _initialisers(onnx.load_from_string(model).graph)
    members: list[Layers] = []
    while weight_name(network := member_network(len(members)), 0, "weight") in weights:
        members.append(_layers(weights, network))
    if not members:
        raise UnknownFormError("no ensemble member was found")
    return tuple(members)


def _initialisers(graph: Any) -> dict[str, Any]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _layers(weights: Mapping[str, Any], network: str) -> Layers:
    layers: list[Layer] = []
    while weight_name(network, number := len(layers), "weight") in weights:
        parts: list[Any] = [weights.get(weight_name(network, number, part)) for part in PARTS]
        weight, bias, scale, shift = parts
        inputs = len(layers[-1].bias) if layers else len(weight)
        vectors = [bias] if scale is None and shift is None else [bias, scale, shift]
        if any(vector is None or (inputs, *vector.shape) != weight.shape for vector in vectors):
            raise UnknownFormError(f"the weights of {network}.{number} do not form a dense layer")
        layers.append(Layer(weight, bias, scale, shift))
    if len(layers) < 2:
        raise UnknownFormError(f"no hidden layer of {network} was found")
    return tuple(layers)


def _period(graph: Any, weights: Mapping[str, Any]) -> np.float32:
    """Return the scalar that the time is multiplied by before the frequencies."""
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "Mul" and FREQUENCIES in node.input:
            scaled = producers.get(next(name for name in node.input if name != FREQUENCIES))
            constants = [weights[name] for name in (scaled.input if scaled is not None else ()) if name in weights]
            if len(constants) == 1 and constants[0].size == 1:
                period: np.float32 = np.float32(constants[0].item())
                return period
    raise UnknownFormError("no time embedding was found")
