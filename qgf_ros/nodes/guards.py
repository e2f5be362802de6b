"""What keeps an exception in a callback from ending the node or its life cycle."""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from rclpy.lifecycle import TransitionCallbackReturn

from qgf_ros.errors import QgfError
from qgf_ros.launching.extras import missing


class Guarded(Protocol):
    """A node that can say what went wrong."""

    failure: str | None

    def report(self, level: int, text: str) -> None:
        """Log, at a level of `logging`."""
        ...

    def on_fault(self, reason: str) -> None:
        """Hold."""
        ...


def transition(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Make an exception in a lifecycle transition a logged FAILURE.

    rclpy itself would swallow it and go to its error state. The node's `failure` keeps the sentence until a
    transition succeeds.
    """

    @functools.wraps(method)
    def guarded(self: Guarded, state: Any) -> Any:
        try:
            result = method(self, state)
        except Exception as error:
            sentence = str(error) if isinstance(error, QgfError) else None
            if isinstance(error, ImportError):
                sentence = missing(error)
            if sentence is not None:
                self.failure = f"{method.__name__[3:]} failed: {sentence}"
            else:
                self.report(logging.ERROR, traceback.format_exc())
                self.failure = f"{method.__name__[3:]} failed, {type(error).__name__}: {error}; see the log"
        else:
            self.failure = None
            return result
        self.report(logging.ERROR, self.failure)
        return TransitionCallbackReturn.FAILURE

    return guarded


class Guarding:
    """A context that makes an exception a logged fault and a hold; it would end the executor's spin.

    Args:
        node: Which reports and holds.
        what: What is guarded, for the report.
    """

    def __init__(self, node: Guarded, what: str) -> None:
        self._node = node
        self._what = what

    def __enter__(self) -> None:
        """Enter; one object serves every time."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Report and hold; return whether that deals with what was raised."""
        if not isinstance(error, Exception):
            return False
        self._node.report(logging.ERROR, "".join(traceback.format_exception(kind, error, trace)))
        self._node.on_fault(f"{self._what} failed, {type(error).__name__}: {error}; see the log")
        return True


def callback(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Guard a callback; see `Guarding`."""

    @functools.wraps(method)
    def guarded(self: Guarded) -> None:
        with Guarding(self, method.__name__.lstrip("_")):
            method(self)

    return guarded
