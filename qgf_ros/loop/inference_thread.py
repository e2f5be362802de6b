"""One thread that works on the newest request only.

Inference takes milliseconds, and a long callback starves the subscriptions and the clock of a node. A callback
therefore only hands a request over; this thread does the work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Request = TypeVar("Request")


class InferenceThread(Generic[Request]):
    """A worker with a mailbox for one request: a newer request replaces one that has not been started.

    Args:
        handle: Called with each request, on the thread. It must not raise; if it does, `on_error` hears of it and
            the thread goes on.
        on_error: Called with the exception, on the thread.
        rest: Called on the thread after each request while no other waits, for what had better not delay one.
    """

    def __init__(
        self,
        handle: Callable[[Request], None],
        on_error: Callable[[Exception], None],
        rest: Callable[[], object] = lambda: None,
    ) -> None:
        self._handle = handle
        self._on_error = on_error
        self._rest = rest
        self._condition = threading.Condition()
        self._waiting: Request | None = None
        self._started: float | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Request | None:
        """Hand a request over and return the one it replaces, or None."""
        with self._condition:
            replaced, self._waiting = self._waiting, request
            self._condition.notify_all()
        return replaced

    def drain(self, timeout: float) -> bool:
        """Drop the waiting request and wait up to `timeout` [s] for the one under way; return whether it ended."""
        with self._condition:
            self._waiting = None
            return self._condition.wait_for(lambda: self._started is None and self._waiting is None, timeout)

    def stop(self, timeout: float) -> bool:
        """End the thread after the request under way; return whether it ended within `timeout` [s]."""
        with self._condition:
            self._waiting = None
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def busy_for(self) -> float:
        """How long the request under way has been worked on [s]; 0 when idle."""
        started = self._started
        return 0.0 if started is None else time.monotonic() - started

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting is not None or self._stopping)
                if self._stopping:
                    return
                request, self._waiting = self._waiting, None
                self._started = time.monotonic()
            try:
                if request is not None:
                    self._handle(request)
            except Exception as error:  # the thread must outlive any fault of one request
                self._on_error(error)
            finally:
                with self._condition:
                    self._started = None
                    idle = self._waiting is None
                    self._condition.notify_all()
            if idle:
                self._rest()
