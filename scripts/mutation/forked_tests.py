"""Tests in a process of their own, in a copy of the checkout: with a mutant in it, or to see which lines each test runs.

The processes are forked from one that has loaded the libraries, so that starting one takes tenths of a second. None of it
has loaded any code of the checkout. Compiled files are validated by the hash of their source, never by its time: two mutants
of one second would pass for each other.
"""

from __future__ import annotations

import compileall
import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any, NoReturn

from pytest_plugin import PATIENCE, SLOWER, run

#: Libraries that the tests load; what is not installed is left out.
LIBRARIES = (
    *(
        "coverage",
        "gymnasium",
        "hypothesis",
        "hypothesis.strategies",
        "hypothesis.extra.numpy",
        "mcap.reader",
        "mcap.writer",
    ),
    *("mcap_ros2.decoder", "mujoco", "numpy", "numpy.testing", "ogbench", "onnx", "onnx.helper", "onnx.numpy_helper"),
    *("onnxruntime", "pydantic", "pytest", "rich.console", "rich.table", "torch", "tyro", "yaml", "zstandard"),
)


def load_libraries() -> None:
    """Load what tests need and no mutant touches, once for all processes."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # threads would not survive the fork
        os.environ.setdefault(name, "1")
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    gc.collect()
    gc.freeze()  # pytest collects garbage several times, which would touch all of this


def copy_checkout(root: Path, copy: Path) -> None:
    """Copy the files of the checkout that git does not ignore; its code is compiled."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and os.path.lexists(root / name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name, follow_symlinks=False)
    for folder in ("qgf_ros", "sim"):
        compileall.compile_dir(copy / folder, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)


class TestProcess:
    """pytest in a copy of the checkout.

    Args:
        copy: The copy; nothing else may use it meanwhile.
        files: Files of tests, relative.
        order: Tests in the order in which to run them, with their usual durations [s]; None runs all, and goes on after a
            failure, under the eyes of coverage.
    """

    def __init__(self, copy: Path, files: Iterable[str], order: Mapping[str, float] | None) -> None:
        self.log, self._answer = copy.parent / f"{copy.name}.log", copy.parent / f"{copy.name}.json"
        self._temporary = copy.parent / f"{copy.name}.tmp"
        self._answer.unlink(missing_ok=True)
        self._until = time.monotonic() + PATIENCE * 6 + SLOWER * sum((order or {"": 60.0}).values())
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._run(copy, list(files), order)

    def _run(self, copy: Path, files: list[str], order: Mapping[str, float] | None) -> NoReturn:
        status = 70
        try:
            os.setsid()
            os.chdir(copy)
            os.environ["PYTHONPATH"] = str(copy)
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none of them is needed, and each takes its time
            sys.path[0] = str(copy)
            with self.log.open("wb") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            answer = run(copy, files, order, self._temporary)
            status = answer.pop("status")
            self._answer.write_text(json.dumps(answer), encoding="utf-8")
        finally:
            sys.stdout.flush()
            os._exit(status)

    def poll(self) -> tuple[int, dict[str, Any]] | None:
        """Return the exit status, negative for a signal, and what the tests told; None while they run."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            if time.monotonic() < self._until:
                return None
            os.kill(self.pid, signal.SIGALRM)
            _, status = os.waitpid(self.pid, 0)
        self._clear()
        answer = json.loads(self._answer.read_text(encoding="utf-8")) if self._answer.exists() else {}
        return os.waitstatus_to_exitcode(status), answer

    def kill(self) -> None:
        """End it at once."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._clear()

    def _clear(self) -> None:
        """End what its tests may have started, and remove their files."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        shutil.rmtree(self._temporary, ignore_errors=True)
