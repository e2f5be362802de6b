"""The process `dashboard`, and the demo that it is part of."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ogbench", reason="the demo needs the sim extra")
pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")
pytest.importorskip("viser", reason="the page needs the dashboard extra")

from qgf_ros import cli
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.plan import EpisodePlan
from qgf_sim.live.demo import serve_demo
from qgf_sim.processes import Child, private_graph

PATIENCE = 120.0  # [s]


@pytest.fixture
def taken() -> Iterator[int]:
    """A TCP port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Child]:
    """Every child started during the test."""
    started: list[Child] = []
    original = Child.__init__

    def remember(self: Child, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        started.append(self)

    monkeypatch.setattr(Child, "__init__", remember)
    return started


def alive(child: Child) -> bool:
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True


def served(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_on_a_network_it_warns_and_it_ends_on_sigterm(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "qgf_sim.dashboard.process", "--host", "0.0.0.0", "--port", "0"],
        env={**os.environ, **private_graph(tmp_path), "PYTHONUNBUFFERED": "1", "RCUTILS_LOGGING_USE_STDOUT": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    assert process.stdout is not None
    assert any("whoever reaches 0.0.0.0 can steer the robot" in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    watchdog.cancel()
    assert process.returncode == 0


def test_a_taken_port_is_said_in_one_sentence(taken: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qgf_sim.dashboard.process", "--port", str(taken)],
        env={**os.environ, **private_graph(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {taken}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-p", "prot:=8081"], "dashboard has no parameter prot; "),
        (["--params-file", "/absent.yaml"], "Couldn't parse params file: '--params-file /absent.yaml'"),
    ],
)
def test_ros_arguments_that_are_wrong_are_said_in_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qgf_sim.dashboard.process", "--port", "0", "--ros-args", *arguments],
        env={**os.environ, **private_graph(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert ".c:" not in done.stderr


def own_port() -> int:
    """Return a TCP port that is free, and below those that the system gives to whoever asks for any."""
    for port in range(20_000 + os.getpid() % 10_000, 32_768):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("every port is taken")


def test_the_served_demo_serves_its_page_and_leaves_nobody_behind(tiny_bundle: Path, children: list[Child]) -> None:
    port = own_port()
    notes: list[str] = []
    serve_demo(EpisodePlan(tiny_bundle, 2, (0.0, 0.1), episodes=1), port, notes.append, lambda: served(port))
    assert f"http://127.0.0.1:{port}" in notes[0]
    assert len(children) == 3
    assert not [child.name for child in children if alive(child)]


@pytest.mark.slow
def test_the_served_demo_goes_from_the_first_weight_to_the_next_after_its_episodes(
    tiny_bundle: Path, children: list[Child]
) -> None:
    notes: list[str] = []
    begun: list[str] = []

    def enough() -> bool:
        begun[:] = [child.log.read_text() for child in children if child.name == "policy_node"]
        return notes[-1:] == ["the guidance weight is 0.1 now"]

    serve_demo(EpisodePlan(tiny_bundle, 2, (0.0, 0.1), episodes=1), own_port(), notes.append, enough)
    assert "guidance weight 0," in begun[0]
    assert not [child.name for child in children if alive(child)]


def test_the_served_demo_ends_when_a_process_does(tiny_bundle: Path, children: list[Child], taken: int) -> None:
    with pytest.raises(SimulationError, match=f"dashboard ended with exit code 1 .*port {taken}"):
        serve_demo(EpisodePlan(tiny_bundle, 2, (0.1,), episodes=1), taken, print, lambda: False)
    assert not [child.name for child in children if alive(child)]


def test_a_report_is_not_promised_where_none_is_written(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert cli.main(["demo", "--bundle", str(tiny_bundle), "--dashboard", "--json", str(report)]) == 2
    assert "--json was given with --dashboard" in capsys.readouterr().err
