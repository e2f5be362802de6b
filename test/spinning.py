"""A thread that spins ROS nodes until it is told to stop, and then stops at once."""

from __future__ import annotations

import threading
from typing import Any


class SpinningThread:
    """Answers what comes to nodes, from now on, in a thread of its own.

    Args:
        context: Of the nodes.
        nodes: What is spun; they stay whoever's they are.
    """

    def __init__(self, context: Any, *nodes: Any) -> None:
        from rclpy.executors import SingleThreadedExecutor

        self._executor = SingleThreadedExecutor(context=context)
        for node in nodes:
            self._executor.add_node(node)
        self._running = True
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def _spin(self) -> None:
        while self._running:
            self._executor.spin_once()

    def _stop(self) -> None:
        self._running = False

    def close(self) -> None:
        """End the callback under way and the thread."""
        self._executor.create_task(self._stop)  # wakes it, where a flag would wait for a timeout
        self._thread.join()
        self._executor.shutdown()
