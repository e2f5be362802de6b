"""Behaviour-cloned flow with IQL critics: one velocity field for all tasks, and implicit Q-learning for each of them.

The velocity field imitates the data and knows no reward. The critics of all tasks train stacked (`algorithms.networks`),
and guidance brings the two together at test time only, so that one velocity field serves every critic.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qgf_ros.bundle.aggregation import deviations
from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms.algorithm import Algorithm, ExportedPolicy, Losses, Problem, StoredConfig
from qgf_ros.learning.algorithms.networks import CriticNetwork, ValueNetwork, VelocityNetwork
from qgf_ros.learning.data.chunks import Batch


@dataclass(frozen=True)
class IqlFlowConfig(StoredConfig):
    """What decides the outcome of this algorithm.

    Attributes:
        hidden: Hidden layer sizes of every network.
        expectile: Of the value regression.
        target_rate: Share of the critic that enters the target critic at each update.
        ensemble: Critics per task E.
        aggregate: How the members of a target critic become the value that V regresses on, and that guides: min, mean, or
            "mean - RHO std"; see `bundle.aggregation`.
        denoising_steps: Euler steps T; flow times are drawn from {0, 1/T, ..., 1}.
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    expectile: float = 0.9
    target_rate: float = 0.005
    ensemble: int = 2
    aggregate: str = "min"
    denoising_steps: int = 10

    def __post_init__(self) -> None:
        counts = ("ensemble", "denoising_steps")
        wrong = [f"{name} {getattr(self, name)}" for name in counts if not 0 < getattr(self, name) < math.inf]
        wrong += [f"hidden {self.hidden}"] if not self.hidden or min(self.hidden) < 1 else []
        wrong += [f"expectile {self.expectile}"] if not 0.0 < self.expectile < 1.0 else []
        wrong += [f"target_rate {self.target_rate}"] if not 0.0 < self.target_rate <= 1.0 else []
        if wrong:
            raise TrainingError(
                f"{', '.join(wrong)} was given; sizes and counts must be positive, target_rate above 0 and at most 1, "
                "expectile between 0 and 1"
            )
        try:
            deviations(self.aggregate)
        except ValueError as error:
            raise TrainingError(str(error)) from None


class IqlFlow(Algorithm):
    """The networks under training and the target critic."""

    config_class = IqlFlowConfig

    def __init__(self, config: IqlFlowConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.config, self.problem = config, problem
        sizes, tasks = (problem.observation_size, problem.chunk_size), len(problem.critics)
        self.velocity = VelocityNetwork(*sizes, config.hidden, generator)
        self.critic = CriticNetwork(tasks, config.ensemble, *sizes, config.hidden, generator)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.value = ValueNetwork(tasks, problem.observation_size, config.hidden, generator)

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return noise [N, C] and flow times t [N] on the grid."""
        noise = torch.randn(size, self.problem.chunk_size, generator=generator).to(device)
        steps = torch.randint(self.config.denoising_steps + 1, (size,), generator=generator).to(device)
        return {"noise": noise, "t": steps / self.config.denoising_steps}

    def losses(self, batch: Batch) -> Losses:
        """Return the sum of the three losses; those of the critics are reported per task."""
        with torch.no_grad():
            wanted = batch.returns + batch.bootstraps * self.value(batch.next_s)
            q = aggregated(self.target(batch.s, batch.action), self.config.aggregate)
        flow = flow_loss(self.velocity, batch.policy_s, batch.action, batch.draws["noise"], batch.draws["t"])
        critic = critic_loss(self.critic, batch.s, batch.action, wanted)
        value = value_loss(self.value, batch.s, q, self.config.expectile)
        count = len(self.problem.critics)
        reported = {"flow": flow, "critic": critic / count, "value": value / count, "q": q.mean()}
        return Losses(flow + critic + value, reported)

    def before_step(self) -> None:
        """Move the target critic. It follows the critic as it was before the step, as in the published code."""
        torch._foreach_lerp_(
            list(self.target.parameters()),
            [parameter.detach() for parameter in self.critic.parameters()],
            self.config.target_rate,
        )

    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return the velocity field with the target critics of all tasks."""
        steps = self.config.denoising_steps
        exported = ExportedPolicy(self.velocity, self.target, self.problem.critics, steps, self.config.aggregate)
        return {"flow": exported}


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
