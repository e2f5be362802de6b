"""The networks once more, in NumPy and float64, from their formulas alone; and the derivative of a loss along a direction."""

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
