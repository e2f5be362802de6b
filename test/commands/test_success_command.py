"""`qgf analyze success`: bundles, training seeds and tasks in one command, which goes on where it was ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ogbench", reason="closed-loop runs need the sim extra")
pytest.importorskip("matplotlib", reason="the figure needs the analysis extra")
pytest.importorskip("onnx", reason="operations are counted from the graphs")

from qgf_ros.bundle.store import file_record, load_manifest, update_manifest
from qgf_ros.cli import main
from qgf_ros.evaluation.halving import Outcome
from qgf_ros.evaluation.trials import Trial
from qgf_sim.rollouts import trial_pools

#: Share of episodes that each estimator solves at its best weight, 0.1.
RATES = {"qgf": 0.8, "noisy": 0.4, "qgf_jacobian": 0.7, "qgf_chain": 0.7, "bptt": 0.7, "grad_step": 0.2}


class Episodes:
    """Stands in for processes and for Ray; interrupted after `most` trials."""

    def __init__(self) -> None:
        self.ran: list[Trial] = []
        self.addresses: list[str] = []
        self.most = 10**9

    def __call__(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
        for trial in trials:
            if len(self.ran) == self.most:
                raise KeyboardInterrupt
            self.ran.append(trial)
            options = trial.options
            rate = 0.05 + 0.01 * options.num_samples
            if options.guidance_weight:
                rate = RATES[options.estimator] * (1.0 if options.guidance_weight == 0.1 else 0.5)
            yield trial, [Outcome(seed, seed * 37 % 100 < 100 * rate, 90, -1.0) for seed in trial.seeds]

    @contextmanager
    def here(self, count: int) -> Iterator[Any]:
        yield self

    @contextmanager
    def there(self, address: str) -> Iterator[Any]:
        self.addresses.append(address)
        yield self


@pytest.fixture
def episodes(monkeypatch: pytest.MonkeyPatch) -> Episodes:
    fake = Episodes()
    monkeypatch.setattr(trial_pools, "local_processes", fake.here)
    monkeypatch.setattr(trial_pools, "ray_cluster", fake.there)
    return fake


@pytest.fixture
def bundles(tiny_bundle: Path, tmp_path: Path) -> list[str]:
    """Two recipes with two training seeds each; a note stands for the networks that tell them apart."""
    made = []
    for name, seed, horizon in (("a0", 0, 2), ("a1", 1, 2), ("b0", 0, 5), ("b1", 1, 5)):
        path = Path(shutil.copytree(tiny_bundle, tmp_path / name))
        (path / "note.txt").write_text(name)
        manifest = load_manifest(path)
        changes = {
            "name": name,
            "execution_horizon": horizon,
            "training": {"config": {"seed": seed}},
            "files": {**manifest.files, "note.txt": file_record(name.encode())},
        }
        update_manifest(path, manifest.model_copy(update=changes))
        made.append(str(path))
    return made


def run(tmp_path: Path, *words: object, out: str = "o") -> dict[str, Any]:
    """Run the command with few episodes and return its table, once figure and numbers have been found whole."""
    assert main(arguments(tmp_path, *words, out=out)) == 0
    folder = tmp_path / out
    assert sorted(path.name for path in folder.iterdir()) == ["success.json", "success.png", "success.svg"]
    assert (folder / "success.png").read_bytes().startswith(b"\x89PNG\r\n")
    table: dict[str, Any] = json.loads((folder / "success.json").read_text(), parse_constant=pytest.fail)
    return table


def arguments(tmp_path: Path, *words: object, out: str = "o") -> list[str]:
    few = ("--choosing-episodes", 16, "--episodes", 20, "--batch-size", 8, "--timed", 1)
    places = ("--trials", tmp_path / "trials.jsonl", "--out", tmp_path / out)
    return ["analyze", "success", *map(str, (*words, *few, *places))]


def by_method(part: dict[str, Any]) -> dict[str, Any]:
    return {row["method"]: row for row in part["methods"]}


def test_one_command_runs_every_family_training_seed_and_task(
    bundles: list[str], episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = run(tmp_path, *bundles, "--methods", "bc,bfn32,qgf,qgf_bfn4,qfql,bptt")
    assert [part["family"] for part in table["families"]] == ["a0", "b0"]
    assert [(b["family"], b["training_seed"], b["bundle"]) for b in table["bundles"]] == [
        ("a0", 0, "a0"),
        ("a0", 1, "a1"),
        ("b0", 0, "b0"),
        ("b0", 1, "b1"),
    ]
    together = by_method(table["overall"])
    assert list(together) == ["bc", "bfn32", "qgf", "qgf_bfn4", "noisy", "bptt"]
    for name, row in together.items():
        alone = name == "bptt"
        assert row["training_seeds"] == {family: [0] if alone else [0, 1] for family in ("a0", "b0")}
        assert row["episodes"] == 20 * 2 * 2 * (1 if alone else 2)
        assert row["ci95"][0] <= row["success_rate"] <= row["ci95"][1]
        assert row["iqm"]["ci95"][0] <= row["iqm"]["value"] <= row["iqm"]["ci95"][1]
        assert row["cost"]["gflops"] > 0.0
        assert row["cost"]["time_ms"] > 0.0
    assert together["noisy"]["versus"]["verdict"] == "worse"
    assert together["bc"]["probability_of_improvement"]["value"] == 1.0
    assert all(row["fewer"] for name, row in together.items() if not name.startswith(("bc", "bfn")))
    assert table["command"].startswith("qgf")
    assert len({trial.bundle for trial in episodes.ran}) == 4
    assert len(set(episodes.ran)) == len(episodes.ran)
    assert "once per method and bundle, after all episodes" in table["times"]
    out = capsys.readouterr().out
    assert "all families: success with 95 % intervals" in out
    assert "best of 32" in out
    assert (
        "a0, training seed 1, task 2, QGF, weight 0.1: 80 % [58, 92]" not in out
    )  # 0.8 of 20 seeds is counted, not given
    assert "a0, training seed 1, task 2, QGF, weight 0.1:" in out


def test_after_ctrl_c_the_same_command_ends_as_if_nothing_had_happened(
    bundles: list[str], episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*bundles[:2], "--methods", "bc,qgf,grad_step")
    whole = run(tmp_path, *words, out="whole")
    wanted, episodes.ran = episodes.ran, []
    (tmp_path / "trials.jsonl").unlink()
    episodes.most = len(wanted) // 2
    assert main(arguments(tmp_path, *words)) == 130
    assert "finished trials are kept in" in capsys.readouterr().err
    episodes.most = 10**9
    table = run(tmp_path, *words)
    assert len(episodes.ran) == len(wanted)
    assert set(episodes.ran) == set(wanted)
    for part in ("families", "overall", "records"):
        assert without_costs(table[part]) == without_costs(whole[part])


def without_costs(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: without_costs(value) for key, value in part.items() if key != "cost"}
    return [without_costs(one) for one in part] if isinstance(part, list) else part


def test_what_is_known_is_neither_run_nor_timed_again(bundles: list[str], episodes: Episodes, tmp_path: Path) -> None:
    first = run(tmp_path, bundles[0], "--methods", "bc,qgf", "--tasks", 1)
    count = len(episodes.ran)
    again = run(tmp_path, bundles[0], "--methods", "bc,qgf", "--tasks", 1)
    assert len(episodes.ran) == count
    assert again == {**first, "command": again["command"]}


def test_what_else_is_in_the_table_stays(bundles: list[str], episodes: Episodes, tmp_path: Path) -> None:
    run(tmp_path, bundles[0], "--methods", "bc,qgf")
    table = run(tmp_path, bundles[1], "--methods", "bc", "--tasks", 1)
    assert [(one["training_seed"], one["task"], one["method"]) for one in table["records"]] == [
        (0, 1, "bc"),
        (0, 1, "qgf"),
        (0, 2, "bc"),
        (0, 2, "qgf"),
        (1, 1, "bc"),
    ]
    assert by_method(table["overall"])["bc"]["training_seeds"] == {"cube-single": [0]}  # the other lacks a task
    table = run(tmp_path, bundles[1], "--methods", "bc,qgf")
    assert by_method(table["overall"])["bc"]["training_seeds"] == {"cube-single": [0, 1]}


def test_times_may_be_left_out_and_added(bundles: list[str], episodes: Episodes, tmp_path: Path) -> None:
    words = (bundles[0], "--methods", "bc", "--tasks", 1)
    assert main([*arguments(tmp_path, *words), "--timed", "0"]) == 0
    table = json.loads((tmp_path / "o" / "success.json").read_text())
    assert [cost["time_ms"] for cost in table["costs"]] == [None]
    assert table["overall"]["methods"][0]["cost"]["time_ms"] is None
    (cost,) = run(tmp_path, *words)["costs"]
    assert cost["time_ms"]["rounds"] == 1
    assert cost["time_ms"]["p50"] > 0.0
    assert "other_cores" in cost["time_ms"]


def test_policies_trained_against_a_critic_are_methods_beside_the_others(
    bundles: list[str], episodes: Episodes, tmp_path: Path
) -> None:
    words = [f"a={bundles[0]}"]
    for name in ("task1", "task2"):
        path = Path(shutil.copytree(bundles[0], tmp_path / f"edp-{name}"))
        manifest = load_manifest(path)
        training = {"config": {"seed": 0}, "policy": "an actor", "updates": 5, "hardware": {"seconds": 60.0}}
        critics, files = {name: manifest.critics[name]}, {**manifest.files, "note.txt": file_record(name.encode())}
        (path / "note.txt").write_text(name)
        changes = {"name": path.name, "training": training, "critics": critics, "files": files}
        update_manifest(path, manifest.model_copy(update=changes))
        words.append(f"edp@a={path}")
    table = run(tmp_path, *words, "--methods", "bc,qgf", "--guidance-weights", "0.1")
    (family,) = table["families"]
    assert list(by_method(family)) == ["bc", "qgf", "edp"]
    edp = by_method(family)["edp"]
    assert (edp["episodes"], [task["task"] for task in edp["tasks"]]) == (40, [1, 2])
    assert (edp["versus"]["pairs"], edp["versus"]["reference"]) == (40, "qgf")
    assert edp["cost"]["bundles"] == 2
    assert edp["training_seconds"] == 60.0, "both policies are of one run"
    assert by_method(family)["qgf"]["training_seconds"] is None, "its bundle does not say"
    assert [(one.get("row"), one["training"]["seconds"]) for one in table["bundles"]] == [
        (None, None),
        ("edp", 60.0),
        ("edp", 60.0),
    ]
    ran = len(episodes.ran)
    again = run(tmp_path, f"a={bundles[0]}", "--methods", "bc,qgf", "--guidance-weights", "0.1")
    assert (len(episodes.ran), again["families"]) == (ran, table["families"]), "what is there stays"


def test_ray_runs_the_same_trials(bundles: list[str], episodes: Episodes, tmp_path: Path) -> None:
    words = (bundles[0], "--methods", "bc,qgf")
    here = run(tmp_path, *words, out="here")
    ran, episodes.ran = episodes.ran, []
    (tmp_path / "trials.jsonl").unlink()
    there = run(tmp_path, *words, "--ray", "head:6379", out="there")
    assert episodes.addresses == ["head:6379"]
    assert episodes.ran == ran
    assert there["records"] == here["records"]


def test_a_cluster_and_a_number_of_processes_are_one_too_many(
    bundles: list[str], episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(tmp_path, bundles[0]), "--ray", "head:6379", "--workers", "2"]) == 2
    assert "--workers 2 was given with --ray head:6379" in capsys.readouterr().err
    assert not episodes.ran


def test_a_table_of_other_settings_or_bundles_is_not_overwritten(
    bundles: list[str], episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--methods", "bc", "--tasks", 1)
    run(tmp_path, bundles[0], *words)
    path = tmp_path / "o" / "success.json"
    before, count = path.read_bytes(), len(episodes.ran)
    assert main([*arguments(tmp_path, bundles[0], *words), "--episodes", "21"]) == 2
    assert "holds results of other settings; remove it or choose another --out" in capsys.readouterr().err
    assert main(arguments(tmp_path, f"a0:0={bundles[1]}", *words)) == 0
    assert main(arguments(tmp_path, f"cube-single:0={bundles[1]}", *words)) == 2
    assert "holds results of another bundle as cube-single, training seed 0" in capsys.readouterr().err
    path.write_text("[]")
    assert main(arguments(tmp_path, bundles[0], *words)) == 2
    assert "is not a table of this analysis" in capsys.readouterr().err
    assert path.read_text() == "[]"
    assert before
    assert count


def test_real_episodes_of_one_bundle(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--tasks", 1, "--episodes", 1, "--choosing-episodes", 1, "--workers", 1, "--timed", 0)
    common = ("--trials", tmp_path / "trials.jsonl", "--out", tmp_path / "o")
    words = ["analyze", "success", *map(str, (tiny_bundle, *options, *common))]
    assert main([*words, "--methods", "bc"]) == 0
    first = json.loads((tmp_path / "o" / "success.json").read_text())
    assert [record["method"] for record in first["records"]] == ["bc"]
    assert main([*words, "--methods", "bc,bfn4"]) == 0
    both = json.loads((tmp_path / "o" / "success.json").read_text())
    assert [record["method"] for record in both["records"]] == ["bc", "bfn4"]
    assert both["records"][0] == first["records"][0]
    assert first["families"][0]["family"] == "cube-single"
    assert "best of 4" in capsys.readouterr().out


def test_uncertainty_is_swept_with_the_same_trials_and_goes_on_where_it_was_ended(
    bundles: list[str], episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [bundles[0], f"other={bundles[2]}", "--tasks", 1, "--guidance-weights", "0.1,1", "--disagreement-scales", 1]
    words += ["--weight-schedules", "falling", "--sweep-episodes", 16, "--episodes", 16, "--workers", 1]
    words += ["--trials", tmp_path / "trials.jsonl", "--out", tmp_path / "u"]
    episodes.most = 5
    assert main(["analyze", "uncertainty", *map(str, words)]) != 0
    assert "the same command goes on from there" in capsys.readouterr().err
    episodes.most = 10**9
    assert main(["analyze", "uncertainty", *map(str, words)]) == 0
    assert len(set(episodes.ran)) == len(episodes.ran)
    numbers = json.loads((tmp_path / "u" / "uncertainty.json").read_text(), parse_constant=pytest.fail)
    assert [variant["variant"] for variant in numbers["variants"]] == ["constant", "gate 1", "falling", "other"]
    assert (tmp_path / "u" / "uncertainty.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert "n = 16; p by Holm" in capsys.readouterr().out


def test_sizes_are_compared_over_bundles_and_runs_which_become_bundles_once(
    bundles: list[str],
    episodes: Episodes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exporting = pytest.importorskip("qgf_ros.learning.export.export", reason="a run needs the train extra")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint-00000007.safetensors").touch()
    made = []

    def export(run: Path, out: Path, *, policy: str) -> None:
        made.append(policy)
        shutil.copytree(bundles[2], out, dirs_exist_ok=True)
        training = {"updates": 7, "algorithm": "edp", "config": {"seed": 0, "hidden": [64, 64]}}
        held_out = {"updates": 7, "losses": {"critic": 0.25}}
        manifest = load_manifest(out)
        first = dict(list(manifest.critics.items())[:1])  # as of an actor
        changed = {"name": out.name, "critics": first, "training": {**training, "held_out": held_out}}
        update_manifest(out, manifest.model_copy(update=changed))

    current = [True]
    monkeypatch.setattr(exporting, "policy_names", lambda run: ["task1"])
    monkeypatch.setattr(exporting, "is_export", lambda manifest, run: current[0])
    monkeypatch.setattr(exporting, "export_bundle", export)
    words = ["analyze", "size", bundles[0], tmp_path / "run", "--tasks", "1,2", "--guidance-weights", "0.1,1"]
    words += ["--choosing-episodes", 16, "--episodes", 16, "--workers", 1]
    words += ["--trials", tmp_path / "trials.jsonl", "--out", tmp_path / "s"]
    for _ in range(2):
        assert main([str(word) for word in words]) == 0
    assert made == ["task1"]
    assert len(set(episodes.ran)) == len(episodes.ran)
    current[0] = False  # trained anew
    assert main([str(word) for word in words]) == 0
    assert made == ["task1", "task1"]
    numbers = json.loads((tmp_path / "s" / "size.json").read_text(), parse_constant=pytest.fail)
    assert [(point["series"], point["method"], point["hidden"]) for point in numbers["points"]] == [
        ("edp", "bc", "2x64"),
        ("edp", "qgf", "2x64"),
        ("iql_flow", "bc", ""),
        ("iql_flow", "qgf", ""),
    ]
    assert [point["tasks"] for point in numbers["points"]] == [[1], [1], [1, 2], [1, 2]]
    assert [point["held_out_loss"] for point in numbers["points"]] == [0.25, 0.25, None, None]
    assert (tmp_path / "s" / "size.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert "loss: of the critics, held out" in capsys.readouterr().out
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere" / "run")
    assert main([str(word) for word in (*words[:4], tmp_path / "elsewhere" / "run", *words[4:])]) == 2
    assert "several runs are called run, after which their bundles are called" in capsys.readouterr().err
