"""Ctrl-C as a request that is granted where it does no harm.

An exception that a signal raises at an arbitrary point may leave an update half done, or surface inside a call from C
that turns it into an error of its own; a request is looked at between two steps.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Request:
    """Whether the user asked the program to end; call it to know.

    Args:
        patient: Whether the second signal waits like the first.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self._patient = patient
        self._number: int | None = None

    def __call__(self) -> bool:
        return self._number is not None

    def grant(self) -> None:
        """Raise KeyboardInterrupt after Ctrl-C, SystemExit(128 + number) after another signal, nothing before any."""
        if self._number == signal.SIGINT:
            raise KeyboardInterrupt
        if self._number is not None:
            raise SystemExit(128 + self._number)

    def handle(self, number: int, frame: object) -> None:
        """Take a signal in; unless patient, the second one does not wait."""
        again, self._number = self(), number
        if again and not self._patient:
            self.grant()


@contextmanager
def interruptions(*, patient: bool = False) -> Iterator[Request]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request, for as long as the context lasts.

    Use it on the main thread. Under nohup, SIGHUP stays ignored.

    Args:
        patient: Let further signals wait, too: for what asks often, and must not be disturbed while it cleans up.
    """
    request = Request(patient=patient)
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, request.handle) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
