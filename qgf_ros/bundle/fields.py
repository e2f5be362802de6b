"""The fields of an observation and of an action: what they are made of, in which units, within which limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from qgf_ros.bundle.messages.message_types import EXTRACTIONS, NAMED, misnamed, source_of, topics_of

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_\-]*$", max_length=64)]
#: A topic, absolute, relative or private, without substitutions; see the ROS 2 design article on names.
Topic = Annotated[str, Field(pattern=r"^(~?/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$", max_length=255)]
#: Within bounds that keep every product of two of them an ordinary number.
Positive = Annotated[float, Field(ge=1e-9, le=1e9)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
#: What people call a coordinate frame, or a thing that a camera knows.
Label = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=255)]


class Record(BaseModel):
    """Immutable, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Quality(Record):
    """Quality of service asked of a topic.

    Attributes:
        reliability: None for what the node asks of every topic.
        durability: transient_local also hears what was said before, from a publisher that keeps it.
        depth: Messages kept for the node.
    """

    reliability: Literal["best_effort", "reliable"] | None = None
    durability: Literal["volatile", "transient_local"] = "volatile"
    depth: Annotated[int, Field(ge=1, le=1000)] = 5


class ObservationField(Record):
    """One block of the observation vector and where it comes from.

    value = clip((extracted - offset) * scale, *clip), component by component.

    Attributes:
        name: Name of the block, unique in the manifest.
        topic: Topic, relative to the node's namespace.
        message_type: Full name of a standard message, such as ``sensor_msgs/msg/JointState``.
        extraction: What is taken out of the message; see `EXTRACTIONS`.
        joints: For joint extractions, the joint names in order.
        components: Which of the extracted values are used, in order; empty for all.
        history: How many instants are stacked, a control period apart, oldest first.
        size: Number of components, of all instants together.
        unit: Unit of the extracted value before scaling.
        offset: One value per component, or one for all, in `unit`.
        scale: Factor applied after the offset, one per component or one for all.
        clip: Lower and upper bound applied last, or None.
        max_age: Oldest acceptable message [s]; None for what holds until it is replaced, such as a goal.
        constant: Used instead of a topic, in `unit`.
        quality: Quality of service of the subscription.
        mean_quaternion: For quaternion extractions, the mean of the training data, in the order of the extraction: of q and
            -q, which are one rotation, the nearer to it is taken. None to take what the message has.
        sign_follows: Whether that is so of the first reading only, and later ones have the sign nearer to the one before, as
            in data of which only the beginnings of trajectories lie around the mean.
        frame_id, child_frame_id: As in the message; others are refused. Of transforms, what is read is the second in the first.
        object_id: Of detections, the class or the id of the one that is meant.
    """

    name: Name
    topic: Topic
    message_type: str
    extraction: str
    joints: tuple[str, ...] = ()
    components: tuple[Annotated[int, Field(ge=0)], ...] = ()
    history: Annotated[int, Field(ge=1, le=100)] = 1
    size: Annotated[int, Field(ge=1, le=10_000)]
    unit: str
    offset: tuple[Finite, ...] = (0.0,)
    scale: Finite | tuple[Finite, ...] = 1.0
    clip: tuple[Finite, Finite] | None = None
    max_age: Positive | None = 0.2
    constant: tuple[Finite, ...] | None = None
    quality: Quality = Quality()
    mean_quaternion: tuple[Finite, Finite, Finite, Finite] | None = None
    sign_follows: bool = False
    frame_id: Label | None = None
    child_frame_id: Label | None = None
    object_id: Label | None = None

    @model_serializer(mode="wrap")
    def _as_before_frames(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write a field that names nothing as it was written, and hashed, before any could."""
        written: dict[str, Any] = handler(self)
        return {key: value for key, value in written.items() if value is not None or key not in NAMED}

    @model_validator(mode="after")
    def _consistent(self) -> ObservationField:
        if self.message_type not in EXTRACTIONS:
            raise ValueError(
                f"field {self.name}: message_type {self.message_type} is not one of {', '.join(EXTRACTIONS)}"
            )
        if self.extraction not in EXTRACTIONS[self.message_type]:
            raise ValueError(
                f"field {self.name}: extraction {self.extraction} does not fit {self.message_type}, "
                f"which has {', '.join(EXTRACTIONS[self.message_type])}"
            )
        if complaint := misnamed(self.message_type, self.names):
            raise ValueError(f"field {self.name}: {complaint}")
        yields = self._extracted_size()
        out_of_range = [i for i in self.components if yields is not None and i >= yields]
        if out_of_range:
            raise ValueError(
                f"field {self.name}: component {out_of_range[0]} was given, {self.extraction} yields {yields}, counted from 0"
            )
        instant = len(self.components) or yields
        if instant is not None and self.size != instant * self.history:
            raise ValueError(
                f"field {self.name}: size {self.size} was given, {self.extraction} yields {instant * self.history}"
            )
        if self.size % self.history:
            raise ValueError(f"field {self.name}: size {self.size} is not a multiple of history {self.history}")
        for name, values in (("offset", self.offset), ("scale", self.scale), ("constant", self.constant)):
            if isinstance(values, tuple) and len(values) not in (1, self.instant_size):
                raise ValueError(
                    f"field {self.name}: {name} has {len(values)} values, expected 1 or {self.instant_size}"
                )
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(f"field {self.name}: clip {self.clip} must be (lower, upper)")
        if self.sign_follows and self.mean_quaternion is None:
            raise ValueError(f"field {self.name}: sign_follows needs a mean_quaternion to begin with")
        if self.mean_quaternion is not None and not (
            self.extraction.startswith("quaternion_") and abs(sum(x * x for x in self.mean_quaternion) - 1.0) < 1e-3
        ):
            raise ValueError(
                f"field {self.name}: mean_quaternion {self.mean_quaternion} must be of length 1, and of a field that yields "
                "quaternions"
            )
        return self

    def _extracted_size(self) -> int | None:
        """Return how many values the extraction yields, or None if only a message can tell."""
        if self.extraction.startswith("joint_"):
            return len(self.joints) * (2 if self.extraction.endswith("_cos_sin") else 1)
        return EXTRACTIONS[self.message_type][self.extraction]

    @property
    def names(self) -> dict[str, str]:
        """The frames and the object that it names."""
        return {name: value for name in NAMED if (value := getattr(self, name)) is not None}

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that it is read from: transforms that never change have one of their own."""
        return () if self.constant is not None else topics_of(self.topic, self.message_type)

    @property
    def source(self) -> str:
        """What its readings are kept by: its topic, and of one with much in it what is read of that."""
        return source_of(self.topic, self.message_type, self.names)

    @property
    def instant_size(self) -> int:
        """Number of components of one instant."""
        return self.size // self.history

    @property
    def is_quaternion(self) -> bool:
        """Whether each instant is a whole quaternion."""
        return self.extraction.startswith("quaternion_") and not self.components

    @property
    def live(self) -> bool:
        """Whether the field follows a topic that must not fall silent."""
        return self.constant is None and self.max_age is not None


#: Name and topic of the field that makes a bundle goal-conditioned.
GOAL = "goal"


def goal_field(size: int) -> ObservationField:
    """Return the field of a goal: an observation to be reached, float64 [size], as the fields before it would make it.

    It holds until another one is published. Its topic keeps the last one, so that a node started later hears it too.
    """
    return ObservationField(
        name=GOAL,
        topic=GOAL,
        message_type="std_msgs/msg/Float64MultiArray",
        extraction="data",
        size=size,
        unit="1",
        max_age=None,
        quality=Quality(reliability="reliable", durability="transient_local", depth=1),
    )


def check_topics(fields: Sequence[ObservationField]) -> None:
    """Raise ValueError where fields that share a topic differ in its message type or quality of service."""
    first: dict[str, ObservationField] = {}
    for field in fields:
        if field.constant is not None:
            continue
        other = first.setdefault(field.topic, field)
        if (field.message_type, field.quality) != (other.message_type, other.quality):
            raise ValueError(
                f"fields {other.name} and {field.name} share topic {field.topic}, so message_type and quality must be equal"
            )


class Measurement(Record):
    """One component of an observation field, of its newest instant.

    Attributes:
        field: Name of the observation field, whose value depends on the measured one by scale and offset only.
        component: Index of the component, from 0.
    """

    field: Name
    component: Annotated[int, Field(ge=0)] = 0


class ActionField(Record):
    """One component of an action.

    Attributes:
        name: Name of the component, used in command messages.
        unit: Physical unit of the command.
        scale, offset: command = normalised action * scale + offset [unit]; the policy's own range is [-1, 1].
        lower, upper: Limits of the command [unit].
        max_rate: Largest change of the command [unit/s], or None for no limit.
        max_acceleration: Largest change of that rate [unit/s^2], or None for no limit.
        max_jerk: Largest change of that acceleration [unit/s^3], or None for no limit.
        hold: Command that keeps the robot still [unit]: 0 for a relative action, such as a displacement; None to
            repeat the last command, for an absolute one, such as a joint position.
        measured: Where the quantity is observed that an absolute action sets and a relative one moves.
        workspace: Limits of that quantity [unit]: where a relative action may move it, what an absolute one may set.
        max_start_jump: For an absolute action, largest distance of the first command, and of the first after a hold,
            from the measured value [unit], or None for no limit.
        max_tracking_error: For an absolute action, largest distance of the command from the measured value [unit]; None
            for what it moves at max_rate in 0.25 s or five control periods, whichever is more.
        stuck_after: How long [s] the measured value may be the same to the bit while it is commanded away from.
        stuck_distance: How far away, and how far a blocked robot must move to go on [unit]; by default max_tracking_error / 2.
    """

    name: Name
    unit: str
    scale: Positive
    offset: Finite = 0.0
    lower: Finite
    upper: Finite
    max_rate: Positive | None = None
    max_acceleration: Positive | None = None
    max_jerk: Positive | None = None
    hold: Finite | None = 0.0
    measured: Measurement | None = None
    workspace: tuple[Finite, Finite] | None = None
    max_start_jump: Positive | None = None
    max_tracking_error: Positive | None = None
    stuck_after: Positive | None = None
    stuck_distance: Positive | None = None

    @model_validator(mode="after")
    def _guarded(self) -> ActionField:
        if self.workspace is not None:
            low, high = self.workspace
            if low >= high:
                raise ValueError(f"action {self.name}: workspace {self.workspace} must be (lower, upper)")
            if self.hold is None and max(low, self.lower) >= min(high, self.upper):
                raise ValueError(f"action {self.name}: workspace {self.workspace} and limits have nothing in common")
            if self.hold is not None and (self.measured is None or self.hold != 0.0):
                raise ValueError(
                    f"action {self.name}: the workspace of a relative action needs hold 0 and a measured position; "
                    "name the observation field that measures it"
                )
        of_measured = ("max_start_jump", "max_tracking_error", "stuck_after", "stuck_distance")
        given = [name for name in of_measured if getattr(self, name) is not None]
        if given and (self.hold is not None or self.measured is None):
            raise ValueError(
                f"action {self.name}: {given[0]} is for an absolute action (hold null) that is measured; "
                "leave it out, or name the observation field that measures it"
            )
        return self

    @model_validator(mode="after")
    def _ordered(self) -> ActionField:
        if self.lower >= self.upper:
            raise ValueError(f"action {self.name}: lower {self.lower} must be below upper {self.upper}")
        low, high = self.offset - self.scale, self.offset + self.scale
        if high <= self.lower or low >= self.upper:
            raise ValueError(
                f"action {self.name}: scale {self.scale} and offset {self.offset} make [-1, 1] {low:g} to {high:g}, all of it "
                f"outside {self.lower} to {self.upper}; mend them, or the limits"
            )
        if self.hold is not None and not self.lower <= self.hold <= self.upper:
            raise ValueError(
                f"action {self.name}: hold {self.hold} is outside {self.lower} to {self.upper}; "
                "give a value inside, or null to repeat the last command"
            )
        return self
