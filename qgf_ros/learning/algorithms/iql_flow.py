"""Behaviour-cloned flow with IQL critics: one velocity field for all tasks, and implicit Q-learning for each of them.

The velocity field imitates the data and knows no reward. The critics of all tasks train stacked (`algorithms.networks`),
and guidance brings the two together at test time only, so that one velocity field serves every critic.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from qgf_ros.learning.algorithms.algorithm import ExportedPolicy, Losses, Problem
from qgf_ros.learning.algorithms.iql_critics import IqlAlgorithm
from qgf_ros.learning.algorithms.networks import VelocityNetwork, VelocityStack
from qgf_ros.learning.algorithms.options import IqlFlowConfig
from qgf_ros.learning.data.chunks import Batch


class IqlFlow(IqlAlgorithm):
    """The networks under training and the target critic."""

    config_class = IqlFlowConfig

    def __init__(self, config: IqlFlowConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.config, self.problem = config, problem
        self.velocity = VelocityNetwork(problem.observation_size, problem.chunk_size, config.hidden, generator)
        self.add_critics(config, problem, generator)

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return noise [N, C] and flow times t [N] on the grid."""
        return grid_draws(size, self.problem.chunk_size, self.config.denoising_steps, generator, device)

    def losses(self, batch: Batch) -> Losses:
        """Return the sum of the three losses; those of the critics are reported per task."""
        critics = self.critic_losses(batch)
        flow = self.imitation_loss(batch)
        return Losses(flow + critics.total, {"flow": flow, **critics.reported})

    def imitation_loss(self, batch: Batch) -> Tensor:
        """Return the flow matching loss of a batch."""
        return flow_loss(self.velocity, batch.policy_s, batch.action, batch.draws["noise"], batch.draws["t"])

    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return the velocity field with the target critics of all tasks."""
        steps = self.config.denoising_steps
        about = "one behaviour-cloned velocity field for every critic"
        return {
            "flow": ExportedPolicy(self.velocity, self.target, self.problem.critics, steps, self.aggregation, about)
        }


def grid_draws(
    size: int, chunk_size: int, steps: int, generator: torch.Generator, device: torch.device
) -> dict[str, Tensor]:
    """Return noise [N, C] and flow times t [N] from {0, 1/T, ..., 1}, by the names `noise` and `t`.

    Args:
        size: Chunks in the batch N.
        chunk_size: C.
        steps: Euler steps T.
        generator: Of the run, on the processor.
        device: Where the tensors are wanted.
    """
    noise = torch.randn(size, chunk_size, generator=generator).to(device)
    times = torch.randint(steps + 1, (size,), generator=generator).to(device)
    return {"noise": noise, "t": times / steps}


def flow_errors(velocity: VelocityStack, s: Tensor, action: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the flow matching loss of each of several velocity fields on the same chunks, and their velocities.

    Args:
        velocity: The K velocity fields.
        s, action, noise, t: As for `flow_loss`.

    Returns:
        Mean squared velocity errors [K], and the velocities [K, N, C] at the points of the straight path.
    """
    v = velocity(s, torch.lerp(noise, action, t[:, None]), t)
    return (v - (action - noise)).square().mean(dim=(1, 2)), v


def flow_loss(velocity: VelocityNetwork, s: Tensor, action: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return the flow matching loss of a straight path from noise (t = 0) to action (t = 1).

    Args:
        velocity: The velocity field.
        s: Observations [N, S].
        action: Flattened action chunks [N, C], in [-1, 1].
        noise: [N, C], standard normal.
        t: [N], in [0, 1].

    Returns:
        Mean squared velocity error, a scalar (Lipman et al. 2023, rectified form).
    """
    column = t[:, None]
    point = torch.lerp(noise, action, column)
    loss: Tensor = (velocity(s, point, t) - (action - noise)).square().mean()
    return loss
