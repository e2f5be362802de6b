"""CFGRL: for each task one velocity field of two conditions, that of all data and that of the data its critic approves of.

The critic chooses and is never climbed: a chunk whose value is above that of its state trains the field conditioned on
o = 1, every chunk that on o = 0, and at test time W scales the difference of the two, as classifier-free guidance does.
Sources: Frans et al. 2025 (arXiv 2505.23458), as Q-Guided Flow, arXiv 2606.11087, compares with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from qgf_ros.learning.algorithms.algorithm import ExportedPolicy, Losses, Problem
from qgf_ros.learning.algorithms.iql_critics import IqlAlgorithm, aggregated
from qgf_ros.learning.algorithms.iql_flow import grid_draws
from qgf_ros.learning.algorithms.networks import EMBEDDING_SIZE, StackedMLP, VelocityNetwork, time_embedding
from qgf_ros.learning.algorithms.options import CfgrlConfig
from qgf_ros.learning.data.chunks import Batch

#: Numbers that a condition is embedded in.
CONDITION_SIZE = 32


class ConditionedStack(nn.Module):
    """A velocity field v(s, a, t, o) for each of several tasks, o being 0 or 1 and embedded.

    Args:
        tasks: Number of tasks K.
        observation_size, chunk_size, hidden, generator: As for `VelocityStack`.
    """

    def __init__(
        self,
        tasks: int,
        observation_size: int,
        chunk_size: int,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self._sizes = observation_size, chunk_size, tuple(hidden)
        self.plain_inputs = observation_size + chunk_size + EMBEDDING_SIZE
        inputs = self.plain_inputs + CONDITION_SIZE
        self.mlp = StackedMLP(tasks, inputs, hidden, chunk_size, norm_last=False, generator=generator)
        scale = 1.0 / math.sqrt(CONDITION_SIZE)
        self.conditions = nn.Parameter(scale * torch.randn(tasks, 2, CONDITION_SIZE, generator=generator))

    def forward(self, s: Tensor, a: Tensor, t: Tensor, condition: int) -> Tensor:
        """Map s [N, S], a [N, C], t [N] to the velocities under one condition [K, N, C]."""
        shared = torch.cat([s, a, time_embedding(t)], dim=-1).expand(self.mlp.members, -1, -1)
        told = self.conditions[:, condition, None].expand(-1, len(a), -1)
        velocity: Tensor = self.mlp(torch.cat([shared, told], dim=-1))
        return velocity

    def member(self, task: int, condition: int) -> VelocityNetwork:
        """Return the velocity field of one task under one condition, which is one without: a constant input is a bias."""
        alone = VelocityNetwork(*self._sizes)
        state = {name.removeprefix("mlp."): value[task : task + 1] for name, value in self.state_dict().items()}
        told = state.pop("conditions")[:, condition]
        weight = state["weights.0"]
        state["biases.0"] = state["biases.0"] + (told[:, None] @ weight[:, self.plain_inputs :])
        state["weights.0"] = weight[:, : self.plain_inputs]
        alone.mlp.load_state_dict(state)
        return alone


class Cfgrl(IqlAlgorithm):
    """Velocity fields under two conditions, and the critics that choose the data of one."""

    config_class = CfgrlConfig

    def __init__(self, config: CfgrlConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.config, self.problem = config, problem
        sizes = problem.observation_size, problem.chunk_size
        self.actor = ConditionedStack(len(problem.critics), *sizes, config.hidden, generator)
        self.add_critics(config, problem, generator)

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return noise [N, C] and flow times t [N] on the grid."""
        return grid_draws(size, self.problem.chunk_size, self.config.denoising_steps, generator, device)

    def losses(self, batch: Batch) -> Losses:
        """Return the imitation of what the critics choose, a part of that of everything, and the losses of the critics.

        Reported are means over tasks: imitation of the chosen data, `chosen_flow` (0 where nothing is chosen), and of all,
        `flow`, both per chunk of the batch, and the share that is `chosen`.
        """
        q = self.data_values(batch)
        critics = self.critic_losses(batch, q)
        with torch.no_grad():
            if (
                batch.policy_s is not batch.s
            ):  # what is chosen is better than usual on the way to the policy's own goals
                q = aggregated(self.target(batch.policy_s, batch.action), self.aggregation)
            chosen = (q > self.value(batch.policy_s)).to(q.dtype)
        noise, t = batch.draws["noise"], batch.draws["t"]
        point, wanted = torch.lerp(noise, batch.action, t[:, None]), batch.action - noise
        errors = [(self.actor(batch.policy_s, point, t, o) - wanted).square().mean(dim=2) for o in (0, 1)]
        flow, chosen_flow = errors[0].mean(dim=1), (chosen * errors[1]).mean(dim=1)
        total = (chosen_flow + self.config.plain_weight * flow).sum() + critics.total
        reported = {"flow": flow.mean(), "chosen_flow": chosen_flow.mean(), "chosen": chosen.mean()}
        return Losses(total, {**reported, **critics.reported})

    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return for each critic, by its name, the field of all data, and that of the chosen data beside it."""
        about = (
            "two velocity fields, of all data and of what the critic chose (CFGRL): guidance_weight 0 is the first, 1 the "
            "second, and more goes beyond"
        )
        steps = self.config.denoising_steps
        plain = self.policies_by_critic(lambda task: self.actor.member(task, 0), steps, about)
        return {
            name: replace(one, filtered=self.actor.member(task, 1)) for task, (name, one) in enumerate(plain.items())
        }
