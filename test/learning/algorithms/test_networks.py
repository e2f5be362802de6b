"""Stacked networks are independent, and the velocity field has the published form."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.learning.algorithms.networks import (  # noqa: E402
    CriticNetwork,
    StackedMLP,
    VelocityNetwork,
    VelocityStack,
    embedding_frequencies,
    gelu,
    time_embedding,
)


def test_members_share_nothing() -> None:
    mlp = StackedMLP(3, 4, (8, 8), 2, norm_last=True)
    x = torch.randn(5, 4)
    before = mlp(x)
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter[1].add_(0.3)
    after = mlp(x)
    assert torch.equal(before[0], after[0]) and torch.equal(before[2], after[2])
    assert not torch.allclose(before[1], after[1])


def test_gradient_of_one_member_s_loss_touches_that_member_alone() -> None:
    mlp = StackedMLP(2, 4, (8,), 1, norm_last=True)
    mlp(torch.randn(5, 4))[1].sum().backward()
    assert all(parameter.grad is not None and not parameter.grad[0].any() for parameter in mlp.parameters())


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("members", [1, 2])
def test_a_member_equals_the_same_network_built_from_torch_modules(members: int, outputs: int) -> None:
    # In double precision: in float32, LayerNorm of a nearly constant row rounds beyond any tolerance now and then.
    random = torch.Generator().manual_seed(0)
    mlp = StackedMLP(members, 4, (8, 8), outputs, norm_last=False, generator=random).double()
    torch.nn.init.normal_(mlp.scales[0], generator=random)
    torch.nn.init.normal_(mlp.shifts[0], generator=random)
    modules: list[torch.nn.Module] = []
    for layer, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases)):
        linear = torch.nn.Linear(*weight.shape[1:])
        linear.weight.data, linear.bias.data = weight[-1].T.clone(), bias[-1, 0].clone()
        modules.append(linear)
        if layer == 0:
            norm = torch.nn.LayerNorm(8, eps=1e-6)
            norm.weight.data, norm.bias.data = mlp.scales[0][-1, 0].clone(), mlp.shifts[0][-1, 0].clone()
            modules.append(norm)
        if layer < 2:
            modules.append(torch.nn.GELU(approximate="tanh"))
    alone, x = torch.nn.Sequential(*modules).double(), torch.randn(6, 4, generator=random, dtype=torch.float64)
    torch.testing.assert_close(mlp(x)[-1], alone(x))
    gradients = []
    for network in (lambda x: mlp(x)[-1], alone):
        point = x.clone().requires_grad_()
        network(point).square().sum().backward()
        gradients.append(point.grad)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(mlp.weights[0].grad[-1], modules[0].weight.grad.T)
    torch.testing.assert_close(mlp.weights[-1].grad[-1], modules[-1].weight.grad.T)
    torch.testing.assert_close(mlp.scales[0].grad[-1, 0], modules[1].weight.grad)


def test_gelu_is_torch_s_tanh_form_with_its_gradient() -> None:
    x = torch.cat([torch.linspace(-8.0, 8.0, 101), torch.tensor([-1e4, -40.0, 40.0, 1e4])]).double().requires_grad_()
    torch.testing.assert_close(gelu(x), torch.nn.functional.gelu(x, approximate="tanh"))
    assert torch.autograd.gradcheck(gelu, x[:101])
    far = gelu(x)[-4:].sum()
    far.backward()
    torch.testing.assert_close(x.grad[-4:], torch.tensor([0.0, 0.0, 1.0, 1.0]).double())


def test_velocity_field_has_no_norm_on_its_last_hidden_layer_and_critics_have() -> None:
    assert len(VelocityNetwork(3, 2, (8, 8, 8)).mlp.scales) == 2
    assert len(CriticNetwork(1, 2, 3, 2, (8, 8, 8)).mlp.scales) == 3


def test_critics_are_ordered_by_task_then_member() -> None:
    critic = CriticNetwork(2, 3, 4, 2, (8,))
    s, a = torch.randn(5, 4), torch.randn(5, 2)
    flat = critic.mlp(torch.cat([s, a], dim=-1))[..., 0]
    assert torch.equal(critic(s, a)[1, 2], flat[5])


def test_time_embedding_is_cosines_then_sines_of_the_published_frequencies() -> None:
    t = torch.tensor([0.0, 0.3, 1.0])
    angles = t.numpy()[:, None].astype(np.float64) * 1e4 * np.exp(-np.log(1e4) * np.arange(8) / 8)
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(time_embedding(t).numpy(), expected, atol=2e-3)  # float32 angles up to 1e4 rad
    np.testing.assert_allclose(embedding_frequencies().numpy(), np.exp(-np.log(1e4) * np.arange(8) / 8), rtol=1e-7)


def test_same_seed_gives_the_same_weights() -> None:
    one, two = (VelocityNetwork(3, 2, (8,), torch.Generator().manual_seed(4)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("sinusoidal", [True, False])
def test_a_stack_of_velocity_fields_is_its_members_side_by_side(norm: bool, sinusoidal: bool) -> None:
    stack = VelocityStack(3, 4, 2, (16, 8), torch.Generator().manual_seed(0), norm=norm, sinusoidal=sinusoidal)
    assert bool(stack.mlp.scales) == norm
    assert stack.mlp.weights[0].shape[1] == 4 + 2 + (16 if sinusoidal else 1)
    s, t = torch.randn(5, 4), torch.rand(5)
    for a in (torch.randn(5, 2), torch.randn(3, 5, 2)):
        every = stack(s, a, t)
        assert every.shape == (3, 5, 2)
        for task in range(3):
            alone = stack.member(task)(s, a if a.dim() == 2 else a[task], t)
            torch.testing.assert_close(every[task], alone, atol=1e-6, rtol=1e-5)


def test_critics_value_an_action_of_each_task_with_its_own_members() -> None:
    critic = CriticNetwork(3, 2, 4, 2, (16, 8), torch.Generator().manual_seed(0))
    s, a = torch.randn(5, 4), torch.randn(3, 5, 2)
    q = critic(s, a)
    assert q.shape == (3, 2, 5)
    for task in range(3):
        torch.testing.assert_close(q[task], critic(s, a[task])[task], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(q[task], critic.task(task)(s, a[task])[0], atol=1e-6, rtol=1e-5)
