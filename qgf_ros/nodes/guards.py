"""What keeps an exception in a callback from ending the node or its life cycle."""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rclpy.lifecycle import TransitionCallbackReturn

from qgf_ros.errors import QgfError


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
        except QgfError as error:
            self.failure = f"{method.__name__[3:]} failed: {error}"
        except Exception as error:
            self.report(logging.ERROR, traceback.format_exc())
            self.failure = f"{method.__name__[3:]} failed, {type(error).__name__}: {error}; see the log"
        else:
            self.failure = None
            return result
        self.report(logging.ERROR, self.failure)
        return TransitionCallbackReturn.FAILURE

    return guarded


@contextmanager
def guarding(node: Guarded, what: str) -> Iterator[None]:
    """Make an exception a logged fault and a hold; it would end the executor's spin."""
    try:
        yield
    except Exception as error:
        node.report(logging.ERROR, traceback.format_exc())
        node.on_fault(f"{what} failed, {type(error).__name__}: {error}; see the log")


def callback(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Guard a callback; see `guarding`."""

    @functools.wraps(method)
    def guarded(self: Guarded) -> None:
        with guarding(self, method.__name__.lstrip("_")):
            method(self)

    return guarded
