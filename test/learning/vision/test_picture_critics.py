"""Critics with an encoder of their own: their loss trains it and nothing of the policy's, and a run goes on to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning import run as runs  # noqa: E402
from qgf_ros.learning.algorithms.algorithm import Problem  # noqa: E402
from qgf_ros.learning.algorithms.iql_flow import IqlFlowConfig  # noqa: E402
from qgf_ros.learning.checkpoint import load_checkpoint  # noqa: E402
from qgf_ros.learning.course import Intervals  # noqa: E402
from qgf_ros.learning.data.chunks import Batch, ChunkData  # noqa: E402
from qgf_ros.learning.data.contract import plain_contract  # noqa: E402
from qgf_ros.learning.data.dataset import load_dataset  # noqa: E402
from qgf_ros.learning.run import Rewarded, dataset_record, own_rewards  # noqa: E402
from qgf_ros.learning.trainer import Trainer, TrainingConfig, new_algorithm  # noqa: E402
from qgf_ros.learning.vision.picture_critics import PictureCriticConfig, PictureCritics, begun_as  # noqa: E402
from qgf_ros.learning.vision.picture_flow import PictureFlow, PictureFlowConfig  # noqa: E402
from qgf_ros.learning.vision.seeing import (  # noqa: E402
    CRITIC_ENCODER_KEY,
    ENCODER_KEY,
    OWN,
    SHARED,
    Seen,
    see,
    train_encoder,
)

CPU = torch.device("cpu")
OPTIONS = PictureCriticConfig(hidden=(32, 32), features=8, shift=2, target_rate=0.25)
N, STATE, CHUNK = 6, 3, 2


def networks() -> PictureCritics:
    problem = Problem(("near", "far"), 8 + STATE, CHUNK, pictures={"wrist": (12, 16)})
    return PictureCritics(OPTIONS, problem, torch.Generator().manual_seed(2))


def a_batch(critics: PictureCritics) -> Batch:
    random = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Any:
        return torch.randn(shape, generator=random)

    def pictures() -> Any:
        return {"wrist": torch.randint(256, (N, 12, 16, 3), generator=random, dtype=torch.uint8)}

    s, draws = normal(N, 8 + STATE), critics.draw(N, random, CPU)
    told = (
        normal(N, CHUNK),
        normal(N, 8 + STATE),
        normal(2, N),
        torch.full((2, N), 0.9),
        draws,
        pictures(),
        pictures(),
    )
    return Batch(s, s, *told)


def gradients(network: Any) -> list[bool]:
    return [parameter.grad is not None and bool(parameter.grad.any()) for parameter in network.parameters()]


def test_the_loss_of_the_critics_alone_reaches_their_encoder() -> None:
    critics = networks()
    losses = critics.losses(a_batch(critics))
    losses.reported["value"].backward(retain_graph=True)
    assert not any(gradients(critics.critic_encoder))
    assert any(gradients(critics.value))
    losses.total.backward()
    assert all(gradients(critics.critic_encoder))
    assert any(gradients(critics.critic))
    for still in (critics.target_encoder, critics.target):
        assert not any(gradients(still))
        assert not any(parameter.requires_grad for parameter in still.parameters())


def test_each_critic_is_asked_about_what_it_sees() -> None:
    critics = networks()
    with torch.no_grad():  # as after some updates: the target is another encoder
        critics.target_encoder.weight += 0.1
    batch = a_batch(critics)
    critics.eval()
    batch = replace(batch, draws=critics.draw(N, torch.Generator(), CPU))  # where it does not train, nothing is moved
    told, state, next_state = critics.losses(batch).reported, batch.s[:, 8:], batch.next_s[:, 8:]
    with torch.no_grad():
        z = critics.critic_encoder(batch.pictures, state)
        seen = critics.target_encoder(batch.pictures, state)
        ahead = critics.target_encoder(batch.next_pictures, next_state)
        wanted = batch.returns + 0.9 * critics.value(ahead)
        critic = (critics.critic(z, batch.action) - wanted[:, None]).square().mean()
        advantage = critics.target(seen, batch.action).amin(dim=1) - critics.value(seen)
        value = (torch.where(advantage > 0, 0.9, 0.1) * advantage.square()).mean()
    assert told["critic"].item() == pytest.approx(critic.item(), rel=1e-5)
    assert told["value"].item() == pytest.approx(value.item(), rel=1e-5)


def test_the_picture_after_a_chunk_is_moved_like_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    critics = networks()
    batch = a_batch(critics)
    asked: list[Any] = []
    see_through = critics.target_encoder.forward
    monkeypatch.setattr(critics.target_encoder, "forward", lambda p, s: asked.append(p["wrist"]) or see_through(p, s))
    critics.losses(replace(batch, next_pictures=batch.pictures))
    now, ahead = asked
    assert torch.equal(now, ahead)
    assert not torch.equal(now, batch.pictures["wrist"])
    assert len(batch.draws["shift wrist"].unique(dim=0)) > 1  # each sample by its own draw


def test_what_the_target_critics_see_through_follows_at_their_rate() -> None:
    critics = networks()
    before = {name: value.clone() for name, value in critics.target_encoder.state_dict().items()}
    with torch.no_grad():
        for parameter in critics.critic_encoder.parameters():
            parameter += 1.0
    critics.before_step()
    for name, value in critics.target_encoder.state_dict().items():
        torch.testing.assert_close(value, before[name] + 0.25)


def test_the_pictures_after_a_chunk_are_those_of_the_row_behind_it(scene: Path, tmp_path: Path) -> None:
    dataset = load_dataset(scene)
    pictures = dataset.pictures.opened(tmp_path)  # type: ignore[union-attr]
    for looks_ahead in (True, False):
        data = ChunkData.build(dataset, {}, 3, 0.99, CPU, pictures=pictures, looks_ahead=looks_ahead)
        index = torch.tensor([0, 29])
        batch, rows = data.batch(index, {}), data.starts[index].numpy()
        np.testing.assert_array_equal(batch.pictures["wrist"].numpy(), pictures.take(rows)["wrist"])
        after = {name: frames.numpy() for name, frames in batch.next_pictures.items()}
        np.testing.assert_equal(after, pictures.take(rows + 3) if looks_ahead else {})


def test_held_out_pictures_are_validated_where_they_are(scene: Path, tmp_path: Path) -> None:
    dataset = load_dataset(scene)
    pictures = dataset.pictures.opened(tmp_path)  # type: ignore[union-attr]
    data = ChunkData.build(dataset, {}, 1, 0.99, CPU, pictures=pictures)
    config, losses = TrainingConfig(batch_size=16), []
    for shift in (0, 3):
        options = PictureFlowConfig(features=8, shift=shift, hidden=(16,))
        trainer = Trainer(config, new_algorithm(config, PictureFlow, options, (), data), data, CPU)
        losses.append(trainer.validate(data))
        assert trainer.algorithm.training
    assert losses[0] == losses[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rewarded, dict[str, Any], dict[str, Seen]]:
    """A small data set, the header of its runs, and what its encoder gives to critics of either kind."""
    folder = tmp_path_factory.mktemp("finished")
    random, rows = np.random.default_rng(0), 60
    ends = np.arange(rows) % 20 == 19
    np.savez(
        folder / "scene.npz",
        observations=random.standard_normal((rows, STATE)).astype(np.float32),
        actions=random.uniform(-1.0, 1.0, (rows, CHUNK)).astype(np.float32),
        terminals=ends,
        rewards=ends - 1.0,
        masks=np.ones(rows),
        **{"images/wrist": random.integers(0, 256, (rows, 12, 16, 3), dtype=np.uint8)},  # type: ignore[arg-type]
    )
    dataset = load_dataset(folder / "scene.npz")
    about = {"environment": None, "tasks": ["reach"], "task_ids": [None]}
    header = {
        **about,
        "dataset": dataset_record(folder / "scene.npz", dataset),
        **plain_contract(dataset, 10.0).header(),
    }
    options, intervals = PictureFlowConfig(features=8, shift=2, hidden=(32, 32)), Intervals(log=5, validate=5, save=5)
    config = TrainingConfig(updates=4, batch_size=8)
    path = train_encoder(config, options, dataset, None, header, folder, device=CPU, intervals=intervals)
    rewarded = Rewarded(dataset, own_rewards(dataset, "reach"))
    found = {whose: see(path, rewarded, None, folder, device=CPU, critic_encoder=whose) for whose in (SHARED, OWN)}
    return rewarded, header, found


def trained(finished: Any, out: Path, updates: int, whose: str = OWN, **options: Any) -> dict[str, Any]:
    _, header, found = finished
    seen = found[whose]
    own: dict[str, Any] = {"options": IqlFlowConfig(hidden=(32, 32)), "given": seen.velocity}
    if whose == OWN:
        own |= {"options": OPTIONS, "kind": PictureCritics, "begun_with": begun_as(seen.encoder)}
        header = {**header, CRITIC_ENCODER_KEY: OWN}
    path = runs.train(
        TrainingConfig(updates=updates, batch_size=8),
        seen.training,
        seen.training,
        {**header, ENCODER_KEY: seen.record},
        out,
        device=CPU,
        intervals=Intervals(log=2, validate=2, save=2),
        **{**own, **options},
    )
    return load_checkpoint(path)[0]


def test_a_run_goes_on_to_the_same_bits_and_leaves_the_policy_alone(finished: Any, tmp_path: Path) -> None:
    whole = trained(finished, tmp_path / "whole", 8)
    trained(finished, tmp_path / "parts", 4)
    parts = trained(finished, tmp_path / "parts", 8)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    seen = finished[2][OWN]
    assert all(torch.equal(whole[name], value) for name, value in seen.velocity.items())
    moved = {name: (whole[f"critic_encoder.{name}"] - value).abs().max() for name, value in seen.encoder.items()}
    assert min(moved.values()) > 0.0
    followed = {name: (whole[f"target_encoder.{name}"] - value).abs().max() for name, value in seen.encoder.items()}
    assert all(0.0 < followed[name] < moved[name] for name in moved)


def test_the_critics_begin_with_what_the_policy_sees(finished: Any) -> None:
    _, _, found = finished
    config, rewarded = TrainingConfig(), found[OWN].training
    pictures = rewarded.dataset.pictures.opened(Path())
    data = ChunkData.build(rewarded.dataset, rewarded.rewards, 1, 0.99, CPU, pictures=pictures)
    critics = new_algorithm(config, PictureCritics, OPTIONS, ("reach",), data)
    runs.take_over(critics, begun_as(found[OWN].encoder))
    for encoder in (critics.critic_encoder, critics.target_encoder):
        assert all(torch.equal(encoder.state_dict()[name], value) for name, value in found[OWN].encoder.items())
    assert data.observations.shape[1] == 8 + STATE  # the policy's features, for the velocity field
    assert found[SHARED].training.dataset.pictures is None


@pytest.mark.parametrize(("first", "then"), [(SHARED, OWN), (OWN, SHARED)])
def test_a_run_does_not_change_what_its_critics_see_through(
    finished: Any, tmp_path: Path, first: str, then: str
) -> None:
    trained(finished, tmp_path, 2, first)
    with pytest.raises(TrainingError, match=f"holds another run .*critic_encoder {first} -> {then}"):
        trained(finished, tmp_path, 4, then)


def test_critics_that_see_with_their_own_encoder_are_not_taken_for_features(finished: Any, tmp_path: Path) -> None:
    trained(finished, tmp_path / "own", 2)
    with pytest.raises(TrainingError, match=r"are of another problem \(different: critic_encoder\)"):
        trained(finished, tmp_path / "other", 2, SHARED, critics_from=tmp_path / "own")
