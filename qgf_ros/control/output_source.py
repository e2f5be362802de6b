"""What a robot contract says of an output, and whether it fits the fields it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from qgf_ros.bundle.fields import ActionField, Name, Record, Topic
from qgf_ros.errors import ContractError

#: Topic of a joint_state output that names none.
COMMAND_TOPIC = "command"
#: The type of output that is an action of `control_msgs`.
GRIPPER = "gripper_command"
#: The components of a twist, in the order of the message.
TWIST = tuple(f"{part}.{axis}" for part in ("linear", "angular") for axis in "xyz")
#: The parts of a pose: where, and which way, turned by roll about x, then pitch about y, then yaw about z of its frame.
PLACE, ANGLES = ("x", "y", "z"), ("roll", "pitch", "yaw")

_FRAMED = {"twist_stamped": "velocities", "pose_stamped": "poses"}
_POSITIONS = {"joint_trajectory": "trajectory", "pose_stamped": "pose"}


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


class SwitchSource(Record):
    """Two positions instead of all between, for a gripper: which of them, the command says with hysteresis.

    Attributes:
        above: A command above it [unit of the action] sends the upper position.
        below: A command below it sends the lower one; between the two, all stays as it is.
        dwell: Shortest time from one switch to the next [s].
        positions: The lower and the upper one [unit of the action]; the ends of the component's limits by default.
    """

    above: Bounded
    below: Bounded
    dwell: Annotated[float, Field(ge=0.0, le=60.0)] = 0.5
    positions: tuple[Bounded, Bounded] | None = None


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
        frame_id: Frame of a twist or a pose.
        fixed: Parts of a pose that no field is sent as [m, rad].
        hysteresis: Two positions instead of all between.
        max_effort: Of a gripper_command [N, or as its controller counts it].
    """

    type: Literal[
        "joint_state", "float64_multi_array", "joint_trajectory", "twist_stamped", "pose_stamped", "gripper_command"
    ] = "joint_state"
    topic: Topic | None = None
    controller: NodeName | None = None
    fields: Annotated[dict[Name, Annotated[str, Field(min_length=1)]], BeforeValidator(_renamed)] | None = None
    scale: Factors = (1.0,)
    offset: Factors = (0.0,)
    integrate: Literal["none", "measured", "commanded"] = "none"
    frame_id: str = ""
    fixed: dict[Literal["x", "y", "z", "roll", "pitch", "yaw"], Bounded] = Field(default_factory=dict)
    hysteresis: SwitchSource | None = None
    max_effort: Annotated[float, Field(ge=0.0, le=1e6)] | None = None

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


def check_output(source: OutputSource, fields: Sequence[ActionField], names: Sequence[str]) -> None:
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
    if source.type in _FRAMED and not source.frame_id:
        raise ContractError(
            f"{source} has no frame_id; name the frame of its {_FRAMED[source.type]}, such as base_link"
        )
    if source.controller and source.type in (*_FRAMED, GRIPPER):
        raise ContractError(f"{source}: controller is for outputs of joints; leave it out")
    if source.frame_id and source.type not in _FRAMED:
        raise ContractError(f"{source}: frame_id is for twist_stamped and pose_stamped; leave it out")
    if source.type == GRIPPER:
        if len(fields) != 1 or source.hysteresis is None:
            raise ContractError(
                f"{source}: a gripper_command takes one field, with hysteresis, because each change is a goal of its own; "
                "give both"
            )
    elif source.max_effort is not None:
        raise ContractError(f"{source}: max_effort is for gripper_command; leave it out")
    offsets = np.broadcast_to(source.offset, len(fields)).tolist()
    for field, name, offset in zip(fields, names, offsets):
        complaint = _complaint(source, field, name, offset)
        if complaint:
            raise ContractError(f"{source}, field {field.name}: {complaint}")
    _check_parts(source, names)


def _check_parts(source: OutputSource, names: Sequence[str]) -> None:
    """Raise ContractError unless a pose has each of its parts once, and others have none."""
    if source.type != "pose_stamped":
        if source.fixed:
            raise ContractError(f"{source}: fixed is for pose_stamped; leave it out")
        return
    twice = [name for name in names if name in source.fixed]
    if twice:
        raise ContractError(f"{source}: {twice[0]} is both a field and fixed; leave one of them out")
    missing = [part for part in (*PLACE, *ANGLES) if part not in names and part not in source.fixed]
    if missing:
        raise ContractError(
            f"{source} says nothing of {', '.join(missing)}; send fields as these, or give them by fixed, such as "
            f"fixed: {{{missing[0]}: 0.0}}"
        )


def _complaint(source: OutputSource, field: ActionField, name: str, offset: float) -> str | None:
    """Say why an output cannot take a field, or None if it can."""
    relative, integrated = field.hold is not None, source.integrate != "none"
    if source.hysteresis is not None and (complaint := _switch_complaint(source, source.hysteresis, field)):
        return complaint
    if source.type == "twist_stamped":
        if name not in TWIST:
            return f"sent as {name}, expected one of {', '.join(TWIST)}, such as {{{field.name}: linear.x}}"
        if not relative or integrated:
            return "a twist takes displacements and integrates nothing; send positions by another type"
    if source.type == "pose_stamped" and name not in (*PLACE, *ANGLES):
        return f"sent as {name}, expected one of {', '.join((*PLACE, *ANGLES))}, such as {{{field.name}: x}}"
    if integrated and not relative:
        return "integrate is for displacements, and this is a position (hold is null); leave integrate out"
    if source.type in _POSITIONS and relative and not integrated:
        return (
            f"a {_POSITIONS[source.type]} is made of positions, and this is a displacement; "
            "set integrate to measured or commanded"
        )
    if (integrated or source.type == "twist_stamped") and field.hold != 0.0:
        return f"its hold is {field.hold:g}, and only a displacement whose hold is 0 stands still when it is held"
    if (integrated or source.type == "joint_trajectory") and field.measured is None:
        return f"where it is must be measured; name it with limits, such as {field.name}.measured=FIELD:INDEX"
    if offset and relative and not integrated:
        return f"offset {offset:g} would move the robot when it is held; leave it out, this is no position"
    return None


def _switch_complaint(source: OutputSource, switch: SwitchSource, field: ActionField) -> str | None:
    """Say why a field cannot be switched between two positions, or None if it can."""
    if source.type in ("twist_stamped", "joint_trajectory", "pose_stamped"):
        return f"hysteresis makes two positions of all, and a {source.type} is made of more; leave it out"
    if field.hold is not None and source.integrate == "none":
        return "hysteresis is for positions, and this is a displacement; set integrate to measured or commanded"
    if not switch.below < switch.above:
        return f"hysteresis above {switch.above:g} is not more than below {switch.below:g}; between them lies what switches nothing"
    positions = switched_positions(switch, field)
    if positions is None:
        return "a displacement has no position of its own to switch to; give hysteresis positions, or the component a workspace"
    if not positions[0] < positions[1]:
        return f"hysteresis positions {list(positions)} were given, expected the lower before the upper"
    low, high = reach_of(field)
    if not (low < switch.below and switch.above < high):
        return f"hysteresis below {switch.below:g} and above {switch.above:g} were given, expected both inside {low:g} to {high:g}"
    if not (low <= positions[0] and positions[1] <= high):
        return (
            f"hysteresis positions {list(positions)} were given, expected both within the limits, {low:g} to {high:g}"
        )
    return None


def reach_of(field: ActionField) -> tuple[float, float]:
    """Return the lowest and the highest position that a component may have [unit]; infinite where nothing says."""
    low, high = field.workspace or (-math.inf, math.inf)
    return (max(low, field.lower), min(high, field.upper)) if field.hold is None else (low, high)


def switched_positions(switch: SwitchSource, field: ActionField) -> tuple[float, float] | None:
    """Return the lower and the upper position that a component is switched between, or None where nothing says."""
    positions = switch.positions or reach_of(field)
    return positions if all(map(math.isfinite, positions)) else None
