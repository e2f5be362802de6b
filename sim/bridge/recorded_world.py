"""Recorded episodes as a world: the policy sees what was recorded, and its commands are compared, not executed.

Readings are computed back from the recorded observation vectors, not simulated from qpos and qvel: a data set does not
hold the motor commands that contact forces depend on, and OGBench's poses are those of one physics step before its
joint positions. So the vector that the policy assembles is the recorded one, up to the rounding of the scaling; only
the yaw of an object lying on its side, where it is all but undefined, may come out another.
What a vector does not hold cannot come back: an orientation given by its yaw alone is a rotation about z, and a
wrench given by its norm is a force along x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.demonstrations import in_own_unit
from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.control.extraction import JointReading, PoseReading, Reading, TwistReading, VectorReading, WrenchReading
from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.errors import SimulationError
from qgf_ros.learning.data.dataset import Dataset, load_dataset
from qgf_ros.learning.data.picture_files import Pictures
from qgf_sim.bridge.sources import WorldStep
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import (
    CAMERA,
    CAMERA_TOPIC,
    PICTURE_SIDE,
    action_fields,
    camera_fields,
    observation_fields,
)
from qgf_sim.worlds.shift import NONE, Shift

Array = NDArray[np.float64]


def readings_from_vector(fields: Sequence[ObservationField], vector: NDArray[np.floating[Any]]) -> dict[str, Reading]:
    """Return readings that the observation contract turns back into `vector`.

    Args:
        fields: The observation contract, in order.
        vector: [observation_size].

    Raises:
        SimulationError: The vector has another size.
    """
    size = sum(field.size for field in fields)
    if vector.shape != (size,):
        raise SimulationError(f"an observation of shape {vector.shape} was given, the contract has ({size},)")
    blocks: dict[str, dict[str, tuple[ObservationField, Array]]] = {}
    start = 0
    for field in fields:
        value = in_own_unit(field, vector[start : start + field.size])
        topic = blocks.setdefault(field.topic, {})
        # One topic may give two fields of one extraction: the arm's joints and the gripper's.
        topic[f"{field.extraction} {field.name}"] = (field, value)
        start += field.size
    return {topic: _reading(list(parts.values())) for topic, parts in blocks.items()}


def _reading(parts: list[tuple[ObservationField, Array]]) -> Reading:
    values = {field.extraction: value for field, value in parts}
    message_type = parts[0][0].message_type
    if message_type.endswith("/JointState"):
        return _joint_reading(parts)
    if message_type.endswith("/PoseStamped"):
        return PoseReading(values.get("position", np.zeros(3)), _quaternion(values))
    if message_type.endswith("/TwistStamped"):
        return TwistReading(values.get("linear", np.zeros(3)), values.get("angular", np.zeros(3)))
    if message_type.endswith("/WrenchStamped"):
        along_x = np.array([*values.get("wrench_norm", np.zeros(1)), 0.0, 0.0])
        return WrenchReading(values.get("force", along_x), values.get("torque", np.zeros(3)))
    return VectorReading(values["data"])


def _joint_reading(parts: list[tuple[ObservationField, Array]]) -> JointReading:
    columns: dict[str, dict[str, float]] = {"joint_position": {}, "joint_velocity": {}, "joint_effort": {}}
    for field, value in parts:
        columns[field.extraction].update(zip(field.joints, value.tolist(), strict=True))
    names = tuple(dict.fromkeys(name for column in columns.values() for name in column))
    # A joint without a value in a column that others have is NaN: unknown, not zero.
    position, velocity, effort = (
        np.array([column.get(name, np.nan) for name in names]) if column else np.empty(0) for column in columns.values()
    )
    return JointReading(names, position, velocity, effort)


def _quaternion(values: Mapping[str, Array]) -> Array:
    if "quaternion_wxyz" in values:
        return values["quaternion_wxyz"][[1, 2, 3, 0]]
    yaw = 0.0
    if "yaw" in values:
        yaw = float(values["yaw"][0])
    elif "yaw_cos_sin" in values:
        yaw = float(np.arctan2(values["yaw_cos_sin"][1], values["yaw_cos_sin"][0]))
    return np.array([0.0, 0.0, np.sin(yaw / 2.0), np.cos(yaw / 2.0)])


class RecordedWorld:
    """Plays the trajectories of a data set, one per episode, and compares commands with the recorded actions.

    The seed of an episode is the number of the trajectory, from 0; the task plays no part.

    Args:
        dataset: The recording.
        observation: The observation contract.
        action: The action contract.
        scene: An environment to make pictures in, or None when there are to be none.

    Raises:
        SimulationError: The data set does not fit the contract, or pictures are wanted and it has no states.
    """

    def __init__(
        self,
        dataset: Dataset,
        observation: Sequence[ObservationField],
        action: Sequence[ActionField],
        scene: TaskEnvironment | None = None,
    ) -> None:
        expected = (sum(field.size for field in observation), len(action))
        given = (dataset.observations.shape[1], dataset.actions.shape[1])
        if given != expected:
            raise SimulationError(
                f"the recording has observations and actions of sizes {given}, the environment has {expected}; "
                "check environment and replay_file"
            )
        if scene is not None and not set(scene.family.state_keys) <= set(dataset.extras):
            keys = " and ".join(scene.family.state_keys)
            raise SimulationError(f"the recording has no {keys} to make pictures from; turn the camera off")
        self._dataset = dataset
        self._fields = tuple(observation)
        self._names = [field.name for field in action]
        self._scale = np.array([field.scale for field in action])
        self._offset = np.array([field.offset for field in action])
        self._scene = scene
        self._seen: Pictures | None = None
        self._row = self._end = 0
        self._differences: list[Array] = []

    @classmethod
    def open(cls, path: Path, environment: str, task: int | None = None) -> RecordedWorld:
        """Return the recording of an environment that is in a file.

        Args:
            path: Data set.
            environment: Such as ``cube-single``.
            task: Single-task number of the scene that pictures are made in, or None when there are to be none.

        Raises:
            DatasetError: The file is no data set.
            SimulationError: As of this class.
        """
        dataset = load_dataset(path)
        scene = None
        if task is not None:
            scene = TaskEnvironment(environment, task)
            scene.reset(0)
        world = cls(dataset, observation_fields(environment), action_fields(), scene)
        if camera_fields(environment):
            if dataset.pictures is None or dataset.pictures.sizes != {CAMERA: (PICTURE_SIDE, PICTURE_SIDE)}:
                raise SimulationError(
                    f"{path} has no pictures of {CAMERA} of {PICTURE_SIDE} x {PICTURE_SIDE} pixels, which the robot of "
                    f"{environment} sees; give a data set of this environment"
                )
            world._seen = dataset.pictures.opened(path.with_name(f"{path.name}.cache"))
        return world

    @property
    def episodes(self) -> int:
        """Number of recorded episodes."""
        return len(self._dataset.trajectory_ends)

    def has_episode(self, seed: int) -> bool:
        """Whether the recording has a trajectory of this number."""
        return 0 <= seed < self.episodes

    def start(
        self, task: int, seed: int, shift: Shift = NONE, keyframe: str = ""
    ) -> Mapping[str, Reading | ImageReading]:
        """Begin the trajectory of number `seed` and return its first readings.

        Raises:
            SimulationError: There is no such trajectory, or it was to be another than recorded.
        """
        if shift != NONE or keyframe:
            asked = f"keyframe {keyframe}" if keyframe else f"shift {shift.label}"
            raise SimulationError(f"{asked} was given with mode replay; a recording is what it is, simulate instead")
        if not self.has_episode(seed):
            raise SimulationError(
                f"recorded episode {seed} was asked for (parameter seed); the recording has 0 to {self.episodes - 1}"
            )
        ends = self._dataset.trajectory_ends
        self._row = int(ends[seed - 1]) + 1 if seed else 0
        self._end = int(ends[seed])
        self._differences = []
        return self._readings()

    @property
    def goal(self) -> Array:
        """What the recording reached in the end, float64 [S]."""
        goal: Array = self._dataset.observations[self._end].astype(np.float64)
        return goal

    def step(self, command: Array) -> WorldStep:
        """Compare one command with the recorded action of this row and go on to the next row."""
        recorded = self._dataset.actions[self._row].astype(np.float64) * self._scale + self._offset
        self._differences.append(np.abs(command - recorded))
        done = self._row == self._end
        if not done:
            self._row += 1
        return WorldStep(self._readings(), None, done)

    def details(self) -> dict[str, Any]:
        """Return the mean and the greatest absolute difference of each action component, in its own unit."""
        differences = np.array(self._differences)
        return {
            "replay": {
                "difference_mean": dict(zip(self._names, differences.mean(axis=0).tolist(), strict=True)),
                "difference_max": dict(zip(self._names, differences.max(axis=0).tolist(), strict=True)),
            }
        }

    @property
    def physics(self) -> None:
        """Nothing is simulated."""
        return None

    def picture(self, width: int, height: int) -> NDArray[np.uint8]:
        """Return a picture of the recorded state, uint8 [height, width, 3].

        Raises:
            SimulationError: There is no scene, or no GL back end can be loaded.
        """
        if self._scene is None:
            raise SimulationError("the recording was opened without pictures; set the parameter camera")
        state = [self._dataset.extras[key][self._row] for key in self._scene.family.state_keys]
        self._scene.set_state(*state)
        return self._scene.render(width, height)

    def close(self) -> None:
        """Free the scene."""
        if self._scene is not None:
            self._scene.close()

    def _readings(self) -> dict[str, Reading | ImageReading]:
        readings: dict[str, Reading | ImageReading] = {
            **readings_from_vector(self._fields, self._dataset.observations[self._row])
        }
        if self._seen is not None:
            readings[CAMERA_TOPIC] = ImageReading.of(self._seen.take(np.array([self._row]))[CAMERA][0])
        return readings
