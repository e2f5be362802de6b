"""`qgf benchmark ros`, `evaluation`, `training`, `growth` and `targets`: their tables and their mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from qgf_ros.benchmark.ros_latency import Exchange, Setting, Trace
from qgf_ros.cli import main
from qgf_ros.commands.benchmarks.cameras import cameras_table
from qgf_ros.commands.benchmarks.evaluation import evaluation_table
from qgf_ros.commands.benchmarks.ros import ros_table


def text(table: Table, width: int = 160) -> list[list[str]]:
    """Words of each line."""
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return [line.split() for line in capture.get().splitlines()]


def test_a_line_for_each_setting_of_the_loop() -> None:
    trace = Trace([Exchange(0.0, 0.0035, 0.004, 0.003), Exchange(1.0)], seconds=1.0, processor=0.1)
    settings = [Setting("node", 50, False), Setting("echo", 50, True)]
    lines = text(ros_table({"results": [trace.record(setting) for setting in settings]}))
    numbers = ["50", "0.50", "0.50", "0.50", "0.50", "1.00", "3.00", "1/2", "6.00"]
    assert ["node", *numbers] in lines
    assert ["echo,", "busy", "neighbour", *numbers] in lines


def test_a_line_for_each_thing_that_cameras_cost() -> None:
    times = {"p50": 1.0, "p90": 1.5, "p99": 2.0, "max": 2.0}
    loop = {"subject": "node", "rate": 20, "answer_ms": times, "inference_ms": times, "missed": 1, "ticks": 40}
    memory = {"minutes": 10.0, "start_mb": 180.0, "end_mb": 180.5, "slope_mb_per_minute": 0.05, "cores": 0.5}
    sent = {"there": True, "share": 0.023, "rate": 30.0, "age_ms": times, "sender": 0.1, "taker": 0.2}
    numbers = {
        "plan": {"bundle": "seeing"},
        "pictures": {"full": {"pictures": 2, "bytes": 8e4, "ms": times, "decode_ms": times, "encode_ms": times}},
        "loop": [loop, {**loop, "subject": "echo"}],
        "memory": {**memory, "answered": 90, "observations": 100},
        "calls": {"inferences": 20, "candidates": 4, "denoising_steps": 10, "calls": {"policy": 20}},
        "transports": [{"name": "raw, best effort", **sent}, {"name": "raw, Cyclone", "there": False}],
    }
    lines = [" ".join(line) for line in text(cameras_table(numbers), 120)]
    assert (
        "2 JPEG of 640 x 480 to features, full 1.00 2.00 4 decode 1.00, encode 1.00, 80 KB a picture, one core" in lines
    )
    assert "tick at 20 Hz, stamp to command 1.00 2.00 12, 20 seeing, 1/40 missed" in lines
    assert lines.count("tick at 20 Hz, stamp to command 1.00 2.00 12, 20 seeing, 1/40 missed") == 1
    assert "node at 30 Hz, MB, start and end of 10 min 180.0 180.5 flat +0.05 MB/min, 90/100 answered" in lines
    assert "calls of encoder policy 20 20 4 candidates, 10 steps each" in lines
    assert "raw, best effort 1.00 2.00 2.3 % of 30/s arrive, 0.10 + 0.20 cores" in lines
    assert "raw, Cyclone not installed" in lines


def test_the_policy_is_told_as_a_share_of_the_bare_time() -> None:
    record = {"episodes": 2, "steps": 100, "seconds": 0.5, "bare_seconds": 0.4}
    scaling = [{"workers": 2, "episodes_per_second": 3.0, "steps_per_second": 150.0}]
    table = evaluation_table({"rounds": [record, record], "policy_share": 0.25, "scaling": scaling})
    lines = text(table)
    assert "The policy adds 25 %" in " ".join(lines[0])
    assert ["under", "the", "policy,", "one", "process", "4.00", "200"] in lines
    assert ["bare", "environments,", "one", "process", "5.00", "250"] in lines
    assert lines[-2][-3:] == ["2", "3.00", "150"]


def test_one_training_update_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch", reason="training needs the train extra")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    arguments = ("--random", "2x16", "--backends", "torch", "--rounds", "2", "--updates", "2", "--tasks", "2")
    assert main(["benchmark", "training", *arguments, "--out", str(tmp_path)]) == 0
    (result,) = json.loads((tmp_path / "training.json").read_text())["results"]
    assert [len(turn) for turn in result["rounds_ms"]] == [2, 2]
    assert "One update, batch 256, 2 tasks" in capsys.readouterr().out


def test_the_growth_of_a_random_bundle_is_measured_and_held_to_the_targets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="random bundles need the train extra")
    pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")
    size = ("--random", "1x16", "--obs", "3", "--action", "2", "--horizon", "1", "--denoising-steps", "2")
    arguments = (*size, "--growth-ticks", "100", "--rounds", "2", "--ticks", "1", "--threads", "1")
    assert main(["benchmark", "growth", *arguments, "--out", str(tmp_path)]) == 0
    (result,) = json.loads((tmp_path / "growth.json").read_text())["results"]
    assert (result["network"], result["memory"]["ticks"]) == ("1x16", 100)
    assert all(value > 0.0 for key in ("steps", "candidates") for value in result[key]["p50_ms"])
    capsys.readouterr()
    assert main(["benchmark", "targets", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (told,) = (line for line in lines if "one of 16 candidates over one alone" in line)
    assert told.split()[-1] in ("met", "missed")
    (missing,) = (line for line in lines if line.startswith("node over DDS: "))
    assert missing.strip() == "node over DDS: qgf benchmark ros --threads 1 --executor events --rounds 10 --ticks 20"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ros", "nowhere"), "bundle 'nowhere' was given"),
        (("ros", "--rates", "0"), "rates (0,) was given; it must be at least 1"),
        (("ros", "--executor", "fast"), "executor 'fast' was given; it must be single_threaded or events"),
        (("growth", "--growth-ticks", "7"), "growth_ticks 7 was given; it must be at least 100"),
        (("growth", "--random", "wide"), "random 'wide' was given; expected hidden layers x width"),
        (("evaluation", "--critic", "taste"), "critic 'taste' was given; expected one of a simulated task"),
        (("training", "--random", "wide"), "'wide' was given; expected shapes such as 3x256"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rclpy", "torch", "ogbench", "onnxruntime"):
        pytest.importorskip(name, reason="the benchmarks need the ros, train, sim and cpu extras")
    assert main(["benchmark", *arguments, "--out", str(tmp_path)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the sentence that refuses a command line."""
    assert main(["benchmark", *arguments]) == 2
    return capsys.readouterr().err


def test_a_bare_benchmark_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert "one of tick, ros, evaluation, training, growth, cameras, targets" in refused((), capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ("tick", "--rates", "20"),
        ("ros", "--growth-ticks", "100"),
        ("evaluation", "--random", "1x16"),
        ("training", "--denoising-steps", "2"),
        ("growth", "--peers"),
    ],
    ids=" ".join,
)
def test_an_option_of_another_benchmark_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert arguments[1] in refused(arguments, capsys)
