"""The inference thread: newest request first, and no request can end it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from qgf_ros.loop.inference_thread import InferenceThread


class Desk:
    """Handles requests one by one, each only when let."""

    def __init__(self) -> None:
        self.begun: queue.Queue[str] = queue.Queue()
        self.errors: queue.Queue[Exception] = queue.Queue()
        self.let = threading.Semaphore(0)
        self.thread: InferenceThread[str] = InferenceThread(self.handle, self.errors.put)

    def handle(self, request: str) -> None:
        self.begun.put(request)
        assert self.let.acquire(timeout=60.0)
        if request == "bad":
            raise ValueError(request)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.let.release(10)
    assert desk.thread.stop(60.0)


def test_a_newer_request_replaces_one_that_waits(desk: Desk) -> None:
    assert desk.thread.submit("first") is None
    assert desk.begun.get(timeout=60.0) == "first"
    assert desk.thread.submit("second") is None
    assert desk.thread.submit("third") == "second"
    desk.let.release(2)
    assert desk.begun.get(timeout=60.0) == "third"
    assert desk.thread.drain(60.0)
    assert desk.begun.empty()


def test_an_exception_is_told_and_the_thread_goes_on(desk: Desk) -> None:
    desk.let.release(2)
    desk.thread.submit("bad")
    assert str(desk.errors.get(timeout=60.0)) == "bad"
    desk.thread.submit("good")
    assert [desk.begun.get(timeout=60.0) for _ in range(2)] == ["bad", "good"]


def test_drain_drops_what_waits_and_reports_what_does_not_end(desk: Desk) -> None:
    desk.thread.submit("long")
    desk.begun.get(timeout=60.0)
    desk.thread.submit("waiting")
    assert not desk.thread.drain(0.01)
    assert desk.thread.busy_for > 0.0
    desk.let.release()
    assert desk.thread.drain(60.0)
    assert desk.thread.busy_for == 0.0
    assert desk.begun.empty()


def test_stop_does_not_wait_for_ever(desk: Desk) -> None:
    desk.thread.submit("long")
    desk.begun.get(timeout=60.0)
    assert not desk.thread.stop(0.01)


def test_the_thread_rests_only_when_nothing_waits() -> None:
    order: queue.Queue[str] = queue.Queue()
    let = threading.Semaphore(0)

    def handle(request: str) -> None:
        order.put(request)
        assert let.acquire(timeout=60.0)

    thread: InferenceThread[str] = InferenceThread(handle, order.put, lambda: order.put("rest"))
    thread.submit("first")
    assert order.get(timeout=60.0) == "first"
    thread.submit("second")
    let.release(2)
    assert [order.get(timeout=60.0) for _ in range(2)] == ["second", "rest"]
    assert thread.stop(60.0)
