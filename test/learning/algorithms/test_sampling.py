"""Euler integration, gradients that stop where they should, and norms that are clipped for each task alone."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.learning.algorithms.networks import CriticNetwork, StackedMLP  # noqa: E402
from qgf_ros.learning.algorithms.sampling import action_gradient, clip_gradients, euler, held  # noqa: E402


def test_euler_goes_by_the_times_of_its_steps() -> None:
    seen: list[float] = []

    def field(s: torch.Tensor, a: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(t[0].item())
        return a

    end = euler(field, torch.zeros(5, 1), torch.ones(2, 5, 3), 4)
    torch.testing.assert_close(end, torch.full((2, 5, 3), 1.25**4))
    assert seen == [0.0, 0.25, 0.5, 0.75]


def test_the_action_gradient_is_that_of_the_mean_of_each_task_s_own_members() -> None:
    random = torch.Generator().manual_seed(0)
    critic = CriticNetwork(2, 3, 4, 2, (8, 8), random).double()
    s, a = (torch.randn(5, size, generator=random, dtype=torch.float64) for size in (4, 2))
    own = torch.stack([a, -a])
    with torch.no_grad():  # as in validation
        gradient = action_gradient(critic, s, own)
    step = 1e-6
    for task in range(2):
        for component in range(2):
            ends = []
            for sign in (1.0, -1.0):
                moved = own[task].clone()
                moved[:, component] += sign * step
                ends.append(critic(s, moved)[task].mean(dim=0))
            slope = (ends[0] - ends[1]) / (2.0 * step)
            torch.testing.assert_close(gradient[task, :, component], slope.detach(), atol=1e-8, rtol=1e-6)
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_a_held_network_passes_gradients_to_its_inputs_only() -> None:
    critic = CriticNetwork(1, 2, 3, 2, (8,))
    s, a = torch.randn(4, 3), torch.randn(4, 2, requires_grad=True)
    assert torch.equal(held(critic)(s, a), critic(s, a))
    held(critic)(s, a).sum().backward()
    assert a.grad is not None and a.grad.any()
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_gradients_are_clipped_for_each_task_as_if_it_were_alone() -> None:
    random = torch.Generator().manual_seed(0)
    together = StackedMLP(4, 3, (5,), 2, norm_last=True, generator=random)  # two tasks of two members
    for parameter in together.parameters():
        scale = torch.tensor([1e-3, 1e-3, 30.0, 2.0]).view(4, *[1] * (parameter.dim() - 1))
        parameter.grad = torch.randn(parameter.shape, generator=random) * scale
    before = [parameter.grad.clone() for parameter in together.parameters()]
    clip_gradients(together, 2, 1.0)
    for parameter, old in zip(together.parameters(), before):
        assert torch.equal(parameter.grad[:2], old[:2])  # short enough
    alone = StackedMLP(2, 3, (5,), 2, norm_last=True)
    for parameter, old in zip(alone.parameters(), before):
        parameter.grad = old[2:].clone()
    torch.nn.utils.clip_grad_norm_(alone.parameters(), 1.0)
    for parameter, other in zip(together.parameters(), alone.parameters()):
        torch.testing.assert_close(parameter.grad[2:], other.grad)
