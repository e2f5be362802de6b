"""Inference beside the ticks, on a real thread."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from qgf_ros.control.background import BackgroundWorker
from qgf_ros.control.inference import Chunk, ChunkRequest
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.shaping import QGF

LONG = 60.0  # [s], for what is awaited


def request(stamp: int) -> ChunkRequest:
    return ChunkRequest(stamp, np.zeros(3, np.float32), np.zeros((1, 8), np.float32), "near", 0.1, QGF)


class Inference:
    """An inference that waits until it is let go, and answers with the stamp it was asked with."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.under_way = 0
        self.most_under_way = 0
        self.error: Exception | None = None
        self._changed = threading.Condition()
        self._let_go = 0

    def __call__(self, asked: ChunkRequest) -> Chunk:
        with self._changed:
            self.begun.append(asked.stamp)
            number = len(self.begun)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._let_go >= number, LONG)
            self.under_way -= 1
        if self.error is not None:
            raise self.error
        actions = np.full((4, 2), asked.stamp, np.float32)
        return Chunk(actions, actions, {})

    def await_begin(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= count, LONG)

    def let_go(self) -> None:
        with self._changed:
            self._let_go += 1
            self._changed.notify_all()


@pytest.fixture
def inference() -> Inference:
    return Inference()


@pytest.fixture
def worker(inference: Inference) -> Any:
    worker = BackgroundWorker(inference)
    yield worker
    worker.close()
    for _ in range(10):
        inference.let_go()


def take(worker: BackgroundWorker) -> Any:
    """Ask again and again, as ticks do."""
    clock = threading.Event()
    for _ in range(round(LONG / 0.001)):
        done = worker.take(0)
        if done is not None:
            return done
        clock.wait(0.001)
    raise AssertionError("no chunk came")


def test_a_chunk_is_taken_once_with_the_request_it_answers(worker: BackgroundWorker, inference: Inference) -> None:
    asked = request(7)
    assert not worker.busy
    worker.submit(asked)
    inference.await_begin(1)
    assert worker.busy
    assert worker.take(0) is None, "it is still being inferred"
    inference.let_go()
    answered, chunk = take(worker)
    assert answered is asked
    assert (chunk.actions == 7).all()
    assert (worker.busy, worker.take(0)) == (False, None)


def test_an_abandoned_chunk_is_never_taken_and_the_next_one_waits_for_its_end(
    worker: BackgroundWorker, inference: Inference
) -> None:
    worker.submit(request(1))
    inference.await_begin(1)
    worker.abandon()
    assert not worker.busy
    worker.submit(request(2))
    assert inference.begun == [1]
    inference.let_go()
    inference.await_begin(2)
    assert worker.take(0) is None
    inference.let_go()
    answered, _ = take(worker)
    assert answered.stamp == 2
    assert inference.most_under_way == 1


def test_a_request_abandoned_before_it_began_is_never_inferred(worker: BackgroundWorker, inference: Inference) -> None:
    worker.submit(request(1))
    inference.await_begin(1)
    worker.abandon()
    for stamp in (2, 3):
        worker.submit(request(stamp))
        worker.abandon()
    worker.submit(request(4))
    inference.let_go()
    inference.await_begin(2)
    inference.let_go()
    assert take(worker)[0].stamp == 4
    assert inference.begun == [1, 4]


def test_an_error_is_raised_where_the_chunk_is_taken_and_the_worker_goes_on(
    worker: BackgroundWorker, inference: Inference
) -> None:
    inference.error = GuidanceError("the velocity field is not finite")
    worker.submit(request(1))
    inference.let_go()
    with pytest.raises(GuidanceError, match="not finite"):
        take(worker)
    assert not worker.busy
    inference.error = None
    worker.submit(request(2))
    inference.let_go()
    assert take(worker)[0].stamp == 2


def test_closing_ends_the_thread(inference: Inference) -> None:
    before = set(threading.enumerate())
    worker = BackgroundWorker(inference)
    assert set(threading.enumerate()) <= before, "no thread without a request"
    worker.submit(request(1))
    (thread,) = set(threading.enumerate()) - before
    inference.await_begin(1)
    worker.close()
    inference.let_go()
    thread.join(LONG)
    assert not thread.is_alive()


def test_it_says_how_long_an_inference_is_under_way_even_an_abandoned_one(
    worker: BackgroundWorker, inference: Inference
) -> None:
    assert worker.busy_for == 0.0
    worker.submit(request(1))
    inference.await_begin(1)
    worker.abandon()
    first = worker.busy_for
    assert 0.0 < first <= worker.busy_for
    worker.submit(request(2))
    inference.let_go()
    inference.let_go()
    take(worker)
    assert worker.busy_for == 0.0
