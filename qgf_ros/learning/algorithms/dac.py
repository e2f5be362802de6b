"""Diffusion actor-critic (DAC): a diffusion model of the data whose noise prediction is pulled along the critic.

    a_k = sqrt(abar_k) a + sqrt(1 - abar_k) n,   G = d/da mean_e Qbar_e(s, a) at a_k
    L = alpha mean (eps - n)^2  +  mean_{N, C} sqrt(1 - abar_k) G eps

has its minimum at eps = E[n | a_k] - sqrt(1 - abar_k) G / (2 alpha): the score -eps / sqrt(1 - abar_k) gains
+G / (2 alpha). That is the estimator `noisy` of `guidance.estimators`, trained into the policy: the critic is asked
about noised actions. Q-score matching (QSM) asks it likewise: alpha mean (eps - n)^2 + mean (eps + lambda G)^2.

As in `qam`, the gradient of every network of every task is clipped to norm 1 by itself, where the published code has
one norm for actor and critics. Sources: arXiv 2405.20555 (DAC), arXiv 2312.11752 (QSM).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from qgf_ros.learning.algorithms.actors import DiffusionFlow, NoiseNetwork
from qgf_ros.learning.algorithms.algorithm import ExportedPolicy, Losses, Problem
from qgf_ros.learning.algorithms.options import DacConfig, QsmConfig
from qgf_ros.learning.algorithms.sampling import (
    action_gradient,
    ancestral_action,
    clip_gradients,
    diffusion_schedule,
    noised,
)
from qgf_ros.learning.algorithms.td_critic import TdAlgorithm
from qgf_ros.learning.data.chunks import Batch

#: Norm to which gradients are clipped.
LARGEST_NORM = 1.0


class Dac(TdAlgorithm):
    """A noise predictor for each task, and the critics."""

    config_class = DacConfig

    def __init__(self, config: DacConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.config, self.problem = config, problem
        self._weight, self._schedule = config.bc_weight, diffusion_schedule(config.denoising_steps)
        sizes = problem.observation_size, problem.chunk_size, config.hidden, generator
        self.predictor = NoiseNetwork(len(problem.critics), *sizes)
        self.add_critics(config, problem, generator)

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return noises n [N, C] and steps k [N] of 1 to K, and all noises of the actions after the chunk."""
        chunk, steps = self.problem.chunk_size, self.config.denoising_steps
        noise = torch.randn(size, chunk, generator=generator).to(device)
        k = torch.randint(1, steps + 1, (size,), generator=generator).to(device)
        draws = {"noise": noise, "k": k, **self.critic_draws(size, generator, device)}
        if "next_noise" in draws:
            draws["next_steps_noise"] = torch.randn(steps - 1, size, chunk, generator=generator).to(device)
        return draws

    def act(self, s: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """See `TdAlgorithm`; by the ancestral sampler."""
        noise = draws["next_noise"].expand(len(self.problem.critics), -1, -1)
        return ancestral_action(self.predictor, self._schedule, s, noise, draws["next_steps_noise"])

    def losses(self, batch: Batch) -> Losses:
        """Return the sum of the losses; those of critics and policies are reported per task."""
        critics = self.critic_losses(batch)
        s, noise, k = batch.policy_s, batch.draws["noise"], batch.draws["k"]
        signal = noise.new_tensor(self._schedule.signal)[k]
        point = noised(batch.action, noise, signal).expand(len(self.problem.critics), -1, -1)
        gradient = action_gradient(self.target, s, point)
        diffusion = self._loss(self.predictor(s, point, k.to(noise)), noise, gradient, signal)
        reported = {"diffusion": diffusion / len(self.problem.critics), **critics.reported}
        return Losses(diffusion + critics.total, reported)

    def _loss(self, predicted: Tensor, noise: Tensor, gradient: Tensor, signal: Tensor) -> Tensor:
        return dac_loss(predicted, noise, gradient, signal, self._weight)

    def before_step(self) -> None:
        """Clip the gradient of each network of each task, and move the target critic."""
        for network in self.children():
            clip_gradients(network, len(self.problem.critics), LARGEST_NORM)
        super().before_step()

    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return the policy of each task, by the name of its critic."""
        steps = self.config.denoising_steps
        return self.policies_by_critic(
            lambda task: DiffusionFlow(self.predictor.member(task), steps),
            steps,
            "a diffusion model trained for {name} alone, as the flow of its deterministic sampler; the task is in its "
            "weights, and it takes no guidance",
        )


class Qsm(Dac):
    """The same networks with the loss of Q-score matching."""

    config_class = QsmConfig

    def __init__(self, config: QsmConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self._inverse_temperature = config.inverse_temperature

    def _loss(self, predicted: Tensor, noise: Tensor, gradient: Tensor, signal: Tensor) -> Tensor:
        return qsm_loss(predicted, noise, gradient, self._weight, self._inverse_temperature)


def dac_loss(predicted: Tensor, noise: Tensor, gradient: Tensor, signal: Tensor, weight: float) -> Tensor:
    """Return the loss of DAC, summed over tasks.

    Args:
        predicted: eps(s, a_k, k) [K, N, C], the first axis that of tasks.
        noise: n [N, C].
        gradient: G, a constant [K, N, C].
        signal: abar_k [N].
        weight: alpha, of the imitation.
    """
    pull = (1.0 - signal).sqrt()[:, None] * gradient * predicted
    loss: Tensor = (weight * (predicted - noise).square() + pull).mean(dim=(1, 2)).sum()
    return loss


def qsm_loss(predicted: Tensor, noise: Tensor, gradient: Tensor, weight: float, inverse_temperature: float) -> Tensor:
    """Return the loss of QSM, summed over tasks; arguments as for `dac_loss`, lambda beside them."""
    pull = (predicted + inverse_temperature * gradient).square()
    loss: Tensor = (weight * (predicted - noise).square() + pull).mean(dim=(1, 2)).sum()
    return loss
