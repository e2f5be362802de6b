"""EDP: its loss in float64 and along differences, what has a gradient, and guidance as its fixed point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from float64_networks import (  # noqa: E402
    NORMAL,
    critic64,
    critics_train_as_if_alone,
    crossed,
    gaussian_field,
    random_batch,
    settle,
    train_alone,
    velocity64,
)

from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning.algorithms.algorithm import Problem, TakenCritics  # noqa: E402
from qgf_ros.learning.algorithms.edp import Edp  # noqa: E402
from qgf_ros.learning.algorithms.options import EdpConfig  # noqa: E402
from qgf_ros.learning.data.chunks import Batch  # noqa: E402

W = 3.0
CONFIG = EdpConfig(hidden=(10, 8), bc_weight=W)


def make(**changes: Any) -> Any:
    problem = Problem(("reach", "push"), 3, 4, **changes)
    return Edp(CONFIG, problem, torch.Generator().manual_seed(1)).double()


@pytest.fixture
def batch() -> Batch:
    return random_batch()


def actor_loss64(edp: Any, batch: Batch) -> float:
    s, x1, x0, t = (x.numpy() for x in (batch.s, batch.action, batch.draws["noise"], batch.draws["t"]))
    x = (1.0 - t)[:, None] * x0 + t[:, None] * x1
    total = 0.0
    for task in range(2):
        v = velocity64(edp.actor, task, s, x, t)
        ahead = np.clip(x + (1.0 - t)[:, None] * v, -1.0, 1.0)
        q = critic64(edp.target, task, s, ahead).min(axis=0)
        total += W * np.square(v - (x1 - x0)).mean() - q.mean()
    return total


def test_the_actor_s_loss_is_imitation_less_the_foreseen_value_and_its_gradient_goes_through_the_actor_alone(
    batch: Batch,
) -> None:
    edp = make(taken=TakenCritics((9,), 2, "min"))
    losses = edp.losses(batch)
    assert losses.total.item() == pytest.approx(actor_loss64(edp, batch), rel=1e-9)
    losses.total.backward()
    train_alone(edp, edp.actor, lambda: actor_loss64(edp, batch))


def test_its_critics_train_as_if_there_were_no_actor(batch: Batch) -> None:
    critics_train_as_if_alone(make(), batch)


def test_a_component_that_the_clip_holds_has_the_gradient_of_imitation_alone(batch: Batch) -> None:
    edp = make(taken=TakenCritics((9,), 2, "min"))
    with torch.no_grad():
        edp.actor.mlp.biases[-1] += 100.0  # every foreseen chunk is far above 1, but for t = 1
    batch.draws["t"].clamp_(max=0.9)
    edp.losses(batch).total.backward()
    mixed = [p.grad.clone() for p in edp.actor.parameters()]
    edp.zero_grad()
    s, noise, t = batch.s, batch.draws["noise"], batch.draws["t"]
    v = edp.actor(s, torch.lerp(noise, batch.action, t[:, None]), t)
    (W * (v - (batch.action - noise)).square().mean(dim=(1, 2))).sum().backward()
    for one, p in zip(mixed, edp.actor.parameters()):
        torch.testing.assert_close(one, p.grad)


class LinearFields(torch.nn.Module):
    """v(x, t) = k_t x + b_t of each of two tasks, t being 0, 0.1, ..., 1."""

    def __init__(self, k: Any, b: Any) -> None:
        super().__init__()
        self.k, self.b = (torch.nn.Parameter(torch.from_numpy(np.stack([x, x]))) for x in (k, b))

    def forward(self, s: Any, x: Any, t: Any) -> Any:
        at = (10 * t).round().long()
        return self.k[:, at, None] * x + self.b[:, at, None]


class Parabolas(torch.nn.Module):
    """Q(a) = -c (a - q)^2 / 2 summed over components, one of each task; two members, of which the second is larger."""

    def __init__(self, c: Any, q: Any) -> None:
        super().__init__()
        self.c, self.q = torch.tensor(c)[:, None], torch.tensor(q)[:, None, None]

    def forward(self, s: Any, a: Any) -> Any:
        least = -0.5 * self.c * (a - self.q).square().sum(dim=-1)
        return torch.stack([least, least + 1.0], dim=1)


@pytest.mark.parametrize("size", [1, 2])
def test_its_fixed_point_is_behaviour_cloning_and_guidance_of_weight_c_over_2w_that_falls_with_time(size: int) -> None:
    m, deviation, c, q = 0.1, 0.2, (1.5, 0.7), (-0.2, 0.3)
    times = np.arange(11) / 10.0
    noise, action, t = crossed(NORMAL, m + deviation * NORMAL, times)
    noise, action = noise.expand(-1, size), action.expand(-1, size)
    nothing, rewards = torch.zeros(len(t), 0, dtype=torch.float64), torch.zeros(2, len(t), dtype=torch.float64)
    edp = Edp(CONFIG, Problem(("reach", "push"), 0, size, TakenCritics((4,), 2, "min")), torch.Generator()).double()
    slope, offset = gaussian_field(m, deviation, times)
    edp.actor, edp.target = LinearFields(slope, offset), Parabolas(c, q)
    batch = Batch(nothing, nothing, action, nothing, rewards, rewards, {"noise": noise, "t": t})
    settle(lambda: edp.losses(batch).total, [edp.actor.k, edp.actor.b])
    for task in range(2):
        # v = v_BC + g (1 - t) Q'(x + (1 - t) v) with g = C / (2 w), solved for v.
        g = size / (2.0 * W) * c[task]
        share = 1.0 + g * (1.0 - times) ** 2
        np.testing.assert_allclose(edp.actor.k[task].detach(), (slope - g * (1.0 - times)) / share, atol=1e-9)
        np.testing.assert_allclose(
            edp.actor.b[task].detach(), (offset + g * (1.0 - times) * q[task]) / share, atol=1e-9
        )
        point = torch.lerp(noise, action, t[:, None])
        ahead = point + (1.0 - t)[:, None] * edp.actor(nothing, point, t)[task]
        assert ahead.abs().max() < 1.0  # the clip was never at work


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_of_imitation_that_is_not_positive_is_refused(weight: float) -> None:
    with pytest.raises(TrainingError, match="bc_weight .* was given; it must be above 0 and finite"):
        EdpConfig(bc_weight=weight)
