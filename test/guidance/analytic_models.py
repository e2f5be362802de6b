"""Small float64 models with derivatives written out, for the tests of guidance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from qgf_ros.guidance.conditioning import Unconditioned
from qgf_ros.guidance.protocols import Array, Rows


class LinearField(Unconditioned):
    """v = m a + o, whose Euler iterates are known in closed form."""

    def __init__(self, slope: float, offset: Array) -> None:
        self.slope, self.offset = slope, offset

    def __call__(self, a: Array, t: Array) -> Array:
        return self.slope * a + self.offset

    def vjp(self, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
        return self(a, t), self.slope * u


class CurvedField:
    """v = tanh(a W + s U + t c): every component depends on every other, on the observation and on the time."""

    def __init__(self, observation_size: int, size: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.w = random.standard_normal((size, size))
        self.u = random.standard_normal((observation_size, size))
        self.c = random.standard_normal(size)

    def given(self, observations: Array) -> CurvedFlow:
        return CurvedFlow(self, observations @ self.u)


@dataclass(frozen=True)
class CurvedFlow:
    """A `CurvedField` given observations, of which s U is all it needs."""

    field: CurvedField
    offset: Array

    def __call__(self, a: Array, t: Array) -> Array:
        out: Array = np.tanh(a @ self.field.w + self.offset + t[:, None] * self.field.c)
        return out

    def vjp(self, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
        v = self(a, t)
        return v, (u * (1.0 - v**2)) @ self.field.w.T

    def rows(self, rows: Rows) -> CurvedFlow:
        return replace(self, offset=self.offset[rows])


class QuadraticCritic(Unconditioned):
    """Members Q_e = -|a - target_e|^2 / 2; counts its calls."""

    def __init__(self, *targets: Array) -> None:
        self.targets, self.calls = targets, 0

    def __call__(self, a: Array) -> Array:
        self.calls += 1
        return np.stack([-0.5 * np.square(a - target).sum(axis=1) for target in self.targets])

    def aggregate(self, q: Array) -> Array:
        return np.asarray(q.min(axis=0))

    def value_and_grad(self, a: Array) -> tuple[Array, Array]:
        q = self(a)
        gradients = np.stack([target - a for target in self.targets])
        return q, gradients[q.argmin(axis=0), np.arange(len(a))]


class BrokenCritic(QuadraticCritic):
    """A critic that must not be called."""

    def __call__(self, a: Array) -> Array:
        raise AssertionError("the critic was called")


def central_differences(function: Callable[[Array], Array], x: Array, step: float = 1e-6) -> Array:
    """Return the gradient [N, C] of a function [N, C] -> [N], one component at a time."""
    gradient = np.empty_like(x)
    for i in range(x.shape[1]):
        d = np.zeros_like(x)
        d[:, i] = step
        gradient[:, i] = (function(x + d) - function(x - d)) / (2.0 * step)
    return gradient
