"""Behaviour cloning from pictures, end to end: the encoder learns what the velocity field needs to imitate the data.

Each picture of a batch is moved by a few pixels at random, which keeps a small encoder from learning single pixels by heart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms.algorithm import Algorithm, ExportedPolicy, Losses, Problem
from qgf_ros.learning.algorithms.iql_flow import flow_loss
from qgf_ros.learning.algorithms.networks import VelocityNetwork
from qgf_ros.learning.algorithms.options import StoredConfig
from qgf_ros.learning.data.chunks import Batch
from qgf_ros.learning.vision.encoder import PictureEncoder, all_shifted, drawn_shifts

#: What its name is in the header of a checkpoint.
NAME = "picture_flow"


@dataclass(frozen=True)
class PictureFlowConfig(StoredConfig):
    """What decides the outcome of this algorithm.

    Attributes:
        features: Numbers F that become of the pictures.
        shift: Most pixels that a picture is moved in each direction; 0 for none.
        hidden: Hidden layer sizes of the velocity field.
        denoising_steps: Euler steps T; flow times are drawn from {0, 1/T, ..., 1}.
    """

    features: int = 64
    shift: int = 4
    hidden: tuple[int, ...] = (256, 256, 256)
    denoising_steps: int = 10

    def __post_init__(self) -> None:
        if self.features < 1 or self.shift < 0:
            raise TrainingError(
                f"features {self.features} and shift {self.shift} were given; there must be 1 feature or more, and a shift "
                "of 0 pixels or more"
            )


class PictureFlow(Algorithm):
    """The encoder and the velocity field that trains it.

    Args:
        config: Its configuration.
        problem: Without critics; the observation is the state alone.
        generator: Of the initial weights.
    """

    config_class = PictureFlowConfig

    def __init__(self, config: PictureFlowConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.config, self.problem = config, problem
        self.encoder = PictureEncoder(problem.pictures, config.features, generator)
        seen = config.features + problem.observation_size
        self.velocity = VelocityNetwork(seen, problem.chunk_size, config.hidden, generator)

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return noise [N, C], flow times t [N] on the grid, and how far to move the pictures of each camera [N, 2].

        Where it does not train, as on held-out data, pictures stay where they are.
        """
        noise = torch.randn(size, self.problem.chunk_size, generator=generator).to(device)
        steps = torch.randint(self.config.denoising_steps + 1, (size,), generator=generator).to(device)
        most = self.config.shift if self.training else 0
        moved = drawn_shifts(self.encoder.cameras, size, most, generator, device)
        return {"noise": noise, "t": steps / self.config.denoising_steps, **moved}

    def losses(self, batch: Batch) -> Losses:
        """Return the flow matching loss behind the encoder."""
        z = self.encoder(all_shifted(batch.pictures, batch.draws), batch.policy_s)
        flow = flow_loss(self.velocity, z, batch.action, batch.draws["noise"], batch.draws["t"])
        return Losses(flow, {"flow": flow})

    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return nothing: a bundle needs a critic, which trains on the features."""
        return {}
