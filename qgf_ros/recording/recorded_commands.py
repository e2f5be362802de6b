"""What recorded messages say was commanded: telemetry of the policy node, and the messages that robots are sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ActionField
from qgf_ros.bundle.text import one_line
from qgf_ros.control.output_source import TWIST
from qgf_ros.errors import ObservationError, RecordingError
from qgf_ros.recording.recording import Recorded

Array = NDArray[np.float64]

#: Type of the telemetry of the policy node.
TELEMETRY = "diagnostic_msgs/msg/DiagnosticArray"

#: What of it commands are made from.
_TOLD = ("command", "motion", "frame_stamps")

#: What a message raises whose fields are not those of the type that it says it is.
MALFORMED = (AttributeError, TypeError, ValueError, OverflowError, IndexError)


class CommandReader:
    """Reads commands in the order and the units of an action contract.

    Args:
        action: The action contract.
        control_rate: [Hz].
        names: Of its components on the topic, in their order; those of the contract by default.

    Raises:
        RecordingError: There is not a name for each component.
    """

    def __init__(self, action: Sequence[ActionField], control_rate: float, names: Sequence[str] = ()) -> None:
        self._action = action
        self._period = 1.0 / control_rate
        self._named = tuple(names)
        self._names = self._named or tuple(field.name for field in action)
        if len(self._names) != len(action) or len(set(self._names)) != len(action):
            raise RecordingError(
                f"the names {', '.join(self._names)} were given for commands, expected another one for each component: "
                f"{', '.join(field.name for field in action)}"
            )
        self._kinds = {
            "sensor_msgs/msg/JointState": self._joint_state,
            "trajectory_msgs/msg/JointTrajectory": self._trajectory,
            "geometry_msgs/msg/TwistStamped": self._twist,
            "std_msgs/msg/Float64MultiArray": self._vector,
            "std_msgs/msg/Float32MultiArray": self._vector,
        }

    def values(self, recorded: Recorded) -> Array:
        """Return the values of a recorded command in the order of the action contract, float64 [A].

        Raises:
            RecordingError: It is of none of the types above and no telemetry, lacks a component, or its telemetry does
                not say what was commanded.
            ObservationError: It commands nothing, as a trajectory without points does.
        """
        if recorded.type_name == TELEMETRY:
            return commanded(len(self._action), recorded)
        read = self._kinds.get(recorded.type_name)
        if read is None:
            raise RecordingError(
                f"topic {recorded.topic} is recorded as {recorded.type_name or 'an unknown type'}; commands are read from "
                f"{', '.join(self._kinds)}, or from the telemetry of the policy node"
            )
        try:
            return read(recorded)
        except MALFORMED as error:
            malformed(recorded, error)

    def _joint_state(self, recorded: Recorded) -> Array:
        message = recorded.message
        return self._by_name(recorded, message.name, message.position)

    def _trajectory(self, recorded: Recorded) -> Array:
        message = recorded.message
        if len(message.points) == 0:
            raise ObservationError("a trajectory without points, which commands nothing")
        if len(message.points) > 1:
            raise RecordingError(
                f"topic {recorded.topic} holds trajectories of {len(message.points)} points, expected one: which of them "
                "was the command of a tick is not in the recording"
            )
        return self._by_name(recorded, message.joint_names, message.points[0].positions)

    def _by_name(self, recorded: Recorded, names: Sequence[str], positions: Sequence[float]) -> Array:
        quoted = one_line(", ".join(map(str, names)) or "no names")
        missing = [name for name in self._names if name not in names]
        if missing:
            raise RecordingError(f"topic {recorded.topic} has no {', '.join(missing)}; it has {quoted}")
        if len(positions) != len(names):
            raise RecordingError(
                f"topic {recorded.topic} holds {len(positions)} positions for {quoted}; commands are "
                "read from positions, one for each name, and neither velocity nor effort stands in for one"
            )
        values = dict(zip(names, positions))
        return np.array([values[name] for name in self._names], dtype=np.float64)

    def _vector(self, recorded: Recorded) -> Array:
        message = recorded.message
        values = np.array(message.data, dtype=np.float64)
        if self._named:
            raise RecordingError(
                f"topic {recorded.topic} is recorded as {recorded.type_name}, which has no names; leave --command-names "
                "out, the values are taken in the order of the contract"
            )
        if values.shape != (len(self._action),) or message.layout.data_offset:
            raise RecordingError(
                f"topic {recorded.topic} holds {values.size} values behind a data_offset of {message.layout.data_offset}, "
                f"expected {len(self._action)} and 0, in the order {', '.join(self._names)}"
            )
        return values

    def _twist(self, recorded: Recorded) -> Array:
        twist = recorded.message.twist
        parts = self._twist_parts(recorded)
        values = [float(getattr(getattr(twist, part), axis)) for part, axis in (name.split(".") for name in parts)]
        return np.array([value * self._per_second(recorded, field) for value, field in zip(values, self._action)])

    def _twist_parts(self, recorded: Recorded) -> Sequence[str]:
        """Return which part of a twist each component is."""
        parts = self._named or tuple(name.replace("_", ".") for name in self._names)
        if all(part in TWIST for part in parts):
            return parts
        if not self._named and len(self._action) == len(TWIST):
            return TWIST
        raise RecordingError(
            f"topic {recorded.topic} holds twists, and which of {', '.join(TWIST)} are {', '.join(self._names)} is not "
            f"said; give it in this order, such as --command-names {' '.join(TWIST[: len(self._action)])}"
        )

    def _per_second(self, recorded: Recorded, field: ActionField) -> float:
        """Return what a part of a twist, which is per second, is multiplied by to be in the unit of a component."""
        if field.unit.endswith("/s"):
            return 1.0
        if field.hold is None:
            raise RecordingError(
                f"topic {recorded.topic} holds twists, and {field.name} is a position (hold null) in {field.unit}, which "
                "no velocity is; give the topic of its commands"
            )
        return self._period  # a displacement, as the output twist_stamped takes it for


def malformed(recorded: Recorded, error: Exception) -> NoReturn:
    """Raise RecordingError for a message whose fields are not those of the type that it says it is."""
    raise RecordingError(
        f"topic {recorded.topic} is recorded as {recorded.type_name}, and its messages have not the fields of it "
        f"({one_line(str(error))}); "
        "record it with the definition of that type"
    ) from error


def whole(recorded: Recorded) -> Any:
    """Return all that a message says."""
    return recorded.message


def looked_at(recorded: Recorded) -> Any:
    """Return what is looked at of a command or of telemetry, as its message has it: all of an hour may be a gigabyte."""
    message = recorded.message
    try:
        if recorded.type_name == TELEMETRY:
            told = [(key, value) for key, value in figures(recorded).items() if key in _TOLD]
            return SimpleNamespace(status=[SimpleNamespace(values=[SimpleNamespace(key=k, value=v) for k, v in told])])
        if recorded.type_name == "sensor_msgs/msg/JointState":
            names = tuple(sys.intern(str(name)) for name in message.name)
            return SimpleNamespace(name=names, position=np.array(message.position, dtype=np.float64))
    except MALFORMED:  # whoever reads it says so
        pass
    return message


def commanded(size: int, recorded: Recorded) -> Array:
    """Return the command of so many components that telemetry tells of; raises RecordingError if it tells of none."""
    try:
        values = np.array(json.loads(figures(recorded).get("command", "")), dtype=np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError):
        values = np.empty(0)
    if values.shape != (size,):
        raise RecordingError(
            f"topic {recorded.topic} does not say what was commanded, expected {size} values as command; record the run "
            "with the policy node of this version"
        )
    return values


def reached_the_robot(command: Recorded) -> bool:
    """Return whether a recorded command, or the one that a telemetry tells of, went to the robot."""
    return command.type_name != TELEMETRY or figures(command).get("motion") == "1"


def says_what_was_sent(recorded: Recorded) -> bool:
    """Return whether a message is the telemetry of a command that went to the robot."""
    return recorded.type_name == TELEMETRY and reached_the_robot(recorded) and "command" in figures(recorded)


def differ(reader: CommandReader, commands: Sequence[Recorded], said: Mapping[int, Recorded]) -> bool:
    """Return whether what was sent is something else than the telemetry of its tick says was commanded.

    Args:
        reader: Of the action contract.
        commands: What was sent, in the order of arrival; after the first of a stamp come holds.
        said: Telemetry by stamp.
    """
    for command in {command.stamp: command for command in reversed(commands)}.values():
        if command.stamp in said:
            try:
                sent = reader.values(command)
            except (RecordingError, ObservationError):  # under other names, or as another type
                return True
            if not np.array_equal(sent, reader.values(said[command.stamp])):
                return True
    return False


def figures(recorded: Recorded) -> Mapping[str, str]:
    """Return the values of a recorded DiagnosticArray by key; raises RecordingError if it is none."""
    message: Any = recorded.message
    try:
        return {str(item.key): str(item.value) for status in message.status for item in status.values}
    except MALFORMED as error:
        malformed(recorded, error)
