"""IQL critics of every task, stacked, for the algorithms that train beside them, or against those of another run.

Implicit Q-learning (Kostrikov et al. 2022) values the data's own actions, whatever the policy: so one set of critics
serves every actor, and an actor may come later than they do.
"""

from __future__ import annotations

import copy
from abc import ABC
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from qgf_ros.bundle.aggregation import deviations
from qgf_ros.learning.algorithms.algorithm import Algorithm, ExportedPolicy, ExportedVelocity, Losses, Problem
from qgf_ros.learning.algorithms.networks import CriticNetwork, ValueNetwork
from qgf_ros.learning.algorithms.options import IqlFlowConfig
from qgf_ros.learning.data.chunks import Batch


class IqlAlgorithm(Algorithm, ABC):
    """An algorithm whose critics learn by IQL, or have learnt so in another run.

    Attributes:
        critic: What is trained; there is none where the critics are another run's.
        target: The target critics, which follow it, or are taken.
        value: V, trained or taken.
        aggregation: How the members of a target critic become the value that V regresses on, and that guides.
    """

    critic_networks: ClassVar[tuple[str, ...]] = ("target", "value")
    problem: Problem

    def add_critics(self, config: IqlFlowConfig, problem: Problem, generator: torch.Generator) -> None:
        """Make the critics; an algorithm calls this once, behind its own networks, so that these come first."""
        taken, tasks = problem.taken, len(problem.critics)
        sizes = problem.observation_size, problem.chunk_size
        hidden = config.critic_sizes if taken is None else taken.hidden
        self.aggregation = (taken or config).aggregate
        self._rates = config.expectile, config.target_rate
        critic = CriticNetwork(tasks, (taken or config).ensemble, *sizes, hidden, generator)
        if taken is None:
            self.critic = critic
        self.target = copy.deepcopy(critic).requires_grad_(False)
        self.value = ValueNetwork(tasks, problem.observation_size, hidden, generator).requires_grad_(taken is None)
        self._taken = taken is not None

    def data_values(self, batch: Batch) -> Tensor:
        """Return what the target critics say of the data's own chunks [K, N], without gradient."""
        with torch.no_grad():
            return aggregated(self.target(batch.s, batch.action), self.aggregation)

    def critic_losses(self, batch: Batch, q: Tensor | None = None) -> Losses:
        """Return the losses of the critics, per task in what is reported; critics that are taken have none.

        Args:
            batch: The chunks.
            q: Their `data_values`, where they are known already.
        """
        if self._taken:
            return Losses(batch.s.new_zeros(()), {})
        with torch.no_grad():
            wanted = batch.returns + batch.bootstraps * self.value(batch.next_s)
        q = self.data_values(batch) if q is None else q
        critic = critic_loss(self.critic, batch.s, batch.action, wanted)
        value = value_loss(self.value, batch.s, q, self._rates[0])
        count = len(q)
        return Losses(critic + value, {"critic": critic / count, "value": value / count, "q": q.mean()})

    def policies_by_critic(
        self, velocity: Callable[[int], ExportedVelocity], steps: int, about: str
    ) -> dict[str, ExportedPolicy]:
        """Return a policy for each task, guided by the target critic of that alone, by its name.

        Args:
            velocity: Returns the velocity field of a task, counted from 0, or what is one in a bundle.
            steps: Euler steps T.
            about: What it is, for people; "{name}" stands for the critic's.
        """
        return {
            name: ExportedPolicy(
                velocity(task), self.target.task(task), (name,), steps, self.aggregation, about.format(name=name)
            )
            for task, name in enumerate(self.problem.critics)
        }

    def before_step(self) -> None:
        """Move the target critic. It follows the critic as it was before the step, as in the published code."""
        if self._taken:
            return
        torch._foreach_lerp_(
            list(self.target.parameters()),
            [parameter.detach() for parameter in self.critic.parameters()],
            self._rates[1],
        )


def aggregated(q: Tensor, aggregation: str) -> Tensor:
    """Return one value of those of every member, as `bundle.aggregation.aggregate` does.

    Args:
        q: [K, E, N].
        aggregation: One of its forms.

    Returns:
        [K, N].
    """
    rho = deviations(aggregation)
    if rho is None:
        return q.amin(dim=1)
    mean = q.mean(dim=1)
    return mean - rho * q.std(dim=1, correction=0) if rho else mean


def critic_loss(critic: CriticNetwork, s: Tensor, action: Tensor, target: Tensor) -> Tensor:
    """Return the squared Bellman error, summed over tasks, averaged over ensemble and batch.

    Args:
        critic: The critics being trained.
        s: [N, S].
        action: [N, C].
        target: n-step return plus bootstrapped value [K, N].
    """
    loss: Tensor = (critic(s, action) - target[:, None]).square().mean(dim=(1, 2)).sum()
    return loss


def value_loss(value: ValueNetwork, s: Tensor, q: Tensor, expectile: float) -> Tensor:
    """Return the expectile regression of V onto Q, summed over tasks (Kostrikov et al. 2022, eq. 5).

    Args:
        value: The value networks being trained.
        s: [N, S].
        q: Values of the data set's actions under the target critic [K, N].
        expectile: In (0.5, 1) to lean towards the best actions in the data.
    """
    advantage = q - value(s)
    weight = torch.where(advantage >= 0.0, expectile, 1.0 - expectile)
    loss: Tensor = (weight * advantage.square()).mean(dim=1).sum()
    return loss
