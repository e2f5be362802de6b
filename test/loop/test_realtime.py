"""Real-time scheduling where it is allowed, a sentence where it is not; no garbage collection within a tick."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.errors import GuidanceError
from qgf_ros.loop import realtime
from qgf_ros.loop.inference_thread import InferenceThread
from qgf_ros.loop.realtime import RealTime, parse_cores

linux = pytest.mark.skipif(sys.platform != "linux", reason="real-time scheduling is of Linux")


@pytest.mark.parametrize(
    ("text", "cores"), [("", set()), ("3", {3}), ("2,4-6", {2, 4, 5, 6}), (" 0 , 1-1", {0, 1}), ("1,1", {1})]
)
def test_cores_are_written_as_for_taskset(text: str, cores: set[int]) -> None:
    assert parse_cores(text) == cores


@given(st.frozensets(st.integers(0, 200), min_size=1))
def test_every_set_of_cores_can_be_written(cores: frozenset[int]) -> None:
    assert parse_cores(",".join(map(str, cores))) == cores


@pytest.mark.parametrize("text", ["two", "3-1", "1-", "-1", "1;2", "0x1", "99999"])
def test_what_is_no_list_of_cores_is_refused(text: str) -> None:
    with pytest.raises(GuidanceError, match=r"cpu_affinity .* such as 2,4-6"):
        parse_cores(text)


def test_nothing_is_asked_of_the_kernel_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime, "_for_each_thread", lambda change: pytest.fail("asked"))
    monkeypatch.setattr(realtime, "_lock_memory", lambda: pytest.fail("asked"))
    assert RealTime().apply() == []


# In processes of their own: what was granted stays until the process ends.
SETTINGS = """
import os, threading
from qgf_ros.loop.realtime import RealTime
go, seen = threading.Event(), {}
def look(name):
    go.wait(60)
    thread = threading.get_native_id()
    scheduling = os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority
    seen[name] = scheduling, os.sched_getaffinity(thread)
before = threading.Thread(target=look, args=["before"]); before.start()
core = min(os.sched_getaffinity(0))
refused = RealTime(sched_fifo=7, cores=frozenset([core])).apply()
go.set(); before.join()
after = threading.Thread(target=look, args=["after"]); after.start(); after.join()
assert seen["before"] == seen["after"], seen
scheduling, cores = seen["after"]
assert cores == {core}, cores
assert (scheduling == (os.SCHED_FIFO, 7)) == (refused == []), (scheduling, refused)
"""


@linux
def test_every_thread_gets_core_and_priority_or_a_refusal_is_told() -> None:
    done = subprocess.run([sys.executable, "-c", SETTINGS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


PRIORITIES = """
import os, threading
from types import SimpleNamespace
from qgf_ros.loop.realtime import RealTime
from qgf_ros.loop.watchdog import Watchdog
refused = RealTime(sched_fifo=7).apply()
looked, seen = threading.Event(), []
def waiting():
    seen.append((os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)); looked.set(); return 0.0
gate = SimpleNamespace(wake=threading.Event(), sent_at=0.0, brake=lambda: False, state=None)
told = SimpleNamespace(report=lambda level, text: print(text))
dog = Watchdog(gate, told, period=0.05, limit=lambda: 1.0, busy=lambda: 0.0, waiting=waiting)
assert looked.wait(60); dog.stop(10)
assert seen[0] == ((os.sched_getscheduler(0), 0) if refused else (os.SCHED_FIFO, 8)), (seen, refused)
"""


@linux
def test_the_watchdog_may_preempt_every_other_thread() -> None:
    done = subprocess.run([sys.executable, "-c", PRIORITIES], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@linux
@pytest.mark.parametrize("scheduler", ["SCHED_FIFO", "SCHED_OTHER"])
def test_a_thread_rises_above_the_priority_it_began_with_and_only_in_real_time(
    monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    found: list[tuple[int, int, int]] = []
    asked = [(0, os.SCHED_FIFO, 8)] if scheduler == "SCHED_FIFO" else []
    monkeypatch.setattr(os, "sched_getscheduler", lambda thread: getattr(os, scheduler))
    monkeypatch.setattr(os, "sched_getparam", lambda thread: os.sched_param(7))
    monkeypatch.setattr(os, "sched_setscheduler", lambda *given: found.append((*given[:2], given[2].sched_priority)))
    realtime.rise_above_others()
    assert found == asked


@pytest.mark.parametrize("answer", [0, -1])
def test_all_memory_is_locked_that_there_is_now_and_later(monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    flags: list[int] = []
    library = SimpleNamespace(mlockall=lambda given: flags.append(given) or answer)
    monkeypatch.setattr(realtime.ctypes, "CDLL", lambda *_, **__: library)
    monkeypatch.setattr(realtime.ctypes, "get_errno", lambda: errno.ENOMEM)
    refused = RealTime(memory_lock=True).apply()
    assert flags == [3]  # MCL_CURRENT | MCL_FUTURE of mman.h
    assert len(refused) == -answer
    assert all("Cannot allocate memory" in text for text in refused)


UNPRIVILEGED = """
import os, resource, sys
from qgf_ros.loop.realtime import RealTime
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
print("\\n".join(RealTime(sched_fifo=50, cores=frozenset([9999]), memory_lock=True).apply()))
"""


@linux
def test_what_is_refused_is_told_with_the_way_to_allow_it() -> None:
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED], capture_output=True, text=True, timeout=60)
    cores, fifo, memory = done.stdout.splitlines()
    assert cores.startswith("cpu_affinity 9999 was refused")
    assert fifo.startswith("sched_fifo 50 was refused")
    assert "rtprio" in fifo
    assert memory.startswith("memory_lock was refused")
    assert "memlock" in memory


def test_where_the_system_has_no_real_time_scheduling_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_param", raising=False)
    (refusal,) = RealTime(sched_fifo=1).apply()
    assert refusal.startswith("sched_fifo 1 was refused")


class Knot:
    """Garbage that only a collection frees."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture
def _own_garbage() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.mark.usefixtures("_own_garbage")
def test_garbage_stays_during_a_tick_and_is_gone_after_it() -> None:
    realtime.keep_garbage_for_later()
    realtime.freeze_garbage()
    left: list[weakref.ref[Knot]] = []
    during: list[bool] = []

    def tick(request: int) -> None:
        left.append(weakref.ref(Knot()))
        kept = [[] for _ in range(10_000)]  # Python would collect long before
        during.append(left[0]() is not None and bool(kept))

    rested = threading.Event()
    thread: InferenceThread[int] = InferenceThread(
        tick, pytest.fail, lambda: (realtime.collect_garbage(), rested.set())
    )
    thread.submit(1)
    assert rested.wait(60.0)
    assert thread.stop(60.0)
    assert during == [True]
    assert left[0]() is None


@pytest.mark.usefixtures("_own_garbage")
def test_garbage_that_outlived_a_tick_is_collected_in_the_end() -> None:
    realtime.keep_garbage_for_later()
    realtime.freeze_garbage()
    knot = Knot()
    old = weakref.ref(knot)
    realtime.collect_garbage()
    realtime.collect_garbage()  # in the oldest generation now
    del knot
    realtime.collect_garbage()
    assert old() is not None
    for _ in range(realtime.FULL_COLLECTION):
        realtime.collect_garbage()
    assert old() is None
