"""Child processes that never outlive their parent, in a ROS graph of their own.

Each child leads a process group, so that Ctrl-C on the terminal reaches the parent alone and everything a child
started ends with it. Where the kernel can (Linux), a child is also killed when its parent dies in any other way.
"""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

from qgf_ros.errors import SimulationError

#: How long a child may take to end by itself [s].
GRACE = 3.0
#: Domain ids whose ports lie below the range that Linux hands out to others.
DOMAINS = range(1, 101)

_PR_SET_PDEATHSIG = 1
# The ROS wheels re-execute each Python once to set LD_LIBRARY_PATH and leave this mark; a child that inherits the
# mark but not the path cannot import rclpy.
_BOOTSTRAP_MARK = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"

# Another domain for every call, and for processes that start at the same time.
_candidates = itertools.count(os.getpid())
# Nobody else takes a domain while its socket is open. Domains of `free_domain` are held until their participants are
# surely there, those of `reserve_domain` until this process ends.
_RECENT = 8
_recent: deque[socket.socket] = deque()
_reserved: list[socket.socket] = []


def free_domain() -> int:
    """Return a ROS domain id that no other participant on this machine seems to use, each time another one.

    Raises:
        SimulationError: All are taken.
    """
    domain, mark = _claim()
    _recent.append(mark)
    if len(_recent) > _RECENT:
        _recent.popleft().close()
    return domain


def reserve_domain() -> int:
    """Return a free ROS domain id that `free_domain` gives to nobody, in any process, while this process lives.

    Raises:
        SimulationError: All are taken.
    """
    domain, mark = _claim()
    _reserved.append(mark)
    return domain


def _claim() -> tuple[int, socket.socket]:
    """Return a domain id that nobody uses or has claimed, and the socket that claims it."""
    for _ in DOMAINS:
        domain = DOMAINS[next(_candidates) % len(DOMAINS)]
        # Ports of a domain (DDSI-RTPS 2.5, section 9.6.2): + 10 is the first participant's, + 9 is nobody's.
        base = 7400 + 250 * domain
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            mark.bind(("127.0.0.1", base + 9))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("", base + 10))
        except OSError:
            mark.close()
            continue
        return domain, mark
    raise SimulationError("every ROS domain id from 1 to 100 is in use; end some ROS processes")


def private_graph(folder: Path) -> dict[str, str]:
    """Return the environment variables of a ROS graph that nobody else sees.

    Args:
        folder: For logs and settings of ROS.
    """
    variables = {
        "ROS_DOMAIN_ID": str(free_domain()),
        "ROS_HOME": str(folder),
        "ROS_LOG_DIR": str(folder / "log"),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        # Fast DDS: no shared memory, which a killed process may leave in a state that stops its successor.
        "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
    }
    # Humble knows no discovery range; later distributions warn of this variable, so it is set for Humble alone. It
    # brings shared memory back: what keeps a successor apart from what was left behind there is its other domain.
    if os.environ.get("ROS_DISTRO") == "humble":
        variables["ROS_LOCALHOST_ONLY"] = "1"
    return variables


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class WorkerContext(SpawnContext):
    """Starts new Python processes that leave Ctrl-C, which reaches the whole process group, to this one."""

    class Process(SpawnProcess):
        """A process that is deaf to Ctrl-C before its first instruction."""

        def start(self) -> None:
            """Start it with SIGINT blocked, as processes and threads inherit it."""
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def worker_pool(
    count: int, initializer: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of new Python processes, which leave Ctrl-C to this one and end at once with whatever ends the work.

    Args:
        count: Processes.
        initializer: What each calls first, if anything, and its arguments.

    Raises:
        SimulationError: A process died.
    """
    with ProcessPoolExecutor(count, WorkerContext(), initializer=initializer, initargs=arguments) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise SimulationError("a worker died, perhaps for lack of memory; use fewer --workers") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


class Child:
    """A Python module running as a process of its own. Make it on the main thread.

    Args:
        name: What to call it.
        module: Module to run, as with ``python -m``.
        arguments: Its arguments.
        folder: Where its output goes, to NAME.log.

    Raises:
        SimulationError: It cannot be started.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        launcher = "from qgf_sim.processes import run_as_child; run_as_child()"
        command = [sys.executable, "-c", launcher, str(os.getpid()), module, *arguments]
        variables = {name: value for name, value in os.environ.items() if name != _BOOTSTRAP_MARK}
        variables["PYTHONUNBUFFERED"] = "1"
        try:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise SimulationError(f"{name} cannot be started ({error})") from error

    @property
    def pid(self) -> int:
        """Process id, which is the id of its process group too."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal, or None while it runs."""
        # Not reaped before `reap`: until then its process group cannot become somebody else's.
        state = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if state is None:
            return None
        return state.si_status if state.si_code == os.CLD_EXITED else -state.si_status

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to it and to everything it started."""
        with suppress(ProcessLookupError, PermissionError):  # nobody is left who could take it
            os.killpg(self.pid, number)

    def reap(self) -> None:
        """Kill whatever is left of its process group and forget it."""
        self.signal_group(signal.SIGKILL)
        self._process.wait()

    def last_words(self) -> str:
        """Return the last line it wrote."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.is_file() else []
        return lines[-1].strip() if lines else "it wrote nothing"


def stop_all(children: Sequence[Child]) -> None:
    """End children and whatever they started: ask first, then insist."""
    for child in children:
        child.signal_group(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and any(child.exit_code is None for child in children):
        time.sleep(0.02)
    for child in children:
        child.reap()


def run_as_child() -> None:
    """Run the module that `Child` names in this process, bound to the life of its parent."""
    parent, module, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit(f"{module}: the parent has died before the start")
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
