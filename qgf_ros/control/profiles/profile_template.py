"""A robot contract made of a robot's profile and the fields of a bundle, to be read by a person before it is used.

What belongs together is told by names alone: a component ``shoulder_pan`` is joint ``shoulder_pan_joint``, ``dx`` moves the
tool along x. Nothing is told by position in a list, which is how arms come to move the wrong joint. What cannot be told
stays as the bundle has it, and the contract says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.output_source import OutputSource, SwitchSource, reach_of
from qgf_ros.control.outputs import Output
from qgf_ros.control.profiles.robot_profile import MESSAGES, ProfileOutput, RobotProfile
from qgf_ros.errors import ContractError

#: Displacements of a tool by name, and the part of a twist that each is.
TOOL = {
    **{f"d{axis}": f"linear.{axis}" for axis in "xyz"},
    **{f"d{angle}": f"angular.{axis}" for angle, axis in zip(("roll", "pitch", "yaw"), "xyz")},
}
#: What the name of a field or of its topic begins with where it is about the tool, and holds where it is about its force.
TOOL_WORDS, FORCE_WORDS = ("tool", "tcp", "effector", "endeffector", "ee_"), ("force", "torque", "wrench")
#: Largest distance of a first command from the measured joint that is proposed where a bundle has none [rad].
START_JUMP = 0.1
#: The package of messages that a driver may tell its state with and that the node has in any case.
OWN_MESSAGES = "std_msgs"
#: Limits of guidance while nobody knows how far a critic moves an action; docs/hardware.md says why.
FIRST_DAY = {"max_guidance_deviation": 0.2, "guidance_weight_slew": 0.05}


def profile_template(manifest: Manifest, profile: RobotProfile) -> str:
    """Return a robot contract, as YAML, of a bundle on a robot.

    It can be used as it is where nothing in it says otherwise, and always be read: `RobotContract` accepts it for this
    bundle.

    Raises:
        ContractError: A component moves a joint where the robot's cannot be.
    """
    lines = [
        f"# Robot contract of bundle {manifest.name} on a robot of the kind {profile.robot},",
        f"# with {profile.driver}.",
        *(f"# Source: {source}" for source in profile.sources),
        "# Read every line of it: names tell what belongs together, and frames, signs and units have to agree, too.",
        "alignment: latest",
        "fields:",
    ]
    for field in manifest.observation:
        lines += _field_lines(field, profile)
    chosen, others, missing = _outputs(manifest, profile)
    lines.append("command:")
    for output in chosen:
        lines += _output_lines(*output)
    lines += ["  - type: joint_state  # to look at, with `ros2 topic echo /command`; no controller listens"]
    if missing:
        lines.append(f"# Goes to no controller of the robot: {', '.join(missing)}. Add an output that takes it.")
    for output in others:
        lines += ["# In place of the one above, where its controller is the active one:"]
        lines += [f"#{line}" for line in _output_lines(*output)]
    lines += _state_lines(profile)
    limits = profile_limits(manifest, profile)
    if limits:
        lines += ["# The robot's own limits, where the bundle's are wider; for the parameter `limits` of the node:"]
        lines += [f"# {json.dumps(limits)}"]
    lines += _guidance_lines(manifest)
    return "\n".join(lines) + "\n"


def _state_lines(profile: RobotProfile) -> list[str]:
    """Return what the driver has to say before the robot is commanded; as comments where the node may lack the message."""
    lines = []
    if profile.driver_state:
        lines.append("driver_state:  # until the driver says so, the robot is not ready, and the node holds")
    for state in sorted(profile.driver_state, key=lambda one: one.message_type.partition("/")[0] != OWN_MESSAGES):
        package = state.message_type.partition("/")[0]
        text = json.dumps(state.model_dump(mode="json", exclude_defaults=True))
        lines.append(f"  - {text}" if package == OWN_MESSAGES else f"#  - {text}  # where {package} is installed")
    if len(lines) > 1 and all(line.startswith("#") for line in lines[1:]):
        lines[0] = f"# {lines[0]}"
    return lines


def _guidance_lines(manifest: Manifest) -> list[str]:
    """Return the limits of guidance that a bundle recommends, or those of a first day where nobody measured any."""
    lines = []
    for name, critic in manifest.critics.items():
        if critic.recommended_limits:
            words = ", ".join(f"{limit} {value}" for limit, value in critic.recommended_limits.items())
            lines.append(f"# Limits of guidance by critic {name}, as parameters of the node, from `qgf tune`: {words}")
    if not lines:
        words = ", ".join(f"{limit} {value}" for limit, value in FIRST_DAY.items())
        lines.append(
            f"# How far its critics move an action was not measured (`qgf tune` does); for the first day: {words}"
        )
    return lines


def profile_limits(manifest: Manifest, profile: RobotProfile) -> str:
    """Return what keeps a bundle's joints within the robot's limits, as the parameter ``limits`` takes it.

    Only what is narrower than the bundle's own is there, so that a bundle that is careful stays so; for a joint that is
    not known to be measured, where it is, and a largest start jump of `START_JUMP`.

    Raises:
        ContractError: A component moves a joint where the robot's cannot be.
    """
    words = []
    for action in manifest.action:
        joint = _match(action.name, profile.joints)
        if joint is None or action.hold is not None:
            continue
        robot = profile.joints[joint]
        lower, upper = max(action.lower, robot.lower), min(action.upper, robot.upper)
        if lower >= upper:
            raise ContractError(
                f"action {action.name} moves from {action.lower:g} to {action.upper:g} {action.unit}, but joint {joint} of "
                f"{profile.robot} goes from {robot.lower:g} to {robot.upper:g}; give the action limits of this robot"
            )
        narrowed = {
            "lower": (lower, action.lower),
            "upper": (upper, action.upper),
            "max_rate": (min(action.max_rate or math.inf, robot.max_rate), action.max_rate),
            "max_acceleration": (
                min(action.max_acceleration or math.inf, robot.max_acceleration or math.inf),
                action.max_acceleration or math.inf,
            ),
        }
        words += [f"{action.name}.{name}={new!r}" for name, (new, own) in narrowed.items() if new != own]
        words += _start(action, joint, manifest.observation)
    return ", ".join(words)


def _start(action: ActionField, joint: str, fields: Sequence[ObservationField]) -> list[str]:
    """Return where a joint is measured and how near it has to be, as far as the bundle does not say."""
    words = []
    if action.measured is None:
        for field in fields:
            matches = [_match(name, [joint]) for name in field.joints]
            if field.extraction == "joint_position" and joint in matches and not field.components:
                words.append(f"{action.name}.measured={field.name}:{matches.index(joint)}")
                break
        else:
            return []
    if action.max_start_jump is None:
        words.append(f"{action.name}.max_start_jump={START_JUMP}")
    return words


def _plain(name: str) -> str:
    return name.lower().replace("_joint", "").replace("-", "_")


def _match(name: str, names: Iterable[str]) -> str | None:
    """Return the one name that means the same, case and the word joint aside, or None."""
    found = [other for other in names if _plain(other) == _plain(name)]
    return found[0] if len(found) == 1 else None


def _published(profile: RobotProfile) -> tuple[str, ...]:
    """Return the joints that a robot tells of."""
    return tuple(dict.fromkeys((*profile.joints, *profile.gripper[:1])))


def _field_lines(field: ObservationField, profile: RobotProfile) -> list[str]:
    """Return the lines of an observation field: the robot's topic where one tells it, else what the bundle says."""
    head = f"  {field.name}:  # {field.extraction}, {field.size} values [{field.unit}]"
    tells = _told(field, profile)
    topic = None if tells is None else profile.topic(tells)
    if topic is None:
        age = "null" if field.max_age is None else f"{field.max_age:g}"
        joints = [f"    joints: {json.dumps(field.joints)}"] if field.joints else []
        return [
            f"{head}; NOT THIS ROBOT'S: who publishes it?",
            f"    topic: {field.topic}  # {field.message_type}",
            *joints,
            f"    max_age: {age}  # [s]",
        ]
    lines = [head, f"    topic: {topic.topic}  # {MESSAGES[topic.tells]}, {topic.rate:g} Hz"]
    if tells == "joints":
        lines.append(f"    joints: {json.dumps([_match(name, _published(profile)) for name in field.joints])}")
    youngest = topic.max_age if field.max_age is None else min(field.max_age, topic.max_age)
    return [*lines, f"    max_age: {youngest:g}  # [s]"]


def _told(field: ObservationField, profile: RobotProfile) -> str | None:
    """Return which of a robot's topics tells a field, or None if its names do not say."""
    if field.constant is not None or field.max_age is None:
        return None
    if field.joints:
        known = all(_match(name, _published(profile)) for name in field.joints)
        return "joints" if known and field.message_type == MESSAGES["joints"] else None
    words = (field.name.lower(), field.topic.lower().strip("/~"))
    if field.message_type == MESSAGES["tool"]:
        return "tool" if any(word.startswith(TOOL_WORDS) for word in words) else None
    if field.message_type == MESSAGES["force"] and not any("gripper" in word for word in words):
        return "force" if any(part in word for word in words for part in FORCE_WORDS) else None
    return None


#: An output of a profile, the same for a bundle, and a word of caution.
Chosen: TypeAlias = tuple[ProfileOutput, OutputSource, str]


def _outputs(manifest: Manifest, profile: RobotProfile) -> tuple[list[Chosen], list[Chosen], list[str]]:
    """Return the outputs to use, those to choose instead, each with a word why not, and the components nobody takes."""
    chosen: list[Chosen] = []
    others: list[Chosen] = []
    left = [action.name for action in manifest.action]
    for output in profile.outputs:
        fields = _fields_of(output, manifest, profile)
        if not fields:
            continue
        source, word = _source(output, fields, manifest)
        try:
            Output(source, manifest)
        except ContractError as error:
            others.append((output, source, f"does not fit yet: {error}"))
            continue
        if all(name in left for name in fields):
            chosen.append((output, source, word))
            left = [name for name in left if name not in fields]
        else:
            rest = [
                name
                for other, *_ in chosen
                if other.takes == output.takes
                for name in _fields_of(other, manifest, profile)
            ]
            without = ", ".join(name for name in rest if name not in fields)
            others.append((output, source, f"leaves {without} to another output" if without else word))
    return chosen, others, left


def _fields_of(output: ProfileOutput, manifest: Manifest, profile: RobotProfile) -> dict[str, str]:
    """Return the components of the action that an output takes, with its controller's names; none where one is missing."""
    by_plain = {_plain(action.name): action for action in manifest.action}
    if output.takes == "joints":
        joints = output.joints or tuple(profile.joints)
        found = {by_plain[_plain(joint)].name: joint for joint in joints if _plain(joint) in by_plain}
        absolute = all(by_plain[_plain(name)].hold is None for name in found)
        return found if len(found) == len(joints) and absolute else {}
    if output.takes == "tool":
        return {action.name: TOOL[action.name] for action in manifest.action if action.name in TOOL}
    return {action.name: action.name for action in manifest.action if _match(action.name, profile.gripper)}


def _source(output: ProfileOutput, fields: dict[str, str], manifest: Manifest) -> tuple[OutputSource, str]:
    """Return an output with its fields, and what is to be looked at in it.

    A gripper's component is stretched over the gripper's range where it has another unit, and switches at 40 % and 60 %.
    """
    source = output.send.model_copy(update={"fields": fields})
    if output.range is None:
        return source, ""
    action = next(action for action in manifest.action if action.name in fields)
    low, high = reach_of(action)
    positions, scale, offset, word = (low, high), 1.0, 0.0, ""
    if action.unit == output.unit:
        positions = max(low, output.range[0]), min(high, output.range[1])
    else:
        scale = (output.range[1] - output.range[0]) / (high - low)
        offset = output.range[0] - low * scale
        word = f"CHECK: {action.name} {low:g} is {output.range[0]:g} {output.unit} of the gripper, {high:g} is {output.range[1]:g}"
    switch = SwitchSource(above=low + 0.6 * (high - low), below=low + 0.4 * (high - low), positions=positions)
    stretched = {"hysteresis": switch, "scale": (scale,), "offset": (offset,)}
    return source.model_copy(update=stretched), word


def _output_lines(output: ProfileOutput, source: OutputSource, reason: str) -> list[str]:
    values = source.model_dump(mode="json", exclude_defaults=True)
    first = {"type": source.type, "topic": source.address}
    rest = {name: value for name, value in values.items() if name not in first}
    return [
        *([f"  # {reason}"] if reason else []),
        f"  - type: {source.type}  # of {output.controller}",
        f"    topic: {source.address}",
        *(f"    {name}: {json.dumps(value)}" for name, value in rest.items()),
    ]
