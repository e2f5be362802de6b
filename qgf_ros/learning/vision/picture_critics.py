"""Critics that see through an encoder of their own, which their loss trains end to end, beside a policy that has learnt.

As critics have targets, so has their encoder. The value regresses on what the target critics say, and sees what these see:

    pictures, state ─> critic_encoder ─> z ─> critic          squared Bellman error, which trains both
                    ─> target_encoder ─> z ─> target, value   they follow; expectile regression, which trains the value

One encoder serves the critics of all tasks: what is to be seen is the same for each, and convolutions are nearly all the
cost of an update, which would be paid for every task. It begins as the policy's, which has learnt to look for most of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qgf_ros.learning.algorithms.algorithm import Losses, Problem
from qgf_ros.learning.algorithms.iql_critics import aggregated, critic_loss, value_loss
from qgf_ros.learning.algorithms.iql_flow import IqlFlow
from qgf_ros.learning.algorithms.options import IqlFlowConfig
from qgf_ros.learning.data.chunks import Batch
from qgf_ros.learning.vision.encoder import PictureEncoder, all_shifted, drawn_shifts
from qgf_ros.learning.vision.picture_flow import PictureFlowConfig

#: Its encoders, as a checkpoint names them; the second is the one that is exported, beside the target critics.
TRAINED, FOLLOWING = "critic_encoder", "target_encoder"


@dataclass(frozen=True)
class PictureCriticConfig(IqlFlowConfig):
    """What decides the outcome of these critics, beside what decides that of others.

    Attributes:
        features: Numbers F that become of the pictures, as many as for the policy.
        shift: Most pixels that a picture is moved in each direction; 0 for none.
    """

    features: int = 64
    shift: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        PictureFlowConfig(self.features, self.shift)


class PictureCritics(IqlFlow):
    """Critics with an encoder, and the velocity field, which stays as it is.

    Args:
        config: Its configuration.
        problem: With pictures; the observation is the state alone.
        generator: Of the initial weights.
    """

    config_class = PictureCriticConfig

    def __init__(self, config: PictureCriticConfig, problem: Problem, generator: torch.Generator) -> None:
        seen = replace(problem, observation_size=config.features + problem.observation_size)
        super().__init__(config, seen, generator)
        self.velocity.requires_grad_(False)
        self.critic_encoder = PictureEncoder(problem.pictures, config.features, generator)
        self.target_encoder = copy.deepcopy(self.critic_encoder).requires_grad_(False)
        self._shift = config.shift

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return how far to move the pictures of each camera [N, 2], before and after the chunk alike; not to validate."""
        most = self._shift if self.training else 0
        return drawn_shifts(self.critic_encoder.cameras, size, most, generator, device)

    def losses(self, batch: Batch) -> Losses:
        """Return the losses of the critics, per task in what is reported."""
        now = all_shifted(batch.pictures, batch.draws)
        z = self.critic_encoder(now, batch.s)
        with torch.no_grad():
            seen = self.target_encoder(now, batch.s)
            ahead = self.target_encoder(all_shifted(batch.next_pictures, batch.draws), batch.next_s)
            q = aggregated(self.target(seen, batch.action), self.aggregation)
            wanted = batch.returns + batch.bootstraps * self.value(ahead)
        critic = critic_loss(self.critic, z, batch.action, wanted)
        value = value_loss(self.value, seen, q, self.config.expectile)
        count = len(q)
        return Losses(critic + value, {"critic": critic / count, "value": value / count, "q": q.mean()})

    def before_step(self) -> None:
        """Move the target critics, and at the same rate what they see through."""
        super().before_step()
        torch._foreach_lerp_(
            list(self.target_encoder.parameters()),
            [parameter.detach() for parameter in self.critic_encoder.parameters()],
            self.config.target_rate,
        )


def begun_as(encoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return both encoders of the critics at their beginning, tensors by name, of those of the policy's."""
    return {f"{name}.{key}": value for name in (TRAINED, FOLLOWING) for key, value in encoder.items()}
