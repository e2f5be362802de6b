"""What may take in the messages of a node, by name; rclpy is loaded only to make one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from qgf_ros.errors import GuidanceError

#: The first is the one of rclpy that is not experimental.
EXECUTORS = ("single_threaded", "events")


def make_executor(name: str = EXECUTORS[0], **options: Any) -> Any:
    """Return an executor; without an EventsExecutor in this rclpy (Humble), the single-threaded one.

    Spin it with `spin_once`: the `spin` of some versions of EventsExecutor never returns.

    Args:
        name: One of `EXECUTORS`.
        options: Of the executor, such as `context`.

    Raises:
        GuidanceError: The name is unknown.
    """
    if name not in EXECUTORS:
        raise GuidanceError(f"executor {name!r} was given; it must be {' or '.join(EXECUTORS)}")
    if name == "events":
        with suppress(ImportError):
            from rclpy.experimental import EventsExecutor

            return EventsExecutor(**options)
    from rclpy.executors import SingleThreadedExecutor

    return SingleThreadedExecutor(**options)
