"""What the networks of a bundle are made of, and under which names a primitive holds their weights.

The names are the agreement between the wings: the exporter writes them into the graphs, and the robot reads the networks
back out of them to compose them anew. The velocity field is one network, each member of a critic another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Weights: TypeAlias = NDArray[np.float32]

#: Epsilon of every LayerNorm.
LAYER_NORM_EPS = 1e-6


@dataclass(frozen=True)
class Layer:
    """One dense layer: weight [I, O], bias [O], and LayerNorm scale and shift [O] where it has one."""

    weight: Weights
    bias: Weights
    scale: Weights | None = None
    shift: Weights | None = None


#: Of an MLP: one or more hidden layers with GELU in its tanh form, then a linear one.
Layers: TypeAlias = tuple[Layer, ...]

#: A weight of a layer, by the name of its field.
Part: TypeAlias = Literal["weight", "bias", "scale", "shift"]
PARTS: tuple[Part, ...] = ("weight", "bias", "scale", "shift")

#: Network of ``velocity.onnx`` and ``velocity_vjp.onnx``.
VELOCITY = "velocity"
#: Frequencies of the time embedding [F] in both; missing where t itself is the embedding.
FREQUENCIES = "frequencies"


def member_network(member: int) -> str:
    """Return the network of an ensemble member in ``q_grad.onnx``, such as "q1"."""
    return f"q{member}"


def weight_name(network: str, layer: int, part: Part) -> str:
    """Return the name of a weight, such as "velocity.0.weight" or "q1.2.scale"."""
    return f"{network}.{layer}.{part}"
