"""The policy node's parameters at any time of a recording, of a snapshot and of the changes after it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from qgf_ros.control.run_options import KINDS, RunOptions
from qgf_ros.recording.recorded_commands import MALFORMED, malformed
from qgf_ros.recording.recording import Recorded, Recording

# Where the value of each parameter type lies in a ParameterValue (rcl_interfaces/msg/ParameterType).
_VALUES = {1: "bool_value", 2: "integer_value", 3: "double_value", 4: "string_value"}


class ParameterHistory:
    """Run options over time, as far as parameters say them; what was never recorded has its default.

    Args:
        recording: Its snapshot is the beginning.
        node: Full name of the policy node.
        events: Messages of ``/parameter_events`` in the order they were received.
    """

    def __init__(self, recording: Recording, node: str, events: Sequence[Recorded]) -> None:
        self._options: dict[str, Any] = {}
        #: The action's limits that differ from the bundle's; fixed while the node is configured.
        self.limits = ""
        for name, text in recording.parameters.items():
            try:
                self._keep(name, json.loads(text))
            except ValueError:
                recording.damage.append(f"the recorded value of parameter {name} is damaged")
        self._events = [event for event in events if getattr(event.message, "node", None) == node]
        self._next = 0

    def options(self, time: int) -> RunOptions:
        """Return the options in force at `time` [ns]; call it with times that do not fall.

        Raises:
            RecordingError: An event has not the fields of one.
        """
        while self._next < len(self._events) and self._events[self._next].log_time <= time:
            event = self._events[self._next]
            try:
                self._take(event.message)
            except MALFORMED as error:
                malformed(event, error)
            self._next += 1
        return RunOptions(**self._options)

    def _take(self, message: Any) -> None:
        for parameter in [*message.new_parameters, *message.changed_parameters]:
            kind = _VALUES.get(parameter.value.type)
            if kind is not None:
                self._keep(parameter.name, getattr(parameter.value, kind))

    def _keep(self, name: str, value: Any) -> None:
        if name in KINDS and type(value) is KINDS[name]:
            self._options[name] = value
        elif name == "limits" and isinstance(value, str):
            self.limits = value
