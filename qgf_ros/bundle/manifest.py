"""The manifest of a bundle: what goes in, what comes out, and what is known about it.

A manifest is plain JSON, validated by pydantic; nothing is ever unpickled. It is the whole contract between the
learning wing, which writes bundles, and the robot wing, which runs them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from qgf_ros.bundle.aggregation import Aggregation
from qgf_ros.bundle.cameras import MOST_CAMERAS, CameraField, Encoding, check_cameras
from qgf_ros.bundle.demonstrations import Demonstrations, invertible
from qgf_ros.bundle.fields import ActionField, Finite, Measurement, Name, ObservationField, Record, check_topics
from qgf_ros.bundle.file_records import FileRecords
from qgf_ros.bundle.goal_fields import check_goal

SCHEMA_VERSION: Literal[1] = 1

Cost = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Settings = dict[Name, bool | int | Finite | str]


class Evaluation(Record):
    """Closed-loop success measured at one guidance weight.

    Attributes:
        guidance_weight: 1/beta.
        settings: Whatever else was not at the node's default, in the names of its parameters.
        episodes: Number of episodes n.
        successes: How many succeeded.
        ci95: Wilson 95 % interval of the success rate.
        mean_length: Mean episode length [control steps].
        first_seed, last_seed: Seeds of the episodes, inclusive.
        purpose: "choosing" for the seeds the weight was chosen on, "reporting" for held-out seeds.
        source: Where the episodes were run; on a robot a seed is the number of a round.
        goals: Of a goal-conditioned bundle in simulation, the single-task numbers whose goals episodes had, in turn.
        guidance_distance: Farthest that guidance moved an action in any of them, largest component [normalised]; None
            where nobody looked.
    """

    guidance_weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    settings: Settings = Field(default_factory=dict)
    episodes: Annotated[int, Field(ge=1)]
    successes: Annotated[int, Field(ge=0)]
    ci95: tuple[Finite, Finite]
    mean_length: Finite
    first_seed: int
    last_seed: int
    purpose: Literal["choosing", "reporting"]
    source: Literal["simulation", "robot"] = "simulation"
    goals: tuple[int, ...] = ()
    guidance_distance: Cost | None = None


class PairedTest(Record):
    """Success beside that of plain behaviour cloning on the same held-out seeds.

    Attributes:
        only_bc, only_guided: Episodes that one alone solved.
        difference: Success rate above that of plain behaviour cloning, with its 95 % interval (Newcombe, paired).
        p_value: Of no difference (McNemar, exact).
    """

    only_bc: Annotated[int, Field(ge=0)]
    only_guided: Annotated[int, Field(ge=0)]
    difference: Finite
    difference_ci95: tuple[Finite, Finite]
    p_value: Annotated[float, Field(ge=0.0, le=1.0)]


class CriticCard(Record):
    """One critic: its task, and how strongly it may guide.

    Attributes:
        task: Human-readable task.
        task_id: OGBench single-task number, or None for a critic of another origin.
        discount: Discount per control step it was trained with.
        ensemble_size: Number of Q networks E.
        aggregation: How the ensemble becomes one value, see `bundle.aggregation`.
        recommended_weight: Guidance weight to start from.
        recommended_settings: Settings that it was found with and that are not the node's defaults, in the names of its
            parameters.
        recommended_limits: Limits of guidance for a robot, in the names of the node's parameters: wider than anything the
            recommended weight did when it was reported, and so nothing that it was found with.
        tested_range: Smallest and largest weight ever evaluated.
        evaluations: The evidence.
        versus_bc: The chosen weight, recommended or not, against plain behaviour cloning; None where it was not tested.
    """

    task: str
    task_id: int | None = None
    discount: Annotated[float, Field(gt=0.0, le=1.0)]
    ensemble_size: Annotated[int, Field(ge=1)]
    aggregation: Aggregation = "min"
    recommended_weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    tested_range: tuple[Finite, Finite] = (0.0, 0.0)
    recommended_settings: Settings = Field(default_factory=dict)
    recommended_limits: Settings = Field(default_factory=dict)
    evaluations: tuple[Evaluation, ...] = ()
    versus_bc: PairedTest | None = None


class ActionError(Record):
    """How far actions differ from those in float32, from the same observations and noises.

    Attributes:
        largest, p99: Over all components of all chunks, largest difference and 99th percentile [normalised].
        largest_by_component, p99_by_component: The same of each component of an action, in its unit.
    """

    largest: Cost
    p99: Cost
    largest_by_component: dict[Name, Cost]
    p99_by_component: dict[Name, Cost]


class PairedSuccess(Record):
    """Closed-loop success in both precisions on the same seeds and noises.

    Attributes:
        fp32, variant, only_fp32, only_variant: Success of each, and episodes that one alone solved.
        difference: Success rate of the variant minus that of float32, with its 95 % interval (Newcombe, paired).
        p_value: Of no difference (McNemar, exact).
    """

    fp32: Evaluation
    variant: Evaluation
    only_fp32: Annotated[int, Field(ge=0)]
    only_variant: Annotated[int, Field(ge=0)]
    difference: Finite
    difference_ci95: tuple[Finite, Finite]
    p_value: Annotated[float, Field(ge=0.0, le=1.0)]


class PrecisionEvidence(Record):
    """What another precision costs and gains with one critic.

    Attributes:
        guidance_weight: 1/beta.
        observations: Where the compared observations come from: closed-loop rollouts in float32, or recorded data.
        ticks: Number of compared inferences, of one candidate each.
        action_error: Of them.
        q_mean: Mean Q in float32.
        q_change_mean, q_change_largest: Of the reported Q: mean change, and largest change in size.
        latency_ratio: Median time of a tick over that in float32: processor time of one thread, ticks taking turns.
        closed_loop: Success; None where it was not measured.
    """

    guidance_weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    observations: Literal["rollouts", "data"]
    ticks: Annotated[int, Field(ge=1)]
    action_error: ActionError
    q_mean: Finite
    q_change_mean: Finite
    q_change_largest: Cost
    latency_ratio: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    closed_loop: PairedSuccess | None = None


class PrecisionCard(Record):
    """A variant of the bundle in another precision; the weights it is made of are the bundle's own.

    Attributes:
        recipe: What happens to the weights when the bundle is loaded.
        processor, runtime: What it was measured on.
        critics: Evidence by critic.
    """

    recipe: str
    processor: str
    runtime: str
    critics: dict[Name, PrecisionEvidence] = Field(default_factory=dict)


class Manifest(Record):
    """Everything a robot must know to run a bundle.

    Attributes:
        schema_version: Version of this schema.
        name, description, licence: What the bundle is and who may use it.
        environment: Simulated environment it was trained in, or None.
        observation: Blocks of the observation vector, in order; none only where there are cameras.
        cameras: Cameras by the names of the encoders' inputs.
        encoding: What the encoders make of cameras and observation vector; None without cameras.
        goal: The observation field that says what to reach, which every critic values; None where each critic has a task.
        goal_fields: Which of the other fields a goal holds, in its order; none where it is a whole observation.
        action: Components of one action, in order.
        horizon: Actions predicted per chunk H.
        execution_horizon: Actions executed per chunk before the next inference.
        control_rate: Control rate [Hz].
        denoising_steps: Euler steps T.
        critics: Critics by name; the first is the default.
        precisions: Variants in other precisions, by name; `qgf quantize` adds them.
        precision_tolerance: Largest action error of a variant that may be chosen automatically [normalised].
        training: How it was trained (free form).
        demonstrations: What the observations of its training data were like; None where nobody knows.
        parity: Largest difference of ONNX Runtime from torch (or, for an imported checkpoint, from float64), by primitive.
        files: Every other file of the bundle, by POSIX path relative to it.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    description: str = ""
    licence: str = "Apache-2.0"
    environment: str | None = None
    observation: Annotated[tuple[ObservationField, ...], Field(max_length=1000)]
    cameras: dict[Name, CameraField] = Field(default_factory=dict, max_length=MOST_CAMERAS)
    encoding: Encoding | None = None
    goal: Name | None = None
    goal_fields: tuple[Name, ...] = ()
    action: Annotated[tuple[ActionField, ...], Field(min_length=1, max_length=1000)]
    horizon: Annotated[int, Field(ge=1, le=1000)]
    execution_horizon: Annotated[int, Field(ge=1)]
    control_rate: Annotated[float, Field(ge=1e-3, le=1e4)]
    denoising_steps: Annotated[int, Field(ge=1, le=1000)] = 10
    critics: dict[Name, CriticCard]
    precisions: dict[Name, PrecisionCard] = Field(default_factory=dict)
    precision_tolerance: Cost = 0.05
    training: dict[str, Any] = Field(default_factory=dict)
    demonstrations: Demonstrations | None = None
    parity: dict[str, float] = Field(default_factory=dict)
    files: FileRecords = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _as_before_cameras(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write a bundle without cameras as it was written, and hashed, before there were any."""
        written: dict[str, Any] = handler(self)
        return written if self.cameras else {k: v for k, v in written.items() if k not in ("cameras", "encoding")}

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        for kind, names in (
            ("observation field", [f.name for f in self.observation]),
            ("action", [f.name for f in self.action]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{kind} {', '.join(twice)} is named twice")
        check_topics(self.observation)
        check_cameras(self.cameras, self.encoding, self.observation, self.critics)
        check_goal(self.observation, self.goal, self.goal_fields)
        for action in self.action:
            if action.measured is not None:
                self._check_measured(action.name, action.unit, action.measured)
        if self.demonstrations is not None:
            self.demonstrations.check(self.observation)
        if self.execution_horizon > self.horizon:
            raise ValueError(f"execution_horizon {self.execution_horizon} exceeds horizon {self.horizon}")
        if wrong := next((name for name, error in self.parity.items() if not math.isfinite(error)), None):
            raise ValueError(f"parity error of {wrong} is not finite")
        return self

    def _check_measured(self, action: str, unit: str, measured: Measurement) -> None:
        field = next((f for f in self.observation if f.name == measured.field), None)
        if field is None:
            raise ValueError(
                f"action {action}: measured by {measured.field}, which is not among the observation fields "
                f"{', '.join(f.name for f in self.observation)}"
            )
        if measured.component >= field.instant_size:
            raise ValueError(
                f"action {action}: component {measured.component} of {field.name} was given, it has {field.instant_size}, "
                "counted from 0"
            )
        if field.unit != unit:
            raise ValueError(f"action {action}: unit {unit} differs from {field.unit}, the unit of {field.name}")
        if field.clip is not None or not invertible(field) or field.constant is not None:
            raise ValueError(
                f"action {action}: field {field.name} does not measure it, because it is clipped or constant"
            )

    @property
    def observation_size(self) -> int:
        """Length of the observation vector."""
        return sum(field.size for field in self.observation)

    @property
    def feature_size(self) -> int:
        """Length of what the velocity field is given: the features of the encoder, or the observation vector."""
        return self.observation_size if self.encoding is None else self.encoding.features

    def critic_feature_size(self, critic: str) -> int:
        """Return the length of what a critic is given."""
        own = {} if self.encoding is None else self.encoding.critics
        return own.get(critic, self.feature_size)

    @property
    def action_size(self) -> int:
        """Length of one action."""
        return len(self.action)

    @property
    def chunk_size(self) -> int:
        """Length of one flattened action chunk, horizon * action_size."""
        return self.horizon * self.action_size
