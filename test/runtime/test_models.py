"""ONNX primitives against an independent float64 network and central differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qgf_ros.bundle.layers import Layer
from qgf_ros.bundle.store import critic_file, read_bundle
from qgf_ros.runtime.models import OnnxCritic, OnnxVelocityField
from qgf_ros.runtime.session import CPU

graphs = pytest.importorskip("qgf_ros.learning.export.primitives", reason="building graphs needs onnx")

Double = NDArray[np.float64]
S, C, HIDDEN, ROWS = 7, 6, (24, 24, 24), 5
FREQUENCIES = np.array([1.0, 0.1], dtype=np.float32)
PERIOD = 30.0


def random_layers(rng: np.random.Generator, inputs: int, outputs: int, *, norm_last: bool) -> list[Any]:
    sizes = (inputs, *HIDDEN, outputs)
    layers = []
    for number, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:])):
        weight = rng.standard_normal((fan_in, fan_out), dtype=np.float32) / np.float32(np.sqrt(fan_in))
        bias = 0.1 * rng.standard_normal(fan_out, dtype=np.float32)
        if number < len(HIDDEN) - (0 if norm_last else 1):
            scale = 1.0 + 0.3 * rng.standard_normal(fan_out, dtype=np.float32)
            layers.append(Layer(weight, bias, scale, 0.2 * rng.standard_normal(fan_out, dtype=np.float32)))
        else:
            layers.append(Layer(weight, bias))
    return layers


def mlp(layers: list[Any], x: Double) -> Double:
    """The network in float64, written from its definition."""
    for number, layer in enumerate(layers):
        x = x @ layer.weight.astype(np.float64) + layer.bias
        if number == len(layers) - 1:
            return x
        if layer.scale is not None:
            x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
            x = x * layer.scale + layer.shift
        x = 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
    raise AssertionError("no layers")


def velocity64(layers: list[Any], s: Double, a: Double, t: Double) -> Double:
    angles = t[:, None] * PERIOD * FREQUENCIES.astype(np.float64)
    return mlp(layers, np.concatenate([s, a, np.cos(angles), np.sin(angles)], axis=1))


def central_differences(function: Any, a: Double, step: float = 1e-5) -> Double:
    """Gradient by a [N, C] of a function that returns one value per row [N]."""
    gradient = np.empty_like(a)
    for i in range(a.shape[1]):
        d = np.zeros_like(a)
        d[:, i] = step
        gradient[:, i] = (function(a + d) - function(a - d)) / (2 * step)
    return gradient


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def inputs(rng: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    s, a, u = (rng.standard_normal((ROWS, n), dtype=np.float32) for n in (S, C, C))
    return s, a, rng.random(ROWS, dtype=np.float32), u


def test_velocity_and_its_vjp_match_a_float64_network(rng: Any, inputs: Any) -> None:
    s, a, t, u = inputs
    layers = random_layers(rng, S + C + 4, C, norm_last=False)
    files = {
        name: graphs.velocity_graph(layers, S, C, FREQUENCIES, PERIOD, vjp=vjp)
        for vjp, name in ((False, "velocity.onnx"), (True, "velocity_vjp.onnx"))
    }
    flow = OnnxVelocityField(files, [CPU], 1).given(s)
    doubles = [x.astype(np.float64) for x in (s, a, t)]
    np.testing.assert_allclose(flow(a, t), velocity64(layers, *doubles), atol=3e-6)
    v, product = flow.vjp(a, t, u)
    np.testing.assert_array_equal(v, flow(a, t))
    numeric = central_differences(lambda x: (u * velocity64(layers, doubles[0], x, doubles[2])).sum(axis=1), doubles[1])
    np.testing.assert_allclose(product, numeric, atol=3e-6)


@pytest.mark.parametrize("aggregation", ["min", "mean", "mean - 0.5 std", "mean - 2 std"])
@pytest.mark.parametrize("ensemble", [1, 2, 3])
def test_critic_gradient_matches_central_differences(rng: Any, inputs: Any, aggregation: str, ensemble: int) -> None:
    s, a, _, _ = inputs
    members = [random_layers(rng, S + C, 1, norm_last=True) for _ in range(ensemble)]
    files = {critic_file("task"): graphs.critic_graph(members, S, C, aggregation)}
    critic = OnnxCritic(files, "task", aggregation, [CPU], 1)
    value = critic.given(s)
    s64, a64 = s.astype(np.float64), a.astype(np.float64)

    def values(x: Double) -> Double:
        return np.stack([mlp(layers, np.concatenate([s64, x], axis=1))[:, 0] for layers in members])

    def reduce(x: Double, axis: int) -> Double:
        if aggregation == "min":
            return np.asarray(x.min(axis=axis))
        rho = {"mean": 0.0, "mean - 0.5 std": 0.5, "mean - 2 std": 2.0}[aggregation]
        return np.asarray(x.mean(axis=axis) - rho * x.std(axis=axis))

    np.testing.assert_allclose(value(a), values(a64), atol=3e-6)
    q, gradient = value.value_and_grad(a)
    np.testing.assert_allclose(critic.aggregate(q), reduce(values(a64), axis=0), atol=3e-6)
    np.testing.assert_allclose(gradient, central_differences(lambda x: reduce(values(x), axis=0), a64), atol=3e-6)


def test_at_a_tie_the_gradient_is_that_of_the_first_member(rng: Any, inputs: Any) -> None:
    s, a, _, _ = inputs
    layers = random_layers(rng, S + C, 1, norm_last=True)
    gradients = []
    for members in ([layers, layers], [layers]):
        files = {critic_file("task"): graphs.critic_graph(members, S, C, "min")}
        gradients.append(OnnxCritic(files, "task", "min", [CPU], 1).given(s).value_and_grad(a)[1])
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-6)


@pytest.mark.parametrize("rows", [np.array([2, 0, 2, 1]), np.array([], dtype=np.intp), slice(1, 5, 2), slice(None)])
def test_rows_of_given_observations_are_those_observations_given(tiny_bundle: Path, rows: Any) -> None:
    rng = np.random.default_rng(4)
    s = np.asfortranarray(rng.standard_normal((5, 28), dtype=np.float32))
    count = len(s[rows])
    a, u = (rng.standard_normal((count, 25), dtype=np.float32) for _ in range(2))
    t = rng.random(count, dtype=np.float32)
    files = read_bundle(tiny_bundle)[1]
    field, critic = OnnxVelocityField(files, [CPU], 1), OnnxCritic(files, "task1", "min", [CPU], 1)
    flow, whole = field.given(s).rows(rows), field.given(np.ascontiguousarray(s[rows]))
    np.testing.assert_array_equal(flow(a, t), whole(a, t))
    np.testing.assert_array_equal(flow.vjp(a, t, u)[1], whole.vjp(a, t, u)[1])
    value, judged = critic.given(s).rows(rows), critic.given(np.ascontiguousarray(s[rows]))
    np.testing.assert_array_equal(value(a), judged(a))
    for got, expected in zip(value.value_and_grad(a), judged.value_and_grad(a), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_batch_size_changes_a_row_by_rounding_only(tiny_bundle: Path) -> None:
    rng = np.random.default_rng(3)
    s, a = (rng.standard_normal((16, n), dtype=np.float32) for n in (28, 25))
    value = OnnxCritic(read_bundle(tiny_bundle)[1], "task1", "min", [CPU], 1).given(s)
    _, together = value.value_and_grad(a)
    alone = np.concatenate([value.rows(slice(i, i + 1)).value_and_grad(a[i : i + 1])[1] for i in range(16)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
