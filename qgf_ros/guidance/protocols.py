"""The two small protocols from which all of guidance is composed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: float32 in the runtime; the mathematics below works in float64 just as well.
Array = NDArray[np.floating[Any]]


class VelocityField(Protocol):
    """A flow policy's velocity v(s, a, t), with t from 0 (noise) to 1 (action)."""

    def __call__(self, s: Array, a: Array, t: Array) -> Array:
        """Map observations [N, S], noised chunks [N, C] and times [N] to velocities [N, C]."""
        ...

    def vjp(self, s: Array, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
        """Return the velocities [N, C] and u^T dv/da [N, C] for cotangents u [N, C]."""
        ...


class Critic(Protocol):
    """A Q ensemble Q_e(s, a) over clean action chunks."""

    def __call__(self, s: Array, a: Array) -> Array:
        """Map observations [N, S] and chunks [N, C] to the values of every member [E, N]."""
        ...

    def value_and_grad(self, s: Array, a: Array) -> tuple[Array, Array]:
        """Return the values of every member [E, N] and the gradient of their aggregate by the action [N, C]."""
        ...

    def aggregate(self, q: Array) -> Array:
        """Reduce the values of every member [E, N] to one [N]: the minimum, or the mean."""
        ...
