"""Critics that see through an encoder of their own, which their loss trains end to end, beside the policy's that has learnt.

As critics have targets, so has their encoder. The value regresses on what the target critics say, and sees what these see:

    pictures, state ─> critic_encoder ─> z ─> critic          squared Bellman error, which trains both
                    ─> target_encoder ─> z ─> target, value   they follow; expectile regression, which trains the value

One encoder serves the critics of all tasks: what is to be seen is the same for each, and convolutions are nearly all the
cost of an update, which would be paid for every task. It begins as the policy's, which has learnt to look for most of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

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
        problem: With pictures; the observation is z, as the policy sees, features and behind them the state.
        generator: Of the initial weights.
    """

    config_class = PictureCriticConfig

    def __init__(self, config: PictureCriticConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.critic_encoder = PictureEncoder(problem.pictures, config.features, generator)
        self.target_encoder = copy.deepcopy(self.critic_encoder).requires_grad_(False)
        self._shown = config.features, config.shift

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return what the velocity field wants, and how far to move the pictures of each camera [N, 2].

        Those before and after the chunk are moved alike; to validate, none is.
        """
        most = self._shown[1] if self.training else 0
        moved = drawn_shifts(self.critic_encoder.cameras, size, most, generator, device)
        return {**super().draw(size, generator, device), **moved}

    def losses(self, batch: Batch) -> Losses:
        """Return the sum of the three losses; those of the critics are reported per task."""
        now, state = all_shifted(batch.pictures, batch.draws), batch.s[:, self._shown[0] :]
        z = self.critic_encoder(now, state)
        with torch.no_grad():
            seen = self.target_encoder(now, state)
            later = all_shifted(batch.next_pictures, batch.draws)
            ahead = self.target_encoder(later, batch.next_s[:, self._shown[0] :])
            q = aggregated(self.target(seen, batch.action), self.aggregation)
            wanted = batch.returns + batch.bootstraps * self.value(ahead)
        critic = critic_loss(self.critic, z, batch.action, wanted)
        value = value_loss(self.value, seen, q, self.config.expectile)
        flow, count = self.imitation_loss(batch), len(q)
        told = {"flow": flow, "critic": critic / count, "value": value / count, "q": q.mean()}
        return Losses(flow + critic + value, told)

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
