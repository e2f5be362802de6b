"""Telemetry and diagnostics as standard messages, and a log that does not flood."""

from __future__ import annotations

import re
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from qgf_ros.nodes.messages import to_time

#: How often a node says how it is [s].
DIAGNOSTICS_PERIOD = 1.0


def diagnostic_array(
    stamp: int, name: str, hardware_id: str, level: int, message: str, figures: Mapping[str, str | int | float]
) -> DiagnosticArray:
    """Return one status as a DiagnosticArray.

    Args:
        stamp: Header stamp [ns].
        name: Name of the status.
        hardware_id: What it is about; here the bundle.
        level: 0 for OK, 1 for WARN, 2 for ERROR.
        message: One sentence for people.
        figures: Values by key; floats are written so that they read back as the same float64.
    """
    values = [KeyValue(key=key, value=v if isinstance(v, str) else repr(v)) for key, v in figures.items()]
    array = DiagnosticArray()
    array.header.stamp = to_time(stamp)
    status = DiagnosticStatus(level=bytes([level]), name=name, message=message, hardware_id=hardware_id, values=values)
    array.status = [status]
    return array


class Throttle:
    """Lets a message pass when it differs from the last ones in more than its numbers, or after `interval` [s]."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._passed: dict[str, float] = {}

    def passes(self, text: str, now: float) -> bool:
        """Return whether `text` may be logged at `now` [s]."""
        key = re.sub(r"(?<!\w)[-+]?\d[\d.]*(e[-+]?\d+)?", "#", text)  # but not the digit of a name
        last = self._passed.get(key)
        if last is not None and now - last < self._interval:
            return False
        if len(self._passed) >= 100:
            self._passed.clear()
        self._passed[key] = now
        return True
