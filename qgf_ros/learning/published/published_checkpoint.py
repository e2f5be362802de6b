"""The networks inside a checkpoint of the published QGF code (github.com/zhouzypaul/qgf), as plain layers.

Such a checkpoint is the state dictionary of its `QGFAgent`. What is read here, E being the size of the ensemble, an
axis that a network without ensemble lacks:

    agent / policy                / params / MLP_0     / Dense_i, LayerNorm_i      all but the last layer
                                           / Dense_0                               last layer
          / critic, target_critic / params / value_net / Dense_i, LayerNorm_i      kernel [E, I, O], the others [E, O]
          / value                 / params / value_net / Dense_i, LayerNorm_i      kernel [I, O], the others [O]

Hidden layers are Dense -> LayerNorm -> GELU; the policy's last hidden layer has no LayerNorm. LayerNorm may be missing
throughout. Every size is read off the arrays and checked against the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qgf_ros.bundle.layers import Layer, Weights
from qgf_ros.errors import TrainingError
from qgf_ros.learning.published.pickles import read_pickle, shown

EMBEDDING_SIZE = 16
EMBEDDING_PERIOD = 10000.0

#: Most members of an ensemble, and layers of a network; the published code has 2 of the one and 4 of the other. A graph has
#: some 20 nodes of each layer of each member, whatever the bytes of their weights.
MOST_MEMBERS, MOST_LAYERS = 100, 32


@dataclass(frozen=True)
class PublishedNetworks:
    """The networks of one checkpoint.

    Attributes:
        policy: Velocity field over [s, a, embedding(t)].
        critic, target_critic: One list of layers per ensemble member, over [s, a].
        value: Over s.
        observation_size: S.
        chunk_size: C, horizon times action size.
        sinusoidal: Whether t is embedded in 16 waves or passed on as it is.
        updates: Updates the policy has had.
    """

    policy: list[Layer]
    critic: list[list[Layer]]
    target_critic: list[list[Layer]]
    value: list[Layer]
    observation_size: int
    chunk_size: int
    sinusoidal: bool
    updates: int

    @property
    def frequencies(self) -> Weights | None:
        """Frequencies of the time embedding, None for t itself."""
        return published_frequencies() if self.sinusoidal else None


def published_frequencies() -> Weights:
    """Return exp(-ln(10000) i / 8), i = 0..7, as the published code has them [8].

    It rounds the exponent to float32 first, which moves a frequency by up to four units in the last place and, at
    angles of 10000 rad, a wave by 6e-5.
    """
    exponents = np.float32(-math.log(EMBEDDING_PERIOD)) * np.arange(8, dtype=np.float32) / np.float32(8)
    frequencies: Weights = np.exp(exponents.astype(np.float64)).astype(np.float32)
    return frequencies


def load_published(path: Path) -> PublishedNetworks:
    """Read a checkpoint ``params_STEP.pkl``.

    Raises:
        TrainingError: It is no harmless pickle (see `pickles`), has another layout, or holds shapes that do not fit
            or numbers that are not finite; the sentence names the key.
    """
    agent = _Node(read_pickle(path), str(path), (), _Conversions(2 * path.stat().st_size))["agent"]
    agent.only(("policy", "critic", "target_critic", "value", "rng"))
    value = _value_network(agent["value"], None)
    size = value[0][0].weight.shape[0]
    policy, chunk, sinusoidal = _policy_network(agent["policy"], size)
    critic, target_critic = (_value_network(agent[name], size + chunk) for name in ("critic", "target_critic"))
    if len(value) != 1:
        raise agent["value"].error(f"is an ensemble of {len(value)}, expected a single network")
    if len(critic) != len(target_critic):
        raise agent["target_critic"].error(f"has {len(target_critic)} members, the critic {len(critic)}")
    step = agent["policy"]["step"].value
    whole = isinstance(step, int) or (isinstance(step, np.ndarray) and step.shape == () and step.dtype.kind == "i")
    if not whole or isinstance(step, bool) or not 0 <= int(step) < 2**63:
        raise agent["policy"]["step"].error("is no whole number")
    return PublishedNetworks(policy, critic, target_critic, value[0], size, chunk, sinusoidal, int(step) - 1)


class _Conversions:
    """Makes float32 arrays of what a file holds, the same of the same, up to as many bytes as it has room for.

    Args:
        room: Bytes for all arrays together.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._made: dict[int, tuple[Any, Weights]] = {}  # the array beside, so that its number stays its own

    def float32(self, array: Any) -> Weights | None:
        """Return the weights of an array, or None where there is no room left."""
        if id(array) not in self._made:
            self._room -= 4 * array.size
            if self._room < 0:
                return None
            with np.errstate(over="ignore"):
                self._made[id(array)] = array, np.ascontiguousarray(array, dtype=np.float32)
        return self._made[id(array)][1]


class _Node:
    """A part of a checkpoint, and the keys that lead to it."""

    def __init__(self, value: Any, file: str, keys: tuple[str, ...], conversions: _Conversions) -> None:
        self.value = value
        self._file = file
        self._keys = keys
        self._conversions = conversions

    def __getitem__(self, key: str) -> _Node:
        if key not in self.keys():
            raise self.error(f"has no {key}")
        return _Node(self.value[key], self._file, (*self._keys, key), self._conversions)

    def keys(self) -> Iterable[str]:
        if not isinstance(self.value, dict):
            raise self.error("is no dictionary")
        return self.value.keys()

    def only(self, known: Iterable[str]) -> None:
        """Refuse a key that is not known: what it stands for would be lost."""
        for key in sorted(set(self.keys()).difference(known)):
            raise self.error(f"has an unexpected {shown(key)}")

    def numbered(self, name: str) -> list[_Node]:
        """Return the parts name_0, name_1, ..."""
        count = sum(key.startswith(f"{name}_") for key in self.keys())
        if count > MOST_LAYERS:
            raise self.error(f"has {count} {name}, expected at most {MOST_LAYERS}")
        return [self[f"{name}_{i}"] for i in range(count)]

    def array(self, *shape: int | None) -> Weights:
        """Return float32 weights of a shape in which None stands for any size."""
        array = self.value
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            raise self.error("is no array of floating-point numbers")
        if len(array.shape) != len(shape) or any(n not in (None, size) for n, size in zip(shape, array.shape)):
            expected = " x ".join("any" if size is None else str(size) for size in shape)
            given = " x ".join(map(str, array.shape)) or "of a single number"
            raise self.error(f"has shape {given}, expected {expected}")
        if not array.size:
            raise self.error("is empty")
        weights = self._conversions.float32(array)
        if weights is None:
            raise self.error(
                "shares its bytes with other arrays, so that there are more numbers than the file has room for"
            )
        if not np.isfinite(weights).all():
            raise self.error("holds a number that is not finite")
        return weights

    def error(self, problem: str) -> TrainingError:
        name = ".".join(self._keys) or "the checkpoint"
        return TrainingError(
            f"{self._file}: {name} {problem}; only checkpoints of the published QGFAgent with MLP networks can be imported"
        )


def _policy_network(state: _Node, observation_size: int) -> tuple[list[Layer], int, bool]:
    """Return the layers of the velocity field, its chunk size, and whether the time embedding is sinusoidal."""
    params = state["params"]
    params.only(("MLP_0", "Dense_0"))
    hidden = params["MLP_0"].numbered("Dense")
    if not hidden:
        raise params["MLP_0"].error("has no Dense_0")
    members = _members(params["MLP_0"], [*hidden, params["Dense_0"]], len(hidden) - 1, None)
    if len(members) != 1:
        raise params["MLP_0"].error(f"is an ensemble of {len(members)}, expected a single network")
    layers = members[0]
    inputs, chunk = layers[0].weight.shape[0], len(layers[-1].bias)
    embedding = inputs - observation_size - chunk
    if embedding not in (1, EMBEDDING_SIZE):
        raise params["MLP_0"]["Dense_0"]["kernel"].error(
            f"takes {inputs} inputs; the observation has {observation_size} values and the chunk {chunk}, which leaves "
            f"{embedding} for the time, expected {EMBEDDING_SIZE} or 1"
        )
    return layers, chunk, embedding == EMBEDDING_SIZE


def _value_network(state: _Node, inputs: int | None) -> list[list[Layer]]:
    """Return the layers of each member of a critic, or of the value network."""
    params = state["params"]
    params.only(("value_net",))
    net = params["value_net"]
    dense = net.numbered("Dense")
    if len(dense) < 2:
        raise net.error(f"has {len(dense)} dense layers, expected at least 2")
    members = _members(net, dense, len(dense) - 1, inputs)
    dense[-1]["bias"].array(*dense[-1]["bias"].value.shape[:-1], 1)
    return members


def _members(owner: _Node, dense: Sequence[_Node], normed: int, inputs: int | None) -> list[list[Layer]]:
    """Return the layers of each member of an MLP; the first `normed` of them may have a LayerNorm, all or none."""
    norms = owner.numbered("LayerNorm")
    owner.only(f"{name}_{i}" for name in ("Dense", "LayerNorm") for i in range(len(dense)))
    if norms and len(norms) != normed:
        raise owner.error(f"has {len(norms)} LayerNorm, expected {normed} or none")
    first = dense[0]["kernel"].value
    ensemble = first.shape[:1] if isinstance(first, np.ndarray) and first.ndim == 3 else ()
    for size in ensemble:
        if size > MOST_MEMBERS:
            raise dense[0]["kernel"].error(f"is an ensemble of {size}, expected at most {MOST_MEMBERS}")
    stacked = []
    for i, node in enumerate(dense):
        node.only(("kernel", "bias"))
        kernel = node["kernel"].array(*ensemble, inputs, None)
        inputs = kernel.shape[-1]
        arrays = [kernel, node["bias"].array(*ensemble, inputs)]
        if i < len(norms):
            norms[i].only(("scale", "bias"))
            arrays += [norms[i][key].array(*ensemble, inputs) for key in ("scale", "bias")]
        stacked.append(arrays)
    if not ensemble:
        return [[Layer(*arrays) for arrays in stacked]]
    return [[Layer(*(array[e] for array in arrays)) for arrays in stacked] for e in range(*ensemble)]
