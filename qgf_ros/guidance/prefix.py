"""Real-time chunking: a new action chunk is denoised so that it agrees with the actions already committed.

While the next chunk is inferred, the robot goes on with the chunk under way. What it executes meanwhile is known, so
the new chunk is completed from it like a picture from its known part. Source: Real-Time Execution of Action Chunking
Flow Policies, arXiv 2506.07339, whose flow time tau is our t; the correction is the pseudoinverse guidance of
arXiv 2310.04432. Nothing is trained for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qgf_ros.guidance.protocols import Array, Flow, Rows

#: beta, the largest weight of the correction: the paper's value (its appendix A.2).
MAX_CORRECTION_WEIGHT = 5.0


@dataclass(frozen=True)
class Prefix:
    """The actions a chunk has to agree with, and how much.

    Attributes:
        target: Y, the actions committed and planned, from the time of the chunk's first action on; anything where the
            weight is 0. [C] for one chunk, [N, C] for `sampler.sample`.
        weight: W, from 0 (free) to 1 (frozen), in the shape of the target.
    """

    target: Array
    weight: Array

    def rows(self, rows: Rows) -> Prefix:
        """Return the prefixes of some rows."""
        return Prefix(self.target[rows], self.weight[rows])

    def correction(self, flow: Flow, a: Array, t: Array, v: Array, max_weight: float = MAX_CORRECTION_WEIGHT) -> Array:
        """Return what is added to the velocity, min(beta, (1-t)/(t r^2)) (Y - a1)^T diag(W) da1/da.

        Equation 2 of the paper, with a1 = a + (1-t) v (equation 3; no clip). The vector-Jacobian product is
        u + (1-t) u^T dv/da for u = W (Y - a1): one `Flow.vjp`.

        Args:
            flow: The behaviour-cloned flow.
            a: Noised chunks [N, C].
            t: Flow times [N].
            v: flow(a, t) [N, C].
            max_weight: beta.

        Returns:
            [N, C], in the dtype of `a`.
        """
        rest = (1.0 - t)[:, None]
        u = self.weight * (self.target - (a + rest * v))
        _, product = flow.vjp(a, t, u)
        return _correction_weight(t, max_weight)[:, None] * (u + rest * product)


def soft_mask(horizon: int, frozen: int, overlap: int) -> Array:
    """Return the weight W of each action of a chunk, float32 [H]: the soft mask, equation 5 of the paper.

    1 for the frozen actions i < d; c (e^c - 1)/(e - 1) with c = (o - i)/(o - d + 1) for the rest of the overlap,
    d <= i < o; 0 from there on. In the paper o = H - s, s being the actions executed since the chunk under way began.

    Args:
        horizon: Actions H of a chunk.
        frozen: Actions d that will have been executed before the chunk is there, the inference delay.
        overlap: Actions o of the chunk under way that are left; d is at most that.
    """
    c = np.clip((overlap - np.arange(horizon)) / (overlap - min(frozen, overlap) + 1.0), 0.0, 1.0)
    return np.asarray(c * np.expm1(c) / np.expm1(1.0), dtype=np.float32)


def make_prefix(committed: Array, frozen: int, horizon: int) -> Prefix:
    """Return the prefix that the actions left of the chunk under way are to the next one.

    Args:
        committed: Actions left, from the time of the next chunk's first action on [o, A], o at most H.
        frozen: Those that will have been executed before the next chunk is there.
        horizon: Actions H of a chunk.

    Returns:
        Target and weight, float32 [H * A].
    """
    overlap, size = committed.shape
    target = np.zeros((horizon, size), dtype=np.float32)
    target[:overlap] = committed
    return Prefix(target.ravel(), np.repeat(soft_mask(horizon, frozen, overlap), size))


def _correction_weight(t: Array, largest: float) -> Array:
    """Return min(beta, (1-t)/(t r^2)) for r^2 = (1-t)^2 / (t^2 + (1-t)^2), equation 4; at t = 0 its limit, beta."""
    with np.errstate(divide="ignore"):
        weight: Array = np.minimum((np.square(t) + np.square(1.0 - t)) / (t * (1.0 - t)), t.dtype.type(largest))
    return weight
