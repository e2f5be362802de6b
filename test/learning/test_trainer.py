"""One update does what it says; a resumed run is the same run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning.algorithms.iql_flow import IqlFlow  # noqa: E402
from qgf_ros.learning.algorithms.options import IqlFlowConfig  # noqa: E402
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from qgf_ros.learning.data.chunks import ChunkData  # noqa: E402
from qgf_ros.learning.data.dataset import Dataset  # noqa: E402
from qgf_ros.learning.trainer import Trainer, TrainingConfig, new_algorithm  # noqa: E402

CONFIG = TrainingConfig(horizon=2, updates=40, batch_size=16, final_learning_rate=1e-4, seed=3)
OPTIONS = IqlFlowConfig(hidden=(16, 16))
DEVICE = torch.device("cpu")


def chunk_data(config: TrainingConfig, critics: int = 2) -> ChunkData:
    rng = np.random.default_rng(0)
    rows = 120
    terminals = np.zeros(rows, dtype=bool)
    terminals[59::60] = True
    observations = rng.standard_normal((rows, 4)).astype(np.float32)
    actions = np.tanh(observations[:, :2] + 0.1 * rng.standard_normal((rows, 2))).astype(np.float32)
    masks = (rng.random((critics, rows)) > 0.1).astype(np.float32)
    rewards = {f"task{k}": (-masks[k], masks[k]) for k in range(critics)}
    return ChunkData.build(
        Dataset(observations, actions, terminals, {}), rewards, config.horizon, config.discount, DEVICE
    )


def trainer(config: TrainingConfig = CONFIG, critics: int = 2, options: IqlFlowConfig = OPTIONS) -> Trainer:
    data = chunk_data(config, critics)
    names = tuple(f"task{k}" for k in range(critics))
    return Trainer(config, new_algorithm(config, IqlFlow, options, names, data), data, DEVICE)


def run(subject: Trainer, updates: int) -> Trainer:
    for _ in range(updates):
        subject.update()
    return subject


def same(one: Trainer, two: Trainer) -> bool:
    a, b = one.state(), two.state()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_same_seed_gives_the_same_run_and_another_seed_does_not() -> None:
    assert same(run(trainer(), 5), run(trainer(), 5))
    assert not same(run(trainer(), 5), run(trainer(replace(CONFIG, seed=4)), 5))


def test_a_run_resumed_from_a_checkpoint_is_bit_identical(tmp_path: Path) -> None:
    straight = run(trainer(), 12)
    half = run(trainer(), 7)
    path = save_checkpoint(tmp_path, half.step, half.state(), {"note": [1, 2]})
    tensors, header = load_checkpoint(path)
    resumed = trainer()
    resumed.load_state(tensors)
    assert header == {"note": [1, 2]}
    assert same(run(resumed, 5), straight)


def test_target_critic_follows_at_the_target_rate() -> None:
    subject = trainer()
    run(subject, 3)
    before = [p.clone() for p in subject.algorithm.target.parameters()]
    critic = [p.detach().clone() for p in subject.algorithm.critic.parameters()]
    subject.update()
    for old, followed, new in zip(before, critic, subject.algorithm.target.parameters()):
        torch.testing.assert_close(new, old + OPTIONS.target_rate * (followed - old))


def test_critics_of_different_tasks_train_as_if_alone() -> None:
    together, alone = trainer(critics=2), trainer(critics=1)
    alone.data = replace(alone.data, returns=together.data.returns[:1], bootstraps=together.data.bootstraps[:1])
    for name in ("critic", "target", "value"):
        for one, two in zip(
            getattr(alone.algorithm, name).parameters(), getattr(together.algorithm, name).parameters()
        ):
            one.data.copy_(two.data[: len(one)])
    alone.algorithm.velocity.load_state_dict(together.algorithm.velocity.state_dict())
    run(together, 6)
    run(alone, 6)
    for one, two in zip(alone.algorithm.critic.parameters(), together.algorithm.critic.parameters()):
        torch.testing.assert_close(one, two[: len(one)], atol=1e-5, rtol=1e-4)


def test_losses_fall(tmp_path: Path) -> None:
    subject = trainer(replace(CONFIG, learning_rate=3e-3, final_learning_rate=3e-3, updates=300))
    first = subject.validate(subject.data)
    run(subject, 300)
    last = subject.validate(subject.data)
    assert last["flow"] < 0.7 * first["flow"]


def test_value_of_always_failing_data_approaches_its_geometric_sum() -> None:
    # Reward -1 for ever: Q = -1 / (1 - discount).
    config = replace(CONFIG, discount=0.5, learning_rate=1e-2, final_learning_rate=1e-3, updates=250)
    subject = trainer(config, 1, replace(OPTIONS, target_rate=0.1))
    ones = torch.ones_like(subject.data.returns)
    subject.data = replace(subject.data, returns=ones * -1.5, bootstraps=ones * 0.25)
    run(subject, 250)
    q = subject.algorithm.critic(subject.data.observations[subject.data.starts], subject.data.actions)
    torch.testing.assert_close(q, torch.full_like(q, -2.0), atol=0.15, rtol=0.0)


def test_learning_rate_goes_from_the_first_to_the_final_along_a_cosine() -> None:
    subject = trainer()
    rates = []
    for step in (0, 20, 40):
        subject.step = step
        rates.append(subject.learning_rate())
    np.testing.assert_allclose(rates, [3e-4, 2e-4, 1e-4])


def test_learning_rate_starts_again_at_the_restart() -> None:
    subject = trainer(replace(CONFIG, restart_at=10))
    rates = []
    for step in (0, 5, 10, 25, 40):
        subject.step = step
        rates.append(subject.learning_rate())
    np.testing.assert_allclose(rates, [3e-4, 2e-4, 3e-4, 2e-4, 1e-4])


def test_learning_rate_starts_again_at_each_of_several_restarts() -> None:
    config = TrainingConfig.from_dict({**CONFIG.to_dict(), "restart_at": [10, 20]})
    rates = [config.learning_rate_of(step) for step in (0, 5, 10, 15, 20, 30, 40)]
    np.testing.assert_allclose(rates, [3e-4, 2e-4, 3e-4, 2e-4, 3e-4, 2e-4, 1e-4])


@pytest.mark.parametrize(("given", "kept"), [(0, 0), ([], 0), ([0], 0), ((7,), 7), (7, 7), ([7, 9], (7, 9))])
def test_one_restart_is_the_same_as_a_list_of_one(given: object, kept: object) -> None:
    config = TrainingConfig.from_dict({**CONFIG.to_dict(), "restart_at": given})
    assert config.restart_at == kept
    assert TrainingConfig.from_dict(config.to_dict()) == config


def test_validation_changes_nothing_and_repeats() -> None:
    subject = run(trainer(), 2)
    before = subject.state()["generator"].clone()
    assert subject.validate(subject.data) == subject.validate(subject.data)
    assert torch.equal(before, subject.state()["generator"])


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    subject = trainer()
    subject.data = replace(subject.data, returns=torch.full_like(subject.data.returns, float("nan")))
    with pytest.raises(TrainingError, match="not finite at update 1"):
        subject.update()()


def test_a_checkpoint_of_other_networks_is_refused() -> None:
    with pytest.raises(TrainingError, match="does not fit"):
        trainer().load_state(trainer(options=replace(OPTIONS, hidden=(8, 8))).state())


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        save_checkpoint(tmp_path, step, {"x": torch.zeros(1)}, {})
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        "checkpoint-00000010.safetensors",
        "checkpoint-00000100.safetensors",
    ]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-00000100.safetensors"


def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"x": torch.zeros(100)}, {})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "change", [{"horizon": 0}, {"discount": 1.5}, {"learning_rate": 0.0}, {"restart_at": 40}, {"restart_at": (9, 9)}]
)
def test_a_configuration_outside_its_domain_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="was given"):
        replace(CONFIG, **change)
