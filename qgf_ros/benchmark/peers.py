"""What else a user could run: the same sampler in other frameworks, with the bundle's own weights.

`make_sampler` writes Algorithm 1 once, for any array library that differentiates; `peers_torch` and `peers_jax` hand it
theirs. A peer is given every advantage: the time embedding comes from a table, and it infers the action alone, where
`Policy.act` adds the unguided twin and the telemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from qgf_ros.analysis.compute import Case
from qgf_ros.bundle.aggregation import deviations
from qgf_ros.bundle.layers import Layer
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import critic_file, read_bundle
from qgf_ros.errors import BundleError
from qgf_ros.guidance.names import GRAD_STEP
from qgf_ros.runtime.weights import UnknownFormError, read_critic, read_velocity


class Dense(NamedTuple):
    """One dense layer: weight [I, O], bias [O], and LayerNorm scale and shift [O] where it has one."""

    weight: Any
    bias: Any
    scale: Any = None
    shift: Any = None


class PeerNetworks(NamedTuple):
    """Weights of a bundle.

    Attributes:
        velocity: Layers of the velocity field.
        critic: Layers of each member of the critic.
        embedding: Time embedding at every denoising step [T, F].
    """

    velocity: list[Dense]
    critic: list[list[Dense]]
    embedding: Any


class Ops(Protocol):
    """What the sampler needs of an array library."""

    def dense(self, x: Any, weight: Any, bias: Any) -> Any:
        """Return x W + b."""

    def layer_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        """Normalise over the last axis, eps `LAYER_NORM_EPS`."""

    def gelu(self, x: Any) -> Any:
        """Return GELU in its tanh form."""

    def join(self, arrays: list[Any]) -> Any:
        """Put arrays [N, .] side by side."""

    def smallest(self, arrays: list[Any]) -> Any:
        """Return the elementwise minimum of arrays [N]."""

    def rows(self, x: Any, count: int) -> Any:
        """Repeat one row [1, .] `count` times."""

    def clip(self, x: Any) -> Any:
        """Clip to [-1, 1]."""

    def gradient(self, function: Callable[[Any], Any], x: Any) -> Any:
        """Return the gradient of the sum of function(x), by x."""


def read_networks(bundle: Path, critic: str) -> PeerNetworks:
    """Read the weights out of a bundle's primitives.

    Raises:
        BundleError: The bundle is damaged, or its graphs are not those that `qgf export` writes.
    """
    manifest, files = read_bundle(bundle)
    try:
        velocity = read_velocity(files["velocity.onnx"])
        members = read_critic(files[critic_file(critic)])
    except UnknownFormError as error:
        raise BundleError(f"{bundle}: {error}, so no peer can run it; export the bundle again") from error
    steps = manifest.denoising_steps
    return PeerNetworks(
        _dense(velocity.layers),
        [_dense(member) for member in members],
        velocity.embed((np.arange(steps) / steps).astype(np.float32)),
    )


def _dense(layers: Sequence[Layer]) -> list[Dense]:
    return [Dense(layer.weight, layer.bias, layer.scale, layer.shift) for layer in layers]


def map_arrays(function: Callable[[Any], Any], networks: PeerNetworks) -> PeerNetworks:
    """Return the networks with a function applied to a copy of every array."""

    def layers(given: list[Dense]) -> list[Dense]:
        return [Dense(*(None if array is None else function(np.array(array)) for array in layer)) for layer in given]

    return PeerNetworks(
        layers(networks.velocity), [layers(member) for member in networks.critic], function(networks.embedding)
    )


def make_sampler(
    ops: Ops, case: Case, weight: float, manifest: Manifest, critic: str
) -> Callable[[PeerNetworks, Any, Any], Any]:
    """Return Algorithm 1: (networks, observation [1, S], noise [N, C]) -> action [C], the best of N.

    Every estimator is the gradient of Q(after(x)) at the leaf x = before(a_t), by automatic differentiation.

    Args:
        ops: Of the array library.
        case: Estimator and N.
        weight: 1/beta; for ``grad_step`` the step size.
        manifest: Says T.
        critic: Name of the critic; the manifest says how its members become one value.
    """
    steps = manifest.denoising_steps
    rho = deviations(manifest.critics[critic].aggregation)

    def mlp(layers: list[Dense], x: Any) -> Any:
        for layer in layers[:-1]:
            x = ops.dense(x, layer.weight, layer.bias)
            if layer.scale is not None:
                x = ops.layer_norm(x, layer.scale, layer.shift)
            x = ops.gelu(x)
        return ops.dense(x, layers[-1].weight, layers[-1].bias)

    def sample(networks: PeerNetworks, observation: Any, noise: Any) -> Any:
        s = ops.rows(observation, case.candidates)

        def velocity(a: Any, k: int) -> Any:
            return mlp(networks.velocity, ops.join([s, a, ops.rows(networks.embedding[k : k + 1], case.candidates)]))

        def value(a: Any) -> Any:
            x = ops.join([s, a])
            members = [mlp(layers, x)[:, 0] for layers in networks.critic]
            if rho is None:
                return ops.smallest(members)
            mean = sum(members) / len(members)
            if rho == 0.0 or len(members) == 1:
                return mean
            return mean - rho * (sum((member - mean) ** 2 for member in members) / len(members)) ** 0.5

        def finished(a: Any, k: int) -> Any:
            for step in range(k, steps):
                a = a + velocity(a, step) / steps
            return ops.clip(a)

        def cleaned(a: Any, v: Any, k: int) -> Any:
            return ops.clip(a + (1.0 - k / steps) * v)

        def gradient(a: Any, v: Any, k: int) -> Any:
            if case.method == "qgf":
                return ops.gradient(value, cleaned(a, v, k))
            if case.method == "qgf_jacobian":
                return ops.gradient(lambda x: value(cleaned(x, velocity(x, k), k)), a)
            if case.method == "qgf_chain":
                return ops.gradient(value, finished(a, k))
            if case.method == "bptt":
                return ops.gradient(lambda x: value(finished(x, k)), a)
            return ops.gradient(value, a)

        a = noise
        for k in range(steps):
            v = velocity(a, k)
            if case.method not in ("bc", GRAD_STEP):
                v = v + weight * gradient(a, v, k)
            a = a + v / steps
        a = ops.clip(a)
        if case.method == GRAD_STEP:
            a = ops.clip(a + weight * ops.gradient(value, a))
        return a[0] if case.candidates == 1 else a[value(a)[None].argmax(1)][0]

    return sample
