"""The manifest of a bundle: what goes in, what comes out, and what is known about it.

A manifest is plain JSON, validated by pydantic; nothing is ever unpickled. It is the whole contract between the
learning wing, which writes bundles, and the robot wing, which runs them.
"""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SCHEMA_VERSION: Literal[1] = 1

#: Components that each extraction yields; None means "as many as the field says".
EXTRACTION_SIZES: dict[str, int | None] = {
    "joint_position": None,
    "joint_velocity": None,
    "joint_effort": None,
    "position": 3,
    "quaternion_wxyz": 4,
    "yaw": 1,
    "yaw_cos_sin": 2,
    "linear": 3,
    "angular": 3,
    "force": 3,
    "torque": 3,
    "wrench_norm": 1,
    "data": None,
}

#: Extractions that make sense for each message type.
EXTRACTIONS: dict[str, tuple[str, ...]] = {
    "sensor_msgs/msg/JointState": ("joint_position", "joint_velocity", "joint_effort"),
    "geometry_msgs/msg/PoseStamped": ("position", "quaternion_wxyz", "yaw", "yaw_cos_sin"),
    "geometry_msgs/msg/TwistStamped": ("linear", "angular"),
    "geometry_msgs/msg/WrenchStamped": ("force", "torque", "wrench_norm"),
    "std_msgs/msg/Float64MultiArray": ("data",),
}

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_\-]*$", max_length=64)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ObservationField(_Record):
    """One block of the observation vector and where it comes from.

    value = clip((extracted - offset) * scale, *clip), component by component.

    Attributes:
        name: Name of the block, unique in the manifest.
        topic: Topic, relative to the node's namespace.
        message_type: Full name of a standard message, such as ``sensor_msgs/msg/JointState``.
        extraction: What is taken out of the message; see `EXTRACTIONS`.
        joints: For joint extractions, the joint names in order.
        size: Number of components.
        unit: Unit of the extracted value before scaling.
        offset: One value per component, or one for all, in `unit`.
        scale: Factor applied after the offset.
        clip: Lower and upper bound applied last, or None.
        max_age: Oldest acceptable message [s].
    """

    name: Name
    topic: Annotated[str, Field(min_length=1)]
    message_type: str
    extraction: str
    joints: tuple[str, ...] = ()
    size: Annotated[int, Field(ge=1)]
    unit: str
    offset: tuple[Finite, ...] = (0.0,)
    scale: Finite = 1.0
    clip: tuple[Finite, Finite] | None = None
    max_age: Positive = 0.2

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
        expected = EXTRACTION_SIZES[self.extraction]
        if self.extraction.startswith("joint_"):
            expected = len(self.joints)
        if expected is not None and self.size != expected:
            raise ValueError(f"field {self.name}: size {self.size} was given, {self.extraction} yields {expected}")
        if len(self.offset) not in (1, self.size):
            raise ValueError(f"field {self.name}: offset has {len(self.offset)} values, expected 1 or {self.size}")
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(f"field {self.name}: clip {self.clip} must be (lower, upper)")
        return self


class ActionField(_Record):
    """One component of an action.

    Attributes:
        name: Name of the component, used in command messages.
        unit: Physical unit of the command.
        scale: Physical value of a normalised action of 1.0 [unit]; the policy's own range is [-1, 1].
        lower, upper: Limits of the command [unit].
        max_rate: Largest change of the command [unit/s], or None for no limit.
        hold: Command that keeps the robot still [unit]: 0 for a relative action, such as a displacement; None to
            repeat the last command, for an absolute one, such as a joint position.
    """

    name: Name
    unit: str
    scale: Positive
    lower: Finite
    upper: Finite
    max_rate: Positive | None = None
    hold: Finite | None = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> ActionField:
        if self.lower >= self.upper:
            raise ValueError(f"action {self.name}: lower {self.lower} must be below upper {self.upper}")
        if self.hold is not None and not self.lower <= self.hold <= self.upper:
            raise ValueError(
                f"action {self.name}: hold {self.hold} is outside {self.lower} to {self.upper}; "
                "give a value inside, or null to repeat the last command"
            )
        return self


class Evaluation(_Record):
    """Closed-loop success measured at one guidance weight.

    Attributes:
        guidance_weight: 1/beta.
        episodes: Number of episodes n.
        successes: How many succeeded.
        ci95: Wilson 95 % interval of the success rate.
        mean_length: Mean episode length [control steps].
        first_seed, last_seed: Seeds of the episodes, inclusive.
        purpose: "choosing" for the seeds the weight was chosen on, "reporting" for held-out seeds.
    """

    guidance_weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    episodes: Annotated[int, Field(ge=1)]
    successes: Annotated[int, Field(ge=0)]
    ci95: tuple[float, float]
    mean_length: float
    first_seed: int
    last_seed: int
    purpose: Literal["choosing", "reporting"]


class CriticCard(_Record):
    """One critic: its task, and how strongly it may guide.

    Attributes:
        task: Human-readable task.
        task_id: OGBench single-task number, or None for a critic of another origin.
        discount: Discount per control step it was trained with.
        ensemble_size: Number of Q networks E.
        aggregation: How the ensemble becomes one value.
        recommended_weight: Guidance weight to start from.
        tested_range: Smallest and largest weight ever evaluated.
        evaluations: The evidence.
    """

    task: str
    task_id: int | None = None
    discount: Annotated[float, Field(gt=0.0, le=1.0)]
    ensemble_size: Annotated[int, Field(ge=1)]
    aggregation: Literal["min", "mean"] = "min"
    recommended_weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    tested_range: tuple[float, float] = (0.0, 0.0)
    evaluations: tuple[Evaluation, ...] = ()


class FileRecord(_Record):
    """Size in bytes and SHA-256 of one file of the bundle."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class Manifest(_Record):
    """Everything a robot must know to run a bundle.

    Attributes:
        schema_version: Version of this schema.
        name, description, licence: What the bundle is and who may use it.
        environment: Simulated environment it was trained in, or None.
        observation: Blocks of the observation vector, in order.
        action: Components of one action, in order.
        horizon: Actions predicted per chunk H.
        execution_horizon: Actions executed per chunk before the next inference.
        control_rate: Control rate [Hz].
        denoising_steps: Euler steps T.
        critics: Critics by name; the first is the default.
        training: How it was trained (free form).
        parity: Largest difference of ONNX Runtime from torch (or, for an imported checkpoint, from float64), by primitive.
        files: Every other file of the bundle, by POSIX path relative to it.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    description: str = ""
    licence: str = "Apache-2.0"
    environment: str | None = None
    observation: Annotated[tuple[ObservationField, ...], Field(min_length=1)]
    action: Annotated[tuple[ActionField, ...], Field(min_length=1)]
    horizon: Annotated[int, Field(ge=1)]
    execution_horizon: Annotated[int, Field(ge=1)]
    control_rate: Positive
    denoising_steps: Annotated[int, Field(ge=1, le=1000)] = 10
    critics: dict[Name, CriticCard]
    training: dict[str, Any] = {}
    parity: dict[str, float] = {}
    files: dict[str, FileRecord] = {}

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for path in files:
            parts = PurePosixPath(path).parts
            if PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path:
                raise ValueError(f"file {path} points outside the bundle")
        return files

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        for kind, names in (
            ("observation field", [f.name for f in self.observation]),
            ("action", [f.name for f in self.action]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{kind} {', '.join(twice)} is named twice")
        if self.execution_horizon > self.horizon:
            raise ValueError(f"execution_horizon {self.execution_horizon} exceeds horizon {self.horizon}")
        for name, error in self.parity.items():
            if not math.isfinite(error):
                raise ValueError(f"parity error of {name} is not finite")
        return self

    @property
    def observation_size(self) -> int:
        """Length of the observation vector."""
        return sum(field.size for field in self.observation)

    @property
    def action_size(self) -> int:
        """Length of one action."""
        return len(self.action)

    @property
    def chunk_size(self) -> int:
        """Length of one flattened action chunk, horizon * action_size."""
        return self.horizon * self.action_size
