"""`qgf analyze`: every analysis writes its figure and its numbers, and answers a mistake in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need the analysis extra")
pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.cli import main
from qgf_ros.guidance.estimators import ESTIMATORS
from qgf_ros.guidance.names import METHODS

ANALYSES = ("toy1d", "sensitivity", "q-optimization", "compute", "success", "size", "uncertainty", "asynchronous")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    terminals = np.zeros(60, bool)
    terminals[[29, 59]] = True
    observations, actions = (random.uniform(-1.0, 1.0, (60, size)).astype(np.float32) for size in (28, 5))
    np.savez(tmp_path / "d.npz", observations=observations, actions=actions, terminals=terminals)
    return tmp_path / "d.npz"


def run(out: Path, name: str, *arguments: object) -> dict[str, Any]:
    """Run an analysis and return its numbers, once figure and numbers have been found whole."""
    assert main(["analyze", name, *map(str, arguments), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [f"{name}.json", f"{name}.png", f"{name}.svg"]
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert "<svg" in (out / f"{name}.svg").read_text()
    numbers: dict[str, Any] = json.loads((out / f"{name}.json").read_text(), parse_constant=pytest.fail)
    return numbers


@pytest.mark.parametrize("name", ANALYSES)
def test_each_analysis_describes_itself_and_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["analyze", name, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "--out PATH" in text
    assert f"results/{name}" in text
    options = [line for line in text.replace("│", " ").splitlines() if line.strip().startswith("--")]
    assert len(options) >= 5 - (name == "compute")


@pytest.mark.parametrize("weights", ["0.2", "0.05,0.1,0.2,0.4"])
def test_toy1d(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = run(tmp_path / "o", "toy1d", "--samples", 20, "--steps", 4, "--guidance-weights", weights)
    assert len(numbers["runs"]) == 3 * len(weights.split(","))
    assert numbers["setting"]["samples"] == 20
    assert numbers["command"].startswith("qgf")
    assert "commonest mode" in capsys.readouterr().out


def test_sensitivity_on_a_data_set(tiny_bundle: Path, dataset: Path, tmp_path: Path) -> None:
    options = ("--dataset", dataset, "--states", 5, "--deviations", "0.01,0.2")
    numbers = run(tmp_path / "o", "sensitivity", tiny_bundle, *options)
    assert list(numbers["critics"]) == ["task1", "task2"]
    assert numbers["mean"].keys() == ESTIMATORS.keys()
    for values in numbers["mean"].values():
        assert np.shape(values["cosine"]) == (10, 2)
        small, large = values["by_deviation"]["mean"]
        assert 1.0 >= small > large > -1.0
    assert numbers["bundle"] == "tiny"
    assert "velocity.onnx" in numbers["files"]


def test_sensitivity_on_simulated_states(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("ogbench", reason="simulated states need the sim extra")
    options = ("--tasks", 2, "--states", 5, "--episodes", 1, "--deviations", 0.1)
    numbers = run(tmp_path / "o", "sensitivity", tiny_bundle, *options)
    assert list(numbers["critics"]) == ["task2"]


def test_q_optimization(tiny_bundle: Path, dataset: Path, tmp_path: Path) -> None:
    few = ("--states", 5, "--candidates", 4, "--guidance-weights", "0.03,0.1", "--neighbours", 3)
    options = ("--dataset", dataset, *few)
    numbers = run(tmp_path / "o", "q-optimization", tiny_bundle, *options)
    for part in (numbers["mean"], *numbers["critics"].values()):
        assert part.keys() == {"data", "bfn", *METHODS}
        assert [entry["candidates"] for entry in part["bfn"]] == [1, 2, 4]
        assert [entry["weight"] for entry in part["qgf"]] == [0.03, 0.1]
        assert all(entry["distance"]["mean"] > 0.0 for method in METHODS for entry in part[method])


def test_compute(tiny_bundle: Path, tmp_path: Path) -> None:
    numbers = run(tmp_path / "o", "compute", tiny_bundle, "--rounds", 2, "--warm-up", 0, "--candidates", "1,2")
    assert len(numbers["cases"]) == 2 * (1 + len(METHODS))
    assert numbers["rounds"] == 2


def test_asynchronous(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ogbench", reason="episodes need the sim extra")
    from qgf_ros.evaluation.results import Episode
    from qgf_sim.rollouts import asynchronous  # its episodes are those of test/sim/rollouts/test_rollout.py

    def evaluate(plan: Any, progress: Any) -> dict[float, list[Episode]]:
        results = {}
        for weight in plan.guidance_weights:
            episodes = [Episode(weight, seed, seed % 2 == 0, 10, jerk=0.1 * plan.delay, waited=1) for seed in range(4)]
            for episode in episodes:
                progress(episode)
            results[weight] = episodes
        return results

    monkeypatch.setattr(asynchronous, "evaluate", evaluate)
    options = ("--delays", "1,2", "--guidance-weights", "0,0.1", "--episodes", 4, "--workers", 1)
    numbers = run(tmp_path / "o", "asynchronous", tiny_bundle, *options)
    assert len(numbers["runs"]) == 2 * (1 + 2 * 5)
    assert (numbers["delays"], numbers["guidance_weights"], numbers["bundle"]) == ([1, 2], [0, 0.1], "tiny")
    assert "versus" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toy1d", "--samples", "0"), "samples 0 was given; it must be at least 1"),
        (("toy1d", "--guidance-weights", "-1"), "guidance_weight -1.0 was given"),
        (("sensitivity", "BUNDLE", "--tasks", "7"), "task 7 was given"),
        (("sensitivity", "BUNDLE", "--states", "0"), "states 0 was given"),
        (("sensitivity", "BUNDLE", "--dataset", "DATA", "--states", "99"), "99 states were asked for"),
        (("q-optimization", "BUNDLE", "--dataset", "nowhere.npz"), "nowhere.npz does not exist"),
        (("q-optimization", "BUNDLE", "--dataset", "DATA", "--states", "5", "--candidates", "1"), "candidates 1"),
        (("q-optimization", "BUNDLE", "--dataset", "DATA", "--states", "5", "--neighbours", "99"), "99 neighbours"),
        (("compute", "nowhere"), "bundle 'nowhere' was given"),
        (("compute", "BUNDLE", "--candidates", "0"), "expected at least 1"),
        (("success", "BUNDLE", "--methods", "best"), "method 'best' was given"),
        (("success", "BUNDLE", "--seed", "10001"), "overlap"),
        (("success", "BUNDLE", "--first-seed-only", "best"), "method 'best' was given"),
        (("success", "BUNDLE", "--workers", "0"), "workers 0 was given"),
        (("success", "BUNDLE", "--timed", "-1"), "timed -1 was given; it must be at least 0"),
        (("success", "BUNDLE", "BUNDLE"), "hold the same networks"),
        (("success", "x:1=nowhere"), "bundle 'nowhere' was given"),
        (("success", "BUNDLE", "--guidance-weights", "0.1,nan"), "guidance_weight nan was given"),
    ],
)
def test_a_mistake_is_one_sentence(
    tiny_bundle: Path,
    dataset: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"BUNDLE": str(tiny_bundle), "DATA": str(dataset)}
    out = tmp_path / "o"
    assert main(["analyze", *(places.get(word, word) for word in arguments), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_an_out_that_is_a_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "o").write_text("")
    options = ("--samples", "5", "--steps", "2", "--guidance-weights", "0.1", "--out", str(tmp_path / "o"))
    assert main(["analyze", "toy1d", *options]) == 2
    assert "cannot be written" in capsys.readouterr().err
