"""A training run: resumed to the bit, reported, and refused where it does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the train extra")

import torch

from qgf_ros.errors import DatasetError, TrainingError
from qgf_ros.learning.algorithms.options import IqlFlowConfig
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint
from qgf_ros.learning.course import Intervals
from qgf_ros.learning.data.contract import plain_contract, read_contract
from qgf_ros.learning.data.dataset import Dataset
from qgf_ros.learning.export.export import export_bundle
from qgf_ros.learning.run import Rewarded, choose_device, dataset_record, own_rewards, train
from qgf_ros.learning.trainer import TrainingConfig

CONFIG = TrainingConfig(updates=12, batch_size=8, final_learning_rate=1e-5, seed=3)
OPTIONS = IqlFlowConfig(hidden=(16, 16))
CPU = torch.device("cpu")


@pytest.fixture
def dataset():
    random = np.random.default_rng(0)
    rows, terminals = 60, np.zeros(60, bool)
    terminals[[19, 39, 59]] = True
    observations = random.standard_normal((rows, 4)).astype(np.float32)
    actions = random.uniform(-1, 1, (rows, 2)).astype(np.float32)
    masks = (np.arange(rows) % 20 < 15).astype(np.float32)
    return Dataset(observations, actions, terminals, {"rewards": masks - 1.0, "masks": masks})


@pytest.fixture
def start(dataset):
    """A function that trains in a folder."""
    rewarded = Rewarded(dataset, own_rewards(dataset, "reach"))
    contract = plain_contract(dataset, 10.0)
    header = {"environment": None, "tasks": ["reach"], "task_ids": [None], "dataset": {"sha256": "0"}}

    def run(out, config=CONFIG, validation=rewarded, more=None, **options):
        about = {**header, **contract.header(), **(more or {})}
        given = {"device": CPU, "intervals": Intervals(log=2, validate=4, save=5), "options": OPTIONS, **options}
        return train(config, rewarded, validation, about, out, **given)

    return run


def tensors_of(path):
    return load_checkpoint(path)[0]


def test_an_interrupted_run_ends_in_the_same_bits(start, tmp_path):
    whole = tensors_of(start(tmp_path / "whole"))
    steps = []
    for stop in (3, 7):
        path = start(
            tmp_path / "parts",
            report=lambda p: steps.append(p.step),
            interrupted=lambda stop=stop: steps[-1] + 1 >= stop,
        )
        assert int(tensors_of(path)["step"]) == stop
    parts = tensors_of(start(tmp_path / "parts"))
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def test_a_finished_run_is_left_alone(start, tmp_path):
    path = start(tmp_path)
    written = path.stat().st_mtime_ns
    seen = []
    assert start(tmp_path, report=seen.append) == path
    assert path.stat().st_mtime_ns == written
    assert [progress.step for progress in seen] == [CONFIG.updates]


def test_losses_are_reported_at_their_intervals_and_written_for_tensorboard(start, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = {}
    start(tmp_path, report=lambda progress: seen.update({progress.step: progress}))
    assert [step for step, p in seen.items() if p.losses] == [2, 4, 6, 8, 10, 12]
    assert [step for step, p in seen.items() if p.validation] == [4, 8, 12]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"train/flow", "train/critic", "train/value", "validation/flow", "learning_rate"} <= set(
        events.Tags()["scalars"]
    )
    scalars = events.Scalars("validation/flow")
    assert [event.step for event in scalars] == [4, 8, 12]
    assert scalars[-1].value == pytest.approx(seen[12].validation["flow"])


def test_a_run_without_validation_data_has_no_validation_loss(start, tmp_path):
    seen = []
    start(tmp_path, validation=None, report=seen.append)
    assert not any(progress.validation for progress in seen)


def test_checkpoints_come_at_their_interval_and_at_the_end(start, tmp_path):
    start(tmp_path)
    assert [path.stem for path in sorted(tmp_path.glob("*.safetensors"))] == [
        "checkpoint-00000010",
        "checkpoint-00000012",
    ]


@pytest.mark.parametrize(
    ("config", "options", "more", "named"),
    [
        (replace(CONFIG, seed=4), OPTIONS, {}, "seed 3 -> 4"),
        (CONFIG, replace(OPTIONS, hidden=(16,)), {}, r"hidden \[16, 16\] -> \[16\]"),
        (CONFIG, replace(OPTIONS, expectile=0.7), {}, "expectile 0.9 -> 0.7"),
        (replace(CONFIG, updates=20), OPTIONS, {}, "updates 12 -> 20"),
        (CONFIG, OPTIONS, {"dataset": {"sha256": "1"}}, "dataset"),
        (CONFIG, OPTIONS, {"control_rate": 5.0}, "control_rate"),
    ],
)
def test_a_folder_of_another_run_is_refused(start, tmp_path, config, options, more, named):
    start(tmp_path)
    before = latest_checkpoint(tmp_path)
    with pytest.raises(TrainingError, match=rf"holds another run \(different: .*{named}"):
        start(tmp_path, config, more=more, options=options)
    assert latest_checkpoint(tmp_path) == before


def test_a_run_of_constant_learning_rate_may_be_made_longer(start, tmp_path):
    short = replace(CONFIG, final_learning_rate=CONFIG.learning_rate)
    start(tmp_path / "extended", short)
    longer = replace(short, updates=16)
    extended, whole = tensors_of(start(tmp_path / "extended", longer)), tensors_of(start(tmp_path / "whole", longer))
    assert all(torch.equal(tensor, extended[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("stop", [5, 12])
def test_a_run_of_falling_learning_rate_is_made_longer_by_beginning_it_anew(start, tmp_path, stop):
    """The first descent ends where it ended, so that what is done would have been the same."""
    steps = []
    start(tmp_path / "extended", report=lambda p: steps.append(p.step), interrupted=lambda: steps[-1] + 1 >= stop)
    longer = replace(CONFIG, updates=20, restart_at=12)
    again = replace(CONFIG, updates=23, restart_at=(12, 20))
    for out in ("extended", "whole"):
        start(tmp_path / out, longer)
    for out in ("extended", "anew"):
        last = tensors_of(start(tmp_path / out, again))
    extended, whole = tensors_of(start(tmp_path / "extended", again)), tensors_of(latest_checkpoint(tmp_path / "whole"))
    assert int(whole["step"]) == 20
    assert int(last["step"]) == 23
    assert all(torch.equal(tensor, extended[name]) for name, tensor in last.items())
    shorter = tensors_of(tmp_path / "extended" / "checkpoint-00000020.safetensors")
    assert all(torch.equal(tensor, shorter[name]) for name, tensor in whole.items())


def test_a_longer_run_that_would_have_been_another_is_refused_and_the_way_is_said(start, tmp_path):
    start(tmp_path)
    for config in (replace(CONFIG, updates=20), replace(CONFIG, updates=20, restart_at=8)):
        with pytest.raises(TrainingError, match="made longer with --updates 20 --restart-at 12$"):
            start(tmp_path, config)
    with pytest.raises(TrainingError, match="another --out$"):
        start(tmp_path, replace(CONFIG, updates=20, seed=4))


def test_the_reward_is_a_part_of_the_run(start, tmp_path):
    about = {"environment": "scene", "reward": "sparse"}
    start(tmp_path / "sparse", more=about)
    start(tmp_path / "sparse", more=about)
    with pytest.raises(TrainingError, match="reward sparse -> dense"):
        start(tmp_path / "sparse", more={**about, "reward": "dense"})
    assert load_checkpoint(latest_checkpoint(tmp_path / "sparse"))[1]["reward"] == "sparse"
    assert export_bundle(tmp_path / "sparse", tmp_path / "bundle").training["reward"] == "sparse"


def test_a_run_of_before_there_was_a_choice_has_the_dense_reward(start, tmp_path):
    start(tmp_path, more={"environment": "scene"})
    start(tmp_path, more={"environment": "scene", "reward": "dense"})
    with pytest.raises(TrainingError, match="reward dense -> sparse"):
        start(tmp_path, more={"environment": "scene", "reward": "sparse"})


def test_own_rewards_are_neither(start, tmp_path):
    start(tmp_path / "run", validation=None)
    assert "reward" not in load_checkpoint(latest_checkpoint(tmp_path / "run"))[1]
    training = export_bundle(tmp_path / "run", tmp_path / "bundle").training
    assert "reward" not in training
    assert "held_out" not in training


def test_the_header_is_all_that_export_needs(start, tmp_path):
    start(tmp_path / "run")
    manifest = export_bundle(tmp_path / "run", tmp_path / "bundle")
    assert manifest.environment is None
    assert list(manifest.critics) == ["reach"]
    assert (manifest.observation_size, manifest.action_size, manifest.control_rate) == (4, 2, 10.0)
    assert manifest.training["dataset"] == {"sha256": "0"}
    assert manifest.training["versions"]["torch"] == str(torch.__version__)
    assert manifest.training["hardware"]["seconds"] > 0.0
    held_out = manifest.training["held_out"]
    assert held_out["updates"] == 12
    assert {"critic", "flow"} <= held_out["losses"].keys()


def test_dataset_record_tells_files_apart(dataset, tmp_path):
    path = tmp_path / "d.npz"
    path.write_bytes(b"one")
    first = dataset_record(path, dataset)
    path.write_bytes(b"two")
    assert first["sha256"] != dataset_record(path, dataset)["sha256"]
    assert (first["name"], first["transitions"], first["trajectories"]) == ("d.npz", 57, 3)


def test_a_dataset_without_rewards_needs_an_environment(dataset):
    with pytest.raises(DatasetError, match="no rewards and no masks; give --env"):
        own_rewards(replace(dataset, extras={}), "reach")


def test_a_contract_is_read_and_checked(dataset, tmp_path):
    import json

    path = tmp_path / "contract.json"
    path.write_text(json.dumps(plain_contract(dataset, 12.0).header()))
    contract = read_contract(path).check(dataset)
    assert contract.control_rate == 12.0
    with pytest.raises(DatasetError, match="observations of size 3 .* expects 4"):
        contract.check(replace(dataset, observations=dataset.observations[:, :3]))
    for text in ("{}", "no json", '{"observation": [{"name": "x"}], "action": [], "control_rate": 1}'):
        path.write_text(text)
        with pytest.raises(TrainingError, match="is not a contract"):
            read_contract(path)


def test_devices_are_chosen_by_what_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(TrainingError, match="torch finds no GPU"):
        choose_device("cuda")
    with pytest.raises(TrainingError, match="expected auto, cpu or cuda"):
        choose_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


def test_a_run_that_went_astray_between_two_reports_is_not_saved(start, tmp_path):
    astray, seldom = (
        replace(CONFIG, learning_rate=1e30, final_learning_rate=1e30),
        Intervals(log=11, validate=11, save=3),
    )
    with pytest.raises(TrainingError, match="a loss is not finite at update 3"):
        start(tmp_path, astray, validation=None, intervals=seldom)
    assert not list(tmp_path.glob("checkpoint-*"))
