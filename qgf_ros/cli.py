"""The command `qgf`: from data to bundle to robot, one sub-command per step."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

import tyro

from qgf_ros import __version__
from qgf_ros.commands.analyses.analyze import analyze
from qgf_ros.commands.benchmarks.benchmark import benchmark
from qgf_ros.commands.contract import contract
from qgf_ros.commands.dataset import dataset
from qgf_ros.commands.demo import demo
from qgf_ros.commands.evaluate import evaluate
from qgf_ros.commands.export import export
from qgf_ros.commands.generate import generate
from qgf_ros.commands.import_checkpoint import import_checkpoint
from qgf_ros.commands.inspect import inspect
from qgf_ros.commands.quantize import quantize
from qgf_ros.commands.record import record
from qgf_ros.commands.render import render
from qgf_ros.commands.replay import replay
from qgf_ros.commands.show.option_groups import grouped
from qgf_ros.commands.show.streams import steady_streams
from qgf_ros.commands.show.usage import one_sentence
from qgf_ros.commands.train import train
from qgf_ros.commands.tune import tune
from qgf_ros.errors import QgfError
from qgf_ros.launching.extras import missing

COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo,
    "generate": generate,
    "dataset": dataset,
    "train": train,
    "export": export,
    "import-checkpoint": import_checkpoint,
    "inspect": inspect,
    "contract": contract,
    "evaluate": evaluate,
    "tune": tune,
    "quantize": quantize,
    "render": render,
    "record": record,
    "replay": replay,
    "analyze": analyze,
    "benchmark": benchmark,
}


@steady_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: Arguments after the program's name; those of the process by default.

    Returns:
        Exit code: 0, 2 after an error of the user's making, 130 after Ctrl-C. A wrong option exits with 2.
    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if on_main_thread else None
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments == ["--version"]:
        print(f"qgf_ros {__version__}")
        return 0
    try:
        with one_sentence(arguments, lambda words: _run([*words, "--help"])):
            _run(arguments)
    except KeyboardInterrupt as interruption:
        if str(interruption):
            _complain(str(interruption))
        return 130
    except QgfError as error:
        return _complain(str(error))
    except ImportError as error:
        if (sentence := missing(error)) is None:
            raise
        return _complain(sentence)
    finally:
        if on_main_thread:
            signal.signal(signal.SIGTERM, before)
    return 0


def _run(arguments: Sequence[str]) -> None:
    tyro.extras.subcommand_cli_from_dict(
        {name: grouped(command) for name, command in COMMANDS.items()},
        prog="qgf",
        description=__doc__,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
    )


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """Leave like on any other exit, so that child processes and half-written files are cleaned up."""
    raise SystemExit(128 + signum)


def _complain(sentence: str) -> int:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(f"qgf: {sentence}", style="red"), soft_wrap=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
