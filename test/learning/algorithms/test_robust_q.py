"""RobustQ: its loss in float64 and along differences, and the value expected of the finished action as its fixed point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from float64_networks import NORMAL, critic64, crossed, embedding64, go_along, mlp64, settle  # noqa: E402

from qgf_ros.learning.algorithms.algorithm import Problem, TakenCritics  # noqa: E402
from qgf_ros.learning.algorithms.options import RobustQConfig  # noqa: E402
from qgf_ros.learning.algorithms.robust_q import RobustQ, noised_loss  # noqa: E402
from qgf_ros.learning.data.chunks import Batch  # noqa: E402

CONFIG = RobustQConfig(hidden=(10, 8))


def make(**changes: Any) -> Any:
    return RobustQ(CONFIG, Problem(("reach", "push"), 3, 4, **changes), torch.Generator().manual_seed(1)).double()


@pytest.fixture
def batch() -> Batch:
    random = np.random.default_rng(3)
    s, action, next_s, noise, other = (torch.from_numpy(random.standard_normal((12, size))) for size in (3, 4, 3, 4, 4))
    t = torch.from_numpy(random.integers(0, 11, 12) / 10.0)
    returns = torch.from_numpy(-random.uniform(1, 2, (2, 12)))
    draws = {"noise": noise, "t": t, "robust_noise": other, "robust_t": torch.from_numpy(random.uniform(0, 1, 12))}
    return Batch(s, s, action.clamp(-1, 1), next_s, returns, returns + 2.0, draws)


def robust_loss64(robust_q: Any, batch: Batch) -> float:
    s, x1, x0, t = (x.numpy() for x in (batch.s, batch.action, batch.draws["robust_noise"], batch.draws["robust_t"]))
    x = (1.0 - t)[:, None] * x0 + t[:, None] * x1
    inputs = np.concatenate([s, x, embedding64(t)], axis=1)
    return sum(
        np.square(mlp64(robust_q.robust, k, inputs)[:, 0] - critic64(robust_q.target, k, s, x1).min(axis=0)).mean()
        for k in range(2)
    )


def test_the_loss_is_the_error_against_the_target_critic_s_value_of_the_clean_chunk(batch: Batch) -> None:
    robust_q = make(taken=TakenCritics((9,), 2, "min"))
    losses = robust_q.losses(batch)
    assert 2.0 * losses.reported["robust"].item() == pytest.approx(robust_loss64(robust_q, batch), rel=1e-9)
    assert losses.total.item() == pytest.approx(
        robust_loss64(robust_q, batch) + robust_q.imitation_loss(batch).item(), rel=1e-9
    )
    losses.total.backward()
    go_along(list(robust_q.robust.parameters()), lambda: robust_loss64(robust_q, batch))
    assert all(p.grad is None for p in robust_q.target.parameters())


def test_its_flow_and_critics_train_as_if_there_were_no_other(batch: Batch) -> None:
    robust_q = make()
    robust_q.losses(batch).total.backward()
    others = [p for name, p in robust_q.named_parameters() if p.requires_grad and not name.startswith("robust")]
    together = [p.grad.clone() for p in others]
    robust_q.zero_grad()
    super(RobustQ, robust_q).losses(batch).total.backward()
    for one, p in zip(together, others):
        torch.testing.assert_close(one, p.grad)


class Quadratic(torch.nn.Module):
    """alpha x^2 + beta x + gamma, with numbers of their own for t = 0, 0.1, ..., 1, which it reads off the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = torch.nn.Parameter(torch.zeros(3, 11, dtype=torch.float64))

    def forward(self, inputs: Any) -> Any:
        x, angle = (
            inputs[:, 0],
            torch.atan2(inputs[:, 16], inputs[:, 8]) % 6.283,
        )  # of the lowest frequency, 10000^(-7/8)
        at = (10.0 * (angle / 10000.0 ** (1.0 / 8.0))).round().long()
        alpha, beta, gamma = self.numbers[:, at]
        return (alpha * x**2 + beta * x + gamma)[None, :, None]


def test_its_fixed_point_is_the_value_expected_of_the_action_once_it_is_clean() -> None:
    m, deviation, c, q = 0.1, 0.4, 1.7, -0.3
    times = np.arange(11) / 10.0
    noise, action, t = crossed(NORMAL, m + deviation * NORMAL, times)
    robust, nothing = Quadratic(), torch.zeros(len(t), 0, dtype=torch.float64)
    value = -0.5 * c * (action - q).square().T
    settle(lambda: noised_loss(robust, nothing, action, noise, t, value), [robust.numbers])
    # Given x_t = (1 - t) x_0 + t x_1, the clean x_1 is N(m + gain (x_t - t m), spread).
    variance = (1.0 - times) ** 2 + times**2 * deviation**2
    gain, spread = times * deviation**2 / variance, deviation**2 * (1.0 - times) ** 2 / variance
    x = np.linspace(-2.0, 2.0, 9)[:, None]
    mean = m + gain * (x - times * m)
    expected = -0.5 * c * ((mean - q) ** 2 + spread)
    alpha, beta, gamma = robust.numbers.detach().numpy()
    np.testing.assert_allclose(alpha * x**2 + beta * x + gamma, expected, atol=1e-9)
    np.testing.assert_allclose(2.0 * alpha * x + beta, -c * (mean - q) * gain, atol=1e-9)
    assert np.abs(2.0 * alpha[0] * x + beta[0]).max() < 1e-9  # noise alone says nothing
