"""`qgf tune`: one command from the search to the manifest, the table and the figure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ogbench", reason="tuning needs the sim extra")
pytest.importorskip("matplotlib", reason="the figure needs the analysis extra")

from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main
from qgf_ros.evaluation.halving import Outcome
from qgf_ros.evaluation.trials import Trial
from qgf_sim.rollouts import trial_pools as executors


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """Trials that ran; in them weight 0.1 solves every task, and 0.3 every other seed."""
    trials: list[Trial] = []

    def execute(work: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
        for trial in work:
            trials.append(trial)
            weight = trial.options.guidance_weight
            solved = [weight == 0.1 or (weight > 0.0 and seed % 2 == 0) for seed in trial.seeds]
            yield trial, [Outcome(seed, success, 100, -weight) for seed, success in zip(trial.seeds, solved)]

    @contextmanager
    def here(count: int) -> Iterator[Any]:
        yield execute

    monkeypatch.setattr(executors, "local_processes", here)
    return trials


def tune(bundle: Path, *arguments: str) -> int:
    few = ["--guidance-weights", "0.1,0.3", "--choosing-episodes", "16", "--reporting-episodes", "20"]
    return main(["tune", str(bundle), *few, "--trials", str(bundle.parent / "trials.jsonl"), *arguments])


def test_every_critic_is_tuned_written_and_drawn(
    bundle: Path, ran: list[Trial], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "out" / "tiny.json"
    assert tune(bundle, "--json", str(report)) == 0
    assert {trial.task for trial in ran} == {1, 2}
    table = json.loads(report.read_text())
    manifest = load_manifest(bundle)
    assert table["files"] == {name: record.sha256 for name, record in manifest.files.items()}
    assert [(task["critic"], task["task"], task["recommended_weight"]) for task in table["tasks"]] == [
        ("task1", 1, 0.1),
        ("task2", 2, 0.1),
    ]
    assert {card.recommended_weight for card in manifest.critics.values()} == {0.1}
    assert (tmp_path / "out" / "tiny.png").read_bytes().startswith(b"\x89PNG")
    assert "tiny, task2: weight 0.1: 100 % [84, 100], behaviour cloning 0 % [0, 16]" in capsys.readouterr().out


def test_the_same_command_runs_nothing_again_and_says_so(
    bundle: Path, ran: list[Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(bundle, "--task", "1") == 0
    assert "no episode had to be run" not in capsys.readouterr().out
    count = len(ran)
    assert tune(bundle, "--task", "1", "--dry-run") == 0
    assert len(ran) == count
    assert f"no episode had to be run, all are in {bundle.parent / 'trials.jsonl'}" in capsys.readouterr().out
    assert {trial.task for trial in ran} == {1}


def test_a_dry_run_leaves_the_manifest_alone(bundle: Path, ran: list[Trial]) -> None:
    before = load_manifest(bundle)
    assert tune(bundle, "--tasks", "1", "--dry-run") == 0
    assert load_manifest(bundle) == before
    assert ran


def test_what_is_tried_and_what_every_episode_is_run_with_reach_the_trials(bundle: Path, ran: list[Trial]) -> None:
    fixed = ["--max-guidance-deviation", "0.3", "--seam", "rtc"]
    assert tune(bundle, "--task", "1", "--num-samples", "1,4", "--estimators", "qgf,noisy", *fixed) == 0
    guided = {trial.options for trial in ran if trial.options.guidance_weight}
    assert {(options.num_samples, options.estimator) for options in guided} == {
        (samples, estimator) for samples in (1, 4) for estimator in ("qgf", "noisy")
    }
    assert {options.max_guidance_deviation for options in guided} == {0.3}
    assert {(trial.options.seam, trial.options.critic) for trial in ran} == {("rtc", "task1")}
    plain = {trial.options for trial in ran} - guided
    assert {(options.num_samples, options.estimator) for options in plain} == {(1, "qgf"), (4, "qgf")}
    card = load_manifest(bundle).critics["task1"]
    assert card.recommended_settings["max_guidance_deviation"] == 0.3
    assert card.recommended_settings["seam"] == "rtc"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--batch-size", "0"], "batch-size 0 was given; it must be at least 1"),
        (["--task", "4"], "has no critic for task 4"),
        (["--weight-schedules", "sudden"], "weight_schedule 'sudden' was given"),
        (["--reporting-seed", "10010"], "overlap"),
        (["--critic", "task7"], "critic 'task7' was given"),
        (["--outcomes", "service"], "--outcomes service was given without --ros; add it"),
        (["--ros", "--ray", "auto"], "--ray auto was given with --ros; a running graph has one robot"),
        (["--guidance-weights", "0.1,nan"], "guidance_weight nan was given; it must be finite"),
        (["--seam", "linear", "--blend-steps", "0"], "blend_steps 0 was given; it must be at least 1"),
        (
            ["--ros", "--max-guidance-deviation", "0.3", "--seam", "rtc"],
            "max_guidance_deviation 0.3, seam rtc was given with --ros; set it on the node, which keeps it",
        ),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_runs(
    bundle: Path, ran: list[Trial], arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(bundle, *arguments) == 2
    assert complaint in capsys.readouterr().err
    assert not ran
