"""Actors of several tasks share nothing, and have the published form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.learning.algorithms.actors import (  # noqa: E402
    DiffusionFlow,
    NoiseNetwork,
    OneStepFlow,
    OneStepNetwork,
)
from qgf_ros.learning.algorithms.sampling import deterministic_step, diffusion_schedule  # noqa: E402

S, C, N = 3, 2, 5


def outputs(network: Any) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    s, a, t = torch.randn(N, S, generator=random), torch.randn(2, N, C, generator=random), torch.rand(N)
    return network(s, a[0]) if isinstance(network, OneStepNetwork) else network(s, a, torch.ones_like(t))


@pytest.mark.parametrize("kind", [OneStepNetwork, NoiseNetwork])
def test_actors_of_tasks_share_nothing(kind: Any) -> None:
    network = kind(2, S, C, (8, 8), torch.Generator().manual_seed(0))
    before = outputs(network)
    assert before.shape == (2, N, C)
    with torch.no_grad():
        for parameter in network.parameters():
            assert len(parameter) == 2
            parameter[1].add_(0.3)
    after = outputs(network)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


@pytest.mark.parametrize("kind", [OneStepNetwork, NoiseNetwork])
def test_actors_have_no_layer_norm(kind: Any) -> None:
    names = [name for name, _ in kind(2, S, C, (8, 8)).named_parameters()]
    assert not [name for name in names if "scales" in name or "shifts" in name]


def test_a_flow_of_one_step_ends_where_the_actor_of_its_task_says() -> None:
    network = OneStepNetwork(3, S, C, (8,))
    s, z = torch.randn(N, S), torch.randn(N, C)
    flow = OneStepFlow(network.member(1))
    torch.testing.assert_close(z + flow(s, z, torch.zeros(N)), network(s, z)[1])


def test_the_flow_of_a_diffusion_model_goes_through_its_deterministic_steps() -> None:
    network, steps = NoiseNetwork(2, S, C, (8, 8)), 5
    flow, signal = DiffusionFlow(network.member(1), steps), diffusion_schedule(steps).signal
    s, a = torch.randn(N, S), torch.randn(N, C)
    ours = expected = a
    for i, k in enumerate(range(steps, 0, -1)):
        ours = ours + flow(s, ours, torch.full((N,), i / steps)) / steps
        predicted = network(s, expected, torch.full((N,), float(k)))[1]
        expected = deterministic_step(expected, predicted, signal[k - 1], signal[k])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    assert ours.abs().max() <= 1.0 + 1e-5


def test_the_noise_prediction_is_that_of_numpy_in_float64() -> None:
    network = NoiseNetwork(2, S, C, (8, 6), torch.Generator().manual_seed(0)).double()
    random = np.random.default_rng(0)
    s, a, k = random.standard_normal((N, S)), random.standard_normal((2, N, C)), np.array([1.0, 2.0, 3.0, 9.0, 10.0])
    tensors = [torch.from_numpy(array) for array in (s, a, k)]
    got = network(*tensors).detach().numpy()

    def mish(x: Any) -> Any:
        return x * np.tanh(np.log1p(np.exp(x)))

    def mlp(stack: Any, x: Any, task: int) -> Any:
        for layer, (weight, bias) in enumerate(zip(stack.weights, stack.biases)):
            x = x @ weight[task].detach().numpy() + bias[task].detach().numpy()
            x = mish(x) if layer < len(stack.weights) - 1 else x
        return x

    for task in range(2):
        angles = 2.0 * math.pi * k[:, None] * network.frequencies[task].detach().numpy()
        step = mlp(network.step_mlp, np.concatenate([np.cos(angles), np.sin(angles)], axis=1), task)
        expected = mlp(network.mlp, np.concatenate([s, a[task], step], axis=1), task)
        np.testing.assert_allclose(got[task], expected, atol=1e-10)
