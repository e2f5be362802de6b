"""How the executables of the nodes begin, without a traceback if somebody has seen enough, and what tells them to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qgf_ros.launching.executables import told_to_end

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, module: str) -> subprocess.CompletedProcess[str]:
    """Run a module's `main` as an executable does, in a process of its own."""
    (folder / "a_node.py").write_text(module)
    code = "import sys; from qgf_ros.launching.executables import run; sys.exit(run('a_node', 'a_node'))"
    variables = {"PYTHONPATH": f"{ROOT}:{folder}"}
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60)


def test_ctrl_c_while_a_node_is_loaded_ends_it_without_a_word(tmp_path: Path) -> None:
    done = run(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    assert (done.returncode, done.stderr) == (-2, "")


def test_a_node_that_is_loaded_hears_of_ctrl_c_as_ever(tmp_path: Path) -> None:
    module = "import signal\ndef main():\n    return 0 if signal.getsignal(2) is signal.default_int_handler else 1\n"
    done = run(tmp_path, module)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def hang_up() -> Iterator[None]:
    """Signals as they are where nothing is ignored, such as under nohup; put back in the end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_sigterm_and_a_closed_terminal_tell_a_process_to_end(hang_up: None, number: int) -> None:
    told = told_to_end()
    assert not told.is_set()
    signal.raise_signal(number)
    assert told.is_set()


def test_under_nohup_a_closed_terminal_ends_nothing(hang_up: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    told = told_to_end()
    signal.raise_signal(signal.SIGHUP)
    assert not told.is_set()
