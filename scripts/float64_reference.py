"""The published sampler in NumPy and float64, written from the formulas alone; `compare_published.py` and tests use it.

It shares no code with the package, and reads the arrays of a checkpoint by their published names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Pullback = Callable[[Any], Any]


class Reference:
    """Sampler over the arrays of a checkpoint; Q is the smallest of the target critics, two or more.

    Args:
        agent: The state dictionary of a QGFAgent.
    """

    def __init__(self, agent: dict[str, Any]) -> None:
        policy, critic = agent["policy"]["params"], agent["target_critic"]["params"]["value_net"]
        self._policy = [*_layers(policy["MLP_0"]), (*_dense(policy["Dense_0"]), None)]
        self._critics = [_layers(_member(critic, e)) for e in range(len(critic["Dense_0"]["bias"]))]
        inputs = len(policy["MLP_0"]["Dense_0"]["kernel"]) - critic["Dense_0"]["kernel"].shape[1]
        self._sinusoidal = inputs > 1

    def sample(
        self, s: Any, noise: Any, method: str, weight: float, steps: int = 10, ascent_steps: int = 1
    ) -> tuple[Any, Any]:
        """Return finished actions [N, C], and how close the critics came to a tie on the way [N], see `critic`.

        Args:
            s: Observations [N, S].
            noise: [N, C].
            method: "qgf", "qgf_jacobian", "noisy" or "grad_step".
            weight: 1/beta; the step size of grad_step.
            steps: Euler steps T.
            ascent_steps: Of grad_step.
        """
        a, closest = noise.astype(np.float64), np.full(len(noise), np.inf)
        for k in range(steps):
            v, pullback = self.velocity(s, a, k / steps)
            if weight and method != "grad_step":
                g, gap = self._gradient(s, a, k / steps, v, pullback, method)
                v, closest = v + weight * g, np.minimum(closest, gap)
            a = a + v / steps
        a = np.clip(a, -1.0, 1.0)
        for _ in range(ascent_steps if weight and method == "grad_step" else 0):
            _, g, gap = self.critic(s, a)
            a, closest = np.clip(a + weight * g, -1.0, 1.0), np.minimum(closest, gap)
        return a, closest

    def _gradient(self, s: Any, a: Any, t: float, v: Any, pullback: Pullback, method: str) -> tuple[Any, Any]:
        if method == "noisy":
            return self.critic(s, a)[1:]
        ahead = a + (1.0 - t) * v
        _, g, gap = self.critic(s, np.clip(ahead, -1.0, 1.0))
        if method == "qgf_jacobian":
            g = g * (np.abs(ahead) < 1.0)
            g = g + (1.0 - t) * pullback(g)
        return g, gap

    def velocity(self, s: Any, a: Any, t: float) -> tuple[Any, Pullback]:
        """Return v [N, C], and the function that maps u [N, C] to u^T dv/da."""
        time = np.full((len(a), 1), np.float32(t))
        if self._sinusoidal:
            # Of the float32 function, since at 10000 rad the rounding of an angle is no small thing.
            exponents = np.arange(8, dtype=np.float32) * np.float32(-np.log(10000.0)) / np.float32(8)
            angles = time * np.float32(10000) * np.exp(exponents.astype(float)).astype(np.float32)
            time = np.concatenate([np.cos(angles.astype(float)), np.sin(angles.astype(float))], axis=1)
        v, pullback = _mlp(self._policy, np.concatenate([s, a, time], axis=1))
        return v, lambda u: pullback(u)[:, s.shape[1] : s.shape[1] + a.shape[1]]

    def critic(self, s: Any, a: Any) -> tuple[Any, Any, Any]:
        """Return the smallest value [N], its gradient by the action [N, C], and the relative gap to the next [N].

        Where the gap is not above the rounding of float32, the gradient is that of one member or of another.
        """
        passes = [_mlp(layers, np.concatenate([s, a], axis=1)) for layers in self._critics]
        q = np.concatenate([value for value, _ in passes], axis=1)
        gradients = np.stack([pullback(np.ones((len(a), 1)))[:, s.shape[1] :] for _, pullback in passes])
        lowest, second = np.sort(q, axis=1)[:, :2].T
        gap = (second - lowest) / np.maximum(1.0, np.abs(lowest))
        return lowest, gradients[q.argmin(axis=1), np.arange(len(a))], gap


def _dense(node: Any) -> tuple[Any, Any]:
    return node["kernel"].astype(np.float64), node["bias"].astype(np.float64)


def _layers(node: dict[str, Any]) -> list[Any]:
    """Return (kernel, bias, (scale, bias) of LayerNorm or None) of each layer."""
    layers = []
    for i in range(sum(key.startswith("Dense_") for key in node)):
        norm = node.get(f"LayerNorm_{i}")
        scales = (norm["scale"].astype(np.float64), norm["bias"].astype(np.float64)) if norm else None
        layers.append((*_dense(node[f"Dense_{i}"]), scales))
    return layers


def _member(node: Any, e: int) -> Any:
    return {key: _member(value, e) for key, value in node.items()} if isinstance(node, dict) else node[e]


def _mlp(layers: list[Any], x: Any) -> tuple[Any, Pullback]:
    """Return what an MLP with LayerNorm and GELU makes of [N, I], and its pullback."""
    pullbacks: list[Pullback] = []
    for i, (kernel, bias, norm) in enumerate(layers):
        x = x @ kernel + bias
        pullbacks.append(lambda u, kernel=kernel: u @ kernel.T)
        if norm is not None:
            x, pullback = _layer_norm(x, *norm)
            pullbacks.append(pullback)
        if i + 1 < len(layers):
            x, pullback = _gelu(x)
            pullbacks.append(pullback)

    def back(u: Any) -> Any:
        for pullback in reversed(pullbacks):
            u = pullback(u)
        return u

    return x, back


def _layer_norm(x: Any, scale: Any, bias: Any) -> tuple[Any, Pullback]:
    centred = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
    unit = centred / deviation

    def back(u: Any) -> Any:
        w = u * scale
        return (w - w.mean(axis=1, keepdims=True) - unit * (w * unit).mean(axis=1, keepdims=True)) / deviation

    return unit * scale + bias, back


def _gelu(x: Any) -> tuple[Any, Pullback]:
    c = np.sqrt(2.0 / np.pi)
    tanh = np.tanh(c * (x + 0.044715 * x * x * x))
    slope = 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * c * (1.0 + 3 * 0.044715 * x * x)
    return 0.5 * x * (1.0 + tanh), lambda u: u * slope
