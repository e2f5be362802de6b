"""Flow Q-learning (FQL): a flow imitates the data, and an actor of one step is held to it while it climbs the critic.

    L = L_BC(v)  +  alpha mean_{N, C} (mu(s, z) - clip(Phi(z)))^2  -  mean_{N, E} Q_e(s, clip(mu(s, z)))

The same noise z enters the actor mu and the flow's Euler integral Phi, which is a constant; so are the critic's
parameters. Distillation averages over the chunk, so that alpha depends on its size. Source: Flow Q-Learning,
arXiv 2502.02538, with chunks and an IQL critic as in the comparison of Q-Guided Flow, arXiv 2606.11087.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from qgf_ros.learning.algorithms.actors import OneStepFlow, OneStepNetwork
from qgf_ros.learning.algorithms.algorithm import ExportedPolicy, Losses, Problem
from qgf_ros.learning.algorithms.iql_flow import flow_loss
from qgf_ros.learning.algorithms.networks import VelocityNetwork
from qgf_ros.learning.algorithms.options import FqlConfig
from qgf_ros.learning.algorithms.sampling import held
from qgf_ros.learning.algorithms.td_critic import TdAlgorithm, behaviour_actions, imitating_policy, raw_draws
from qgf_ros.learning.data.chunks import Batch


class Fql(TdAlgorithm):
    """The imitating flow, shared by all tasks, an actor of one step for each, and the critics."""

    config_class = FqlConfig

    def __init__(self, config: FqlConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.config, self.problem = config, problem
        self._weight, self._normalise = config.distillation_weight, config.normalise_q
        sizes = problem.observation_size, problem.chunk_size, config.hidden, generator
        self.velocity = VelocityNetwork(*sizes, norm=False, sinusoidal=False)
        self.actor = OneStepNetwork(len(problem.critics), *sizes)
        self.add_critics(config, problem, generator)

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return noise and flow times of the flow, noise z [N, C] of actor and teacher, and that of the actions after."""
        draws = raw_draws(size, self.problem.chunk_size, generator, device)
        z = torch.randn(size, self.problem.chunk_size, generator=generator).to(device)
        return {**draws, "z": z, **self.critic_draws(size, generator, device)}

    def behaviour(self, s: Tensor, a: Tensor, t: Tensor) -> Tensor:
        """See `TdAlgorithm`."""
        velocity: Tensor = self.velocity(s, a, t)
        return velocity

    def act(self, s: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """See `TdAlgorithm`."""
        actions: Tensor = self.actor(s, draws["next_noise"][0])
        return actions.clamp(-1.0, 1.0)

    def losses(self, batch: Batch) -> Losses:
        """Return the sum of the losses; those of critics and actors are reported per task."""
        critics = self.critic_losses(batch)
        s, z = batch.policy_s, batch.draws["z"]
        flow = flow_loss(self.velocity, s, batch.action, batch.draws["noise"], batch.draws["t"])
        teacher = behaviour_actions(self.behaviour, s, z[None], self.config.denoising_steps)[0]
        actions = self.actor(s, z)
        distillation = distillation_loss(actions, teacher)
        climbing = climbing_loss(held(self.online)(s, actions.clamp(-1.0, 1.0)), normalise=self._normalise)
        count = len(self.problem.critics)
        reported = {"flow": flow, "distillation": distillation / count, "climbing": climbing / count}
        total = flow + self._weight * distillation + climbing + critics.total
        return Losses(total, {**reported, **critics.reported})

    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return the actor of each task, by the name of its critic, and the imitating flow with all critics."""
        actors = self.policies_by_critic(
            lambda task: OneStepFlow(self.actor.member(task)),
            1,
            "a one-step actor trained for {name} alone; the task is in its weights, and it needs no guidance",
        )
        return {**actors, "flow": imitating_policy(self, self.velocity)}


def distillation_loss(actions: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared distance of the actors from the flow, summed over tasks.

    Args:
        actions: mu(s, z), not clipped [K, N, C].
        teacher: clip(Phi(z)) for the same noises z, a constant [N, C].
    """
    loss: Tensor = (actions - teacher).square().mean(dim=(1, 2)).sum()
    return loss


def climbing_loss(q: Tensor, *, normalise: bool = False) -> Tensor:
    """Return minus the value of the actors' actions, averaged over ensemble and batch and summed over tasks.

    Args:
        q: Of the online critic at clip(mu(s, z)) [K, E, N].
        normalise: Divide each task's loss by the mean size of its values, a constant; a value is the mean of its members.
    """
    losses = -q.mean(dim=(1, 2))
    if normalise:
        losses = losses / q.detach().mean(dim=1).abs().mean(dim=1)
    return losses.sum()
