"""An algorithm that is named in the dictionary trains, resumes and is exported; nothing else has to know of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.cli import main  # noqa: E402
from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning import run, trainer  # noqa: E402
from qgf_ros.learning.algorithms.algorithm import (  # noqa: E402
    Algorithm,
    ExportedPolicy,
    Losses,
    Problem,
    TakenCritics,
)
from qgf_ros.learning.algorithms.catalogue import ALGORITHMS, algorithm_named  # noqa: E402
from qgf_ros.learning.algorithms.iql_critics import critic_loss  # noqa: E402
from qgf_ros.learning.algorithms.iql_flow import flow_loss  # noqa: E402
from qgf_ros.learning.algorithms.networks import CriticNetwork, VelocityNetwork  # noqa: E402
from qgf_ros.learning.algorithms.options import OPTIONS, StoredConfig  # noqa: E402
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from qgf_ros.learning.course import Intervals  # noqa: E402
from qgf_ros.learning.data.chunks import Batch  # noqa: E402
from qgf_ros.learning.data.contract import plain_contract  # noqa: E402
from qgf_ros.learning.data.dataset import Dataset  # noqa: E402
from qgf_ros.learning.export import export  # noqa: E402
from qgf_ros.runtime.policy import Policy  # noqa: E402

Train = Callable[..., Path]


@dataclass(frozen=True)
class ToyConfig(StoredConfig):
    width: int = 8


class Toy(Algorithm):
    """Imitation, and critics that learn the return of the chunk alone."""

    config_class = ToyConfig

    def __init__(self, config: ToyConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        self.problem = problem
        sizes = problem.observation_size, problem.chunk_size
        self.actor = VelocityNetwork(*sizes, (config.width, config.width), generator)
        self.judge = CriticNetwork(len(problem.critics), 3, *sizes, (config.width,), generator)

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, torch.Tensor]:
        noise = torch.randn(size, self.problem.chunk_size, generator=generator)
        return {"noise": noise.to(device), "t": torch.rand(size, generator=generator).to(device)}

    def losses(self, batch: Batch) -> Losses:
        imitation = flow_loss(self.actor, batch.policy_s, batch.action, batch.draws["noise"], batch.draws["t"])
        regression = critic_loss(self.judge, batch.s, batch.action, batch.returns)
        return Losses(imitation + regression, {"imitation": imitation, "regression": regression})

    def policies(self) -> Mapping[str, ExportedPolicy]:
        return {"imitator": ExportedPolicy(self.actor, self.judge, self.problem.critics, 5)}


class ToyOfTwo(Toy):
    """A second actor follows the first from behind, and is guided by the last critic alone."""

    def __init__(self, config: ToyConfig, problem: Problem, generator: torch.Generator) -> None:
        super().__init__(config, problem, generator)
        sizes = problem.observation_size, problem.chunk_size
        self.follower = VelocityNetwork(*sizes, (config.width, config.width), generator).requires_grad_(False)

    def before_step(self) -> None:
        torch._foreach_lerp_(list(self.follower.parameters()), [p.detach() for p in self.actor.parameters()], 0.5)

    def policies(self) -> Mapping[str, ExportedPolicy]:
        last = CriticNetwork(1, 3, self.problem.observation_size, self.problem.chunk_size, (8,))
        for one, all_tasks in zip(last.parameters(), self.judge.parameters()):
            one.data.copy_(all_tasks.data[-3:])
        return {**super().policies(), "follower": ExportedPolicy(self.follower, last, self.problem.critics[-1:], 2)}


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "toy", Toy)
    monkeypatch.setitem(ALGORITHMS, "toy_of_two", ToyOfTwo)


@pytest.fixture
def dataset() -> Dataset:
    random = np.random.default_rng(0)
    terminals = np.isin(np.arange(60), [19, 39, 59])
    observations = random.standard_normal((60, 4)).astype(np.float32)
    actions = random.uniform(-1, 1, (60, 2)).astype(np.float32)
    return Dataset(observations, actions, terminals, {})


@pytest.fixture
def train(dataset: Dataset) -> Train:
    """A function that trains in a folder."""
    config = trainer.TrainingConfig(horizon=2, updates=9, batch_size=8, seed=3)
    masks = np.ones((2, 60), np.float32)
    rewarded = run.Rewarded(dataset, {"reach": (masks[0] - 2.0, masks[0]), "push": (masks[1] - 3.0, masks[1])})
    header = {"environment": None, "tasks": ["reach it", "push it"], "task_ids": [None, None], "dataset": {}}

    def start(out: Path, algorithm: str = "toy", **options: Any) -> Path:
        about = {**header, **plain_contract(dataset, 10.0).header()}
        intervals = Intervals(log=1, validate=4, save=5)
        where = torch.device("cpu")
        return run.train(
            config, rewarded, rewarded, about, out, device=where, algorithm=algorithm, intervals=intervals, **options
        )

    return start


def small(algorithm: str) -> StoredConfig:
    """Return the options of an algorithm with tiny networks."""
    return algorithm_named(algorithm).config_class.from_dict({"hidden": (12, 8)})


@pytest.mark.parametrize("algorithm", ["toy", "toy_of_two", *OPTIONS])
def test_an_algorithm_of_the_dictionary_trains_and_resumes_to_the_bit(
    train: Train, tmp_path: Path, algorithm: str
) -> None:
    given = {"options": small(algorithm)}
    whole, header = load_checkpoint(train(tmp_path / "whole", algorithm, **given))
    seen: list[run.Progress] = []
    interrupted = train(tmp_path / "parts", algorithm, report=seen.append, interrupted=lambda: len(seen) > 3, **given)
    assert int(load_checkpoint(interrupted)[0]["step"]) == 4
    parts, _ = load_checkpoint(train(tmp_path / "parts", algorithm, **given))
    assert header["algorithm"] == algorithm
    assert {name.split(".")[0] for name in whole} >= {"adam", "generator", "step"}
    assert whole.keys() == parts.keys()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def test_an_algorithm_names_its_own_losses_and_they_fall(train: Train, tmp_path: Path) -> None:
    seen: list[run.Progress] = []
    train(tmp_path, report=seen.append)
    losses = [values for progress in seen for values in (progress.losses, progress.validation) if values]
    assert len(losses) == 9 + 3
    assert all(set(values) == {"imitation", "regression"} for values in losses)
    validation = [progress.validation["regression"] for progress in seen if progress.validation]
    assert validation[-1] < validation[0]


def test_an_algorithm_says_what_its_bundle_is_made_of(train: Train, tmp_path: Path) -> None:
    tensors, header = load_checkpoint(train(tmp_path / "run", options=ToyConfig(width=12)))
    assert header["config"]["width"] == 12
    manifest = export.export_bundle(tmp_path / "run", tmp_path / "bundle")
    assert manifest.training["algorithm"] == "toy"
    assert (manifest.denoising_steps, list(manifest.critics)) == (5, ["reach", "push"])
    assert [(card.task, card.ensemble_size) for card in manifest.critics.values()] == [("reach it", 3), ("push it", 3)]
    policy = Policy.load(tmp_path / "bundle")
    s, noise = np.zeros((1, 4), np.float32), np.random.default_rng(0).standard_normal((1, 1, 4), dtype=np.float32)
    (chunk,) = policy.act(s, noise, "push", 0.1)
    assert chunk.actions.shape == (2, 2)
    trained = Toy(ToyConfig(12), Problem(("reach", "push"), 4, 4), torch.Generator())
    trained.load_tensors(tensors)
    a = torch.rand(1, 4)
    with torch.no_grad():
        expected = trained.judge(torch.from_numpy(s), a)[1]
    q, _ = policy._critics["push"].given(s).value_and_grad(a.numpy())
    np.testing.assert_allclose(q, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("algorithm", OPTIONS)
def test_every_policy_of_an_algorithm_infers_what_torch_does(
    train: Train, tmp_path: Path, algorithm: str, taken: bool
) -> None:
    train(tmp_path / "critics", "iql_flow", options=small("iql_flow"))
    given = {"critics_from": tmp_path / "critics"} if taken else {}
    path = train(tmp_path / "run", algorithm, options=small(algorithm), **given)
    tensors, _ = load_checkpoint(path)
    form = TakenCritics((12, 8), 2, "min") if taken else None
    trained = ALGORITHMS[algorithm](small(algorithm), Problem(("reach", "push"), 4, 4, form), torch.Generator())
    trained.load_tensors(tensors)
    random = np.random.default_rng(0)
    s, noise = random.standard_normal((1, 4), np.float32), random.standard_normal((1, 1, 4), np.float32)
    for name, policy in trained.policies().items():
        manifest = export.export_bundle(tmp_path / "run", tmp_path / name, policy=name)
        assert manifest.training["policy"] == policy.about
        assert tuple(manifest.critics) == policy.critics
        a = torch.from_numpy(noise[0])
        with torch.no_grad():
            for k in range(policy.denoising_steps):
                t = torch.full((1,), k / policy.denoising_steps)
                a = a + policy.velocity(torch.from_numpy(s), a, t) / policy.denoising_steps
        loaded = Policy.load(tmp_path / name)
        for critic in policy.critics:
            (plain,) = loaded.act(s, noise, critic, 0.0)
            np.testing.assert_allclose(plain.actions.ravel(), a.clamp(-1, 1)[0], atol=1e-4)
            (guided,) = loaded.act(s, noise, critic, 0.5)
            assert np.isfinite(guided.actions).all()
            assert guided.telemetry["critic_failed"] == 0


def test_of_several_policies_one_is_asked_for(train: Train, tmp_path: Path) -> None:
    train(tmp_path / "run", "toy_of_two")
    for asked, told in ((None, "no policy was given"), ("leader", "policy 'leader' was given")):
        with pytest.raises(TrainingError, match=f"{told}; toy_of_two makes imitator, follower; give one of them"):
            export.export_bundle(tmp_path / "run", tmp_path / "bundle", policy=asked)
    assert not (tmp_path / "bundle").exists()
    first = export.export_bundle(tmp_path / "run", tmp_path / "one", policy="imitator")
    second = export.export_bundle(tmp_path / "run", tmp_path / "two", policy="follower")
    assert (second.denoising_steps, second.critics) == (2, {"push": first.critics["push"]})
    assert first.files["velocity.onnx"] != second.files["velocity.onnx"]
    assert first.files["critics/push/q_grad.onnx"] == second.files["critics/push/q_grad.onnx"]


def test_a_run_of_one_algorithm_is_not_continued_by_another(train: Train, tmp_path: Path) -> None:
    path = train(tmp_path)
    with pytest.raises(TrainingError, match=r"another run \(different: algorithm toy -> iql_flow"):
        train(tmp_path, "iql_flow")
    assert latest_checkpoint(tmp_path) == path


def test_a_run_from_before_algorithms_had_names_goes_on_and_is_exported(train: Train, tmp_path: Path) -> None:
    train(tmp_path / "old", "iql_flow", interrupted=lambda: True)
    whole, _ = load_checkpoint(train(tmp_path / "whole", "iql_flow"))
    path = latest_checkpoint(tmp_path / "old")
    assert path is not None
    tensors, header = load_checkpoint(path)
    assert header.pop("algorithm") == "iql_flow"
    save_checkpoint(tmp_path / "old", int(tensors["step"]), tensors, header)
    assert export.export_bundle(tmp_path / "old", tmp_path / "bundle").training["updates"] == 1
    old, _ = load_checkpoint(train(tmp_path / "old", "iql_flow"))
    assert all(torch.equal(tensor, old[name]) for name, tensor in whole.items())


def test_the_commands_take_any_algorithm_by_its_name(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = {"observations": dataset.observations, "actions": dataset.actions, "terminals": dataset.terminals}
    ones = np.ones(60, np.float32)
    np.savez(tmp_path / "robot.npz", **arrays, rewards=-ones, masks=ones)
    run_folder, bundle = str(tmp_path / "run"), str(tmp_path / "mine")
    options = ["--algorithm", "toy_of_two", "--smoke", "--threads", "1", "--device", "cpu"]
    assert main(["train", "--dataset", str(tmp_path / "robot.npz"), "--out", run_folder, *options]) == 0
    assert main(["export", run_folder, "--out", bundle, "--policy", "leader"]) == 2
    assert "give one of them as --policy" in " ".join(capsys.readouterr().err.split())
    assert main(["export", run_folder, "--out", bundle]) == 0
    assert sorted(path.name for path in tmp_path.glob("mine*")) == ["mine-follower", "mine-imitator"]
    assert Policy.load(tmp_path / "mine-follower").manifest.denoising_steps == 2
    assert main(["export", run_folder, "--out", bundle]) == 2
    assert "mine-imitator" in capsys.readouterr().err
    assert main(["export", run_folder, "--out", bundle, "--policy", "follower"]) == 0
    assert Policy.load(tmp_path / "mine").manifest.training["algorithm"] == "toy_of_two"


def test_an_unknown_algorithm_is_one_sentence(train: Train, tmp_path: Path) -> None:
    known = " or ".join(sorted(ALGORITHMS))
    with pytest.raises(TrainingError, match=f"algorithm 'fourth' was given; expected {known}"):
        train(tmp_path, "fourth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_the_two_parts_of_a_configuration_share_no_name(name: str) -> None:
    own = {field.name for field in fields(algorithm_named(name).config_class)}
    assert not own & {field.name for field in fields(trainer.TrainingConfig)}


def test_trainer_run_and_export_name_no_algorithm() -> None:
    for module in (trainer, run, export):
        source = Path(str(module.__file__)).read_text(encoding="utf-8").lower()
        words = {spelt for name in ALGORITHMS for spelt in (name, name.replace("_", ""))}
        assert not [word for word in words if re.search(rf"(?<![a-z]){word}(?![a-z])", source)]
