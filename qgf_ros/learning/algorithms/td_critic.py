"""Temporal-difference critics: a target of the value of an action that some policy takes after the chunk, and no V.

    y = R + g^H m agg_e Qbar_e(s', a'),   L_Q = mean_{N, E} (Q_e(s, a) - y)^2

``sarsa`` takes a' from the flow that imitates the data, which values the data's own way to act; ``best_of_n`` takes of
several such actions the one that the online critic values highest, and the target critic says its value; ``actor``
takes the action of the policy that is being trained. Where the chunk met success m is 0, and nothing follows. ``iql``
is no such target, and stands beside them so that an actor can be trained with critics of either kind.

`TdFlow` has such critics beside the velocity field of `iql_flow`, and trains no actor.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from qgf_ros.learning.algorithms.algorithm import ExportedPolicy, Losses, Problem
from qgf_ros.learning.algorithms.iql_critics import IqlAlgorithm, aggregated, critic_loss
from qgf_ros.learning.algorithms.iql_flow import flow_loss, grid_draws
from qgf_ros.learning.algorithms.networks import CriticNetwork, VelocityNetwork
from qgf_ros.learning.algorithms.options import ACTOR, BEST_OF_N, IQL, CandidateOptions, TdConfig, TdFlowConfig
from qgf_ros.learning.algorithms.sampling import Ensemble, Field, euler
from qgf_ros.learning.data.chunks import Batch


class TdAlgorithm(IqlAlgorithm, ABC):
    """An algorithm whose critics learn by IQL or by temporal differences, as its option `backup` says, or are taken.

    Taken critics may be of either kind, as only their target is asked.
    """

    critic_networks: ClassVar[tuple[str, ...]] = ("target",)
    config: TdConfig

    def add_critics(self, config: TdConfig, problem: Problem, generator: torch.Generator) -> None:  # type: ignore[override]
        """See `IqlAlgorithm`; there is a V only where it is trained."""
        super().add_critics(config, problem, generator)
        self._backup = config.backup
        if self._taken or self._backup != IQL:
            del self.value

    @property
    def online(self) -> CriticNetwork:
        """The critic as it was trained last; the target where it is another run's."""
        return self.target if self._taken else self.critic

    @property
    def _bootstraps(self) -> bool:
        return not self._taken and self._backup != IQL

    def behaviour(self, s: Tensor, a: Tensor, t: Tensor) -> Tensor:
        """Return velocities [N, C] of the flow that imitates the data."""
        raise NotImplementedError("an algorithm that imitates by no flow is not asked for sarsa or best_of_n")

    def act(self, s: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Return the policy's actions [K, N, C], in [-1, 1], for what was drawn for a' (`critic_draws`)."""
        raise NotImplementedError("an algorithm without an actor is not asked for actor")

    def critic_draws(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return the noises of a', M for each chunk, by the name `next_noise` [M, N, C]; nothing where there is no a'."""
        if not self._bootstraps:
            return {}
        config = self.config
        count = config.candidates if self._backup == BEST_OF_N and isinstance(config, CandidateOptions) else 1
        noise = torch.randn(count, size, self.problem.chunk_size, generator=generator)
        return {"next_noise": noise.to(device)}

    def critic_losses(self, batch: Batch, q: Tensor | None = None) -> Losses:
        """See `IqlAlgorithm`."""
        if not self._bootstraps:
            return super().critic_losses(batch, q)
        q = self.data_values(batch) if q is None else q
        next_a = self._next_actions(batch)
        wanted = td_target(self.target, batch.next_s, next_a, batch.returns, batch.bootstraps, self.aggregation)
        critic = critic_loss(self.critic, batch.s, batch.action, wanted)
        return Losses(critic, {"critic": critic / len(q), "q": q.mean()})

    def _next_actions(self, batch: Batch) -> Tensor:
        if self._backup == ACTOR:
            with torch.no_grad():
                return self.act(batch.next_s, batch.draws)
        steps = self.config.denoising_steps
        candidates = behaviour_actions(self.behaviour, batch.next_s, batch.draws["next_noise"], steps)
        if self._backup == BEST_OF_N:
            return best_actions(self.critic, batch.next_s, candidates)
        return candidates[0]


class TdFlow(TdAlgorithm):
    """A velocity field for all tasks, as in `iql_flow`, and critics of what it does, or of the best of several of its actions."""

    config_class = TdFlowConfig

    def __init__(self, config: TdFlowConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.config, self.problem = config, problem
        self.velocity = VelocityNetwork(problem.observation_size, problem.chunk_size, config.hidden, generator)
        self.add_critics(config, problem, generator)

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return noise [N, C] and flow times t [N] on the grid, and the noises of the actions after the chunk."""
        draws = grid_draws(size, self.problem.chunk_size, self.config.denoising_steps, generator, device)
        return {**draws, **self.critic_draws(size, generator, device)}

    def behaviour(self, s: Tensor, a: Tensor, t: Tensor) -> Tensor:
        """See `TdAlgorithm`."""
        velocity: Tensor = self.velocity(s, a, t)
        return velocity

    def losses(self, batch: Batch) -> Losses:
        """Return the sum of the losses; those of the critics are reported per task."""
        critics = self.critic_losses(batch)
        flow = flow_loss(self.velocity, batch.policy_s, batch.action, batch.draws["noise"], batch.draws["t"])
        return Losses(flow + critics.total, {"flow": flow, **critics.reported})

    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return the velocity field with the target critics of all tasks."""
        return {"flow": imitating_policy(self, self.velocity)}


def imitating_policy(algorithm: TdAlgorithm, velocity: VelocityNetwork) -> ExportedPolicy:
    """Return the flow that imitates the data with the critics of all tasks: unguided BC, and QGF with these critics."""
    return ExportedPolicy(
        velocity,
        algorithm.target,
        algorithm.problem.critics,
        algorithm.config.denoising_steps,
        algorithm.aggregation,
        "one behaviour-cloned velocity field for every critic",
    )


def raw_draws(size: int, chunk_size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """Return noise [N, C] and flow times t [N], uniform in [0, 1), by the names `noise` and `t`."""
    noise = torch.randn(size, chunk_size, generator=generator)
    return {"noise": noise.to(device), "t": torch.rand(size, generator=generator).to(device)}


def td_target(
    target: Ensemble, next_s: Tensor, next_a: Tensor, returns: Tensor, bootstraps: Tensor, aggregation: str
) -> Tensor:
    """Return what a critic regresses on, a constant.

    Args:
        target: The target critic, of K tasks.
        next_s: Observations after the chunk [N, S].
        next_a: Actions there, in [-1, 1]: [K, N, C], or [N, C] for all tasks.
        returns, bootstraps: n-step return, and discounted mask, per task [K, N].
        aggregation: How the members of the target become one value, see `bundle.aggregation`.

    Returns:
        [K, N].
    """
    with torch.no_grad():
        return returns + bootstraps * aggregated(target(next_s, next_a), aggregation)


def behaviour_actions(flow: Field, s: Tensor, noise: Tensor, steps: int) -> Tensor:
    """Return actions of the imitating flow, in [-1, 1], a constant.

    Args:
        flow: The velocity field.
        s: [N, S].
        noise: M noises for each observation [M, N, C].
        steps: Euler steps T.

    Returns:
        [M, N, C].
    """
    count = len(noise)
    with torch.no_grad():
        end = euler(flow, s.repeat(count, 1), noise.flatten(0, 1), steps)
        return end.clamp(-1.0, 1.0).view(noise.shape)


def best_actions(critic: Ensemble, s: Tensor, candidates: Tensor) -> Tensor:
    """Return for each task the candidates that the mean of its members values highest; the first wins a tie.

    Args:
        critic: The online critic, of K tasks.
        s: [N, S].
        candidates: [M, N, C].

    Returns:
        [K, N, C].
    """
    count, rows, size = candidates.shape
    with torch.no_grad():
        q = critic(s.repeat(count, 1), candidates.flatten(0, 1)).mean(dim=1).view(-1, count, rows)
        best = q.argmax(dim=1)  # of [K, M, N]
        return candidates.gather(0, best[..., None].expand(-1, -1, size))
