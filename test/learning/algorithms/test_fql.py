"""Flow Q-learning against float64: the same noise in actor and flow, and gradients that reach what they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.learning.algorithms.actors import OneStepFlow  # noqa: E402
from qgf_ros.learning.algorithms.algorithm import Problem  # noqa: E402
from qgf_ros.learning.algorithms.fql import Fql, climbing_loss, distillation_loss  # noqa: E402
from qgf_ros.learning.algorithms.options import FqlConfig  # noqa: E402
from qgf_ros.learning.data.chunks import Batch  # noqa: E402

K, N, S, C = 2, 6, 3, 2
PROBLEM = Problem(("reach", "push"), S, C)


def made(**options: Any) -> Fql:
    config = FqlConfig(hidden=(8, 8), denoising_steps=4, **options)
    return Fql(config, PROBLEM, torch.Generator().manual_seed(0)).double()


def batch_for(algorithm: Fql) -> Batch:
    random = torch.Generator().manual_seed(1)
    s, action, next_s = (torch.randn(N, size, generator=random).double() for size in (S, C, S))
    draws = {name: value.double() for name, value in algorithm.draw(N, random, torch.device("cpu")).items()}
    ones = torch.ones(K, N).double()
    return Batch(s, s, action.clamp(-1, 1), next_s, -ones, 0.9 * ones, draws)


def test_distillation_is_a_mean_over_rows_and_components() -> None:
    random = np.random.default_rng(0)
    actions, teacher = random.standard_normal((K, N, C)), random.standard_normal((N, C))
    expected = sum(np.square(actions[task] - teacher).mean() for task in range(K))
    got = distillation_loss(torch.from_numpy(actions), torch.from_numpy(teacher))
    assert got.item() == pytest.approx(expected, rel=1e-12)
    leaf = torch.from_numpy(actions).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: distillation_loss(x, torch.from_numpy(teacher)), leaf)


def test_climbing_is_the_mean_value_and_may_be_normalised_by_a_constant() -> None:
    mixed = torch.tensor([[[3.0, -1.0], [-1.0, -3.0]]])  # of two members: 1 and -2 on the whole
    assert climbing_loss(mixed, normalise=True).item() == pytest.approx(0.5 / 1.5)
    q = torch.from_numpy(np.random.default_rng(0).normal(-30.0, 5.0, (K, 3, N))).requires_grad_()
    assert climbing_loss(q).item() == pytest.approx(-q.detach().numpy().mean(axis=(1, 2)).sum(), rel=1e-12)
    assert climbing_loss(q, normalise=True).item() == pytest.approx(float(K), rel=1e-12)  # all values are below 0
    (gradient,) = torch.autograd.grad(climbing_loss(q, normalise=True), q)
    scale = np.abs(q.detach().numpy().mean(axis=1, keepdims=True)).mean(axis=2, keepdims=True)
    np.testing.assert_allclose(gradient.numpy(), np.broadcast_to(-1.0 / (3 * N) / scale, q.shape), rtol=1e-12)


def test_the_losses_are_those_written_out_with_the_same_noise_in_actor_and_flow() -> None:
    algorithm = made(distillation_weight=30.0)
    batch = batch_for(algorithm)
    losses = algorithm.losses(batch)
    with torch.no_grad():
        a = batch.draws["z"]
        for i in range(4):
            a = a + algorithm.velocity(batch.s, a, torch.full((N,), i / 4.0).double()) / 4.0
        mu = algorithm.actor(batch.s, batch.draws["z"])
        distillation = [(mu[task] - a.clamp(-1.0, 1.0)).square().mean().item() for task in range(K)]
        climbing = [-algorithm.critic(batch.s, mu[task].clamp(-1.0, 1.0))[task].mean().item() for task in range(K)]
    reported = {name: value.item() for name, value in losses.reported.items()}
    assert reported["distillation"] == pytest.approx(np.mean(distillation), rel=1e-10)
    assert reported["climbing"] == pytest.approx(np.mean(climbing), rel=1e-10)
    total = reported["flow"] + K * (30.0 * reported["distillation"] + reported["climbing"])
    assert losses.total.item() == pytest.approx(total + K * (reported["critic"] + reported["value"]), rel=1e-10)


def test_the_actor_s_losses_reach_the_actor_alone() -> None:
    algorithm = made()
    batch = batch_for(algorithm)
    whole = algorithm.losses(batch).total
    ours, theirs = list(algorithm.actor.parameters()), [algorithm.velocity, algorithm.critic, algorithm.value]
    assert all(gradient.any() for gradient in torch.autograd.grad(whole, ours, retain_graph=True))
    with torch.no_grad():
        for parameter in ours:
            parameter.mul_(1.7)
    changed = algorithm.losses(batch).total
    for network in theirs:
        parameters = list(network.parameters())
        before = torch.autograd.grad(whole, parameters, retain_graph=True)
        after = torch.autograd.grad(changed, parameters, retain_graph=True)
        assert all(torch.equal(one, two) for one, two in zip(before, after))


def test_the_actor_s_gradient_is_that_of_finite_differences() -> None:
    algorithm = made(distillation_weight=3.0)
    batch, bias = batch_for(algorithm), algorithm.actor.mlp.biases[0]
    (gradient,) = torch.autograd.grad(algorithm.losses(batch).total, bias)
    for task, unit in ((0, 0), (1, 3)):
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                bias[task, 0, unit] += step
                ends.append(algorithm.losses(batch).total.item())
                bias[task, 0, unit] -= step
        assert gradient[task, 0, unit].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_where_the_action_is_clipped_the_value_pulls_no_more() -> None:
    algorithm = made(distillation_weight=0.0)
    with torch.no_grad():
        algorithm.actor.mlp.biases[-1].fill_(50.0)
    losses = algorithm.losses(batch_for(algorithm))
    gradients = torch.autograd.grad(losses.total, list(algorithm.actor.parameters()))
    assert not any(gradient.any() for gradient in gradients)


def test_a_policy_is_one_step_that_ends_at_the_actor_s_action() -> None:
    algorithm = made().float()
    policies = algorithm.policies()
    assert list(policies) == ["reach", "push", "flow"]
    push = policies["push"]
    assert push.denoising_steps == 1 and push.critics == ("push",) and isinstance(push.velocity, OneStepFlow)
    assert policies["flow"].denoising_steps == 4 and policies["flow"].critics == ("reach", "push")
    s, z = torch.randn(N, S), torch.randn(N, C)
    torch.testing.assert_close(z + push.velocity(s, z, torch.zeros(N)), algorithm.actor(s, z)[1])
    torch.testing.assert_close(push.critic(s, z)[0], algorithm.target(s, z)[1])
