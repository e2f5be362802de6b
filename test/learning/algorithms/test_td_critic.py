"""Targets of temporal-difference critics, derived by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning.algorithms.algorithm import Problem, TakenCritics  # noqa: E402
from qgf_ros.learning.algorithms.catalogue import ALGORITHMS  # noqa: E402
from qgf_ros.learning.algorithms.options import OPTIONS, DacConfig, QamConfig, TdConfig, TdFlowConfig  # noqa: E402
from qgf_ros.learning.algorithms.qam import Qam  # noqa: E402
from qgf_ros.learning.algorithms.td_critic import (  # noqa: E402
    TdFlow,
    behaviour_actions,
    best_actions,
    td_target,
)
from qgf_ros.learning.data.chunks import Batch  # noqa: E402

K, E, N, S, C = 2, 4, 5, 3, 2
PROBLEM = Problem(("reach", "push"), S, C)
CPU = torch.device("cpu")


def batch_for(algorithm: Any) -> Batch:
    random = torch.Generator().manual_seed(1)
    s, action, next_s = (torch.randn(N, size, generator=random) for size in (S, C, S))
    bootstraps = torch.full((K, N), 0.9)
    bootstraps[:, 0] = 0.0  # success
    return Batch(s, s, action.clamp(-1, 1), next_s, -torch.ones(K, N), bootstraps, algorithm.draw(N, random, CPU))


@pytest.mark.parametrize(("aggregation", "rho"), [("mean - 0.5 std", 0.5), ("mean", 0.0), ("min", None)])
def test_the_target_is_the_return_and_what_the_members_agree_on(aggregation: str, rho: float | None) -> None:
    random = np.random.default_rng(0)
    q, returns = random.normal(-20.0, 3.0, (K, E, N)), random.standard_normal((K, N))
    bootstraps = np.where(np.arange(N) == 2, 0.0, 0.95) * np.ones((K, 1))
    tensors = [torch.from_numpy(array) for array in (q, returns, bootstraps)]
    got = td_target(lambda s, a: tensors[0], torch.zeros(N, S), torch.zeros(N, C), *tensors[1:], aggregation).numpy()
    for task in range(K):
        for row in range(N):
            members = q[task, :, row]
            value = (
                members.min()
                if rho is None
                else members.mean() - rho * np.sqrt(np.mean((members - members.mean()) ** 2))
            )
            wanted = returns[task, row] + (0.0 if row == 2 else 0.95 * value)
            assert got[task, row] == pytest.approx(wanted, rel=1e-12)


def test_nothing_follows_success_whatever_the_critic_says_there() -> None:
    huge = torch.full((K, E, N), 1e6)
    target = td_target(
        lambda s, a: huge, torch.zeros(N, S), torch.zeros(N, C), torch.full((K, N), -3.0), torch.zeros(K, N), "min"
    )
    assert torch.equal(target, torch.full((K, N), -3.0))


def test_behaviour_is_the_clipped_end_of_the_flow_for_every_candidate() -> None:
    noise, s = torch.randn(3, N, C), torch.randn(N, S)

    def field(s: torch.Tensor, a: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return s[:, :C] + t[:, None] * a

    got = behaviour_actions(field, s, noise, 4)
    for candidate in range(3):
        a = noise[candidate]
        for i in range(4):
            a = a + (s[:, :C] + i / 4.0 * a) / 4.0
        torch.testing.assert_close(got[candidate], a.clamp(-1.0, 1.0))


def test_of_the_candidates_each_task_takes_what_the_mean_of_its_members_values_highest() -> None:
    random = np.random.default_rng(0)
    candidates, slopes = random.uniform(-1, 1, (6, N, C)), random.standard_normal((K, E, C))

    def critic(s: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return torch.einsum("kec,nc->ken", torch.from_numpy(slopes), a)

    got = best_actions(critic, torch.zeros(N, S), torch.from_numpy(candidates)).numpy()
    for task in range(K):
        for row in range(N):
            values = candidates[:, row] @ slopes[task].mean(axis=0)
            np.testing.assert_array_equal(got[task, row], candidates[values.argmax(), row])


@pytest.mark.parametrize("backup", ["sarsa", "best_of_n", "actor"])
def test_the_critic_s_loss_is_that_of_its_target_written_out(backup: str) -> None:
    config = QamConfig(
        hidden=(8, 8), denoising_steps=3, backup=backup, ensemble=E, aggregate="mean - 0.5 std", candidates=5
    )
    algorithm = Qam(config, PROBLEM, torch.Generator().manual_seed(0))
    with torch.no_grad():  # the target critic is another one than the online critic
        for parameter in algorithm.target.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    batch = batch_for(algorithm)
    noise = batch.draws["next_noise"]
    assert noise.shape == ((5 if backup == "best_of_n" else 1), N, C)
    expected = 0.0
    with torch.no_grad():
        for task in range(K):
            ends = []
            for start in noise:
                a = start
                for i in range(3):
                    t = torch.full((N,), i / 3.0)
                    field = algorithm.fast.member(task) if backup == "actor" else algorithm.velocity
                    a = a + field(batch.next_s, a, t) / 3.0
                ends.append(a.clamp(-1.0, 1.0))
            values = torch.stack([algorithm.critic(batch.next_s, a)[task].mean(dim=0) for a in ends])
            chosen = torch.stack([ends[best][row] for row, best in enumerate(values.argmax(dim=0).tolist())])
            q = algorithm.target(batch.next_s, chosen)[task].numpy()
            y = batch.returns[task].numpy() + batch.bootstraps[task].numpy() * (q.mean(0) - 0.5 * q.std(0))
            expected += np.square(algorithm.critic(batch.s, batch.action)[task].numpy() - y).mean() / K
    assert algorithm.losses(batch).reported["critic"].item() == pytest.approx(expected, rel=1e-4)


def test_a_target_is_a_constant_of_the_critic_s_loss() -> None:
    algorithm = TdFlow(TdFlowConfig(hidden=(8, 8), ensemble=2), PROBLEM, torch.Generator().manual_seed(0))
    batch = batch_for(algorithm)
    losses = algorithm.critic_losses(batch)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(losses.total, list(algorithm.velocity.parameters()))


def test_there_is_a_value_network_only_where_it_is_trained() -> None:
    taken = Problem(("reach", "push"), S, C, TakenCritics((8,), 3, "mean"))
    for name, kind in ALGORITHMS.items():
        options = OPTIONS[name]
        if not issubclass(options, TdConfig):
            continue
        for backup in options.backups:
            alone = kind(options(hidden=(8,), ensemble=2, backup=backup), PROBLEM, torch.Generator())
            assert hasattr(alone, "value") == (backup == "iql"), (name, backup)
            against = kind(options(hidden=(8,), backup=backup), taken, torch.Generator())
            assert not hasattr(against, "value") and not hasattr(against, "critic")
            assert "next_noise" not in against.draw(N, torch.Generator(), CPU)


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        (TdFlowConfig, {"backup": "actor"}, "backup 'actor' was given; expected iql or sarsa or best_of_n"),
        (DacConfig, {"backup": "sarsa"}, "backup 'sarsa' was given; expected iql or actor"),
        (QamConfig, {"candidates": 0}, "fewer than 1 candidates were given"),
        (QamConfig, {"inverse_temperature": -1.0}, "inverse_temperature -1.0 was given"),
        (QamConfig, {"denoising_steps": 1}, "denoising_steps 1 was given"),
        (DacConfig, {"bc_weight": float("nan")}, "bc_weight nan was given"),
    ],
)
def test_a_configuration_outside_its_domain_is_refused(kind: Any, change: dict[str, Any], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        kind(**change)
