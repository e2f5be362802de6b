"""The networks once more, in NumPy and float64, from their formulas alone; a batch, and what its losses are held to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

EPSILON = 1e-6  # of LayerNorm, as in flax


def mlp64(mlp: Any, member: int, x: Any) -> Any:
    """Map [N, I] to [N, O] through one member of a `StackedMLP`."""

    def of(parameter: Any) -> Any:
        return parameter[member].detach().numpy().astype(np.float64)

    for layer, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases)):
        x = x @ of(weight) + of(bias)
        if layer < len(mlp.scales):
            centred = x - x.mean(axis=1, keepdims=True)
            x = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + EPSILON)
            x = x * of(mlp.scales[layer]) + of(mlp.shifts[layer])
        if layer < len(mlp.weights) - 1:
            x = 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
    return x


def embedding64(t: Any) -> Any:
    """Return cosines, then sines, of t * 10000 [N, 16]; the frequencies are rounded to float32 as everywhere."""
    frequencies = np.exp(-np.log(10000.0) * np.arange(8) / 8).astype(np.float32).astype(np.float64)
    angles = t[:, None] * 10000.0 * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def velocity64(stack: Any, task: int, s: Any, a: Any, t: Any) -> Any:
    """Return the velocities [N, C] of one task, time being sinusoidal."""
    return mlp64(stack.mlp, task, np.concatenate([s, a, embedding64(t)], axis=1))


def critic64(critic: Any, task: int, s: Any, a: Any) -> Any:
    """Return the values of the members of one task [E, N]."""
    x = np.concatenate([s, a], axis=1)
    return np.stack([mlp64(critic.mlp, task * critic.ensemble + e, x)[:, 0] for e in range(critic.ensemble)])


def slope64(loss: Callable[[], float], parameters: list[Any], direction: list[Any], step: float = 1e-5) -> float:
    """Return the central difference of a loss as the parameters, of float64, are moved along a direction and put back."""
    values = []
    for sign in (1.0, -1.0):
        for parameter, by in zip(parameters, direction):
            parameter.data += sign * step * by
        values.append(loss())
        for parameter, by in zip(parameters, direction):
            parameter.data -= sign * step * by
    return (values[0] - values[1]) / (2.0 * step)


def random_batch() -> Any:
    """Return a batch of float64 for two tasks: 12 chunks of 4 numbers in states of 3."""
    import torch

    from qgf_ros.learning.data.chunks import Batch

    random = np.random.default_rng(3)
    s, action, next_s, noise = (torch.from_numpy(random.standard_normal((12, size))) for size in (3, 4, 3, 4))
    t = torch.from_numpy(random.integers(0, 11, 12) / 10.0)
    returns = torch.from_numpy(-random.uniform(1, 2, (2, 12)))
    return Batch(s, s, action.clamp(-1, 1), next_s, returns, returns + 2.0, {"noise": noise, "t": t})


def train_alone(algorithm: Any, network: Any, loss: Callable[[], float]) -> None:
    """Check that the gradients that are there are those of one network, and of its loss."""
    trained = [parameter for parameter in algorithm.parameters() if parameter.grad is not None]
    assert {id(parameter) for parameter in trained} == {id(parameter) for parameter in network.parameters()}
    go_along(trained, loss)


def go_along(trained: list[Any], loss: Callable[[], float]) -> None:
    """Check that the gradients of parameters are the differences of a loss along three directions."""
    import torch

    random = torch.Generator().manual_seed(5)
    for _ in range(3):
        direction = [torch.randn(p.shape, generator=random, dtype=torch.float64) for p in trained]
        along = sum((p.grad * by).sum().item() for p, by in zip(trained, direction))
        np.testing.assert_allclose(along, slope64(loss, trained, direction), rtol=1e-5)


def critics_train_as_if_alone(algorithm: Any, batch: Any) -> None:
    """Check that the gradients of critics and values are those of their own losses, and that the target has none."""
    import torch

    trained = [*algorithm.critic.parameters(), *algorithm.value.parameters()]
    algorithm.losses(batch).total.backward()
    together = [p.grad.clone() for p in trained]
    algorithm.zero_grad()
    algorithm.critic_losses(batch).total.backward()
    for one, p in zip(together, trained):
        torch.testing.assert_close(one, p.grad)
    assert all(p.grad is None for p in algorithm.target.parameters())


#: Six numbers, alike in weight, whose moments up to the fifth are those of the standard normal (Gauss and Hermite's three).
NORMAL = np.array([np.sqrt(3.0), -np.sqrt(3.0), 0.0, 0.0, 0.0, 0.0])


def settle(loss: Callable[[], Any], parameters: list[Any]) -> None:
    """Move parameters to the bottom of a loss that is a parabola of them: one step of Newton's."""
    import torch

    slopes = torch.cat([slope.ravel() for slope in torch.autograd.grad(loss(), parameters, create_graph=True)])
    curvature = torch.stack(
        [torch.cat([c.ravel() for c in torch.autograd.grad(s, parameters, retain_graph=True)]) for s in slopes]
    )
    step = torch.linalg.solve(curvature, slopes.detach())
    for parameter, part in zip(parameters, step.split([p.numel() for p in parameters])):
        parameter.data -= part.view_as(parameter)


def gaussian_field(m: Any, deviation: Any, t: Any) -> tuple[Any, Any]:
    """Return slope and offset of the velocity field of data N(m, deviation^2) at time t: v(x) = slope x + offset."""
    slope = (t * deviation**2 - (1.0 - t)) / ((1.0 - t) ** 2 + t**2 * deviation**2)
    return slope, m - slope * t * m


def crossed(noises: Any, actions: Any, times: Any) -> tuple[Any, Any, Any]:
    """Return every noise with every action at every time, as columns [N, 1], [N, 1] and times [N] of float64 tensors."""
    import torch

    x0, x1, t = (torch.from_numpy(axis.ravel()) for axis in np.meshgrid(noises, actions, times))
    return x0[:, None], x1[:, None], t
