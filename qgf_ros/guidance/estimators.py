"""Estimators of the gradient that guides a noised action, one function each.

Every estimator has one signature and is built from the primitives of `protocols` alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qgf_ros.guidance.protocols import Array, Critic, VelocityField

#: (velocity field, critic, s [N, S], a [N, C], t [N], v = velocity(s, a, t) [N, C]) -> gradient [N, C]
Estimator = Callable[[VelocityField, Critic, Array, Array, Array, Array], Array]


def clean_action(a: Array, t: Array, v: Array) -> Array:
    """Return the action one Euler step away, clip(a + (1 - t) v, -1, 1), for a, v [N, C] and t [N]."""
    estimate: Array = np.clip(a + (1.0 - t)[:, None] * v, -1.0, 1.0)
    return estimate


def qgf(velocity: VelocityField, critic: Critic, s: Array, a: Array, t: Array, v: Array) -> Array:
    """Return dQ/da1 at the one-Euler-step estimate a1 of the clean action, its Jacobian dropped.

    Source: Q-Guided Flow (arXiv 2606.11087): a1 is treated as a leaf, so neither the velocity field nor the clip is
    differentiated.

    Args:
        velocity: Not called; every estimator has the same signature.
        critic: The guiding critic.
        s: Observations [N, S].
        a: Noised chunks [N, C].
        t: Flow times [N].
        v: velocity(s, a, t) [N, C].

    Returns:
        [N, C].
    """
    return critic.value_and_grad(s, clean_action(a, t, v))[1]


#: Estimators by the name used in parameters and on the command line.
ESTIMATORS: dict[str, Estimator] = {"qgf": qgf}
