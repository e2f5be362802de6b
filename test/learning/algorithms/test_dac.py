"""The diffusion losses against float64 and their minima; the schedule, and samplers that have the data's moments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.learning.algorithms.algorithm import Problem  # noqa: E402
from qgf_ros.learning.algorithms.dac import Dac, Qsm, dac_loss, qsm_loss  # noqa: E402
from qgf_ros.learning.algorithms.options import DacConfig, QsmConfig  # noqa: E402
from qgf_ros.learning.algorithms.sampling import (  # noqa: E402
    ancestral_action,
    deterministic_step,
    diffusion_schedule,
    noised,
)
from qgf_ros.learning.data.chunks import Batch  # noqa: E402

K, N, C = 2, 6, 3
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RANDOM.standard_normal(shape))


def test_the_schedule_is_the_variance_preserving_one() -> None:
    schedule = diffusion_schedule(10)
    for k in range(1, 11):
        kept = math.exp(-0.1 / 10 - 0.5 * (10.0 - 0.1) * (2 * k - 1) / 10**2)
        assert schedule.kept[k] == pytest.approx(kept, rel=1e-12)
        # The exponents of the product add up to a parabola.
        assert schedule.signal[k] == pytest.approx(math.exp(-0.1 * k / 10 - 0.5 * 9.9 * (k / 10) ** 2), rel=1e-12)
    assert schedule.signal[0] == 1.0 and schedule.signal[10] < 0.01
    assert schedule.steps == 10


def test_a_noised_action_keeps_the_variance() -> None:
    a, n, signal = normal(N, C), normal(N, C), torch.rand(N, dtype=torch.float64)
    expected = np.sqrt(signal.numpy())[:, None] * a.numpy() + np.sqrt(1.0 - signal.numpy())[:, None] * n.numpy()
    np.testing.assert_allclose(noised(a, n, signal).numpy(), expected, rtol=1e-12)


def test_the_loss_is_that_of_numpy_and_its_gradient_that_of_differences() -> None:
    predicted, noise, gradient, signal = normal(K, N, C), normal(N, C), normal(K, N, C), torch.rand(N).double()
    expected = 0.0
    for task in range(K):
        pull = np.sqrt(1.0 - signal.numpy())[:, None] * gradient[task].numpy() * predicted[task].numpy()
        expected += 30.0 * np.square(predicted[task].numpy() - noise.numpy()).mean() + pull.mean()
    assert dac_loss(predicted, noise, gradient, signal, 30.0).item() == pytest.approx(expected, rel=1e-12)
    leaf = predicted.requires_grad_()
    assert torch.autograd.gradcheck(lambda eps: dac_loss(eps, noise, gradient, signal, 30.0), leaf)


def test_the_minimum_adds_the_critic_s_slope_to_the_score() -> None:
    noise, gradient, signal, weight = normal(N, C), normal(1, N, C), torch.rand(N).double(), 5.0
    scale = (1.0 - signal).sqrt()[:, None]
    minimum = (noise - scale * gradient / (2.0 * weight)).requires_grad_()
    dac_loss(minimum, noise, gradient, signal, weight).backward()
    torch.testing.assert_close(minimum.grad, torch.zeros_like(minimum), atol=1e-12, rtol=0.0)
    score = -minimum.detach() / scale
    torch.testing.assert_close(score, -noise / scale + gradient / (2.0 * weight))  # uphill


def test_q_score_matching_is_that_of_numpy_and_asks_for_minus_lambda_times_the_slope() -> None:
    predicted, noise, gradient = normal(K, N, C), normal(N, C), normal(K, N, C)
    imitation = np.square(predicted.numpy() - noise.numpy()).mean(axis=(1, 2))
    matching = np.square(-0.1 * gradient.numpy() - predicted.numpy()).mean(axis=(1, 2))
    got = qsm_loss(predicted, noise, gradient, 10.0, 0.1).item()
    assert got == pytest.approx((10.0 * imitation + matching).sum(), rel=1e-12)
    minimum = ((10.0 * noise - 0.1 * gradient) / 11.0).requires_grad_()
    qsm_loss(minimum, noise, gradient, 10.0, 0.1).backward()
    torch.testing.assert_close(minimum.grad, torch.zeros_like(minimum), atol=1e-12, rtol=0.0)


def exact(mean: float, deviation: float, steps: int) -> Any:
    """The expected noise in a_k for data N(mean, deviation^2)."""
    schedule = diffusion_schedule(steps)

    def predict(s: torch.Tensor, a: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        signal = schedule.signal[int(k[0])]
        variance = signal * deviation**2 + 1.0 - signal
        return math.sqrt(1.0 - signal) * (a - math.sqrt(signal) * mean) / variance

    return predict


@pytest.mark.parametrize(
    ("mean", "deviation", "steps", "wider"),
    [(0.1, 0.2, 200, 1.01), (-0.2, 0.1, 200, 1.01), (0.0, 0.25, 200, 1.01), (0.1, 0.2, 10, 0.91)],
)
def test_with_the_exact_noise_the_samples_have_the_moments_of_the_data(
    mean: float, deviation: float, steps: int, wider: float
) -> None:
    """With ten steps the last, which draws nothing, is the largest: what is sampled is narrower by a tenth."""
    rows = 4000
    random = torch.Generator().manual_seed(0)
    s = torch.zeros(rows, 1, dtype=torch.float64)
    noise = torch.randn(rows, 1, generator=random, dtype=torch.float64)
    steps_noise = torch.randn(steps - 1, rows, 1, generator=random, dtype=torch.float64)
    action = ancestral_action(exact(mean, deviation, steps), diffusion_schedule(steps), s, noise, steps_noise)
    error = deviation / math.sqrt(rows)
    assert action.mean().item() == pytest.approx(mean, abs=4.0 * error)
    assert action.std().item() == pytest.approx(wider * deviation, rel=0.04)


def test_a_step_of_the_sampler_is_the_posterior_of_the_step_before() -> None:
    """Of a_{k-1} given a_k and a clean action: the textbook's mean, from a product of two normal densities."""
    steps, schedule = 10, diffusion_schedule(10)
    x, noise = normal(N, 1), torch.zeros(9, N, 1, dtype=torch.float64)
    clean = 0.3
    seen: list[torch.Tensor] = []

    def predict(s: torch.Tensor, a: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        seen.append(a)
        signal = schedule.signal[int(k[0])]
        return (a - math.sqrt(signal) * clean) / math.sqrt(1.0 - signal)

    end = ancestral_action(predict, schedule, torch.zeros(N, 1, dtype=torch.float64), x, noise)
    for i, k in enumerate(range(steps, 1, -1)):
        # p(a_{k-1} | clean) = N(sqrt(abar) clean, 1 - abar);  p(a_k | a_{k-1}) = N(sqrt(kept) a_{k-1}, 1 - kept)
        prior, kept = schedule.signal[k - 1], schedule.kept[k]
        precision = 1.0 / (1.0 - prior) + kept / (1.0 - kept)
        mean = (math.sqrt(prior) * clean / (1.0 - prior) + math.sqrt(kept) * seen[i] / (1.0 - kept)) / precision
        torch.testing.assert_close(seen[i + 1], mean)
    torch.testing.assert_close(end, torch.full_like(end, clean))


def test_the_estimate_of_the_clean_action_stays_within_its_bounds() -> None:
    noises = torch.randn(N, C), torch.randn(9, N, C)
    far = ancestral_action(lambda s, a, k: -9.0 + 0.0 * a, diffusion_schedule(10), torch.zeros(N, 1), *noises)
    torch.testing.assert_close(far, torch.ones(N, C))


@pytest.mark.parametrize(("steps", "narrower"), [(10, 0.597), (50, 0.90), (200, 0.98)])
def test_without_draws_the_mean_is_the_data_s_and_the_spread_comes_from_below(steps: int, narrower: float) -> None:
    mean, deviation = 0.1, 0.2
    predict, s = exact(mean, deviation, steps), torch.zeros(2, 1, dtype=torch.float64)
    x = torch.tensor([[-0.2], [0.2]], dtype=torch.float64)
    for k in range(steps, 0, -1):
        before, now = (diffusion_schedule(steps).signal[at] for at in (k - 1, k))
        x = deterministic_step(x, predict(s, x, torch.full((2,), float(k))), before, now)
    assert x.mean().item() == pytest.approx(mean, abs=2e-3)
    assert ((x[1] - x[0]) / 0.4).item() / deviation == pytest.approx(narrower, abs=0.01)


@pytest.mark.parametrize("kind", [Dac, Qsm])
def test_the_critic_is_asked_about_the_noised_action_of_each_task(kind: Any) -> None:
    config = (QsmConfig if kind is Qsm else DacConfig)(hidden=(8, 8), denoising_steps=4, bc_weight=7.0)
    algorithm = kind(config, Problem(("reach", "push"), 2, C), torch.Generator().manual_seed(0)).double()
    random = torch.Generator().manual_seed(1)
    s, action = torch.randn(N, 2, generator=random).double(), torch.rand(N, C, generator=random).double()
    draws = algorithm.draw(N, random, torch.device("cpu"))
    draws = {"noise": draws["noise"].double(), "k": draws["k"]}
    assert set(draws["k"].tolist()) <= {1, 2, 3, 4}
    ones = torch.ones(K, N).double()
    batch = Batch(s, s, action, s, -ones, 0.9 * ones, draws)
    losses = algorithm.losses(batch)
    signal, schedule = torch.empty(N).double(), diffusion_schedule(4)
    for row, k in enumerate(draws["k"].tolist()):
        signal[row] = schedule.signal[k]
    point = noised(action, draws["noise"], signal)
    expected = 0.0
    for task in range(K):
        leaf = point.clone().requires_grad_()
        (slope,) = torch.autograd.grad(algorithm.target(s, leaf)[task].mean(dim=0).sum(), leaf)
        predicted = algorithm.predictor(s, point, draws["k"].double())[task]
        pull = (1.0 - signal).sqrt()[:, None] * slope * predicted
        if kind is Qsm:
            pull = (-0.1 * slope - predicted).square()
        expected += (7.0 * (predicted - draws["noise"]).square().mean() + pull.mean()).item() / K
    assert losses.reported["diffusion"].item() == pytest.approx(expected, rel=1e-9)
    (K * losses.reported["diffusion"]).backward(retain_graph=True)
    moved = {name.split(".")[0] for name, parameter in algorithm.named_parameters() if parameter.grad is not None}
    assert moved == {"predictor"}
