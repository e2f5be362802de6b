"""ONNX graphs of what is a velocity field in a bundle: the field itself, an actor of one step, a diffusion model.

As in `primitives`, nothing is traced, and gradients are written out. An actor's v = mu(s, a) - a has the product
u^T dmu/da - u. Of a diffusion model's deterministic step, with numbers of the step i that follow from its schedule,

    x = c0 a - c1 eps(s, a, i),   v = p clip(x) + q a,   u^T dv/da = q u + c0 w - (c1 w)^T deps/da,   w = p u [|x| <= 1]

where what the predictor makes of the step alone is a table, as there are only T of them. Its hidden layers are
h = y tanh(softplus(y)), Mish, of slope tanh + y (1 - tanh^2) sigmoid(y).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import TensorProto

from qgf_ros.bundle.layers import Layer, Weights
from qgf_ros.learning.algorithms.actors import DiffusionFlow, OneStepFlow
from qgf_ros.learning.algorithms.algorithm import ExportedVelocity
from qgf_ros.learning.algorithms.networks import EMBEDDING_PERIOD, StackedMLP, embedding_frequencies
from qgf_ros.learning.algorithms.sampling import DiffusionSchedule
from qgf_ros.learning.export.primitives import GraphBuilder, backward_pass, forward_pass, velocity_graph

#: The networks' name in the graphs: not that of a velocity field, which the robot would compose anew.
_ACTOR = "actor"


def graph_of_velocity(velocity: ExportedVelocity, observation_size: int, chunk_size: int, *, vjp: bool) -> bytes:
    """Build ``velocity.onnx`` (s, a, t -> v) or ``velocity_vjp.onnx`` (s, a, t, u -> v, u_dv_da).

    Args:
        velocity: What is a velocity field in the bundle.
        observation_size: S.
        chunk_size: C.
        vjp: Whether to add the vector-Jacobian product by a.
    """
    sizes = observation_size, chunk_size
    if isinstance(velocity, OneStepFlow):
        return _one_step_graph(mlp_layers(velocity.actor.mlp, 0), *sizes, vjp=vjp)
    if isinstance(velocity, DiffusionFlow):
        return _diffusion_graph(velocity, *sizes, vjp=vjp)
    frequencies = embedding_frequencies().numpy() if velocity.sinusoidal else None
    return velocity_graph(mlp_layers(velocity.mlp, 0), *sizes, frequencies, EMBEDDING_PERIOD, vjp=vjp)


def mlp_layers(mlp: StackedMLP, member: int) -> list[Layer]:
    """Return the layers of one member as NumPy arrays."""

    def array(parameter: torch.Tensor) -> Any:
        return parameter[member].detach().cpu().numpy()

    layers = []
    for number, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases)):
        if number < mlp.normed:
            norm = array(mlp.scales[number])[0], array(mlp.shifts[number])[0]
            layers.append(Layer(array(weight), array(bias)[0], *norm))
        else:
            layers.append(Layer(array(weight), array(bias)[0]))
    return layers


def _one_step_graph(layers: Sequence[Layer], observation_size: int, chunk_size: int, *, vjp: bool) -> bytes:
    g = GraphBuilder()
    out, tapes = forward_pass(g, g.add("Concat", "s", "a", axis=1), layers, _ACTOR)
    g.add("Sub", out, "a", outputs=["v"])
    if vjp:
        dh = g.add("Gemm", "u", g.constant(layers[-1].weight), transB=1)
        action = slice(observation_size, observation_size + chunk_size)
        g.add("Sub", backward_pass(g, dh, layers, tapes, action, _ACTOR), "u", outputs=["u_dv_da"])
    return _model(g, observation_size, chunk_size, vjp=vjp)


def _diffusion_graph(flow: DiffusionFlow, observation_size: int, chunk_size: int, *, vjp: bool) -> bytes:
    g, layers = GraphBuilder(), mlp_layers(flow.predictor.mlp, 0)
    step = _step_number(g, flow.steps)
    with torch.no_grad():
        features = flow.predictor.features(torch.arange(flow.steps, 0, -1, dtype=torch.float32))[0].cpu().numpy()
    c0, c1, p, q = (g.add("Gather", g.constant(column), step, axis=0) for column in _step_numbers(flow.schedule))
    x = g.add("Concat", "s", "a", g.add("Gather", g.constant(features), step, axis=0), axis=1)
    predicted, tapes = _mish_forward(g, x, layers)
    clean = g.add("Sub", g.add("Mul", c0, "a"), g.add("Mul", c1, predicted))
    clipped = g.add("Clip", clean, g.scalar(-1.0), g.scalar(1.0))
    g.add("Add", g.add("Mul", p, clipped), g.add("Mul", q, "a"), outputs=["v"])
    if vjp:
        inside = g.add("Not", g.add("Greater", g.add("Abs", clean), g.scalar(1.0)))
        w = g.add("Mul", g.add("Mul", p, "u"), g.add("Cast", inside, to=TensorProto.FLOAT))
        action = slice(observation_size, observation_size + chunk_size)
        product = _mish_backward(g, g.add("Mul", c1, w), layers, tapes, action)
        direct = g.add("Add", g.add("Mul", q, "u"), g.add("Mul", c0, w))
        g.add("Sub", direct, product, outputs=["u_dv_da"])
    return _model(g, observation_size, chunk_size, vjp=vjp)


def _step_number(g: GraphBuilder, steps: int) -> str:
    """Return the number i of the step of each time t = i/T [N], at most T - 1."""
    nearest = g.add("Add", g.add("Mul", "t", g.scalar(float(steps))), g.scalar(0.5))
    number = g.add("Cast", nearest, to=TensorProto.INT64)
    return g.add("Min", number, g.constant(np.array(steps - 1, dtype=np.int64)))


def _step_numbers(schedule: DiffusionSchedule) -> list[Weights]:
    """Return c0, c1, p and q of every step i = T - k, each [T, 1]."""
    steps, signal = schedule.steps, np.array(schedule.signal)[::-1]
    now, before = signal[:-1], signal[1:]
    left = np.sqrt((1.0 - before) / (1.0 - now))  # of a in a_{k-1}
    columns = 1.0 / np.sqrt(now), np.sqrt(1.0 / now - 1.0), steps * (np.sqrt(before) - left * np.sqrt(now))
    return [column.astype(np.float32)[:, None] for column in (*columns, steps * (left - 1.0))]


def _mish_forward(g: GraphBuilder, x: str, layers: Sequence[Layer]) -> tuple[str, list[tuple[str, str]]]:
    """Return the output of an MLP with Mish, and y and tanh(softplus(y)) of its hidden layers."""
    tapes: list[tuple[str, str]] = []
    for number, layer in enumerate(layers):
        x = g.add("Gemm", x, g.constant(layer.weight), g.constant(layer.bias))
        if number < len(layers) - 1:
            tapes.append((x, g.add("Tanh", g.add("Softplus", x))))
            x = g.add("Mul", *tapes[-1])
    return x, tapes


def _mish_backward(
    g: GraphBuilder, cotangent: str, layers: Sequence[Layer], tapes: Sequence[tuple[str, str]], wanted: slice
) -> str:
    """Return the cotangent of the input columns `wanted`, given that of the output."""
    d = cotangent
    for number in range(len(layers) - 1, 0, -1):
        d = g.add("Gemm", d, g.constant(layers[number].weight), transB=1)
        y, tanh = tapes[number - 1]
        sech = g.add("Sub", g.scalar(1.0), g.add("Mul", tanh, tanh))
        curve = g.add("Mul", g.add("Mul", y, g.add("Sigmoid", y)), sech)
        d = g.add("Mul", d, g.add("Add", tanh, curve))
    return g.add("Gemm", d, g.constant(np.ascontiguousarray(layers[0].weight[wanted].T)))


def _model(g: GraphBuilder, observation_size: int, chunk_size: int, *, vjp: bool) -> bytes:
    inputs: dict[str, int | None] = {"s": observation_size, "a": chunk_size, "t": None}
    outputs: dict[str, Sequence[int | str]] = {"v": ["N", chunk_size]}
    if vjp:
        inputs["u"] = chunk_size
        outputs["u_dv_da"] = ["N", chunk_size]
    return g.model(inputs, outputs)
