"""Estimators of the gradient that guides a noised action, one function each.

Every estimator has one signature and is built from the primitives of `protocols` alone, which were given an observation
(`conditioning`); the formulas leave it out. With T Euler steps of size dt = 1/T, Phi_k the rest of the behaviour-cloned
flow from step k to the end, and Q the aggregated critic:

=================  =======================================================================
``qgf``            dQ/da1 at a1 = clip(a_t + (1 - t) v(a_t, t))
``qgf_jacobian``   (da1/da_t)^T dQ/da1 at the same a1
``qgf_chain``      dQ/da1 at a1 = clip(Phi_k(a_t))
``noisy``          dQ/da_t at the noised action itself (QFQL)
``bptt``           (dPhi_k/da_t)^T dQ/da1 at a1 = clip(Phi_k(a_t)), through every step
=================  =======================================================================

Two more need something of the critic that most bundles do not have (`protocols`):

===================  =====================================================================
``robust``           dQ_rob(a_t, t)/da_t, Q_rob being the value expected given the noised action (RobustQ)
``classifier_free``  v_1(a_t, t) - v(a_t, t), v_1 being the flow of the data that the critic chose (CFGRL)
===================  =====================================================================

Source of the names and formulas: Q-Guided Flow, arXiv 2606.11087. ``grad_step``, which leaves the flow alone and climbs
the critic from the finished action, is in `sampler`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.names import CLASSIFIER_FREE, ROBUST
from qgf_ros.guidance.protocols import ActionValue, Array, Flow


class Estimate(NamedTuple):
    """What an estimator found.

    Attributes:
        gradient: [N, C].
        q: Values of every member [E, N] where the critic was asked.
    """

    gradient: Array
    q: Array


#: (flow, action value, a [N, C], t [N], v = flow(a, t) [N, C], Euler steps T) -> Estimate
Estimator = Callable[[Flow, ActionValue, Array, Array, Array, int], Estimate]


def clean_action(a: Array, t: Array, v: Array) -> Array:
    """Return the action one Euler step away, clip(a + (1 - t) v, -1, 1), for a, v [N, C] and t [N]."""
    estimate: Array = np.clip(a + (1.0 - t)[:, None] * v, -1.0, 1.0)
    return estimate


def qgf(flow: Flow, value: ActionValue, a: Array, t: Array, v: Array, steps: int) -> Estimate:
    """Estimate g_t = dQ(a1)/da1 at a1 = clip(a_t + (1 - t) v), its Jacobian dropped: QGF's Algorithm 1.

    a1 is a leaf: neither the velocity field nor the clip is differentiated.

    Args:
        flow: The behaviour-cloned flow; not called here, but every estimator has the same signature.
        value: Of the guiding critic.
        a: Noised chunks [N, C].
        t: Flow times [N].
        v: flow(a, t) [N, C].
        steps: Euler steps T of the whole flow; not needed here.
    """
    q, gradient = value.value_and_grad(clean_action(a, t, v))
    return Estimate(gradient, q)


def qgf_jacobian(flow: Flow, value: ActionValue, a: Array, t: Array, v: Array, steps: int) -> Estimate:
    """Estimate g_t = (da1/da_t)^T dQ(a1)/da1, with da1/da_t = clip' (I + (1 - t) dv/da_t): QGF-Jacobian.

    One vector-Jacobian product of the velocity field. The clip passes nothing where it moved a component. Arguments as
    for `qgf`.
    """
    ahead = a + (1.0 - t)[:, None] * v
    q, gradient = value.value_and_grad(np.clip(ahead, -1.0, 1.0))
    kept = _through_clip(gradient, ahead)
    _, product = flow.vjp(a, t, kept)
    return Estimate(kept + (1.0 - t)[:, None] * product, q)


def qgf_chain(flow: Flow, value: ActionValue, a: Array, t: Array, v: Array, steps: int) -> Estimate:
    """Estimate g_t = dQ(a1)/da1 at a1 = clip(Phi_k(a_t)), the whole remaining flow, its Jacobian dropped.

    T - k - 1 more velocities. Arguments as for `qgf`; `t` must be k/T, the same in every row.

    Raises:
        GuidanceError: `t` is not.
    """
    *_, end = _remaining_flow(flow, a, t, v, steps)
    q, gradient = value.value_and_grad(np.clip(end, -1.0, 1.0))
    return Estimate(gradient, q)


def noisy(flow: Flow, value: ActionValue, a: Array, t: Array, v: Array, steps: int) -> Estimate:
    """Estimate g_t = dQ(a_t)/da_t at the noised action, which no critic was trained on: the QFQL baseline.

    Arguments as for `qgf`.
    """
    q, gradient = value.value_and_grad(a)
    return Estimate(gradient, q)


def bptt(flow: Flow, value: ActionValue, a: Array, t: Array, v: Array, steps: int) -> Estimate:
    """Estimate g_t = d/da_t Q(clip(Phi_k(a_t))), back-propagated through every remaining Euler step.

    With a' = a + dt v(a, t) a step carries a cotangent u to u + dt (dv/da)^T u. T - k - 1 velocities and T - k
    vector-Jacobian products. Arguments as for `qgf`; `t` must be k/T, the same in every row.

    Raises:
        GuidanceError: `t` is not.
    """
    states = _remaining_flow(flow, a, t, v, steps)
    end = states[-1]
    q, gradient = value.value_and_grad(np.clip(end, -1.0, 1.0))
    u = _through_clip(gradient, end)
    first = steps + 1 - len(states)
    for k in range(steps - 1, first - 1, -1):
        _, product = flow.vjp(states[k - first], np.full_like(t, k / steps), u)
        u = u + product / steps
    return Estimate(u, q)


def robust(flow: Flow, value: ActionValue, a: Array, t: Array, v: Array, steps: int) -> Estimate:
    """Estimate g_t = dQ_rob(a_t, t)/da_t with a critic that was trained on noised actions: RobustQ; a_t is not clipped.

    Arguments as for `qgf`, but that the value is a `NoisedActionValue`.

    Raises:
        GuidanceError: It is none.
    """
    q, gradient = _own(value, "noised_value_and_grad")(a, t)
    return Estimate(gradient, q)


def classifier_free(flow: Flow, value: ActionValue, a: Array, t: Array, v: Array, steps: int) -> Estimate:
    """Estimate g_t = v_1(a_t, t) - v(a_t, t), so that weight 0 is the plain flow and 1 that of the chosen data: CFGRL.

    No critic is asked, and no value is there. Arguments as for `qgf`, but that the value is a `FilteringActionValue`.

    Raises:
        GuidanceError: It is none.
    """
    return Estimate(_own(value, "filtered_velocity")(a, t) - v, np.empty((0, len(a)), dtype=a.dtype))


#: Estimators over any flow and action value, by the name used in parameters and on the command line.
ESTIMATORS: dict[str, Estimator] = {
    "qgf": qgf,
    "qgf_jacobian": qgf_jacobian,
    "qgf_chain": qgf_chain,
    "noisy": noisy,
    "bptt": bptt,
}
#: Estimators over something that the critic brings itself.
OWN_ESTIMATORS: dict[str, Estimator] = {ROBUST: robust, CLASSIFIER_FREE: classifier_free}


def _own(value: ActionValue, name: str) -> Callable[[Array, Array], Any]:
    """Return what a critic brings itself."""
    found: Callable[[Array, Array], Any] | None = getattr(value, name, None)
    if found is None:
        raise GuidanceError(f"a critic without {name} was given; this estimator needs a bundle that has it")
    return found


def _through_clip(u: Array, unclipped: Array) -> Array:
    """Carry a cotangent back through clip(x, -1, 1): 1 inside and on the bounds, 0 outside."""
    return u * (np.abs(unclipped) <= 1.0)


def _remaining_flow(flow: Flow, a: Array, t: Array, v: Array, steps: int) -> list[Array]:
    """Return a_t and every state after it up to the end of the plain flow, each [N, C]."""
    first = round(float(t[0]) * steps)
    if not (np.abs(t * steps - first) < 1e-3).all():
        raise GuidanceError(f"flow times {t} were given; this estimator needs one time k/{steps} for all rows")
    states = [a, a + v / steps]
    for k in range(first + 1, steps):
        states.append(states[-1] + flow(states[-1], np.full_like(t, k / steps)) / steps)
    return states
