"""Adjoint matching against float64 derivations, finite differences, and its closed form for Gaussian data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.learning.algorithms.algorithm import Problem  # noqa: E402
from qgf_ros.learning.algorithms.networks import CriticNetwork  # noqa: E402
from qgf_ros.learning.algorithms.options import QamConfig  # noqa: E402
from qgf_ros.learning.algorithms.qam import (  # noqa: E402
    Qam,
    adjoint_loss,
    final_adjoint,
    lean_adjoint,
    memoryless_path,
    noise_scale,
)
from qgf_ros.learning.algorithms.sampling import euler  # noqa: E402
from qgf_ros.learning.data.chunks import Batch  # noqa: E402

K, N, S, C, T = 2, 6, 3, 2, 4
RANDOM = np.random.default_rng(0)
S_ROWS = torch.from_numpy(RANDOM.standard_normal((N, S)))
TURN = torch.from_numpy(RANDOM.standard_normal((C, C)))


def curved(s: torch.Tensor, a: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A field that is no linear function of anything."""
    return torch.tanh(a @ TURN + s[:, :C] * t[:, None]) + t[:, None] * a


def faster(s: torch.Tensor, a: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return curved(s, a, t) + 0.3 * torch.sin(a)


def normal(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RANDOM.standard_normal(shape))


def test_a_path_is_the_regularised_process_written_out() -> None:
    noise, steps_noise = normal(K, N, C), normal(T - 1, N, C)
    path = memoryless_path(faster, curved, S_ROWS, noise, steps_noise)
    assert path.shape == (T + 1, K, N, C)
    h = 1.0 / T
    for i in range(T - 1):
        t = torch.full((N,), i * h, dtype=torch.float64)
        variance = 2.0 * (1.0 - i * h + h) / (i * h + h)
        drift = 2.0 * faster(S_ROWS, path[i], t) - path[i] / (i * h + h)
        expected = path[i] + h * drift + np.sqrt(h * variance) * steps_noise[i]
        torch.testing.assert_close(path[i + 1], expected)
    t = torch.full((N,), 1.0 - h, dtype=torch.float64)
    torch.testing.assert_close(path[T], path[T - 1] + h * curved(S_ROWS, path[T - 1], t))


def test_the_adjoint_goes_back_by_the_jacobian_of_the_data_s_drift() -> None:
    path, final = normal(T + 1, K, N, C), normal(K, N, C)
    with torch.no_grad():  # as in validation
        adjoints = lean_adjoint(curved, S_ROWS, path, final)
    h, step, expected = 1.0 / T, 1e-6, final
    for i in range(T - 1, -1, -1):
        t = torch.full((N,), (i + 1) * h, dtype=torch.float64)

        def drift(x: torch.Tensor, t: torch.Tensor = t) -> torch.Tensor:
            return 2.0 * curved(S_ROWS, x, t) - x / t[:, None]

        columns = []
        for c in range(C):
            unit = step * torch.eye(C, dtype=torch.float64)[c]
            slope = (drift(path[i] + unit) - drift(path[i] - unit)) / (2.0 * step)
            columns.append((slope * expected).sum(-1))
        expected = expected + h * torch.stack(columns, dim=-1)
        torch.testing.assert_close(adjoints[i], expected, atol=1e-7, rtol=1e-6)


def test_the_last_adjoint_is_minus_lambda_times_the_slope_of_the_mean_inside_the_bounds_alone() -> None:
    critic = CriticNetwork(K, 3, S, C, (8, 8), torch.Generator().manual_seed(0)).double()
    end = torch.tensor([0.5, -0.2]).double() * torch.ones(K, N, C).double()
    end[0, 0], end[1, 2] = torch.tensor([1.5, 0.3]), torch.tensor([-0.1, -1.01])
    got = final_adjoint(critic, S_ROWS, end, 0.7)
    leaf = end.clone().requires_grad_()
    (-0.7 * critic(S_ROWS, leaf.clamp(-1.0, 1.0)).mean(dim=1).sum()).backward()
    torch.testing.assert_close(got, leaf.grad)
    assert got[0, 0, 0] == 0.0 and got[0, 0, 1] != 0.0 and got[1, 2, 1] == 0.0


def test_the_loss_is_a_sum_over_steps_and_components_and_a_mean_over_rows() -> None:
    fast, base, adjoints = normal(T, K, N, C), normal(T, K, N, C), normal(T, K, N, C)
    expected = 0.0
    for i, (v, b, a) in enumerate(zip(fast.numpy(), base.numpy(), adjoints.numpy())):
        sigma = np.sqrt(2.0 * (1.0 - i / T + 1.0 / T) / (i / T + 1.0 / T))
        expected += np.square(2.0 / sigma * (v - b) + sigma * a).sum() / N
    assert adjoint_loss(fast, base, adjoints).item() == pytest.approx(expected, rel=1e-12)
    leaf = fast.clone().requires_grad_()
    adjoint_loss(leaf, base, adjoints).backward()
    assert torch.autograd.gradcheck(lambda v: adjoint_loss(v, base, adjoints), leaf)
    optimum = base - torch.tensor([noise_scale(i, T) ** 2 / 2.0 for i in range(T)]).view(-1, 1, 1, 1) * adjoints
    assert adjoint_loss(optimum, base, adjoints).item() == pytest.approx(0.0, abs=1e-12)


def gaussian_field(deviation: float) -> Any:
    """The exact velocity of the flow from N(0, 1) to N(0, deviation^2)."""

    def field(s: torch.Tensor, a: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        t, variance = t[:, None], deviation**2
        return (t * variance - (1.0 - t)) / ((1.0 - t) ** 2 + t**2 * variance) * a

    return field


@pytest.mark.parametrize(
    ("deviation", "steps", "mean"),
    [
        (1.0, 10, 0.879),
        (1.0, 20, 0.917),
        (1.0, 50, 0.950),
        (1.0, 200, 0.981),
        (0.3, 10, 0.106),
        (0.3, 20, 0.098),
        (0.3, 50, 0.093),
        (0.3, 200, 0.090),
    ],
)
def test_a_linear_field_fitted_to_the_loss_has_the_mean_of_the_closed_form(
    deviation: float, steps: int, mean: float
) -> None:
    """Data N(0, sd^2) and lambda Q = a ask for N(sd^2, sd^2); what is missing at few steps is discretisation."""
    base, rows = gaussian_field(deviation), 64
    random = torch.Generator().manual_seed(0)
    weights = torch.zeros(steps, 2, dtype=torch.float64, requires_grad=True)  # of x, and of 1, at every step

    def fast(s: torch.Tensor, a: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        weight = weights[int(t[0] * steps + 0.5)]
        return weight[0] * a + weight[1]

    s = torch.zeros(rows, 1, dtype=torch.float64)
    for _ in range(2):  # the second time on the paths of the fitted field
        noise = torch.randn(1, rows, 1, generator=random, dtype=torch.float64)
        steps_noise = torch.randn(steps - 1, rows, 1, generator=random, dtype=torch.float64)
        path = memoryless_path(fast, base, s, noise, steps_noise)
        adjoints = lean_adjoint(base, s, path, torch.full((1, rows, 1), -1.0, dtype=torch.float64))
        times = [torch.full((rows,), i / steps, dtype=torch.float64) for i in range(steps)]
        constant = torch.stack([base(s, path[i], times[i]) for i in range(steps)])

        def loss(
            path: torch.Tensor = path,
            times: list[torch.Tensor] = times,
            constant: torch.Tensor = constant,
            adjoints: torch.Tensor = adjoints,
        ) -> torch.Tensor:
            fitted = torch.stack([fast(s, path[i], times[i]) for i in range(steps)])
            return adjoint_loss(fitted, constant, adjoints)

        # The loss is a sum of quadratic forms, one for each step: one step of Newton's method is its minimum.
        (slope,) = torch.autograd.grad(loss(), weights, create_graph=True)
        curvature = torch.stack(
            [torch.autograd.grad(slope[:, j].sum(), weights, retain_graph=True)[0] for j in range(2)], dim=1
        )
        with torch.no_grad():
            weights -= torch.linalg.solve(curvature, slope[..., None])[..., 0]
    assert loss().item() == pytest.approx(0.0, abs=1e-12)
    start = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    end = euler(fast, torch.zeros(2, 1, dtype=torch.float64), start, steps).detach()
    assert end.mean().item() == pytest.approx(mean, abs=6e-4)


def trained() -> tuple[Qam, Batch]:
    config = QamConfig(hidden=(8, 8), denoising_steps=T, inverse_temperature=3.0)
    algorithm = Qam(config, Problem(("reach", "push"), S, C), torch.Generator().manual_seed(0)).double()
    with torch.no_grad():  # three fields that differ
        for parameter in algorithm.base.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    random = torch.Generator().manual_seed(1)
    s, action, next_s = (torch.randn(N, size, generator=random).double() for size in (S, C, S))
    draws = {name: value.double() for name, value in algorithm.draw(N, random, torch.device("cpu")).items()}
    ones = torch.ones(K, N).double()
    return algorithm, Batch(s, s, action.clamp(-1, 1), next_s, -ones, 0.9 * ones, draws)


def test_the_losses_are_those_of_each_task_and_step_by_itself() -> None:
    algorithm, batch = trained()
    reported = algorithm.losses(batch).reported
    expected = 0.0
    for task in range(K):
        fast = algorithm.fast.member(task).double()
        path = memoryless_path(fast, algorithm.base, batch.s, batch.draws["start"], batch.draws["steps_noise"])
        end = path[-1].clone().requires_grad_()
        (-3.0 * algorithm.target(batch.s, end.clamp(-1.0, 1.0))[task].mean(dim=0).sum()).backward()
        adjoints = lean_adjoint(algorithm.base, batch.s, path, end.grad)
        for i in range(T):
            t, sigma = torch.full((N,), i / T).double(), noise_scale(i, T)
            difference = fast(batch.s, path[i], t) - algorithm.base(batch.s, path[i], t)
            expected += (2.0 / sigma * difference + sigma * adjoints[i]).square().sum().item() / N / K
    assert reported["adjoint"].item() == pytest.approx(expected, rel=1e-9)


def test_the_adjoint_loss_reaches_the_policy_alone() -> None:
    algorithm, batch = trained()
    losses = algorithm.losses(batch)
    (K * losses.reported["adjoint"]).backward(retain_graph=True)
    moved = {name.split(".")[0] for name, parameter in algorithm.named_parameters() if parameter.grad is not None}
    assert moved == {"fast"}


def test_gradients_are_clipped_by_network_and_task_and_the_base_follows_the_imitation() -> None:
    algorithm, batch = trained()
    losses = algorithm.losses(batch)
    (1e3 * losses.total).backward()
    base, followed = (
        [parameter.detach().clone() for parameter in network.parameters()]
        for network in (algorithm.base, algorithm.velocity)
    )
    algorithm.before_step()
    for network, tasks in ((algorithm.velocity, 1), (algorithm.fast, K), (algorithm.critic, K), (algorithm.value, K)):
        for task in range(tasks):
            share = [parameter.grad.view(tasks, -1)[task] for parameter in network.parameters()]
            assert torch.cat(share).norm().item() == pytest.approx(1.0, rel=1e-9)
    for new, old, other in zip(algorithm.base.parameters(), base, followed):
        torch.testing.assert_close(new, old + 0.005 * (other - old))
