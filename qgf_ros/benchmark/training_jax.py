"""The peer of the training benchmark: one update of all networks as one jitted function in JAX.

The losses, Adam and the order of the steps are those of `iql_flow` and of the trainer, once more in a few lines; a test
and every benchmark hold the two to each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from torch import Tensor

from qgf_ros.bundle.layers import LAYER_NORM_EPS
from qgf_ros.learning.algorithms.iql_flow import IqlFlow
from qgf_ros.learning.algorithms.networks import EMBEDDING_PERIOD, StackedMLP, embedding_frequencies
from qgf_ros.learning.data.chunks import Batch

#: Adam's, as torch has them by default.
_DECAY1, _DECAY2, _EPSILON = 0.9, 0.999, 1e-8


def jax_update(algorithm: IqlFlow, learning_rate: float, threads: int) -> Callable[[Batch], tuple[float, ...]]:
    """Return a function that takes one update and gives the losses of it, starting from a copy of the networks.

    Args:
        algorithm: Initial weights and configuration.
        learning_rate: Adam's, constant here.
        threads: Threads of XLA; the first of a process sets it for all.
    """
    os.environ["NPROC"] = str(threads)
    import jax

    j = jax.numpy
    frequencies = j.asarray(embedding_frequencies().numpy())
    config, tasks, ensemble = algorithm.config, algorithm.critic.tasks, algorithm.critic.ensemble
    mlps = {name: cast("StackedMLP", network.mlp) for name, network in algorithm.named_children()}

    def mlp(name: str, layers: Mapping[str, Any], x: Any) -> Any:
        x = j.broadcast_to(x, (len(layers["weights"][0]), *x.shape))
        last = len(layers["weights"]) - 1
        for k, (weight, bias) in enumerate(zip(layers["weights"], layers["biases"])):
            x = x @ weight + bias
            if k < mlps[name].normed:
                centred = x - x.mean(-1, keepdims=True)
                variance = (centred * centred).mean(-1, keepdims=True)
                x = centred * jax.lax.rsqrt(variance + LAYER_NORM_EPS) * layers["scales"][k] + layers["shifts"][k]
            if k < last:
                x = jax.nn.gelu(x, approximate=True)
        return x

    def critic(name: str, layers: Any, s: Any, a: Any) -> Any:
        return mlp(name, layers, j.concatenate([s, a], -1)).reshape(tasks, ensemble, -1)

    def losses(trained: Any, target: Any, batch: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        s, action, noise, t = (batch[key] for key in ("s", "action", "noise", "t"))
        angles = t[:, None] * EMBEDDING_PERIOD * frequencies
        point = noise + t[:, None] * (action - noise)
        inputs = j.concatenate([s, point, j.cos(angles), j.sin(angles)], -1)
        flow = ((mlp("velocity", trained["velocity"], inputs)[0] - (action - noise)) ** 2).mean()
        next_value = jax.lax.stop_gradient(mlp("value", trained["value"], batch["next_s"])[..., 0])
        wanted = batch["returns"] + batch["bootstraps"] * next_value
        bellman = ((critic("critic", trained["critic"], s, action) - wanted[:, None]) ** 2).mean((1, 2)).sum()
        q = critic("target", target, s, action).min(1)
        advantage = q - mlp("value", trained["value"], s)[..., 0]
        weight = j.where(advantage >= 0.0, config.expectile, 1.0 - config.expectile)
        value = (weight * advantage**2).mean(1).sum()
        return flow + bellman + value, (flow, bellman, value, q.mean())

    def step(state: Any, batch: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        trained, target, first, second, count = state
        gradient, parts = jax.grad(losses, has_aux=True)(trained, target, batch)
        count = count + 1
        tree = jax.tree_util.tree_map
        target = tree(lambda old, new: old + config.target_rate * (new - old), target, trained["critic"])
        first = tree(lambda m, g: _DECAY1 * m + (1.0 - _DECAY1) * g, first, gradient)
        second = tree(lambda v, g: _DECAY2 * v + (1.0 - _DECAY2) * g * g, second, gradient)
        scale, root = learning_rate / (1.0 - _DECAY1**count), j.sqrt(1.0 - _DECAY2**count)
        trained = tree(lambda p, m, v: p - scale * m / (j.sqrt(v) / root + _EPSILON), trained, first, second)
        return (trained, target, first, second, count), parts

    weights = {name: _arrays(one, j.array) for name, one in mlps.items()}
    target = weights.pop("target")
    zeros = jax.tree_util.tree_map(j.zeros_like, weights)
    state = (weights, target, zeros, jax.tree_util.tree_map(j.zeros_like, weights), j.zeros(()))
    update = jax.jit(step, donate_argnums=0)

    def run(batch: Batch) -> tuple[float, ...]:
        nonlocal state
        given = {**vars(batch), **batch.draws}
        arrays = {key: value.numpy() for key, value in given.items() if isinstance(value, Tensor)}
        state, parts = update(state, arrays)
        return tuple(float(part) for part in parts)

    return run


def _arrays(mlp: StackedMLP, convert: Callable[[Any], Any]) -> dict[str, list[Any]]:
    parts = ("weights", "biases", "scales", "shifts")
    return {part: [convert(np.array(p.detach())) for p in getattr(mlp, part)] for part in parts}
