"""Trials: none is run twice, none is half kept, and where they run makes no difference."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ogbench", reason="trials need the sim extra")

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.cli import main
from qgf_ros.control.run_options import BC as PLAIN
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import BundleError, SimulationError
from qgf_ros.evaluation.halving import Outcome
from qgf_ros.evaluation.trials import _EVIDENCE, Trial, Trials, TrialStore, fingerprint, outcome_of
from qgf_sim.rollouts.evaluate import EvaluationPlan, evaluate
from qgf_sim.rollouts.trial_pools import local_processes, ray_cluster

BC = replace(PLAIN, critic="task1")
GUIDED = RunOptions(0.1, "task1", num_samples=2)


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return load_manifest(tiny_bundle)


class Fake:
    """Runs trials in reverse order, and may be interrupted after some."""

    def __init__(self, most: int = 1000) -> None:
        self.ran: list[Trial] = []
        self.most = most

    def __call__(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
        for trial in reversed(trials):
            if len(self.ran) == self.most:
                raise KeyboardInterrupt
            self.ran.append(trial)
            yield trial, [Outcome(seed, seed % 2 == 0, 100 + seed, -1.5) for seed in trial.seeds]


def trials(bundle: Path, store: TrialStore, execute: Any, tasks: tuple[int, ...] = (1,), block: int = 4) -> Trials:
    return Trials(bundle, tasks, 2, block, store, execute)


def test_outcomes_come_in_the_order_of_their_seeds(tiny_bundle: Path, manifest: Manifest, tmp_path: Path) -> None:
    execute = Fake()
    store = TrialStore(tmp_path / "trials.jsonl", manifest, "processes")
    found = trials(tiny_bundle, store, execute)([BC, GUIDED], range(10, 20))
    assert {name: [outcome.seed for outcome in outcomes] for name, outcomes in found.items()} == {
        BC: list(range(10, 20)),
        GUIDED: list(range(10, 20)),
    }
    assert sorted(len(trial.seeds) for trial in execute.ran) == [2, 2, 4, 4, 4, 4]


def test_an_interrupted_run_goes_on_with_what_is_missing(tiny_bundle: Path, manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    with pytest.raises(KeyboardInterrupt):
        trials(tiny_bundle, TrialStore(path, manifest, "processes"), Fake(most=2))([BC, GUIDED], range(8))
    with path.open("ab") as file:  # killed within a write
        file.write(b'{"trial": {"bundle": "9343')
    rest, whole = Fake(), Fake()
    resumed = trials(tiny_bundle, TrialStore(path, manifest, "processes"), rest)([BC, GUIDED], range(8))
    assert len(rest.ran) == 2
    fresh = TrialStore(tmp_path / "other.jsonl", manifest, "processes")
    assert resumed == trials(tiny_bundle, fresh, whole)([BC, GUIDED], range(8))
    again = Fake()
    assert trials(tiny_bundle, TrialStore(path, manifest, "processes"), again)([BC, GUIDED], range(8)) == resumed
    assert again.ran == []


def test_a_trial_that_the_disk_has_no_room_for_is_told_and_harms_no_other(
    tiny_bundle: Path, manifest: Manifest, tmp_path: Path
) -> None:
    path = tmp_path / "trials.jsonl"
    trials(tiny_bundle, TrialStore(path, manifest, "processes"), Fake())([BC], range(4))
    before = path.stat().st_size
    found = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before + 20, found[1]))  # room for half a line
    try:
        with pytest.raises(SimulationError, match="cannot be written .*; free some space"):
            trials(tiny_bundle, TrialStore(path, manifest, "processes"), Fake())([GUIDED], range(4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, found)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.stat().st_size == before + 20
    rest = Fake()
    trials(tiny_bundle, TrialStore(path, manifest, "processes"), rest)([BC, GUIDED], range(4))
    assert [trial.options for trial in rest.ran] == [GUIDED]
    assert len(TrialStore(path, manifest, "processes")) == 2


def test_trials_of_other_networks_or_another_source_do_not_count(
    tiny_bundle: Path, manifest: Manifest, tmp_path: Path
) -> None:
    path = tmp_path / "trials.jsonl"
    trials(tiny_bundle, TrialStore(path, manifest, "processes"), Fake())([BC], range(4))
    files = {name: record.model_copy(update={"sha256": "0" * 64}) for name, record in manifest.files.items()}
    for other in (
        TrialStore(path, manifest.model_copy(update={"files": files}), "processes"),
        TrialStore(path, manifest, "robot"),
    ):
        execute = Fake()
        trials(tiny_bundle, other, execute)([BC], range(4))
        assert len(execute.ran) == 1


def test_trials_count_for_the_whole_bundle_but_not_for_its_evidence(
    tiny_bundle: Path, manifest: Manifest, tmp_path: Path
) -> None:
    path = tmp_path / "trials.jsonl"
    trials(tiny_bundle, TrialStore(path, manifest, "robot", "as ever"), Fake())([BC], range(4))
    card = manifest.critics["task1"].model_copy(update={"recommended_weight": 0.5, "tested_range": (0.0, 1.0)})
    tuned = manifest.model_copy(update={"critics": {**manifest.critics, "task1": card}})
    others = {"execution_horizon": 1, "denoising_steps": 3, "control_rate": 5.0}
    stores = [TrialStore(path, tuned, "robot", "as ever"), TrialStore(path, manifest, "robot", "other limits")]
    stores += [
        TrialStore(path, manifest.model_copy(update={name: value}), "robot", "as ever")
        for name, value in others.items()
    ]
    ran = []
    for store in stores:
        execute = Fake()
        trials(tiny_bundle, store, execute)([BC], range(4))
        ran.append(len(execute.ran))
    assert ran == [0, 1, 1, 1, 1]


def test_trials_of_before_goals_said_what_they_hold_are_found_again(manifest: Manifest) -> None:
    before = manifest.model_dump_json(exclude={"goal_fields": True, "critics": {"__all__": _EVIDENCE}})
    assert fingerprint(manifest) == hashlib.sha256(before.encode()).hexdigest()[:16]
    assert fingerprint(manifest.model_copy(update={"goal_fields": ("joint_position",)})) != fingerprint(manifest)


def test_a_trial_of_another_bundle_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))
    manifest = load_manifest(bundle)
    work = Trial(bundle, fingerprint(manifest), 1, BC, (0,))
    update_manifest(bundle, manifest.model_copy(update={"denoising_steps": 3}))  # as a new export would
    with pytest.raises(BundleError, match="tiny is not the bundle whose tuning began"), local_processes(1) as execute:
        list(execute([work]))


def test_seeds_take_turns_with_the_tasks_of_a_critic(tiny_bundle: Path, manifest: Manifest, tmp_path: Path) -> None:
    execute = Fake()
    store = TrialStore(tmp_path / "trials.jsonl", manifest, "processes")
    found = trials(tiny_bundle, store, execute, tasks=(1, 2), block=2)([BC], range(6))
    assert {(trial.task, trial.seeds) for trial in execute.ran} == {(1, (0, 2)), (2, (1, 3)), (1, (4,)), (2, (5,))}
    assert [outcome.seed for outcome in found[BC]] == list(range(6))


def test_a_file_that_cannot_be_written_is_named(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="cannot be written .*; choose another --trials"):
        TrialStore(tmp_path, manifest, "processes")


@pytest.fixture(scope="module")
def work(tiny_bundle: Path) -> list[Trial]:
    return [Trial(tiny_bundle, fingerprint(load_manifest(tiny_bundle)), 1, name, (3, 4), 2) for name in (BC, GUIDED)]


@pytest.fixture(scope="module")
def in_this_process(work: list[Trial]) -> dict[Trial, list[Outcome]]:
    with local_processes(1) as execute:
        return dict(execute(work))


def test_a_trial_is_an_evaluation(
    tiny_bundle: Path, work: list[Trial], in_this_process: dict[Trial, list[Outcome]]
) -> None:
    plan = EvaluationPlan(tiny_bundle, 1, (0.1,), 2, RunOptions(seed=3, num_samples=2), batch_size=2)
    assert in_this_process[work[1]] == [outcome_of(episode) for episode in evaluate(plan)[0.1]]
    assert [outcome.seed for outcome in in_this_process[work[1]]] == [3, 4]
    assert all(outcome.start_q is not None for outcome in in_this_process[work[1]])
    assert all(outcome.start_q is None for outcome in in_this_process[work[0]])


def test_other_processes_find_the_same(work: list[Trial], in_this_process: dict[Trial, list[Outcome]]) -> None:
    with local_processes(2) as execute:
        assert dict(execute(work)) == in_this_process


def test_what_goes_wrong_in_another_process_is_told_as_here(work: list[Trial]) -> None:
    wrong = replace(work[0], task=9)
    with pytest.raises(SimulationError, match="task 9"), local_processes(2) as execute:
        list(execute([wrong]))


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address of this machine at which nobody listens, and nobody will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield "127.0.0.1:{1}".format(*bound.getsockname())


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that Ray was asked to join; the module stands in for the real one."""
    asked: list[str] = []
    fake = SimpleNamespace(
        init=lambda address, **options: asked.append(address), shutdown=lambda: None, remote=lambda **options: id
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return asked


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_ray_is_not_left_to_try_an_address_where_nothing_listens(
    tiny_bundle: Path, nowhere: str, joined: list[str], form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = form.format(nowhere)
    trials = str(tmp_path / "trials.jsonl")
    assert main(["tune", str(tiny_bundle), "--task", "1", "--dry-run", "--trials", trials, "--ray", address]) == 2
    (complaint,) = capsys.readouterr().err.strip().splitlines()
    assert complaint.startswith(f"qgf: no Ray cluster can be joined at {address} (")
    assert "Connection refused" in complaint
    assert joined == []


def test_the_address_of_auto_may_come_from_the_environment(
    nowhere: str, joined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", nowhere)
    with pytest.raises(SimulationError, match="no Ray cluster can be joined at auto .*refused"), ray_cluster("auto"):
        pass
    assert joined == []


def test_a_port_that_is_no_number_is_one_sentence(joined: list[str]) -> None:
    with pytest.raises(SimulationError, match="no Ray cluster can be joined at head:gcs"), ray_cluster("head:gcs"):
        pass


def test_ray_is_asked_where_something_listens_and_where_it_knows_the_place_itself(joined: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = f"127.0.0.1:{server.getsockname()[1]}"
        for address in (head, f"ray://{head}", "local", "auto"):
            with ray_cluster(address):
                pass
    assert joined == [head, f"ray://{head}", "local", "auto"]


@pytest.mark.slow
def test_a_ray_cluster_finds_the_same(work: list[Trial], in_this_process: dict[Trial, list[Outcome]]) -> None:
    pytest.importorskip("ray", reason="needs the ray extra")
    wrong = replace(work[0], task=9)
    with ray_cluster("local", num_cpus=2) as execute:
        assert dict(execute(work)) == in_this_process
        with pytest.raises(SimulationError, match="^[^\n]*task 9[^\n]*$"):
            list(execute([wrong]))


@pytest.mark.slow
def test_after_ctrl_c_the_same_command_ends_as_if_nothing_had_happened(tiny_bundle: Path, tmp_path: Path) -> None:
    store, report = tmp_path / "trials.jsonl", tmp_path / "report.json"
    arguments = f"tune {tiny_bundle} --task 1 --guidance-weights 0.1 --choosing-episodes 4 --reporting-episodes 2 --batch-size 1"
    command = [sys.executable, "-m", "qgf_ros.cli", *arguments.split(), "--dry-run", "--workers", "2"]
    whole = [*command, "--trials", str(tmp_path / "whole.jsonl"), "--json", str(tmp_path / "whole.json")]
    subprocess.run(whole, check=True, capture_output=True)
    command += ["--trials", str(store), "--json", str(report)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120.0
    while not (store.is_file() and store.read_text().count("\n") >= 2):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finished trials are kept in" in complaint
    assert not report.exists()
    kept = store.read_text().splitlines()
    subprocess.run(command, check=True, capture_output=True)
    assert store.read_text().splitlines()[: len(kept)] == kept
    assert json.loads(report.read_text())["tasks"] == json.loads((tmp_path / "whole.json").read_text())["tasks"]
