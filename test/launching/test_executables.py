"""How the executables of the nodes begin: loaded without a traceback if somebody has seen enough."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
