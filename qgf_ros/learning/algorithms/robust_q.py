"""RobustQ: beside behaviour cloning and its critics, a critic of noised chunks for each task, to be climbed while denoising.

It regresses on the target critic's value of the data's own chunk, given the chunk noised, so that at its optimum it is the
value expected of the finished action, E[Q(s, a) | s, a_t], and asked of nothing that it was not trained on. Source: the
baseline of that name in Q-Guided Flow, arXiv 2606.11087.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from qgf_ros.learning.algorithms.algorithm import ExportedPolicy, Losses, Problem
from qgf_ros.learning.algorithms.iql_flow import IqlFlow
from qgf_ros.learning.algorithms.networks import EMBEDDING_SIZE, StackedMLP, time_embedding
from qgf_ros.learning.algorithms.options import RobustQConfig
from qgf_ros.learning.data.chunks import Batch


class RobustQ(IqlFlow):
    """What `IqlFlow` trains, and the critics of noised chunks."""

    config_class = RobustQConfig

    def __init__(self, config: RobustQConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        inputs = problem.observation_size + problem.chunk_size + EMBEDDING_SIZE
        self.robust = StackedMLP(
            len(problem.critics), inputs, config.critic_sizes, 1, norm_last=True, generator=generator
        )

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return what `IqlFlow` draws, and noise [N, C] and times [N] in [0, 1) for the critics of noised chunks."""
        drawn = super().draw(size, generator, device)
        noise = torch.randn(size, self.problem.chunk_size, generator=generator)
        return {**drawn, "robust_noise": noise.to(device), "robust_t": torch.rand(size, generator=generator).to(device)}

    def losses(self, batch: Batch) -> Losses:
        """Return the sum of all losses; those of critics are reported per task."""
        q = self.data_values(batch)
        critics = self.critic_losses(batch, q)
        flow = self.imitation_loss(batch)
        robust = noised_loss(
            self.robust, batch.s, batch.action, batch.draws["robust_noise"], batch.draws["robust_t"], q
        )
        reported = {"flow": flow, "robust": robust / len(q), **critics.reported}
        return Losses(flow + critics.total + robust, reported)

    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return the velocity field with the target critics of all tasks, and those of noised chunks."""
        about = (
            "one behaviour-cloned velocity field for every critic; the estimator robust climbs critics of noised chunks"
        )
        return {name: replace(one, about=about, robust=self.robust) for name, one in super().policies().items()}


def noised_loss(robust: StackedMLP, s: Tensor, action: Tensor, noise: Tensor, t: Tensor, q: Tensor) -> Tensor:
    """Return the squared error of critics of noised chunks, summed over tasks.

    Args:
        robust: The critics, of [s, a, embedding(t)].
        s: [N, S].
        action: [N, C].
        noise: [N, C], standard normal.
        t: [N], in [0, 1].
        q: Values of the actions [K, N].
    """
    point = torch.lerp(noise, action, t[:, None])
    found = robust(torch.cat([s, point, time_embedding(t)], dim=-1))[..., 0]
    loss: Tensor = (found - q).square().mean(dim=1).sum()
    return loss
