"""The two small protocols from which all of guidance is composed: a flow and an action value, observations given.

Neither takes an observation: `conditioning` binds it once, and everything here is asked many times about that one.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: float32 in the runtime; the mathematics below works in float64 just as well.
Array = NDArray[np.floating[Any]]
#: Which rows of a batch: their numbers, in any order and repeated at will, or a slice.
Rows: TypeAlias = "NDArray[np.intp] | slice"


class Flow(Protocol):
    """A flow policy's velocity v(a, t) given N observations, with t from 0 (noise) to 1 (action)."""

    def __call__(self, a: Array, t: Array) -> Array:
        """Map noised chunks [N, C] and times [N] to velocities [N, C]."""
        ...

    def vjp(self, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
        """Return the velocities [N, C] and u^T dv/da [N, C] for cotangents u [N, C]."""
        ...

    def rows(self, rows: Rows) -> Flow:
        """Return the flow given some of the observations; nothing of them is computed again."""
        ...


class ActionValue(Protocol):
    """The values Q_e(a) of clean action chunks given N observations, one for each member of an ensemble."""

    def __call__(self, a: Array) -> Array:
        """Map chunks [N, C] to the values of every member [E, N]."""
        ...

    def value_and_grad(self, a: Array) -> tuple[Array, Array]:
        """Return the values of every member [E, N] and the gradient of their aggregate by the action [N, C]."""
        ...

    def rows(self, rows: Rows) -> ActionValue:
        """Return the values given some of the observations; nothing of them is computed again."""
        ...


class NoisedActionValue(ActionValue, Protocol):
    """An action value with one of noised chunks beside it, trained on them."""

    def noised_value_and_grad(self, a: Array, t: Array) -> tuple[Array, Array]:
        """Return the values expected of noised chunks [N, C] at times [N] once they are clean [1, N], and the gradient [N, C]."""
        ...


class FilteringActionValue(ActionValue, Protocol):
    """An action value that has chosen data, and the flow of what it chose."""

    def filtered_velocity(self, a: Array, t: Array) -> Array:
        """Map noised chunks [N, C] and times [N] to the velocities [N, C] of the chosen data alone."""
        ...
