"""Actors that are no velocity field are one in a bundle, product with the Jacobian included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.analysis.flops import count_flops  # noqa: E402
from qgf_ros.bundle.graphs import Signature, check_graph  # noqa: E402
from qgf_ros.learning.algorithms.actors import (  # noqa: E402
    DiffusionFlow,
    NoiseNetwork,
    OneStepFlow,
    OneStepNetwork,
)
from qgf_ros.learning.export.actor_graphs import graph_of_velocity  # noqa: E402

S, C, N = 4, 3, 64


def one_step() -> Any:
    return OneStepFlow(OneStepNetwork(1, S, C, (16, 12), torch.Generator().manual_seed(0)))


def diffusion() -> Any:
    network = NoiseNetwork(1, S, C, (16, 12), torch.Generator().manual_seed(0))
    with torch.no_grad():  # so that some estimates of the clean action lie within its bounds
        network.mlp.weights[-1].mul_(0.3)
    return DiffusionFlow(network, 7)


@pytest.mark.parametrize("make", [one_step, diffusion])
def test_velocity_and_product_are_those_of_torch(make: Any) -> None:
    flow = make()
    random = torch.Generator().manual_seed(1)
    s, a, u = (torch.randn(N, size, generator=random) for size in (S, C, C))
    t = torch.randint(8, (N,), generator=random) / 7.0  # t = 1 included
    leaf = a.clone().requires_grad_()
    expected = flow(s, leaf, t)
    (product,) = torch.autograd.grad(expected, leaf, u)
    feeds = {"s": s.numpy(), "a": a.numpy(), "t": t.numpy()}
    for vjp in (False, True):
        model = graph_of_velocity(flow, S, C, vjp=vjp)
        inputs: dict[str, Any] = {"s": (None, S), "a": (None, C), "t": (None,), **({"u": (None, C)} if vjp else {})}
        outputs: dict[str, Any] = {"v": (None, C), **({"u_dv_da": (None, C)} if vjp else {})}
        check_graph(model, Signature(inputs, outputs))
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        got = session.run(list(outputs), {**feeds, **({"u": u.numpy()} if vjp else {})})
        np.testing.assert_allclose(got[0], expected.detach().numpy(), atol=2e-5)
        if vjp:
            np.testing.assert_allclose(got[1], product.numpy(), atol=2e-5)


@pytest.mark.parametrize("make", [one_step, diffusion])
def test_their_operations_can_be_counted(make: Any, tmp_path: Path) -> None:
    counted = []
    for vjp in (False, True):
        path = tmp_path / "velocity.onnx"
        path.write_bytes(graph_of_velocity(make(), S, C, vjp=vjp))
        counted.append(count_flops(path))
    forward = 2 * ((S + C) * 16 + 16 * 12 + 12 * C)
    assert counted[0].products >= forward
    assert counted[1].products > counted[0].products


def test_some_estimates_of_the_diffusion_model_are_clipped_and_some_are_not() -> None:
    """Or the test above has seen one side of the clip alone."""
    flow, a = diffusion(), torch.randn(N, C, generator=torch.Generator().manual_seed(1))
    end = a
    for i in range(7):
        end = end + flow(torch.zeros(N, S), end, torch.full((N,), i / 7.0)) / 7.0
    inside = (end.abs() < 1.0 - 1e-4).float().mean()
    assert 0.1 < inside < 0.9
