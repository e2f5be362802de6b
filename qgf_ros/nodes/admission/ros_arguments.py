"""The ROS arguments of a process: what is wrong with them, in sentences for people."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions

from qgf_ros.errors import ParameterError
from qgf_ros.launching.parameter_files import parameters_for


def init_ros(arguments: Sequence[str] | None = None) -> None:
    """Initialise rclpy for a process that sees to its signals itself: rclpy's own handlers end the context at once.

    Args:
        arguments: Of the process; its own by default.

    Raises:
        ParameterError: rcl cannot read the arguments or a parameter file.
    """
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # of rcl, which names places in its own source, too
        line = str(error).splitlines()[0]
        raise ParameterError(re.sub(r",? at /\S+:\d+", "", line)) from error


def check_parameter_files(node: str, arguments: Sequence[str] | None = None) -> None:
    """Refuse a parameter file that says nothing to the node it was given to.

    Args:
        node: Full name of the node.
        arguments: Of the process; its own by default.

    Raises:
        ParameterError: There is such a file: a misspelt name of the node, or a missing namespace.
    """
    for path in _files(sys.argv if arguments is None else arguments):
        parameters_for(path, node)


def _files(arguments: Sequence[str]) -> Iterator[Path]:
    """Yield the parameter files among the arguments that are for ROS."""
    for_ros = False
    for word, following in zip(arguments, [*arguments[1:], ""]):
        if word == "--ros-args":
            for_ros = True
        elif word == "--":
            for_ros = False
        elif for_ros and word == "--params-file" and following:
            yield Path(following)
