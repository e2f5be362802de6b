"""The losses of BC flow and IQL against closed forms, and a configuration outside its domain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.bundle.aggregation import aggregate  # noqa: E402
from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning.algorithms.algorithm import Problem  # noqa: E402
from qgf_ros.learning.algorithms.iql_critics import aggregated, critic_loss, value_loss  # noqa: E402
from qgf_ros.learning.algorithms.iql_flow import IqlFlow, flow_loss  # noqa: E402
from qgf_ros.learning.algorithms.options import IqlFlowConfig  # noqa: E402
from qgf_ros.learning.data.chunks import Batch  # noqa: E402


def test_flow_loss_of_the_zero_field_is_the_squared_displacement() -> None:
    noise, action = torch.randn(64, 3), torch.randn(64, 3)
    loss = flow_loss(lambda s, a, t: torch.zeros_like(a), torch.zeros(64, 2), action, noise, torch.rand(64))
    assert loss.item() == pytest.approx((action - noise).square().mean().item(), rel=1e-6)


def test_flow_loss_evaluates_the_field_on_the_straight_path() -> None:
    seen = {}

    def field(s: torch.Tensor, a: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen["a"] = a
        return a

    noise, action = torch.full((2, 1), 4.0), torch.full((2, 1), -4.0)
    flow_loss(field, torch.zeros(2, 1), action, noise, torch.tensor([0.0, 0.75]))
    torch.testing.assert_close(seen["a"], torch.tensor([[4.0], [-2.0]]))


def test_critic_loss_sums_tasks_and_averages_members() -> None:
    q = torch.tensor([[[0.0, 0.0], [2.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]]])  # [K, E, N]
    target = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    loss = critic_loss(lambda s, a: q, torch.zeros(2, 1), torch.zeros(2, 1), target)
    assert loss.item() == pytest.approx(1.0 + 1.0)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_value_loss_is_smallest_at_the_expectile(expectile: float) -> None:
    # The expectile m of a sample solves  tau sum (q - m)+ = (1 - tau) sum (m - q)+.
    q = torch.from_numpy(np.random.default_rng(0).standard_normal(400)).float()
    m = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([m], max_iter=100)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = value_loss(lambda s: m.expand(1, 400), torch.zeros(400, 1), q[None], expectile)
        loss.backward()
        return loss

    optimiser.step(closure)
    above, below = (q - m).clamp(min=0).sum(), (m - q).clamp(min=0).sum()
    assert (expectile * above).item() == pytest.approx(((1.0 - expectile) * below).item(), rel=1e-3)


@pytest.mark.parametrize("aggregation", ["min", "mean", "mean - 0.5 std", "mean - 1.25 std"])
def test_members_are_put_together_as_numpy_does_it(aggregation: str) -> None:
    q = np.random.default_rng(2).normal(-40.0, 3.0, (3, 10, 50)).astype(np.float32)  # [K, E, N]
    ours = aggregated(torch.from_numpy(q), aggregation).numpy()
    if aggregation == "min":
        np.testing.assert_array_equal(ours, q.min(axis=1))
    else:
        rho = {"mean": 0.0, "mean - 0.5 std": 0.5, "mean - 1.25 std": 1.25}[aggregation]
        np.testing.assert_allclose(ours, q.mean(axis=1) - rho * q.std(axis=1), rtol=1e-6)
    np.testing.assert_allclose(ours, [aggregate(members, aggregation) for members in q], rtol=1e-6)


def test_v_regresses_on_the_aggregate_that_was_asked_for(batch: Any) -> None:
    losses = {}
    for aggregation in ("min", "mean", "mean - 0.5 std"):
        config = IqlFlowConfig(hidden=(8, 8), ensemble=4, aggregate=aggregation)
        networks = IqlFlow(config, Problem(("reach", "push"), 3, 2), torch.Generator().manual_seed(0))
        q = aggregate(networks.target(batch.s, batch.action).detach().numpy().swapaxes(0, 1), aggregation)
        reported = networks.losses(batch).reported
        expected = value_loss(networks.value, batch.s, torch.from_numpy(q), 0.9) / 2
        assert reported["value"].item() == pytest.approx(expected.item(), rel=1e-5)
        assert reported["q"].item() == pytest.approx(q.mean(), rel=1e-5)
        losses[aggregation] = reported["value"].item()
    assert len(set(losses.values())) == 3


@pytest.fixture
def batch() -> Any:
    normal = torch.Generator().manual_seed(3)
    s, action, next_s, noise = (torch.randn(16, size, generator=normal) for size in (3, 2, 3, 2))
    returns, draws = -torch.ones(2, 16), {"noise": noise, "t": torch.full((16,), 0.5)}
    return Batch(s, s, action, next_s, returns, 0.9 * torch.ones(2, 16), draws)


@pytest.mark.parametrize(
    "change",
    [
        {"expectile": 1.0},
        {"hidden": ()},
        {"hidden": (8, 0)},
        {"ensemble": 0},
        {"target_rate": 1.5},
    ],
)
def test_a_configuration_outside_its_domain_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=f"{next(iter(change))} .* was given"):
        replace(IqlFlowConfig(), **change)
