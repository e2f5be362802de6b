"""The contract a checkpoint carries, so that export needs neither data set nor simulator."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from qgf_ros.bundle.cameras import CameraField, Encoding
from qgf_ros.bundle.demonstrations import Demonstrations, demonstrations_of
from qgf_ros.bundle.fields import GOAL, ActionField, ObservationField
from qgf_ros.bundle.goal_fields import field_of_goal, goal_columns
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.quaternions import with_mean_quaternions
from qgf_ros.bundle.text import first_complaint
from qgf_ros.errors import DatasetError, TrainingError
from qgf_ros.learning.data.dataset import Dataset, normalisation_of, told_sizes

#: What a contract says of an observation field that is scaled as it says.
_SCALED = {"offset", "scale", "clip"}


@dataclass(frozen=True)
class Contract:
    """What goes into a policy and what comes out.

    Attributes:
        observation: Blocks of the observation vector.
        action: Components of an action.
        control_rate: Control rate [Hz].
        observation_from_data, action_from_data: Names of the fields whose scale and offset are left to the data, and are in
            their own unit until `normalisation.from_data` has looked at them.
        cameras: What the policy sees, by name: as a manifest has them.
        alignment: How rows are made of recordings, "latest" or "nearest": as the contract of the robot will have it.
    """

    observation: Sequence[ObservationField]
    action: Sequence[ActionField]
    control_rate: float
    observation_from_data: frozenset[str] = frozenset()
    action_from_data: frozenset[str] = frozenset()
    cameras: Mapping[str, CameraField] = field(default_factory=dict)
    alignment: str = "latest"

    def header(self) -> dict[str, Any]:
        """Return the contract as a checkpoint's header holds it."""
        return {
            "observation": [field.model_dump(mode="json") for field in self.observation],
            "action": [field.model_dump(mode="json") for field in self.action],
            "control_rate": self.control_rate,
            **(
                {"cameras": {name: camera.model_dump(mode="json") for name, camera in self.cameras.items()}}
                if self.cameras
                else {}
            ),
        }

    def with_goal(self, in_own_unit: Collection[str] = (), names: Sequence[str] = ()) -> Contract:
        """Return the contract of a policy that is told what to reach: the goal follows the observation.

        Args:
            in_own_unit: Names of fields that a data set, and so a goal, has in their own unit; the others it has scaled.
            names: Fields that a goal holds; none for all of them.

        Raises:
            TrainingError: There is a field or a topic of this name already, or what is seen would be the goal.
        """
        if self.cameras:
            raise TrainingError(
                "a goal was asked for, but no policy is told one in pictures yet; leave --goal-conditioned out"
            )
        if any(GOAL in (field.name, field.topic) for field in self.observation):
            raise TrainingError(f"the contract has a field or topic {GOAL} of its own; give it another name")
        goal, offsets, scales = field_of_goal(self.observation, names), [], []
        fields = {field.name: field for field in self.observation}
        for part in (fields[name] for name in names or fields):
            own = part.name in in_own_unit
            offsets.append(np.tile(np.broadcast_to(part.offset if own else 0.0, part.instant_size), part.history))
            scales.append(np.tile(np.broadcast_to(part.scale if own else 1.0, part.instant_size), part.history))
        if in_own_unit:
            chosen = {"offset": np.concatenate(offsets).tolist(), "scale": np.concatenate(scales).tolist()}
            goal = goal.model_copy(update={name: tuple(values) for name, values in chosen.items()})
        return replace(self, observation=(*self.observation, goal))

    def described(
        self, dataset: Dataset, name: str, goal_fields: Sequence[str] = ()
    ) -> tuple[Contract, Demonstrations]:
        """Return the contract with the mean quaternions of a data set that fits it, and what its observations were like.

        A goal behind them is any of them.

        Args:
            dataset: The data.
            name: Of the file.
            goal_fields: Fields that a goal holds, where there is one; none for all of them.
        """
        observations = dataset.observations
        if sum(field.size for field in self.observation) > observations.shape[1]:
            goals = observations[:, goal_columns(self.observation, goal_fields)]
            observations = np.concatenate([observations, goals], axis=1)
        fields = with_mean_quaternions(self.observation, observations, dataset.trajectory_ends)
        return replace(self, observation=fields), demonstrations_of(fields, observations, name)

    def check(self, dataset: Dataset) -> Contract:
        """Return the contract unchanged if the data set fits it.

        Raises:
            DatasetError: The sizes differ, or the actions were made with other scales and offsets.
        """
        given = dataset.observations.shape[1], dataset.actions.shape[1]
        expected = sum(field.size for field in self.observation), len(self.action)
        if given != expected:
            raise DatasetError(
                f"the data set has observations of size {given[0]} and actions of size {given[1]}, the contract "
                f"expects {expected[0]} and {expected[1]}; check --env, --contract and --dataset"
            )
        pictures = dataset.pictures.sizes if dataset.pictures is not None else {}
        seen = {name: camera.size for name, camera in self.cameras.items()}
        if pictures != seen:
            raise DatasetError(
                f"the data set has {told_sizes(pictures)}, the contract expects {told_sizes(seen)}; check --env, --contract and "
                "--dataset"
            )
        for (made, (scale, offset)), (name, (factor, shift)) in zip(
            dataset.normalisation.items(), normalisation_of(self.action).items()
        ):
            if made != name or (name not in self.action_from_data and (scale, offset) != (factor, shift)):
                raise DatasetError(
                    f"the data set's actions were made of {made} with scale {scale:g} and offset {offset:g}, the contract has "
                    f"{name} with {factor:g} and {shift:g}; give the contract of the data set, or convert the recordings again"
                )
        return self


def read_contract(path: Path) -> Contract:
    """Read a contract from JSON: observation, action and control_rate as in a manifest, and cameras and alignment where given.

    Where a field says neither `scale` nor `offset`, they are left to the data; of an observation also only where it says no
    `clip`, which would be of scaled values.

    Raises:
        TrainingError: The file is missing or is not a contract.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        observation = tuple(ObservationField.model_validate(field) for field in values["observation"])
        action = tuple(ActionField.model_validate(_with_scale(field)) for field in values["action"])
        cameras, alignment = values.get("cameras", {}), values.get("alignment", "latest")
        if alignment not in ("latest", "nearest"):
            raise ValueError(f"alignment {alignment!r} was given, expected latest or nearest")
        # What no bundle can have is refused now, and not when it is exported, hours later.
        whole = Manifest(
            name="contract",
            observation=observation,
            action=action,
            control_rate=float(values["control_rate"]),
            cameras=cameras,
            encoding=Encoding(features=1) if cameras else None,
            horizon=1,
            execution_horizon=1,
            critics={},
        )
        return Contract(
            observation,
            action,
            whole.control_rate,
            frozenset(f.name for f in observation if f.live and not _SCALED & f.model_fields_set),
            frozenset(f["name"] for f in values["action"] if not {"scale", "offset"} & set(f)),
            whole.cameras,
            alignment,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = first_complaint(error) if isinstance(error, ValidationError) else error
        raise TrainingError(
            f"{path} is not a contract ({reason}); give JSON with observation, action and control_rate, as in a manifest"
        ) from error


def _with_scale(action: dict[str, Any]) -> dict[str, Any]:
    """Return an action as a contract has it with a scale that its limits give, if it is left to the data."""
    if {"scale", "offset"} & set(action) or not {"lower", "upper"} <= set(action):
        return action
    low, high = float(action["lower"]), float(action["upper"])
    return {**action, "scale": (high - low) / 2.0, "offset": (low + high) / 2.0} if low < high else action


def plain_contract(dataset: Dataset, control_rate: float) -> Contract:
    """Return the contract of a data set about which nothing is known.

    The observation is one vector on the topic ``observation``, and the cameras are on NAME/image_raw; actions are plain
    numbers a0, a1, ... in [-1, 1]. Scale and offset of both are left to the data.
    """
    size, actions = dataset.observations.shape[1], dataset.actions.shape[1]
    action = tuple(ActionField(name=f"a{i}", unit="1", scale=1.0, lower=-1.0, upper=1.0) for i in range(actions))
    pictures = dataset.pictures.sizes if dataset.pictures is not None else {}
    cameras = {
        name: CameraField(topic=f"{name}/image_raw", width=width, height=height, size=(height, width))
        for name, (height, width) in pictures.items()
    }
    if not size:
        return Contract((), action, control_rate, frozenset(), frozenset(f.name for f in action), cameras)
    observation = ObservationField(
        name="observation",
        topic="observation",
        message_type="std_msgs/msg/Float64MultiArray",
        extraction="data",
        size=size,
        unit="1",
    )
    left = frozenset({observation.name}), frozenset(field.name for field in action)
    return Contract((observation,), action, control_rate, *left, cameras)
