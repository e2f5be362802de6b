"""The contract a checkpoint carries, so that export needs neither data set nor simulator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from qgf_ros.bundle.demonstrations import Demonstrations, demonstrations_of
from qgf_ros.bundle.fields import GOAL, ActionField, ObservationField, goal_field
from qgf_ros.bundle.quaternions import with_mean_quaternions
from qgf_ros.bundle.text import first_complaint
from qgf_ros.errors import DatasetError, TrainingError
from qgf_ros.learning.data.dataset import Dataset, normalisation_of


@dataclass(frozen=True)
class Contract:
    """What goes into a policy and what comes out.

    Attributes:
        observation: Blocks of the observation vector.
        action: Components of an action.
        control_rate: Control rate [Hz].
    """

    observation: Sequence[ObservationField]
    action: Sequence[ActionField]
    control_rate: float

    def header(self) -> dict[str, Any]:
        """Return the contract as a checkpoint's header holds it."""
        return {
            "observation": [field.model_dump(mode="json") for field in self.observation],
            "action": [field.model_dump(mode="json") for field in self.action],
            "control_rate": self.control_rate,
        }

    def with_goal(self) -> Contract:
        """Return the contract of a policy that is told what to reach: the goal follows the observation.

        Raises:
            TrainingError: There is a field or a topic of this name already.
        """
        if any(GOAL in (field.name, field.topic) for field in self.observation):
            raise TrainingError(f"the contract has a field or topic {GOAL} of its own; give it another name")
        size = sum(field.size for field in self.observation)
        return replace(self, observation=(*self.observation, goal_field(size)))

    def described(self, dataset: Dataset, name: str) -> tuple[Contract, Demonstrations]:
        """Return the contract with the mean quaternions of a data set that fits it, and what its observations were like.

        A goal behind them is any of them.

        Args:
            dataset: The data.
            name: Of the file.
        """
        size = sum(field.size for field in self.observation)
        observations = np.tile(dataset.observations, size // dataset.observations.shape[1])
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
        for (made, (scale, offset)), (name, (factor, shift)) in zip(
            dataset.normalisation.items(), normalisation_of(self.action).items()
        ):
            if (made, scale, offset) != (name, factor, shift):
                raise DatasetError(
                    f"the data set's actions were made of {made} with scale {scale:g} and offset {offset:g}, the contract has "
                    f"{name} with {factor:g} and {shift:g}; give the contract of the data set, or convert the recordings again"
                )
        return self


def read_contract(path: Path) -> Contract:
    """Read a contract from JSON: the keys observation, action and control_rate of a manifest.

    Raises:
        TrainingError: The file is missing or is not a contract.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Contract(
            tuple(ObservationField.model_validate(field) for field in values["observation"]),
            tuple(ActionField.model_validate(field) for field in values["action"]),
            float(values["control_rate"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = first_complaint(error) if isinstance(error, ValidationError) else error
        raise TrainingError(
            f"{path} is not a contract ({reason}); give JSON with observation, action and control_rate, as in a manifest"
        ) from error


def plain_contract(dataset: Dataset, control_rate: float) -> Contract:
    """Return the contract of a data set about which nothing is known.

    The observation is one vector on the topic ``observation``; actions are normalised numbers a0, a1, ...
    """
    size, actions = dataset.observations.shape[1], dataset.actions.shape[1]
    observation = ObservationField(
        name="observation",
        topic="observation",
        message_type="std_msgs/msg/Float64MultiArray",
        extraction="data",
        size=size,
        unit="1",
    )
    action = (ActionField(name=f"a{i}", unit="1", scale=1.0, lower=-1.0, upper=1.0) for i in range(actions))
    return Contract((observation,), tuple(action), control_rate)
