"""The training losses: flow matching for the policy, implicit Q-learning for the critics."""

from __future__ import annotations

import torch
from torch import Tensor

from qgf_ros.learning.networks import CriticNetwork, ValueNetwork, VelocityNetwork


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
