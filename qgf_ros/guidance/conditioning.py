"""How a model is conditioned on observations: once, by `given`; then it is asked about noised actions many times.

What depends on the observation alone belongs into `given`, be it a copy, a first layer or an encoder of images: the T
denoising steps of an action, its candidates and their unguided twins (`rows`) share it.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from qgf_ros.guidance.protocols import ActionValue, Array, Flow, Rows

_Model = TypeVar("_Model", bound="Unconditioned")


class VelocityField(Protocol):
    """A flow policy's velocity field v(s, a, t)."""

    def given(self, observations: Array) -> Flow:
        """Return v(s, ., .) for observations s [N, S]."""
        ...


class Critic(Protocol):
    """A Q ensemble Q_e(s, a) over clean action chunks."""

    def given(self, observations: Array) -> ActionValue:
        """Return Q_e(s, .) for observations s [N, S]."""
        ...

    def aggregate(self, q: Array) -> Array:
        """Reduce the values of every member [E, N] to one [N]: the minimum, or the mean."""
        ...


class Unconditioned:
    """A model that does not look at the observation: given any, it is its own flow or action value."""

    def given(self: _Model, observations: Array) -> _Model:
        """See `VelocityField` and `Critic`."""
        return self

    def rows(self: _Model, rows: Rows) -> _Model:
        """See `Flow` and `ActionValue`."""
        return self
