"""The least memory traffic of a tick: bytes of weights it must read, counted from the graphs.

A network at these sizes is a handful of matrices that each row of the batch runs through once, so a tick can be no
faster than its weights come out of memory, unless they fit into a cache. What is counted:

- a forward pass reads every weight (each initialiser of the graph, once for each node that uses it);
- a backward pass reads again what its nodes use, and no forward pass, whose results are at hand;
- of the critic's backward passes, those of the members that some row selects: with "min" and N guided rows at most N of
  E members, with "mean" all;
- calls count, not rows, since candidates and the unguided twin share a call. Calls are counted, not derived.

Activations, inputs and code are left out: the count is a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from qgf_ros.analysis.compute import Calls, Case, count_node_batches
from qgf_ros.analysis.flops import needed_nodes
from qgf_ros.analysis.inputs import Primitives
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import critic_file, encoder_file
from qgf_ros.guidance.conditioning import Unconditioned
from qgf_ros.guidance.protocols import Array


class Traffic(NamedTuple):
    """Bytes of weights that one call of each primitive must read; the backward passes without their forward pass."""

    velocity: int
    velocity_backward: int
    critic: int
    critic_backward: int

    def of(self, calls: Calls) -> int:
        """Return the bytes of some calls (not rows)."""
        return (
            self.velocity * calls.velocity
            + self.velocity_backward * calls.vjp
            + self.critic * (calls.critic_value + calls.critic_gradient)
            + self.critic_backward * calls.critic_gradient
        )


def count_traffic(bundle: Path, manifest: Manifest, critic: str, rows: int) -> Traffic:
    """Count the bytes of a bundle's primitives.

    Args:
        bundle: Folder of the bundle.
        manifest: Its manifest.
        critic: Name of the guiding critic.
        rows: Guided rows N.
    """
    card = manifest.critics[critic]
    members = card.ensemble_size
    selected = min(members, rows) if card.aggregation == "min" else members
    velocity = weight_bytes(bundle / "velocity.onnx")
    forward = weight_bytes(bundle / critic_file(critic), ("q",))
    backward = weight_bytes(bundle / critic_file(critic)) - forward
    return Traffic(
        velocity,
        weight_bytes(bundle / "velocity_vjp.onnx") - velocity,
        forward,
        backward * selected // members,
    )


def encoder_bytes(bundle: Path, manifest: Manifest, critic: str | None) -> int:
    """Return the bytes that the encoders must read for an action: the policy's, and that of the critic that is asked.

    A kernel is read once, however many places of a picture it looks at.

    Args:
        bundle: Folder of the bundle.
        manifest: Its manifest.
        critic: Name of the critic; None where none is asked.
    """
    if manifest.encoding is None:
        return 0
    own = [critic] if critic in manifest.encoding.critics else []
    return sum(weight_bytes(bundle / encoder_file(whose)) for whose in (None, *own))


def weight_bytes(path: Path, outputs: Sequence[str] | None = None) -> int:
    """Return the bytes of the initialisers that a graph's nodes read, once for each node.

    Args:
        path: The model.
        outputs: Count only what these outputs need; all of them by default.
    """
    graph = onnx.load(str(path)).graph
    sizes = {
        tensor.name: math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in graph.initializer
    }
    return sum(sizes.get(name, 0) for node in needed_nodes(graph, outputs) for name in node.input)


def count_calls(case: Case, manifest: Manifest) -> Calls:
    """Return how often `Policy.act` calls each primitive for one action; a call of many rows counts once."""
    primitives = Primitives(manifest, _Still(), {next(iter(manifest.critics)): _Flat()})
    return count_node_batches(case, primitives, np.zeros((case.candidates, manifest.chunk_size), dtype=np.float32))


class _Still(Unconditioned):
    """A velocity field that is 0 everywhere: how often it is called does not depend on what it answers."""

    def __call__(self, a: Array, t: Array) -> Array:
        return np.zeros_like(a)

    def vjp(self, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
        return np.zeros_like(a), np.zeros_like(a)


class _Flat(Unconditioned):
    """A critic that is 0 everywhere."""

    def __call__(self, a: Array) -> Array:
        return np.zeros((1, len(a)), dtype=a.dtype)

    def value_and_grad(self, a: Array) -> tuple[Array, Array]:
        return self(a), np.zeros_like(a)

    def aggregate(self, q: Array) -> Array:
        smallest: Array = q.min(axis=0)
        return smallest
