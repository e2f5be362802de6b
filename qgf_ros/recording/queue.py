"""Between those who receive messages and the disk: a bounded queue, emptied by a thread of its own.

`put` never waits. Where the disk cannot keep up, messages are dropped, counted and said.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from qgf_ros.errors import RecordingError
from qgf_ros.recording.writer import Received, RecordingWriter

#: Messages and bytes that wait for the disk at most.
MOST_WAITING, MOST_WAITING_BYTES = 20_000, 64 * 1024 * 1024
#: Everything is on the disk at most this long after it was received [s].
FLUSH_PERIOD = 1.0


class RecordingQueue:
    """Writes what is put into it until it is closed, the file is full or the disk fails.

    Args:
        writer: The file; from here on used by the queue's thread alone.
    """

    def __init__(self, writer: RecordingWriter) -> None:
        self._writer = writer
        self._condition = threading.Condition()
        self._waiting: deque[Received | tuple[str, dict[str, str]]] = deque()
        self._waiting_bytes = 0
        self._closing = False
        self.messages = 0
        self.dropped = 0
        #: Messages that never came, as the middleware told; counted by whoever puts them.
        self.lost = 0
        #: Why nothing is written any more, or None.
        self.end: str | None = None
        #: Whether it ended because the disk failed, or had no room for metadata.
        self.failed = False
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        """Size of the file, about [bytes]."""
        return self._writer.size

    def put(self, message: Received) -> bool:
        """Hand a message over; return False if it is dropped because too many wait."""
        with self._condition:
            full = len(self._waiting) >= MOST_WAITING or self._waiting_bytes + len(message.data) > MOST_WAITING_BYTES
            if full or self._closing or self.end is not None:
                self.dropped += self.end is None and not self._closing
                return False
            self._waiting.append(message)
            self._waiting_bytes += len(message.data)
            self._condition.notify()
        return True

    def put_metadata(self, name: str, values: dict[str, str]) -> None:
        """Hand a metadata record over."""
        with self._condition:
            self._waiting.append((name, values))
            self._condition.notify()

    def close(self) -> None:
        """Write what waits and end the file."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        for step in (self._write, self._end, self._writer.close):
            try:
                step()
            except RecordingError as error:
                self.end, self.failed = self.end or str(error), True

    def _end(self) -> None:
        if self._writer.broken:
            return
        counts = {"messages": self.messages, "dropped": self.dropped, "lost": self.lost}
        values = {name: str(count) for name, count in counts.items()}
        self._writer.add_metadata("qgf_end", {**values, "reason": self.end or "closed"}, last=True)

    def _write(self) -> None:
        flushed = time.monotonic()
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closing, FLUSH_PERIOD / 4)
                batch, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
                last = self._closing
            for item in batch:
                if isinstance(item, tuple):
                    self._writer.add_metadata(*item)
                elif not self._write_message(item):
                    return
            if last:
                return
            if time.monotonic() - flushed >= FLUSH_PERIOD:
                self._writer.flush()
                flushed = time.monotonic()

    def _write_message(self, message: Received) -> bool:
        if self._writer.write(message):
            self.messages += 1
            return True
        self.end = (
            f"{self._writer.path} has reached its largest size of {self._writer.max_size / 1e6:g} MB; "
            "recording ends, start another or raise --max-size-mb"
        )
        return False
