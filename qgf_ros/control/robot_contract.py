"""A robot's own topics for a bundle's observation fields and commands: the robot contract.

A bundle says what its policy was trained on. A robot publishes the same quantities elsewhere, under other joint names,
in other units. A robot contract, a YAML file, maps them field by field and leaves the bundle as it is::

    alignment: latest             # or nearest
    fields:
      joint_positions:            # a field of the bundle; what is not said stays as the bundle has it
        topic: /ur5e/joint_states
        joints: [shoulder_pan_joint, shoulder_lift_joint, elbow_joint]
        max_age: 0.1              # [s]
      object_position:
        topic: /tracker/pose
        factor: 0.001             # millimetres there, metres in the bundle
        shift: [0.0, 0.0, 0.02]   # added after the factor, in the bundle's unit
      goal: {constant: [0.4, 0.1, 0.2]}   # in the bundle's unit
    command:                      # one joint_state on `command` with all fields, if nothing is said
      - type: float64_multi_array
        topic: /forward_position_controller/commands
        fields: [shoulder_pan, shoulder_lift, elbow]
    driver_state:                 # until its driver says so, the robot is not ready, and the node holds
      - {topic: /io_and_status_controller/robot_program_running, ready: [true]}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.fields import Finite, Label, ObservationField, Positive, Quality, Record, Topic, check_topics
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.messages.message_types import NAMED, TRANSFORMS
from qgf_ros.bundle.text import first_complaint, one_line
from qgf_ros.control.output_source import COMMAND_TOPIC, OutputSource
from qgf_ros.control.outputs import Output
from qgf_ros.control.vision.camera_sources import CameraSource, camera_template, served_cameras
from qgf_ros.errors import ContractError
from qgf_ros.files.content import read_content
from qgf_ros.files.plain_yaml import LARGEST_FILE, parse_yaml


class FieldSource(Record):
    """Where one observation field comes from on this robot; what is not given stays as the bundle has it.

    Attributes:
        topic, message_type, extraction, joints, components, max_age, quality and what is named: As in `ObservationField`.
        factor: What a value on the topic is multiplied by to be in the field's unit.
        shift: Added after that, in the field's unit; one value per component, or one for all.
        constant: Used instead of a topic, in the field's unit.
        allow_publishers: How many may publish the topic [1]; by default 1, and any number for a goal.
    """

    topic: Annotated[str, Field(min_length=1)] | None = None
    message_type: str | None = None
    extraction: str | None = None
    joints: tuple[str, ...] | None = None
    components: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    factor: Finite = 1.0
    shift: tuple[Finite, ...] = (0.0,)
    max_age: Positive | None = None
    constant: tuple[Finite, ...] | None = None
    quality: Quality | None = None
    allow_publishers: Annotated[int, Field(ge=1, le=16)] | None = None
    frame_id: Label | None = None
    child_frame_id: Label | None = None
    object_id: Label | None = None


class DriverState(Record):
    """A topic on which the robot's driver tells whether the robot takes commands.

    Attributes:
        topic: Its name.
        message_type: Full name of a message, of any package that is installed where the node runs.
        field: What of it tells; a dot leads into a part.
        ready: Values at which the robot is ready; or else:
        at_least: The smallest number at which it is.
        max_age: Oldest acceptable message [s]; None where the driver tells what changes, once, and keeps it for who comes.
        quality: By default best effort with a `max_age`; without one reliable and transient_local.
    """

    topic: Topic
    message_type: Annotated[str, Field(pattern=r"^[a-z]\w*/msg/[A-Z]\w*$")] = "std_msgs/msg/Bool"
    field: Annotated[str, Field(pattern=r"^[a-z]\w*(\.[a-z]\w*)*$")] = "data"
    ready: tuple[bool | int | str, ...] = ()
    at_least: Finite | None = None
    max_age: Positive | None = None
    quality: Quality | None = None

    @model_validator(mode="after")
    def _one_condition(self) -> DriverState:
        if bool(self.ready) == (self.at_least is not None):
            raise ValueError(f"{self.topic}: give either ready, the values at which the robot is, or at_least")
        return self

    def accepts(self, value: Any) -> bool:
        """Whether the robot is ready at a value; never at one that is no number, truth or text."""
        if self.at_least is None:
            return isinstance(value, (int, float, str)) and value in self.ready
        return isinstance(value, (int, float)) and value >= self.at_least

    @property
    def expected(self) -> str:
        """What the value is while the robot is ready, in words."""
        return f"at least {self.at_least:g}" if self.at_least is not None else " or ".join(map(str, self.ready))


class RobotContract(Record):
    """A robot's sources of the observation fields, and the outputs its commands go to.

    Attributes:
        alignment: How readings of different topics are brought together; see `ObservationAssembler`.
        fields: Source of each field that is not served as the bundle says.
        cameras: Source of each camera that is not.
        command: What is sent to which controller; together they take every component of the action.
        driver_state: What the driver has to say before the robot is commanded, all of it.
    """

    alignment: Literal["latest", "nearest"] = "latest"
    fields: dict[str, FieldSource] = Field(default_factory=dict)
    cameras: dict[str, CameraSource] = Field(default_factory=dict)
    command: tuple[OutputSource, ...] = (OutputSource(),)
    driver_state: tuple[DriverState, ...] = ()

    def apply(self, manifest: Manifest) -> tuple[ObservationField, ...]:
        """Return the observation fields of a bundle as this robot serves them.

        Raises:
            ContractError: A field is not the bundle's, or its source does not fit it; the message names field and value.
        """
        known = {field.name: field for field in manifest.observation}
        unknown = [name for name in self.fields if name not in known]
        if unknown:
            raise ContractError(
                f"field {one_line(unknown[0])} is in the contract, but bundle {manifest.name} has {', '.join(known)}"
            )
        mapped = tuple(_mapped(field, self.fields.get(field.name)) for field in manifest.observation)
        guarding = {action.measured.field for action in manifest.action if action.measured is not None}
        for field, own in zip(mapped, manifest.observation):
            same = (field.extraction, field.components) == (own.extraction, own.components)
            if field.name in guarding and not (field.live and same):
                raise ContractError(
                    f"field {field.name} measures where the robot is, for its limits, so it must come from a topic with a "
                    "max_age and keep its extraction and components; leave these out of the contract"
                )
        try:
            check_topics(mapped)
        except ValueError as error:
            raise ContractError(f"the contract does not hold together: {error}") from error
        return mapped

    def apply_to_cameras(self, manifest: Manifest) -> dict[str, CameraField]:
        """Return the cameras of a bundle as this robot serves them; raises ContractError as `apply` does."""
        return served_cameras(manifest, self.cameras, self.apply(manifest))

    def publishers(self, manifest: Manifest) -> dict[str, tuple[str, int]]:
        """Return how many may publish a topic, with a field that is read from it, by topic.

        Of the fields of a topic the one that allows most counts. A goal is told, not measured: whoever tells it last
        decides, so that its topic is not there unless the contract limits it.

        Raises:
            ContractError: See `apply`.
        """
        allowed: dict[str, tuple[str, int]] = {}
        for field in self.apply(manifest):
            source = self.fields.get(field.name)
            given = None if source is None else source.allow_publishers
            watched = field.live and field.message_type != TRANSFORMS  # which everybody publishes, each of other frames
            if field.constant is None and (watched or given is not None):
                name, most = allowed.get(field.topic, (field.name, 1))
                allowed[field.topic] = name, max(most, given or 1)
        for camera, served in self.apply_to_cameras(manifest).items():
            seen = self.cameras.get(camera, CameraSource())
            allowed[served.topic] = camera, seen.allow_publishers
        return allowed

    def outputs(self, manifest: Manifest) -> tuple[Output, ...]:
        """Return the outputs for the commands of a bundle.

        Raises:
            ContractError: An output does not fit the bundle, shares its topic with another or with an observation, or
                none takes a component of the action.
        """
        outputs = tuple(Output(source, manifest) for source in self.command)
        observed = [field for field in self.apply(manifest) if field.constant is None]
        shadows = [source.shadow for source in self.command]
        for source in self.command:
            if shadows.count(source.shadow) > 1:
                raise ContractError(f"{source} shares its topic with another; give each output its own")
            for field in observed:
                if field.topic.lstrip("/") == source.address.lstrip("/"):
                    raise ContractError(
                        f"{source} is sent where field {field.name} is read from; give the output a topic of its own"
                    )
        served = {field.name for output in outputs for field in output.fields}
        for action in manifest.action:
            if action.name not in served:
                raise ContractError(
                    f"action {action.name} is taken by no output of the contract; add it to the fields of one under command"
                )
        return outputs


def _mapped(field: ObservationField, source: FieldSource | None) -> ObservationField:
    if source is None:
        return field
    if source.factor == 0.0:
        raise ContractError(f"field {field.name}: factor 0 was given; give constant for a value that never changes")
    values = field.model_dump()
    given = source.model_dump(exclude={"factor", "shift", "allow_publishers"}, exclude_unset=True)
    if given.get("extraction", field.extraction) != field.extraction:
        values |= {"mean_quaternion": None, "sign_follows": False}  # whose order is that of the bundle's extraction
    if given.get("message_type", field.message_type) != field.message_type:
        values |= dict.fromkeys(NAMED)  # which frames are called otherwise, or are none, in another type
    if source.constant is None:
        if len(source.shift) not in (1, field.instant_size):
            raise ContractError(
                f"field {field.name}: shift has {len(source.shift)} values, expected 1 or {field.instant_size}"
            )
        # (x * factor + shift - offset) * scale, written as an offset and a scale of x.
        offset = (np.array(field.offset) - np.array(source.shift)) / source.factor
        values["offset"] = tuple(offset.tolist())
        scale = field.scale if isinstance(field.scale, tuple) else (field.scale,)
        scaled = tuple(factor * source.factor for factor in scale)
        values["scale"] = scaled if isinstance(field.scale, tuple) else scaled[0]
    elif source.factor != 1.0 or any(source.shift):
        raise ContractError(f"field {field.name}: constant is in the bundle's own unit, so leave factor and shift out")
    try:
        return ObservationField.model_validate({**values, **given})
    except ValidationError as error:
        raise ContractError(
            f"field {field.name} of the contract does not fit the bundle: {first_complaint(error)}"
        ) from error


def template(manifest: Manifest) -> str:
    """Return a robot contract, as YAML, that says what the bundle says."""
    lines = [
        f"# Robot contract of bundle {manifest.name}: what is not said stays as the bundle has it.",
        "alignment: latest",
        "fields:",
    ]
    for field in manifest.observation:
        joints = ", ".join(json.dumps(name) for name in field.joints)
        lines += [
            f"  {field.name}:  # {field.extraction}, {field.size} values [{field.unit}]",
            f"    topic: {field.topic}  # {field.message_type}",
            *([f"    joints: [{joints}]"] if joints else []),
            *(f"    {name}: {json.dumps(value)}" for name, value in field.names.items()),
            f"    max_age: {'null' if field.max_age is None else f'{field.max_age:g}'}  # [s]",
        ]
    lines += camera_template(manifest.cameras)
    names = ", ".join(action.name for action in manifest.action)
    lines += [
        "command:",
        "  - type: joint_state  # or float64_multi_array, joint_trajectory, twist_stamped, pose_stamped, gripper_command",
        f"    topic: {COMMAND_TOPIC}",
        f"    fields: [{names}]",
    ]
    return "\n".join(lines) + "\n"


def read_robot_contract(path: Path) -> RobotContract:
    """Read a robot contract from YAML.

    Raises:
        ContractError: The file cannot be read or is not a contract; the message says where and why.
    """
    values = read_yaml(path)
    try:
        return RobotContract.model_validate(values)
    except ValidationError as error:
        raise ContractError(f"{path} is not a contract: {first_complaint(error)}") from error


def read_yaml(path: Path) -> Any:
    """Return what a small YAML file says, plain data only; see `parse_yaml` for its bounds.

    Raises:
        ContractError: The file cannot be read, is too large, is not YAML, or says nothing; the message says where and why.
    """
    try:
        content = read_content(path, LARGEST_FILE)
    except OSError as error:
        raise ContractError(f"{path} cannot be read ({error.strerror}); give the path of a contract file") from error
    except ValueError as error:
        raise ContractError(f"{path} cannot be read ({error})") from error
    try:
        values = parse_yaml(content)
    except ValueError as error:
        raise ContractError(f"{path} is not YAML ({one_line(str(error))})") from error
    if values is None:
        raise ContractError(f"{path} is empty; restore what was in it, or leave the file out")
    return values
