"""CFGRL: its loss in float64 and along differences, what the critic chooses, and weights 0 and 1 as fixed points."""

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
    embedding64,
    gaussian_field,
    mlp64,
    random_batch,
    settle,
    train_alone,
)

from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.guidance.conditioning import Unconditioned  # noqa: E402
from qgf_ros.guidance.sampler import sample  # noqa: E402
from qgf_ros.guidance.shaping import Guidance  # noqa: E402
from qgf_ros.learning.algorithms.algorithm import Problem, TakenCritics  # noqa: E402
from qgf_ros.learning.algorithms.cfgrl import Cfgrl  # noqa: E402
from qgf_ros.learning.algorithms.options import CfgrlConfig  # noqa: E402
from qgf_ros.learning.data.chunks import Batch  # noqa: E402

CONFIG = CfgrlConfig(hidden=(10, 8), plain_weight=0.2)
TAKEN = TakenCritics((9,), 2, "min")


def make(**changes: Any) -> Any:
    return Cfgrl(CONFIG, Problem(("reach", "push"), 3, 4, **changes), torch.Generator().manual_seed(1)).double()


@pytest.fixture
def batch() -> Batch:
    return random_batch()


def chosen64(cfgrl: Any, s: Any, action: Any) -> Any:
    """Return which chunks [2, N] are worth more than their state."""
    return np.stack(
        [critic64(cfgrl.target, k, s, action).min(axis=0) > mlp64(cfgrl.value.mlp, k, s)[:, 0] for k in range(2)]
    )


def actor_loss64(cfgrl: Any, batch: Batch) -> float:
    s, x1, x0, t = (x.numpy() for x in (batch.s, batch.action, batch.draws["noise"], batch.draws["t"]))
    x = (1.0 - t)[:, None] * x0 + t[:, None] * x1
    total, kept = 0.0, chosen64(cfgrl, s, x1)
    for task in range(2):
        errors = []
        for condition in range(2):
            told = np.tile(cfgrl.actor.conditions[task, condition].detach().numpy(), (len(s), 1))
            v = mlp64(cfgrl.actor.mlp, task, np.concatenate([s, x, embedding64(t), told], axis=1))
            errors.append(np.square(v - (x1 - x0)).mean(axis=1))
        total += (kept[task] * errors[1] + 0.2 * errors[0]).mean()
    return total


def test_the_loss_is_imitation_of_what_the_critic_chose_and_a_part_of_that_of_all(batch: Batch) -> None:
    cfgrl = make(taken=TAKEN)
    losses = cfgrl.losses(batch)
    kept = chosen64(cfgrl, batch.s.numpy(), batch.action.numpy())
    assert 0.0 < kept.mean() < 1.0
    assert losses.reported["chosen"].item() == pytest.approx(kept.mean())
    assert losses.total.item() == pytest.approx(actor_loss64(cfgrl, batch), rel=1e-9)
    losses.total.backward()
    train_alone(cfgrl, cfgrl.actor, lambda: actor_loss64(cfgrl, batch))


def test_with_goals_the_critic_chooses_on_the_way_to_the_policy_s_own(batch: Batch) -> None:
    cfgrl = make(taken=TAKEN)
    goals = Batch(
        batch.s + 1.0,
        *(getattr(batch, name) for name in ("s", "action", "next_s", "returns")),
        *(getattr(batch, name) for name in ("bootstraps", "draws")),
    )
    kept = chosen64(cfgrl, goals.policy_s.numpy(), batch.action.numpy())
    assert (kept != chosen64(cfgrl, batch.s.numpy(), batch.action.numpy())).any()
    assert cfgrl.losses(goals).reported["chosen"].item() == pytest.approx(kept.mean())


def test_its_critics_train_as_if_there_were_no_actor(batch: Batch) -> None:
    critics_train_as_if_alone(make(), batch)


def test_a_condition_is_a_bias_of_the_exported_field(batch: Batch) -> None:
    cfgrl = make().float()
    s, a, t = batch.s.float(), batch.action.float(), batch.draws["t"].float()
    for condition in (0, 1):
        every = cfgrl.actor(s, a, t, condition)
        for task in range(2):
            torch.testing.assert_close(cfgrl.actor.member(task, condition)(s, a, t), every[task], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(cfgrl.actor(s, a, t, 0), cfgrl.actor(s, a, t, 1))


class LinearFields(torch.nn.Module):
    """v(x, t, o) = k x + b, with numbers of their own for each o and for t = 0, 0.1, ..., 1."""

    def __init__(self) -> None:
        super().__init__()
        self.k, self.b = (torch.nn.Parameter(torch.zeros(2, 11, dtype=torch.float64)) for _ in "kb")

    def forward(self, s: Any, x: Any, t: Any, o: int) -> Any:
        at = (10 * t).round().long()
        return (self.k[o, at, None] * x + self.b[o, at, None])[None]


class Constant(torch.nn.Module):
    def forward(self, s: Any) -> Any:
        return torch.zeros(1, len(s), dtype=torch.float64)


class Slope(torch.nn.Module):
    """Q(a) = a - 0.1 of both members, so that actions above 0.1 are chosen."""

    def forward(self, s: Any, a: Any) -> Any:
        return (a - 0.1).T.expand(1, 2, -1)


def fitted() -> tuple[Any, Any]:
    """Return an actor at the bottom of its loss on actions of mean 0.1 and deviation 0.2, and the actions."""
    actions = 0.1 + 0.2 * np.array([-1.6, -0.9, -0.3, 0.2, 0.8, 1.8])
    noise, action, t = crossed(NORMAL, actions, np.arange(11) / 10.0)
    nothing, rewards = torch.zeros(len(t), 0, dtype=torch.float64), torch.zeros(1, len(t), dtype=torch.float64)
    cfgrl = Cfgrl(CONFIG, Problem(("reach",), 0, 1, TAKEN), torch.Generator()).double()
    cfgrl.actor, cfgrl.target, cfgrl.value = LinearFields(), Slope(), Constant()
    batch = Batch(nothing, nothing, action, nothing, rewards, rewards, {"noise": noise, "t": t})
    settle(lambda: cfgrl.losses(batch).total, [cfgrl.actor.k, cfgrl.actor.b])
    return cfgrl.actor, actions


def test_at_its_fixed_point_one_field_is_that_of_all_data_and_the_other_that_of_the_chosen() -> None:
    actor, actions = fitted()
    times = np.arange(11) / 10.0
    for condition, data in ((0, actions), (1, actions[actions > 0.1])):
        slope, offset = gaussian_field(data.mean(), data.std(), times)
        np.testing.assert_allclose(actor.k[condition].detach(), slope, atol=1e-9)
        np.testing.assert_allclose(actor.b[condition].detach(), offset, atol=1e-9)


class Flow64(Unconditioned):
    """One condition of the fitted fields, as guidance asks it; and as a critic, what it has chosen."""

    def __init__(self, actor: Any, condition: int) -> None:
        self.actor, self.condition = actor, condition

    def __call__(self, a: Any, t: Any) -> Any:
        with torch.no_grad():
            return self.actor(None, torch.from_numpy(a), torch.from_numpy(t), self.condition)[0].numpy()

    filtered_velocity = __call__


def test_weight_0_is_the_policy_of_all_data_1_that_of_the_chosen_and_more_goes_beyond() -> None:
    actor, _ = fitted()
    plain, filtered = Flow64(actor, 0), Flow64(actor, 1)
    noise = np.random.default_rng(0).standard_normal((64, 1))
    guidance = Guidance(estimator="classifier_free")
    reached = {w: sample(plain, filtered, noise, w, guidance=guidance).action for w in (0.0, 1.0, 2.0)}
    np.testing.assert_array_equal(reached[0.0], sample(plain, None, noise).action)
    np.testing.assert_allclose(reached[1.0], sample(filtered, None, noise).action, atol=1e-12)
    assert reached[2.0].mean() > reached[1.0].mean() + 0.05 > reached[0.0].mean() + 0.1


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_of_all_data_that_is_not_positive_is_refused(weight: float) -> None:
    with pytest.raises(TrainingError, match="plain_weight .* was given; it must be above 0 and finite"):
        CfgrlConfig(plain_weight=weight)
