"""What the controllers of a robot are sent for a command: the outputs of a robot contract.

A command is float64 [A] in the units of the action contract and inside every limit of the safety envelope. An output
takes its own components of it, adds displacements up to positions where it is told to, and ends in the controller's
unit with ``sent = value * scale + offset``. The scale of the manifest comes first, before the limits; this one last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from qgf_ros.bundle.fields import ActionField, Name, Record, Topic
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.command import Command
from qgf_ros.errors import ContractError

Array = NDArray[np.float64]

#: Topic of a joint_state output that names none.
COMMAND_TOPIC = "command"
#: The components of a twist, in the order of the message.
TWIST = tuple(f"{part}.{axis}" for part in ("linear", "angular") for axis in "xyz")


def _several(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else (value,)


def _renamed(value: Any) -> Any:
    """Return a list of fields as a mapping to their own names; twice the same stays wrong."""
    if not isinstance(value, (list, tuple)):
        return value
    if not all(isinstance(name, str) for name in value):
        raise ValueError(f"{list(value)} is not a list of names")
    if len(set(value)) != len(value):
        raise ValueError(f"{list(value)} names a field twice")
    return {name: name for name in value}


#: Name of a node, absolute or relative to a namespace.
NodeName = Annotated[str, Field(pattern=r"^/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$", max_length=255)]
#: Within bounds that keep what is sent an ordinary number.
Bounded = Annotated[float, Field(ge=-1e9, le=1e9)]
Factors = Annotated[tuple[Bounded, ...], BeforeValidator(_several), Field(min_length=1)]


class OutputSource(Record):
    """One output as a robot contract gives it.

    Attributes:
        type: What is published; see docs/contracts.md.
        topic: Relative names are in the node's namespace; only joint_state has a default, ``command``.
        controller: Name of the controller's node, whose parameter ``joints`` is compared with the fields; relative names
            are in the node's namespace.
        fields: Components of the action in the controller's order, with the controller's names for them: a list where
            these are the same, a mapping where not; all components by default.
        scale, offset: sent = value * scale + offset; one for all, or one per field.
        integrate: Whether displacements are added up to positions, from the measured or the last commanded one.
        frame_id: Frame of a twist.
    """

    type: Literal["joint_state", "float64_multi_array", "joint_trajectory", "twist_stamped"] = "joint_state"
    topic: Topic | None = None
    controller: NodeName | None = None
    fields: Annotated[dict[Name, Annotated[str, Field(min_length=1)]], BeforeValidator(_renamed)] | None = None
    scale: Factors = (1.0,)
    offset: Factors = (0.0,)
    integrate: Literal["none", "measured", "commanded"] = "none"
    frame_id: str = ""

    def __str__(self) -> str:
        return f"output {self.type} on {self.address}"

    @property
    def address(self) -> str:
        """The topic, given or not."""
        return self.topic or COMMAND_TOPIC

    @property
    def shadow(self) -> str:
        """Where its commands go while the robot is not to move: a topic below the node's own name."""
        if self.type == "joint_state" and self.address == COMMAND_TOPIC:
            return "~/shadow_command"
        return f"~/shadow/{self.address.lstrip('~/')}"


@dataclass(frozen=True)
class Sent:
    """What one message says.

    Attributes:
        values: One row for each time, in the controller's units, float64 [K, F]; K is 1 but for a trajectory.
        stamp: Of the observation answered [ns]; 0 for a trajectory that begins on arrival.
    """

    values: Array
    stamp: int


class Output:
    """One output at work.

    Args:
        source: What the contract says.
        manifest: The bundle, whose limits are those of the robot.

    Attributes:
        fields: Its components of the action, in the controller's order.
        names: The controller's names for them.
        period: Control period [s].
        previews: Whether it sends what follows a command, too.

    Raises:
        ContractError: The output does not fit the bundle; the message names output and field.
    """

    def __init__(self, source: OutputSource, manifest: Manifest) -> None:
        known = {action.name: i for i, action in enumerate(manifest.action)}
        renamed = {name: name for name in known} if source.fields is None else source.fields
        unknown = [name for name in renamed if name not in known]
        if unknown:
            raise ContractError(
                f"{source} takes {unknown[0]}, but the actions of bundle {manifest.name} are {', '.join(known)}"
            )
        self.source = source
        self.topic = source.address
        self.fields = tuple(manifest.action[known[name]] for name in renamed)
        self.names = tuple(renamed.values())
        self.period = 1.0 / manifest.control_rate
        self._index = np.array([known[name] for name in renamed], dtype=np.intp)
        self._velocity = source.type == "twist_stamped"
        self.previews = source.type == "joint_trajectory"
        self._integrated = source.integrate != "none"
        self._positions_sent = self._integrated or any(field.hold is None for field in self.fields)
        _check(source, self.fields, self.names)
        self._scale = np.broadcast_to(source.scale, len(self.fields))
        self._offset = np.broadcast_to(source.offset, len(self.fields))
        self._plain = bool((self._scale == 1.0).all() and not self._offset.any())  # and passes to the bit
        boxes = np.array([field.workspace or (-np.inf, np.inf) for field in self.fields]).T
        self._lower, self._upper = boxes
        self._plan = np.empty((0, len(self.fields)))  # what was sent last, in the units of the action
        self._stamp = 0

    @property
    def converts(self) -> bool:
        """Whether it sends other values than the command's."""
        return self._integrated or self._velocity or not self._plain

    def describe(self) -> tuple[str, ...]:
        """Return name and unit under which each field is sent, such as ``linear.x [m/s]``, ``knee [rad * 57.3 - 90]``."""
        unit = [f"{field.unit}/s" if self._velocity else field.unit for field in self.fields]
        scale = [f" * {value:g}" if value != 1.0 else "" for value in self._scale]
        offset = [f" {'-' if value < 0.0 else '+'} {abs(value):g}" if value else "" for value in self._offset]
        return tuple(f"{name} [{u}{s}{o}]" for name, u, s, o in zip(self.names, unit, scale, offset))

    def command(self, command: Command) -> Sent:
        """Return what a command says here."""
        rows = command.values[None]
        if self.previews:
            rows = np.concatenate([rows, command.upcoming.reshape(-1, len(command.values))])
        rows = rows[:, self._index]
        if self._integrated:
            rows = self._positions(self._start(command), rows)
        self._plan, self._stamp = rows, command.stamp
        return Sent(self._convert(rows), command.stamp)

    def hold(self, values: Array, stamp: int, now: int, *, moved: bool = False) -> Sent | None:
        """Return what keeps the robot still here: no velocity, no displacement, and the position sent last.

        A trajectory goes on to its next point, where it would be in at most a period, and ends there, for good: a point
        that was passed already would call the robot back.

        Args:
            values: The hold of the safety envelope, float64 [A].
            stamp: Stamp of the last command [ns].
            now: Time by the clock of that stamp, whatever was set since [ns].
            moved: Whether the robot may have been moved since the last command was carried out: no position is sent then.

        Returns:
            None if no position was sent yet, and so none is to be kept, or none that is known to be where the robot is.
        """
        if moved and self._positions_sent and now > self._stamp + len(self._plan) * self._step:
            return None
        row = values[self._index]
        if self._integrated or self.previews:
            if not len(self._plan):
                return None
            row = self._due(-((self._stamp - now) // self._step))
            self._plan = row[None]
        return Sent(self._convert(row[None]), 0 if self.previews else stamp)

    @property
    def _step(self) -> int:
        return round(self.period * 1e9)

    def _due(self, periods: int) -> Array:
        """Return the row that is due a number of control periods after the last stamp."""
        row: Array = self._plan[min(max(periods - 1, 0), len(self._plan) - 1)]
        return row

    def _start(self, command: Command) -> Array:
        """Return the position that displacements are added to."""
        if self.source.integrate == "measured" or command.begins or not len(self._plan):
            return command.measured[self._index]
        return self._due(round((command.stamp - self._stamp) / self._step))

    def _positions(self, place: Array, steps: Array) -> Array:
        """Add displacements up from a place, inside the workspace; from outside, only the way back is open."""
        positions = np.empty_like(steps)
        for k, step in enumerate(steps):
            lower, upper = np.minimum(self._lower, place), np.maximum(self._upper, place)
            positions[k] = place = np.clip(place + step, lower, upper)
        return positions

    def _convert(self, rows: Array) -> Array:
        if self._velocity:
            rows = rows / self.period
        return rows if self._plain else rows * self._scale + self._offset


def _check(source: OutputSource, fields: Sequence[ActionField], names: Sequence[str]) -> None:
    """Raise ContractError where an output does not fit its fields."""
    if source.topic is None and source.type != "joint_state":
        raise ContractError(f"{source} has no topic; name the one that the controller listens to")
    if not fields:
        raise ContractError(f"{source} has no fields; name the components of the action it takes")
    if len(set(names)) != len(names):
        raise ContractError(f"{source} sends two fields as one name of {', '.join(names)}")
    for key, values in (("scale", source.scale), ("offset", source.offset)):
        if len(values) not in (1, len(fields)):
            raise ContractError(f"{source}: {key} has {len(values)} values, expected 1 or {len(fields)}")
    if 0.0 in source.scale:
        raise ContractError(f"{source}: scale 0 was given, which would send every command as the same")
    twist = source.type == "twist_stamped"
    if twist and not source.frame_id:
        raise ContractError(f"{source} has no frame_id; name the frame of its velocities, such as base_link")
    if source.controller and twist:
        raise ContractError(f"{source}: controller is for outputs of joints; leave it out")
    if source.frame_id and not twist:
        raise ContractError(f"{source}: frame_id is for twist_stamped; leave it out")
    offsets = np.broadcast_to(source.offset, len(fields)).tolist()
    for field, name, offset in zip(fields, names, offsets):
        complaint = _complaint(source, field, name, offset)
        if complaint:
            raise ContractError(f"{source}, field {field.name}: {complaint}")


def _complaint(source: OutputSource, field: ActionField, name: str, offset: float) -> str | None:
    """Say why an output cannot take a field, or None if it can."""
    relative, integrated = field.hold is not None, source.integrate != "none"
    if source.type == "twist_stamped":
        if name not in TWIST:
            return f"sent as {name}, expected one of {', '.join(TWIST)}, such as {{{field.name}: linear.x}}"
        if not relative or integrated:
            return "a twist takes displacements and integrates nothing; send positions by another type"
    if integrated and not relative:
        return "integrate is for displacements, and this is a position (hold is null); leave integrate out"
    if source.type == "joint_trajectory" and relative and not integrated:
        return "a trajectory is made of positions, and this is a displacement; set integrate to measured or commanded"
    if (integrated or source.type == "twist_stamped") and field.hold != 0.0:
        return f"its hold is {field.hold:g}, and only a displacement whose hold is 0 stands still when it is held"
    if (integrated or source.type == "joint_trajectory") and field.measured is None:
        return f"where it is must be measured; name it with limits, such as {field.name}.measured=FIELD:INDEX"
    if offset and relative and not integrated:
        return f"offset {offset:g} would move the robot when it is held; leave it out, this is no position"
    return None
