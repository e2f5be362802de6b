"""The executables of the nodes: what each says of a package it lacks, before anything heavy is loaded, and what ends it."""

from __future__ import annotations

import importlib
import signal
import sys
import threading

from qgf_ros.launching.extras import missing

#: Exit code of a process that was started wrongly, and would end the same way if it were started again.
STARTED_WRONGLY = 2


def run(name: str, module: str) -> int:
    """Run the `main` of a module; return its exit code.

    Args:
        name: Of the executable, for the sentence about a missing package.
        module: Dotted name.

    Raises:
        ImportError: Of something that no extra brings.
    """
    # Until it is loaded nobody holds anything: Ctrl-C ends it at once, and shows no traceback of an import.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        main = importlib.import_module(module).main
        signal.signal(signal.SIGINT, before)
        return int(main())
    except ImportError as error:
        if (sentence := missing(error)) is None:
            raise
        print(f"{name}: {sentence}", file=sys.stderr)
        return STARTED_WRONGLY


def told_to_end() -> threading.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set from now on, so that a process may end as it should.

    SIGHUP is a terminal that was closed, such as by a connection that was lost; under nohup it stays ignored.
    """
    told = threading.Event()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, lambda *_: told.set())
    return told


def policy_node() -> int:
    """The policy node."""
    return run("policy_node", "qgf_ros.nodes.policy_node")


def recorder() -> int:
    """The recorder."""
    return run("recorder", "qgf_ros.nodes.recorder")


def sim_bridge() -> int:
    """The simulation bridge."""
    return run("sim_bridge", "qgf_sim.bridge.node")


def dashboard() -> int:
    """The dashboard."""
    return run("dashboard", "qgf_sim.dashboard.process")
