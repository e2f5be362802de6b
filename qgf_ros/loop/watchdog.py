"""A thread that watches the others and holds the robot where they cannot. No ROS in here.

It needs nothing of them but the gate that commands pass, which nobody holds while inference runs. What it cannot help
against (an extension that keeps Python's interpreter lock, a middleware that hangs while it publishes, a process that is
stopped) keeps it from beating, too: to whoever listens to the heartbeat, silence is a fault.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from qgf_ros.loop.command_stream import Outputs, StreamState
from qgf_ros.loop.gate import CommandGate
from qgf_ros.loop.realtime import rise_above_others

#: Largest period between two looks [s].
INTERVAL = 0.05
#: And the smallest, however short the limit is [s].
SHORTEST_INTERVAL = 0.001
#: A thread that says nothing for longer than this [s] is stuck, where there is no limit for its answers.
STUCK_AFTER = 1.0


class Watchdog:
    """Holds the robot when answers fail to come, sends the commands of a deceleration, and beats while all is alive.

    Args:
        gate: What it holds the robot through.
        outputs: Where it tells people.
        period: Of the commands of a deceleration [s].
        limit: Returns how long [s] an answer may fail to come.
        busy: Returns how long [s] the inference thread has been at what it does.
        waiting: Returns how long [s] observations have been waiting for an answer.
    """

    def __init__(
        self,
        gate: CommandGate,
        outputs: Outputs,
        *,
        period: float,
        limit: Callable[[], float],
        busy: Callable[[], float],
        waiting: Callable[[], float],
    ) -> None:
        self._gate = gate
        self._outputs = outputs
        self._period = period
        self._limit = limit
        self._busy = busy
        self._waiting = waiting
        self._called_back: float | None = None
        self._beat: Callable[[], None] | None = None
        self._beat_period = self._next_beat = math.inf
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @property
    def interval(self) -> float:
        """How often it looks, and should hear of callbacks [s]."""
        return min(INTERVAL, max(SHORTEST_INTERVAL, self._limit() / 4.0))

    def beat(self, beat: Callable[[], None] | None, period: float = math.inf) -> None:
        """Call `beat` on its thread every `period` [s], while all is alive; None for not any more."""
        self._beat, self._beat_period = beat, period
        self._next_beat = time.monotonic() if beat is not None else math.inf
        self._gate.wake.set()

    def called_back(self) -> None:
        """Note that callbacks run; from now on they have to."""
        self._called_back = time.monotonic()

    def excuse_callbacks(self) -> None:
        """Do not mind that no callbacks run, until one does."""
        self._called_back = None

    def look(self) -> bool:
        """Hold the robot if an answer fails to come; return whether all that is watched is alive."""
        limit, now, called_back = self._limit(), time.monotonic(), self._called_back
        busy, silent = self._busy(), 0.0 if called_back is None else now - called_back
        waiting = self._waiting()
        if self._gate.state is StreamState.COMMANDING and max(busy, silent, waiting) > limit:
            if busy > limit:
                reason = f"inference has been running for {busy:.2f} s; it is abandoned, see that the machine keeps up"
            elif silent > limit:
                reason = (
                    f"no callback of the node has run for {silent:.2f} s; see what keeps its executor from spinning"
                )
            else:
                reason = f"observations have been waiting {waiting:.2f} s for an answer; see that inference keeps up"
            self._gate.interrupt(f"{reason}, or raise watchdog_timeout from {limit:g} s")
        return max(busy, silent) <= (limit if limit < math.inf else STUCK_AFTER)

    def stop(self, timeout: float) -> None:
        """End the thread, and wait up to `timeout` [s] for it."""
        self._stopped.set()
        self._gate.wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            rise_above_others()
        except OSError as error:
            text = f"the watchdog may not preempt inference ({error}); allow an rtprio of 1 more than sched_fifo"
            self._outputs.report(logging.WARNING, text)
        while not self._stopped.is_set():
            self._gate.wake.clear()
            began = time.monotonic()
            try:
                if began >= self._gate.sent_at + self._period:  # keeps the pace of what came before
                    self._gate.brake()
                if self.look() and self._beat is not None and began >= self._next_beat:
                    self._next_beat = max(self._next_beat + self._beat_period, began)
                    self._beat()
            except Exception as error:  # it must outlive whatever it watches
                self._outputs.report(logging.ERROR, f"the watchdog failed, {type(error).__name__}: {error}")
            due = min(began + self.interval, self._next_beat)
            if self._gate.state is StreamState.BRAKING:
                due = min(due, self._gate.sent_at + self._period)
            self._gate.wake.wait(max(due - time.monotonic(), 0.0))
