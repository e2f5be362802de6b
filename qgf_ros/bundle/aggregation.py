"""How the values of a critic's members become one: ``min``, ``mean``, or ``mean - RHO std``, such as ``mean - 0.5 std``.

The last is a lower bound that falls with the members' disagreement; the standard deviation is that of the members
themselves (their mean square distance from the mean divided by E, not by E - 1). A manifest, a training run, the graphs
and the robot all say it in these words.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

_FORM = r"(min|mean|mean - ([0-9]{1,3}(\.[0-9]{1,6})?) std)"
#: One of the forms above.
Aggregation = Annotated[str, Field(pattern=f"^{_FORM}$")]
#: What an error says of them.
FORMS = "min, mean, or mean - RHO std, such as 'mean - 0.5 std'"
#: Smallest standard deviation that gradients are divided by, below the rounding of values: members that agree weigh alike.
SMALLEST_STD = 1e-6

Array = NDArray[Any]


def deviations(aggregation: str) -> float | None:
    """Return how many standard deviations are taken from the mean, 0 for the mean itself, and None for the smallest value.

    Raises:
        ValueError: It is none of the forms.
    """
    match = re.fullmatch(_FORM, aggregation)
    if match is None:
        raise ValueError(f"aggregation {aggregation!r} was given; expected {FORMS}")
    return None if aggregation == "min" else float(match[2] or 0.0)


def aggregate(q: Array, aggregation: str) -> Array:
    """Return one value of those of every member.

    Args:
        q: [E, ...].
        aggregation: One of the forms.

    Returns:
        [...].
    """
    rho = deviations(aggregation)
    if rho is None:
        return np.asarray(np.min(q, axis=0))
    mean = np.asarray(np.mean(q, axis=0))
    return np.asarray(mean - q.dtype.type(rho) * np.std(q, axis=0)) if rho else mean


def member_weights(q: Array, aggregation: str) -> Array:
    """Return the gradient of the aggregate by the value of each member: how much each member's own gradient counts.

    Args:
        q: [E, N].
        aggregation: One of the forms.

    Returns:
        [E, N]; of the smallest value, 1 for the first member that has it.
    """
    rho, members = deviations(aggregation), len(q)
    if rho is None:
        return np.asarray(np.arange(members)[:, None] == q.argmin(axis=0), dtype=q.dtype)
    distance = q - q.min(axis=0)  # exact where members lie near one another, whatever their size
    distance -= distance.mean(axis=0)
    std = np.maximum(np.sqrt(np.square(distance).mean(axis=0)), SMALLEST_STD)
    return np.asarray((1.0 - rho * distance / std) / members, dtype=q.dtype)
