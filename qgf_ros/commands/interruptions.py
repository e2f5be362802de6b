"""Ctrl-C as a request that is granted where it does no harm.

An exception that a signal raises at an arbitrary point may leave an update half done, or surface inside a call from C
that turns it into an error of its own; a request is looked at between two steps.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Request:
    """Whether the user asked the program to end; call it to know."""

    _number: int | None = None

    def __call__(self) -> bool:
        return self._number is not None

    def grant(self) -> None:
        """Raise KeyboardInterrupt after Ctrl-C, SystemExit(143) after SIGTERM, nothing if nobody asked."""
        if self._number == signal.SIGINT:
            raise KeyboardInterrupt
        if self._number is not None:
            raise SystemExit(128 + self._number)

    def handle(self, number: int, frame: object) -> None:
        """Take a signal in; the second one does not wait."""
        again, self._number = self(), number
        if again:
            self.grant()


@contextmanager
def interruptions() -> Iterator[Request]:
    """Turn the first SIGINT or SIGTERM into a request, for as long as the context lasts. Use it on the main thread."""
    request = Request()
    before = {number: signal.signal(number, request.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
