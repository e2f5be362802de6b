"""Efficient diffusion policy (EDP), in its flow form: an actor per task that imitates and climbs its critic in one loss.

The critic is asked at the end of the flow as one step foresees it, so that an update costs one step of the flow. At its
optimum the actor is the behaviour-cloned velocity plus C (1 - t) / (2 w) dQ/da at that end: guidance that was paid for in
training, at a weight that is fixed there. Sources: Kang et al. 2023 (arXiv 2305.20081) for the idea, on denoising
diffusion; Q-Guided Flow, arXiv 2606.11087, for this form.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from qgf_ros.learning.algorithms.algorithm import ExportedPolicy, Losses, Problem
from qgf_ros.learning.algorithms.iql_critics import IqlAlgorithm, aggregated
from qgf_ros.learning.algorithms.iql_flow import flow_errors, grid_draws
from qgf_ros.learning.algorithms.networks import VelocityStack
from qgf_ros.learning.algorithms.options import EdpConfig
from qgf_ros.learning.data.chunks import Batch


class Edp(IqlAlgorithm):
    """Actors, one per task, and their critics."""

    config_class = EdpConfig

    def __init__(self, config: EdpConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.config, self.problem = config, problem
        sizes = problem.observation_size, problem.chunk_size
        self.actor = VelocityStack(len(problem.critics), *sizes, config.hidden, generator)
        self.add_critics(config, problem, generator)

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return noise [N, C] and flow times t [N] on the grid."""
        return grid_draws(size, self.problem.chunk_size, self.config.denoising_steps, generator, device)

    def losses(self, batch: Batch) -> Losses:
        """Return w times imitation less the critic's value, summed over tasks, and the losses of the critics.

        Reported are the mean over tasks of imitation, `flow`, and of the value of the foreseen chunks, `actor_q`.
        """
        critics = self.critic_losses(batch)
        noise, t = batch.draws["noise"], batch.draws["t"]
        flow, v = flow_errors(self.actor, batch.policy_s, batch.action, noise, t)
        q = foreseen_values(self, batch.policy_s, torch.lerp(noise, batch.action, t[:, None]), t, v)
        actor = (self.config.bc_weight * flow - q).sum()
        return Losses(actor + critics.total, {"flow": flow.mean(), "actor_q": q.mean(), **critics.reported})

    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return each actor with its target critic, by the name of this; weight 0 is the actor itself."""
        about = "velocity field that was trained to climb its critic (EDP); guidance_weight 0 is the policy"
        return self.policies_by_critic(self.actor.member, self.config.denoising_steps, about)


def foreseen_values(critics: IqlAlgorithm, s: Tensor, point: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """Return the mean value of each task at the chunks that one step foresees, clip(x + (1 - t) v, -1, 1).

    The gradient goes through the clip and v, where it moved nothing; the target critics are constants.

    Args:
        critics: Which has the target critics.
        s: [N, S].
        point: Noised chunks x [N, C].
        t: [N].
        v: Velocities there [K, N, C].

    Returns:
        [K].
    """
    ahead = (point + (1.0 - t)[:, None] * v).clamp(-1.0, 1.0)
    return aggregated(critics.target(s, ahead), critics.aggregation).mean(dim=1)
