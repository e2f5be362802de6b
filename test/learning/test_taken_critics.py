"""`--critics-from`: an actor trains beside the critics of another run, which stay as they are, or is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.analysis.model_sizes import layers_of  # noqa: E402
from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning.algorithms.catalogue import ALGORITHMS  # noqa: E402
from qgf_ros.learning.algorithms.iql_flow import IqlFlow  # noqa: E402
from qgf_ros.learning.algorithms.options import IqlFlowConfig  # noqa: E402
from qgf_ros.learning.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from qgf_ros.learning.data.contract import plain_contract  # noqa: E402
from qgf_ros.learning.data.dataset import Dataset  # noqa: E402
from qgf_ros.learning.export.export import export_bundle  # noqa: E402
from qgf_ros.learning.run import Intervals, Rewarded, train  # noqa: E402
from qgf_ros.learning.trainer import TrainingConfig  # noqa: E402

Start = Callable[..., Path]

CONFIG = TrainingConfig(horizon=2, updates=6, batch_size=8, seed=3)
OPTIONS = IqlFlowConfig(hidden=(12, 8), ensemble=3, aggregate="mean")
#: Of an actor whose networks have another form than the critics.
OTHER = IqlFlowConfig(hidden=(6,))


@pytest.fixture
def dataset() -> Dataset:
    random = np.random.default_rng(0)
    terminals = np.isin(np.arange(60), [19, 39, 59])
    observations = random.standard_normal((60, 4)).astype(np.float32)
    return Dataset(observations, random.uniform(-1, 1, (60, 2)).astype(np.float32), terminals, {})


@pytest.fixture
def start(dataset: Dataset) -> Start:
    """A function that trains in a folder, for tasks of some names."""
    ones = np.ones(60, np.float32)
    contract = plain_contract(dataset, 10.0).header()

    def run(
        out: Path,
        critics: tuple[str, ...] = ("reach", "push"),
        config: TrainingConfig = CONFIG,
        more: dict[str, Any] | None = None,
        **given: Any,
    ) -> Path:
        rewarded = Rewarded(dataset, {name: (-ones * (1 + ord(name[0]) % 5), ones) for name in critics})
        about = {
            "environment": None,
            "tasks": list(critics),
            "task_ids": [None] * len(critics),
            "dataset": {"sha256": "0"},
        }
        options = {"options": OPTIONS, "intervals": Intervals(log=1, validate=3, save=3), "device": torch.device("cpu")}
        return train(config, rewarded, rewarded, {**about, **contract, **(more or {})}, out, **{**options, **given})

    return run


def of(path: Path, *networks: str) -> dict[str, Any]:
    return {name: value for name, value in load_checkpoint(path)[0].items() if name.partition(".")[0] in networks}


def test_the_critics_are_those_of_the_other_run_and_stay_so(start: Start, tmp_path: Path) -> None:
    source = start(tmp_path / "critics")
    path = start(tmp_path / "actor", options=OTHER, critics_from=tmp_path / "critics")
    tensors, header = load_checkpoint(path)
    taken, given = of(path, "target", "value"), of(source, "target", "value")
    assert taken.keys() == given.keys()
    assert all(torch.equal(value, given[name]) for name, value in taken.items())
    assert not [name for name in tensors if name.startswith("critic.")]
    assert len([name for name in tensors if name.startswith("adam.")]) == 3 * len(of(path, "velocity"))
    assert header["critics_from"] == {
        "checkpoint": source.name,
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "algorithm": "iql_flow",
        "hidden": [12, 8],
        "ensemble": 3,
        "aggregate": "mean",
    }
    assert not {"expectile", "target_rate", "ensemble", "aggregate"} & header["config"].keys()


def test_a_run_with_taken_critics_resumes_to_the_bit_and_is_exported(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "critics")
    given = {"options": OTHER, "critics_from": tmp_path / "critics"}
    whole, _ = load_checkpoint(start(tmp_path / "whole", **given))
    start(tmp_path / "parts", interrupted=lambda: True, **given)
    parts, header = load_checkpoint(start(tmp_path / "parts", **given))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    theirs = export_bundle(tmp_path / "critics", tmp_path / "theirs")
    ours = export_bundle(tmp_path / "whole", tmp_path / "ours")
    assert ours.critics == theirs.critics
    for name in ("critics/reach/q_grad.onnx", "critics/push/q_grad.onnx"):
        assert ours.files[name] == theirs.files[name]
    assert ours.training["critics_from"] == header["critics_from"]


def test_critics_may_have_other_sizes_than_the_policy_and_keep_them_where_they_are_taken(
    start: Start, tmp_path: Path
) -> None:
    options = replace(OPTIONS, critic_hidden=(7, 5))
    path = start(tmp_path / "critics", options=options)
    widths = {
        name: of(path, name)[f"{name}.mlp.weights.0"].shape[-1] for name in ("velocity", "critic", "target", "value")
    }
    assert widths == {"velocity": 12, "critic": 7, "target": 7, "value": 7}
    own = export_bundle(tmp_path / "critics", tmp_path / "own")
    start(tmp_path / "taken", options=OTHER, critics_from=tmp_path / "critics")
    taken = export_bundle(tmp_path / "taken", tmp_path / "theirs")
    assert taken.training["critics_from"]["hidden"] == [7, 5]
    assert taken.files["critics/reach/q_grad.onnx"] == own.files["critics/reach/q_grad.onnx"]
    assert layers_of(own) == "12-8, critics 7-5"
    with pytest.raises(TrainingError, match=r"critic_hidden \(7, 0\) was given"):
        replace(OPTIONS, critic_hidden=(7, 0))


def test_some_of_the_tasks_can_be_taken_in_any_order_and_taken_again(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "critics", ("reach", "push", "turn"))
    every = export_bundle(tmp_path / "critics", tmp_path / "every")
    start(tmp_path / "two", ("turn", "reach"), critics_from=tmp_path / "critics")
    start(tmp_path / "one", ("turn",), critics_from=tmp_path / "two")
    for run, names in (("two", ["turn", "reach"]), ("one", ["turn"])):
        some = export_bundle(tmp_path / run, tmp_path / f"bundle_{run}")
        assert list(some.critics) == names
        for name in names:
            assert some.files[f"critics/{name}/q_grad.onnx"] == every.files[f"critics/{name}/q_grad.onnx"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"critics": ("reach", "lift")}, "critics lift, it has reach, push"),
        ({"config": replace(CONFIG, horizon=1)}, "horizon 2 -> 1"),
        ({"config": replace(CONFIG, discount=0.9)}, "discount 0.99 -> 0.9"),
        ({"more": {"dataset": {"sha256": "1"}}}, "dataset"),
        ({"more": {"control_rate": 20.0}}, "control_rate"),
        ({"more": {"environment": "scene", "reward": "sparse"}}, "environment; reward"),
    ],
)
def test_critics_of_another_problem_are_refused(
    start: Start, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    start(tmp_path / "critics")
    with pytest.raises(TrainingError, match=f"critics of another problem|of another problem .different: {told}"):
        start(tmp_path / "actor", critics_from=tmp_path / "critics", **change)
    assert not (tmp_path / "actor").exists()


def test_critics_of_another_normalisation_are_refused(start: Start, dataset: Dataset, tmp_path: Path) -> None:
    start(tmp_path / "critics")
    (field,) = plain_contract(dataset, 10.0).header()["observation"]
    scaled = {"observation": [{**field, "scale": 2.0}]}
    with pytest.raises(TrainingError, match="different: observation"):
        start(tmp_path / "actor", critics_from=tmp_path / "critics", more=scaled)


def test_a_run_without_such_networks_and_an_algorithm_without_use_for_them_are_refused(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = start(tmp_path / "critics")
    tensors, header = load_checkpoint(path)
    save_checkpoint(path.parent, 6, {k: v for k, v in tensors.items() if not k.startswith("value")}, header)
    with pytest.raises(TrainingError, match="has no value network, which iql_flow needs"):
        start(tmp_path / "actor", critics_from=tmp_path / "critics")

    class Alone(IqlFlow):
        critic_networks = ()

    monkeypatch.setitem(ALGORITHMS, "alone", Alone)
    with pytest.raises(TrainingError, match="alone trains nothing against critics; leave them out"):
        start(tmp_path / "actor", algorithm="alone", critics_from=tmp_path / "critics")


def test_a_run_is_not_continued_with_other_critics(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "critics")
    given = {"config": replace(CONFIG, updates=7), "critics_from": tmp_path / "critics"}
    start(tmp_path / "actor", critics_from=tmp_path / "critics")
    start(tmp_path / "critics", config=replace(CONFIG, updates=8))
    with pytest.raises(TrainingError, match="another run .different: critics_from"):
        start(tmp_path / "actor", **given)
    with pytest.raises(TrainingError, match="another run"):
        start(tmp_path / "actor")
