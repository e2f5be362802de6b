"""What a goal says: a whole observation, or some of its fields, such as those of the objects without those of the arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.demonstrations import places
from qgf_ros.bundle.fields import GOAL, ObservationField, goal_field

#: Topic of a goal that holds some fields only; a whole observation has that of `GOAL`.
OBJECT_GOAL = "object_goal"


def goal_columns(
    observation: Sequence[ObservationField], names: Sequence[str] = (), goal: str | None = GOAL
) -> NDArray[np.intp]:
    """Return which components of an observation a goal holds, in its own order, int [G].

    Args:
        observation: Fields of the observation vector; that of the goal counts for nothing.
        names: Fields that a goal holds; none for all of them.
        goal: Name of the field of the goal.
    """
    found = {field.name: place for field, place in places(observation) if field.name != goal}
    chosen = [found[name] for name in names or found]
    return np.concatenate([np.arange(place.start, place.stop) for place in chosen])


def field_of_goal(observation: Sequence[ObservationField], names: Sequence[str] = ()) -> ObservationField:
    """Return the field of a goal behind an observation; arguments as in `goal_columns`."""
    field = goal_field(len(goal_columns(observation, names)))
    return field.model_copy(update={"topic": OBJECT_GOAL}) if names else field


def check_goal(observation: Sequence[ObservationField], goal: str | None, names: Sequence[str]) -> None:
    """Raise ValueError unless a goal, if there is one, is a field that holds, and just as large as what it holds."""
    if goal is None and not names:
        return
    lasting = {field.name: field.size for field in observation if not field.live}
    if goal is None or goal not in lasting:
        raise ValueError(f"goal {goal} is not an observation field that holds until it is replaced")
    if not names:
        return
    sizes = {field.name: field.size for field in observation if field.name != goal}
    unknown = [name for name in names if name not in sizes]
    if unknown or len(set(names)) < len(names):
        raise ValueError(f"goal_fields {', '.join(names)} are not fields of the observation, each once")
    if lasting[goal] != sum(sizes[name] for name in names):
        raise ValueError(f"goal {goal} has {lasting[goal]} values, its goal_fields {', '.join(names)} have others")
