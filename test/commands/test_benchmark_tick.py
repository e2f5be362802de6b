"""`qgf benchmark tick`: a table, numbers and a figure; a mistake is one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="random bundles and a peer need the train extra")
pytest.importorskip("matplotlib", reason="figures need the analysis extra")
pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.benchmark import tick as benchmark
from qgf_ros.benchmark.tick_plan import BACKENDS
from qgf_ros.cli import main
from qgf_ros.launching.extras import install_command
from qgf_ros.reports import machine

QUICK = ("--rounds", "2", "--ticks", "2", "--threads", "1", "--num-samples", "1,2")
TINY = ("--random", "2x16", "--obs", "7", "--action", "2", "--horizon", "2", "--denoising-steps", "3")


@pytest.fixture(autouse=True)
def small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "copy_bandwidth", lambda threads: 1e10)


def run(out: Path, *arguments: str) -> dict[str, Any]:
    assert main(["benchmark", "tick", *arguments, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["benchmark.json", "benchmark.png", "benchmark.svg"]
    numbers: dict[str, Any] = json.loads((out / "benchmark.json").read_text(), parse_constant=pytest.fail)
    return numbers


def test_random_networks_against_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backends = ("--backends", "reference,torch")
    numbers = run(tmp_path / "o", *TINY, *QUICK, *backends, "--estimators", "qgf,bc")
    assert numbers["command"].startswith("qgf")
    assert [(r["network"], r["backend"]) for r in numbers["results"]] == [("2x16", "reference"), ("2x16", "torch")] * 4
    assert numbers["plan"]["weight"] is None
    text = capsys.readouterr().out
    for part in ("2 rounds of 2 timed ticks, 1 threads", "copy bandwidth 10.0 GB/s", "2x16, qgf, N = 2", "x torch"):
        assert part in text
    assert main(["benchmark", "targets", str(tmp_path / "o")]) == 0
    assert "not measured" in capsys.readouterr().out  # the targets of 4x1024


def test_a_bundle_and_random_networks_in_one_run(tiny_bundle: Path, tmp_path: Path) -> None:
    numbers = run(tmp_path / "o", str(tiny_bundle), *TINY, *QUICK, "--backends", "reference")
    assert [r["network"] for r in numbers["results"]] == ["tiny", "tiny", "2x16", "2x16"]


def test_a_bundle_without_peers(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = run(tmp_path / "o", str(tiny_bundle), *QUICK, "--critic", "task2")
    assert {r["network"] for r in numbers["results"]} == {"tiny"}
    assert {r["backend"] for r in numbers["results"]} == set(BACKENDS)
    assert "x torch" not in capsys.readouterr().out


@pytest.mark.parametrize(("busy", "warned"), [(0.5, True), (0.05, False), (None, False)])
def test_a_machine_that_is_not_idle_is_said_so(
    busy: float | None,
    warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(machine.LoadMeter, "cores", lambda self: busy)
    run(tmp_path / "o", *TINY, *QUICK, "--backends", "reference")
    assert ("the machine is not idle" in capsys.readouterr().out) == warned


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "bundle 'nowhere' was given"),
        (("--random", "4"), "random '4' was given; expected hidden layers x width"),
        (("--random", "4x0"), "width 0 was given"),
        (("--estimators", "best"), "methods: 'best' was given"),
        (("--num-samples", "0"), "candidates: 0 was given"),
        (("--rounds", "0"), "rounds 0 was given"),
        ((*TINY, "--critic", "task9"), "critic 'task9' was given"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "tick", *arguments, "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_missing_jax_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    assert main(["benchmark", "tick", *TINY, *QUICK, "--backends", "jax", "--out", str(tmp_path / "o")]) == 2
    assert f"install it with: {install_command('peers')}" in capsys.readouterr().err


@pytest.mark.parametrize(("what", "networks"), [("tick", TINY), ("training", ("--random", "2x16"))])
def test_a_missing_compiler_is_one_sentence(
    what: str,
    networks: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # torch reads CXX when this is first imported, and would keep the false one for the tests after this.
    pytest.importorskip("torch._inductor.config")
    monkeypatch.setenv("CXX", "no-such-compiler")
    arguments = (*networks, "--threads", "1", "--backends", "torch.compile")
    assert main(["benchmark", what, *arguments, "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert "its C++ compiler no-such-compiler was not found; install one" in error
    assert error.count("\n") == 1
