"""Every algorithm that trains actors, or critics by temporal differences: trained, resumed, exported and run, tiny."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.learning import run, trainer  # noqa: E402
from qgf_ros.learning.algorithms.algorithm import Problem  # noqa: E402
from qgf_ros.learning.algorithms.catalogue import algorithm_named, configured  # noqa: E402
from qgf_ros.learning.algorithms.options import OPTIONS, TdConfig  # noqa: E402
from qgf_ros.learning.algorithms.sampling import euler  # noqa: E402
from qgf_ros.learning.checkpoint import load_checkpoint  # noqa: E402
from qgf_ros.learning.data.chunks import ChunkData  # noqa: E402
from qgf_ros.learning.data.contract import plain_contract  # noqa: E402
from qgf_ros.learning.data.dataset import Dataset  # noqa: E402
from qgf_ros.learning.export import export  # noqa: E402
from qgf_ros.runtime.policy import Policy  # noqa: E402

Train = Callable[..., Path]
CONFIG = trainer.TrainingConfig(horizon=2, updates=7, batch_size=8, seed=3)
TINY = {"hidden": (12, 8), "denoising_steps": 3}
#: What is no algorithm's default; those are in test_algorithms.py.
VARIANTS = [
    ("td_flow", {"backup": "best_of_n", "candidates": 4, "ensemble": 3}),
    ("fql", {"backup": "actor", "normalise_q": True}),
    ("qam", {"backup": "actor", "ensemble": 3, "aggregate": "mean - 0.5 std"}),
    ("dac", {"backup": "actor"}),
]
ALL = [*((name, {}) for name in OPTIONS if issubclass(OPTIONS[name], TdConfig)), *VARIANTS]


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
    masks = np.ones((2, 60), np.float32)
    rewarded = run.Rewarded(dataset, {"reach": (masks[0] - 2.0, masks[0]), "push": (masks[1] - 3.0, masks[1])})
    header = {"environment": None, "tasks": ["reach it", "push it"], "task_ids": [None, None], "dataset": {}}

    def start(out: Path, algorithm: str, options: dict[str, Any] | None = None, **more: Any) -> Path:
        about = {**header, **plain_contract(dataset, 10.0).header()}
        intervals = run.Intervals(log=1, validate=3, save=4)
        own = configured(algorithm, {**TINY, **(options or {})})
        where = torch.device("cpu")
        return run.train(
            CONFIG,
            rewarded,
            rewarded,
            about,
            out,
            device=where,
            algorithm=algorithm,
            options=own,
            intervals=intervals,
            **more,
        )

    return start


@pytest.mark.parametrize(("algorithm", "options"), VARIANTS, ids=str)
def test_it_resumes_to_the_bit_and_all_of_its_networks_train(
    train: Train, tmp_path: Path, algorithm: str, options: dict[str, Any]
) -> None:
    whole, header = load_checkpoint(train(tmp_path / "whole", algorithm, options))
    seen: list[run.Progress] = []
    train(tmp_path / "parts", algorithm, options, report=seen.append, interrupted=lambda: len(seen) > 3)
    assert seen[-1].step == 4
    parts, _ = load_checkpoint(train(tmp_path / "parts", algorithm, options))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    kind = algorithm_named(algorithm)
    problem = Problem(("reach", "push"), 4, 4)
    fresh = kind(kind.config_class.from_dict(header["config"]), problem, torch.Generator().manual_seed(CONFIG.seed))
    still = {name.split(".")[0] for name, value in fresh.state_dict().items() if torch.equal(value, whole[name])}
    assert not still


@pytest.mark.parametrize(("algorithm", "options"), VARIANTS, ids=str)
def test_its_policies_are_bundles_that_act_as_torch_does(
    train: Train, tmp_path: Path, algorithm: str, options: dict[str, Any]
) -> None:
    tensors, header = load_checkpoint(train(tmp_path / "run", algorithm, options))
    kind = algorithm_named(algorithm)
    trained = kind(kind.config_class.from_dict(header["config"]), Problem(("reach", "push"), 4, 4), torch.Generator())
    trained.load_tensors(tensors)
    random = torch.Generator().manual_seed(0)
    s, noise = torch.randn(5, 4, generator=random), torch.randn(5, 4, generator=random)
    for name, exported in trained.policies().items():
        manifest = export.export_bundle(tmp_path / "run", tmp_path / name, policy=name)
        assert manifest.training["algorithm"] == algorithm
        assert manifest.denoising_steps == exported.denoising_steps
        assert tuple(manifest.critics) == exported.critics
        policy = Policy.load(tmp_path / name)
        policy.warm_up()
        chunks = policy.act(s.numpy(), noise[:, None].numpy(), exported.critics[0], 0.0)
        with torch.no_grad():
            expected = euler(exported.velocity, s, noise, exported.denoising_steps).clamp(-1.0, 1.0)
        np.testing.assert_allclose([chunk.actions.ravel() for chunk in chunks], expected.numpy(), atol=1e-4)
        (guided, *_) = policy.act(s.numpy(), noise[:, None].numpy(), exported.critics[0], 0.1)
        assert not guided.telemetry["critic_failed"] and np.isfinite(guided.actions).all()


def test_a_run_of_adjoint_matching_gives_its_policies_and_the_flow_that_its_critics_guide(
    train: Train, tmp_path: Path
) -> None:
    """QAM, BC and QGF with the critics of QAM: the last two are one bundle, at weight 0 and above."""
    train(tmp_path / "run", "qam", {"backup": "actor", "ensemble": 3, "aggregate": "mean - 0.5 std"})
    assert export.policy_names(tmp_path / "run") == ["reach", "push", "flow"]
    flow = export.export_bundle(tmp_path / "run", tmp_path / "flow", policy="flow")
    assert {(card.ensemble_size, card.aggregation) for card in flow.critics.values()} == {(3, "mean - 0.5 std")}
    policy, noise = Policy.load(tmp_path / "flow"), np.zeros((1, 1, 4), np.float32)
    plain, guided = (policy.act(np.zeros((1, 4), np.float32), noise, "push", weight)[0] for weight in (0.0, 5.0))
    np.testing.assert_allclose(guided.unguided, plain.actions, atol=1e-6)
    assert guided.telemetry["guidance_distance"] > 0.0


@pytest.mark.parametrize("algorithm", ["fql", "qam", "dac", "qsm"])
def test_actors_train_against_the_critics_of_another_run_which_stay(
    train: Train, tmp_path: Path, algorithm: str
) -> None:
    for source, options in (("iql_flow", {"ensemble": 3}), ("td_flow", {"ensemble": 3})):
        before, _ = load_checkpoint(train(tmp_path / source, source, options))
        out = tmp_path / f"{algorithm}_of_{source}"
        after, header = load_checkpoint(train(out, algorithm, critics_from=tmp_path / source))
        targets = [name for name in before if name.startswith("target.")]
        assert targets and all(torch.equal(before[name], after[name]) for name in targets)
        assert not [name for name in after if name.startswith(("critic.", "value."))]
        assert header["critics_from"]["algorithm"] == source
        manifest = export.export_bundle(out, tmp_path / "bundle", policy="push")
        assert manifest.critics["push"].ensemble_size == 3


@pytest.mark.parametrize(("algorithm", "options"), ALL, ids=str)
def test_a_task_trains_as_if_alone(dataset: Dataset, algorithm: str, options: dict[str, Any]) -> None:
    masks = np.ones(60, np.float32)
    rewards = {"reach": (masks - 2.0, masks), "push": (masks - 3.0, masks)}
    steps = []
    start = None
    for names in (("reach", "push"), ("push",)):
        data = ChunkData.build(dataset, {name: rewards[name] for name in names}, 2, 0.9, torch.device("cpu"))
        kind = algorithm_named(algorithm)
        own = configured(algorithm, {**TINY, **options})
        made = trainer.new_algorithm(CONFIG, kind, own, names, data)
        if start is None:
            start = {name: value.clone() for name, value in made.state_dict().items()}
        else:
            made.load_state_dict(
                {
                    name: start[name] if len(start[name]) == len(value) else start[name][len(value) :]
                    for name, value in made.state_dict().items()
                }
            )
        subject = trainer.Trainer(CONFIG, made, data, torch.device("cpu"))
        for _ in range(3):
            subject.update()
        steps.append(made.state_dict())
    together, alone = steps
    for name, value in alone.items():
        torch.testing.assert_close(together[name][-len(value) :], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("algorithm", "options"), ALL, ids=str)
def test_it_trains_for_goals_in_hindsight(dataset: Dataset, algorithm: str, options: dict[str, Any]) -> None:
    config, device = trainer.TrainingConfig(horizon=2, batch_size=8, goal_conditioned=True), torch.device("cpu")
    data = ChunkData.build(dataset.observed(), {}, 2, config.discount, device)
    made = trainer.new_algorithm(
        config, algorithm_named(algorithm), configured(algorithm, {**TINY, **options}), ("goal",), data
    )
    subject = trainer.Trainer(config, made, data, device)
    for _ in range(2):
        assert np.isfinite(list(subject.update()().values())).all()
    assert np.isfinite(list(subject.validate(data).values())).all()
    assert next(iter(made.policies().values())).critics == ("goal",)
