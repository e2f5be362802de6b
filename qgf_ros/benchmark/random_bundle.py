"""Bundles of random networks: what a tick costs depends on their sizes alone, so none needs to be trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qgf_ros.bundle.cameras import CameraField, Encoding
from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.bundle.store import encoder_file, write_bundle
from qgf_ros.errors import GuidanceError
from qgf_ros.learning.algorithms.networks import CriticNetwork, StackedMLP, VelocityNetwork
from qgf_ros.learning.export.encoder_graph import encoder_graph
from qgf_ros.learning.export.export import export_networks
from qgf_ros.learning.vision.encoder import PictureEncoder

#: The one critic.
CRITIC = "random"
#: Numbers that the encoder of a bundle that sees makes of all its pictures, as `qgf train` does where nobody says otherwise.
FEATURES = 64


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of a policy.

    Attributes:
        layers: Hidden layers of every network.
        width: Units of each.
        observation: Observation size S.
        action: Components of an action A.
        horizon: Actions per chunk H.
        steps: Denoising steps T.
    """

    layers: int
    width: int
    observation: int = 46
    action: int = 5
    horizon: int = 5
    steps: int = 10

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise GuidanceError(f"{name} {value} was given for a random network; it must be at least 1")

    @property
    def name(self) -> str:
        """Layers and width, such as 4x1024."""
        return f"{self.layers}x{self.width}"


def parse_shapes(text: str, observation: int, action: int, horizon: int, steps: int) -> list[NetworkShape]:
    """Return the shapes that a text such as ``4x1024`` or ``3x256,4x1024`` means; the other sizes are shared.

    Raises:
        GuidanceError: The text means something else, or a size is below 1.
    """
    shapes = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)x(\d+)", part.strip())
        if found is None:
            raise GuidanceError(f"random {text!r} was given; expected hidden layers x width, such as 4x1024")
        shapes.append(NetworkShape(int(found[1]), int(found[2]), observation, action, horizon, steps))
    return shapes


def write_random_bundle(out: Path, shape: NetworkShape, seed: int = 0) -> Manifest:
    """Write a bundle of random networks: a velocity field and one critic, an ensemble of two.

    The weights of the dense layers are drawn as at the start of training. Biases and LayerNorms, which training starts
    at 0 and 1, are random too, so that none of them can be left out unnoticed.

    Args:
        out: Folder of the new bundle.
        shape: Sizes.
        seed: Of the weights.

    Raises:
        TrainingError: ONNX Runtime differs from torch.
        BundleError: The folder cannot be written.
    """
    generator = torch.Generator().manual_seed(seed)
    files, parity = _networks(shape, shape.observation, generator)
    observation = ObservationField(
        name="observation",
        topic="observation",
        message_type="std_msgs/msg/Float64MultiArray",
        extraction="data",
        size=shape.observation,
        unit="1",
    )
    return write_bundle(out, _manifest(f"random-{shape.name}", shape, observation, parity=parity), files)


def write_seeing_bundle(
    out: Path, cameras: Mapping[str, CameraField], shape: NetworkShape, rate: float = 20.0, seed: int = 0
) -> Manifest:
    """Write a bundle of random networks that sees: the encoder that `qgf train` trains, and the networks behind it.

    Args:
        out: Folder of the new bundle.
        cameras: Its cameras.
        shape: Sizes; the observation, beside the pictures, is the joints of an arm.
        rate: Control rate [Hz].
        seed: Of the weights.

    Raises:
        TrainingError, BundleError: As `write_random_bundle`.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = {name: camera.size for name, camera in cameras.items()}
    encoder = PictureEncoder(sizes, FEATURES, generator)
    seen = FEATURES + shape.observation
    files, parity = _networks(shape, seen, generator)
    files[encoder_file()] = encoder_graph(encoder, sizes, shape.observation)
    joints = tuple(f"joint{number}" for number in range(shape.observation))
    observation = ObservationField(
        name="joints",
        topic="joint_states",
        message_type="sensor_msgs/msg/JointState",
        extraction="joint_position",
        joints=joints,
        size=len(joints),
        unit="rad",
    )
    sight = {"cameras": dict(cameras), "encoding": Encoding(features=seen), "control_rate": rate}
    return write_bundle(out, _manifest("random-seeing", shape, observation, weight=1.0, parity=parity, **sight), files)


def _networks(
    shape: NetworkShape, observation: int, generator: torch.Generator
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Return the primitives of random networks that are given so many numbers, and how far they are from torch."""
    sizes = observation, shape.horizon * shape.action
    hidden = (shape.width,) * shape.layers
    velocity = VelocityNetwork(*sizes, hidden, generator)
    critic = CriticNetwork(1, 2, *sizes, hidden, generator)
    for mlp in (velocity.mlp, critic.mlp):
        _disturb(mlp, generator)
    return export_networks(velocity, critic, [CRITIC], sizes)


def _manifest(
    name: str, shape: NetworkShape, observation: ObservationField, weight: float = 0.0, **more: Any
) -> Manifest:
    card = CriticCard(task="none", discount=0.99, ensemble_size=2, recommended_weight=weight)
    return Manifest(
        name=name,
        observation=(observation,),
        action=tuple(
            ActionField(name=f"a{i}", unit="1", scale=1.0, lower=-1.0, upper=1.0) for i in range(shape.action)
        ),
        horizon=shape.horizon,
        execution_horizon=shape.horizon,
        denoising_steps=shape.steps,
        critics={CRITIC: card},
        **{"control_rate": 20.0, **more},
    )


def _disturb(mlp: StackedMLP, generator: torch.Generator) -> None:
    """Move biases, scales and shifts away from where training starts them."""
    with torch.no_grad():
        for parameter in (*mlp.biases, *mlp.scales, *mlp.shifts):
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
