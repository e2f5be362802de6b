"""Scale and offset from the data, for what a contract leaves to them.

The noise that a policy starts from is standard normal and the networks are made for numbers of about that size, so that a
component whose data fill a tenth of its range is ten times as noisy as need be. Where a contract says neither `scale` nor
`offset` of a field, training takes them from the data:

    an action             its range becomes [-1, 1]: no demonstration is clipped
    joints, plain numbers, a yaw, the size of a wrench
                          of each component the quantiles 0.01 and 0.99 become -1 and 1
    the axes of a position, velocity, force or torque
                          the same, with one scale for all of them, that of the widest: directions stay what they are
    quaternions, and cosines with sines
                          stay as they are, within [-1, 1]

Where less than a twentieth of the range lies between the quantiles, as of a contact that is seldom, the range itself counts.
What is constant to `SMALLEST_WIDTH` keeps its unit: only its offset is taken away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from qgf_ros.bundle.demonstrations import Array, in_own_unit, places, rounded
from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.text import first_complaint
from qgf_ros.errors import DatasetError
from qgf_ros.learning.data.contract import Contract
from qgf_ros.learning.data.dataset import Dataset, check_bounds, normalisation_of

#: Where a training record says which fields were left to the data.
FROM_DATA = "scale_and_offset_from_data"
#: Half the width of an observation that counts as constant [unit of the field].
SMALLEST_WIDTH = 1e-3
#: Half the width of an action that counts as constant [half the distance of its limits].
SMALLEST_SHARE = 0.01
_QUANTILES = 0.01, 0.99
#: Share of the range below which the quantiles lie too near to each other to stand for it.
_RARE = 0.05
_AXES = ("position", "linear", "angular", "force", "torque", "linear_acceleration")


def from_data(contract: Contract, dataset: Dataset) -> Contract:
    """Return a contract in which nothing is left to the data.

    Args:
        contract: As it was told.
        dataset: Training data that fit it, in the units of the fields left to them.

    Raises:
        DatasetError: The commands of the data lie outside the limits of an action.
    """
    actions = _in_unit(contract, dataset)
    return replace(
        contract,
        observation=tuple(
            _observation_field(field, dataset.observations[:, place])
            if field.name in contract.observation_from_data
            else field
            for field, place in places(contract.observation)
        ),
        action=tuple(
            _action_field(field, actions[:, i]) if field.name in contract.action_from_data else field
            for i, field in enumerate(contract.action)
        ),
        observation_from_data=frozenset(),
        action_from_data=frozenset(),
    )


def normalised(dataset: Dataset, told: Contract, fitted: Contract, source: str) -> Dataset:
    """Return a data set as a policy sees it; the same one where the contract left nothing to the data.

    Args:
        dataset: Training or validation data.
        told: The contract they are in.
        fitted: The contract they are wanted in, from `from_data`.
        source: What to call the data set in an error.

    Raises:
        DatasetError: An action whose scale the contract says leaves [-1, 1].
    """
    observations, actions = dataset.observations, dataset.actions
    if told.observation_from_data:
        observations = observations.copy()
        for field, place in places(fitted.observation):
            if field.name in told.observation_from_data:
                offset, scale = (
                    np.tile(np.broadcast_to(value, field.instant_size), field.history)
                    for value in (field.offset, field.scale)
                )
                observations[:, place] = (observations[:, place].astype(np.float64) - offset) * scale
    if told.action_from_data:
        actions, commands = actions.copy(), _in_unit(told, dataset)
        for i, action in enumerate(fitted.action):
            if action.name in told.action_from_data:
                actions[:, i] = (commands[:, i] - action.offset) / action.scale
    kept = [i for i, action in enumerate(told.action) if action.name not in told.action_from_data]
    check_bounds(dataset.actions[:, kept], source)
    if observations is dataset.observations and actions is dataset.actions:
        return dataset
    normalisation = normalisation_of(fitted.action) if dataset.normalisation else {}
    return replace(dataset, observations=observations, actions=actions, normalisation=normalisation)


def left_to_data(contract: Contract) -> dict[str, list[str]]:
    """Return which fields a contract leaves to the data, as checkpoints and manifests keep it under `FROM_DATA`."""
    return {"observation": sorted(contract.observation_from_data), "action": sorted(contract.action_from_data)}


def as_seen(dataset: Dataset, manifest: Manifest, source: str) -> Dataset:
    """Return a data set like the one that a bundle was trained with as its policy sees it, a goal apart.

    Args:
        dataset: Some of its fields may be in their own unit; see `load_dataset`, without bounds.
        manifest: Of the bundle; it says which.
        source: What to call the data set in an error.

    Raises:
        DatasetError: It is not of the bundle's fields.
    """
    left = manifest.training.get(FROM_DATA)
    names = left if isinstance(left, dict) else {}
    fields = tuple(field for field in manifest.observation if field.name != manifest.goal)
    fitted = Contract(fields, manifest.action, manifest.control_rate, cameras=manifest.cameras)
    told = replace(
        fitted,
        observation_from_data=frozenset(map(str, names.get("observation") or ())),
        action_from_data=frozenset(map(str, names.get("action") or ())),
    )
    told.check(dataset)
    return normalised(dataset, told, fitted, source)


def _in_unit(contract: Contract, dataset: Dataset) -> Array:
    """Return the actions, float64 [R, A], those that are left to the data in their unit."""
    actions = dataset.actions.astype(np.float64)
    for i, (scale, offset) in enumerate(dataset.normalisation.values()):
        if contract.action[i].name in contract.action_from_data:
            actions[:, i] = actions[:, i] * scale + offset
    return actions


def _action_field(field: ActionField, commands: Array) -> ActionField:
    low, high = float(commands.min()), float(commands.max())
    half = max((high - low) / 2.0, SMALLEST_SHARE * (field.upper - field.lower) / 2.0)
    try:
        return ActionField.model_validate({**field.model_dump(), "scale": half, "offset": (low + high) / 2.0})
    except ValidationError as error:
        raise DatasetError(
            f"the commands of {field.name} lie between {low:g} and {high:g} {field.unit}, which does not fit the contract "
            f"({first_complaint(error)}); give its limits in the unit of the commands"
        ) from error


def _observation_field(field: ObservationField, block: NDArray[np.float32]) -> ObservationField:
    if field.extraction.startswith(("quaternion_", "rotation_")) or field.extraction.endswith("cos_sin"):
        return field
    values = in_own_unit(field, block).reshape(-1, field.instant_size)
    least, most = values.min(axis=0), values.max(axis=0)
    low, high = np.quantile(values, _QUANTILES, axis=0)
    seldom = high - low < _RARE * (most - least)
    low, high = np.where(seldom, least, low), np.where(seldom, most, high)
    half = (high - low) / 2.0
    if field.extraction in _AXES:
        half = np.full_like(half, half.max())
    scale = np.where(half < SMALLEST_WIDTH, 1.0, 1.0 / np.maximum(half, SMALLEST_WIDTH))
    chosen: dict[str, Any] = {"offset": rounded((low + high) / 2.0), "scale": rounded(scale)}
    if len(set(chosen["scale"])) == 1:
        chosen["scale"] = chosen["scale"][0]
    return field.model_copy(update=chosen)
