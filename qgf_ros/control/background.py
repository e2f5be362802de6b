"""Inference beside the ticks: a chunk is asked for at one tick and taken at a later one; nobody waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from qgf_ros.control.inference import Chunk, ChunkRequest


class InferenceWorker(Protocol):
    """Infers one chunk at a time; `BackgroundWorker` is one, and tests have one that delivers after a fixed delay."""

    @property
    def busy(self) -> bool:
        """Whether a request was submitted that was neither taken nor abandoned."""
        ...

    @property
    def busy_for(self) -> float:
        """How long the inference under way, even an abandoned one, has been running [s]; 0 if there is none."""
        ...

    def submit(self, request: ChunkRequest) -> None:
        """Begin to infer a chunk, unless `busy`."""
        ...

    def take(self, stamp: int) -> tuple[ChunkRequest, Chunk] | None:
        """Return the request and its chunk if that is ready at the tick stamped `stamp` [ns].

        Raises:
            Exception: Whatever the inference raised.
        """
        ...

    def abandon(self) -> None:
        """Forget the request under way; its chunk is never returned."""
        ...

    def close(self) -> None:
        """End the worker."""
        ...


class BackgroundWorker:
    """A worker with one thread, which starts with the first request. All methods may be called from any thread.

    Args:
        infer: Called with each request, on the thread, one at a time.
    """

    def __init__(self, infer: Callable[[ChunkRequest], Chunk]) -> None:
        self._infer = infer
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._request: ChunkRequest | None = None  # the one somebody wants the chunk of
        self._waiting = False  # whether the thread has not begun it
        self._outcome: Chunk | Exception | None = None
        self._began: float | None = None  # the inference under way
        self._closed = False

    @property
    def busy(self) -> bool:
        """See `InferenceWorker`."""
        return self._request is not None

    @property
    def busy_for(self) -> float:
        """See `InferenceWorker`."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def submit(self, request: ChunkRequest) -> None:
        """See `InferenceWorker`; after an abandoned inference, which cannot be interrupted, the request waits for its end."""
        with self._condition:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="chunks", daemon=True)
                self._thread.start()
            self._request, self._waiting, self._outcome = request, True, None
            self._condition.notify_all()

    def take(self, stamp: int) -> tuple[ChunkRequest, Chunk] | None:
        """See `InferenceWorker`; whatever is ready is returned."""
        with self._condition:
            request, outcome = self._request, self._outcome
            if request is None or outcome is None:
                return None
            self._request = self._outcome = None
        if isinstance(outcome, Exception):
            raise outcome
        return request, outcome

    def abandon(self) -> None:
        """See `InferenceWorker`."""
        with self._condition:
            self._request, self._waiting, self._outcome = None, False, None

    def close(self) -> None:
        """End the thread after the inference under way, without waiting for it."""
        self.abandon()
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                request, self._waiting = self._request, False
            if request is None:
                continue
            self._began = time.monotonic()
            try:
                outcome: Chunk | Exception = self._infer(request)
            except Exception as error:  # for the tick that takes it
                outcome = error
            with self._condition:
                self._began = None
                if request is self._request:
                    self._outcome = outcome
