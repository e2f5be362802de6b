"""Signs of quaternions: q and -q are one rotation, and a network that saw one of them knows nothing of the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.demonstrations import Array, in_own_unit, invertible, places, rounded, scales_of
from qgf_ros.bundle.fields import ObservationField

#: A mean that is shorter says nothing of a sign [1].
_SHORTEST = 1e-6
_MOST_ROUNDS = 100


def with_mean_quaternions(
    fields: Sequence[ObservationField], observations: NDArray[np.float32], ends: NDArray[np.int64]
) -> tuple[ObservationField, ...]:
    """Return the fields with the mean quaternions of the data they will be compared with.

    Where some of the data lie farther from their mean than their opposites do, there is no hemisphere. If the first rows of
    the trajectories have one, and no row is nearer to the opposite of the one before, the sign follows from there: such are
    the poses that a simulator integrates. Else there is no mean.

    Args:
        fields: The observation contract.
        observations: Of the data, float32 [R, S].
        ends: Last row of each trajectory.
    """
    return tuple(
        field.model_copy(update=_signs(field, in_own_unit(field, observations[:, place]), ends))
        if field.is_quaternion and field.constant is None and invertible(field)
        else field
        for field, place in places(fields)
    )


def _signs(field: ObservationField, block: Array, ends: NDArray[np.int64]) -> dict[str, object]:
    mean = _mean(block.reshape(-1, 4))
    if mean is not None or not field.live:
        return {"mean_quaternion": mean, "sign_follows": False}
    newest = block[:, -4:]
    inside = np.delete(np.arange(len(newest) - 1), ends[:-1])
    continuous = (np.einsum("ij,ij->i", newest[inside], newest[inside + 1]) >= 0.0).all()
    begin = newest[np.concatenate([[0], ends[:-1] + 1])]
    first = (_axis(begin) or _mean(begin, 20_000)) if continuous else None
    return {"mean_quaternion": first, "sign_follows": first is not None}


def _axis(quaternions: Array) -> tuple[float, ...] | None:
    """Return the axis of the component that has one sign in all quaternions [N, 4], or None.

    Where rotations begin anywhere about an axis, their mean is that axis, but for the luck of a sample.
    """
    means = np.abs(quaternions.mean(axis=0))
    for i in np.argsort(-means).tolist():
        if means[i] > _SHORTEST and ((quaternions[:, i] > 0.0).all() or (quaternions[:, i] < 0.0).all()):
            sign = float(np.sign(quaternions[0, i]))
            return tuple(sign if k == i else 0.0 for k in range(4))
    return None


def _mean(quaternions: Array, rounds: int = 300) -> tuple[float, ...] | None:
    """Return the mean of quaternions [N, 4], or the middle of a hemisphere that holds all of them if its own does not."""
    middle = quaternions.mean(axis=0)
    for _ in range(
        rounds
    ):  # towards the shortest mean of some weights, which is as far from all as can be (Gilbert, 1966)
        farthest = quaternions[np.argmin(quaternions @ middle)]
        if farthest @ middle > 0.0:
            break
        way = middle - farthest
        middle = middle - min(1.0, float(middle @ way) / float(way @ way)) * way
    length = float(np.linalg.norm(middle))
    if not length > _SHORTEST:
        return None
    kept = rounded(middle / length)
    return kept if (quaternions @ np.array(kept) >= -_SHORTEST).all() else None


def with_one_sign(fields: Sequence[ObservationField], observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return observations, float32 [R, S], whose quaternions lie in one hemisphere around the mean of each field.

    A field that knows the mean of its data has the sign nearer to that already, and is left alone. The axis of the
    hemisphere is the mean of the rotations (Markley et al., Averaging Quaternions, 2007), its largest component positive.
    """
    aligned: NDArray[np.float32] = observations.copy()
    for field, place in places(fields):
        if field.is_quaternion and field.mean_quaternion is None and field.constant is None and field.clip is None:
            block = aligned[:, place].reshape(len(aligned), field.history, 4)
            opposite = _opposite(in_own_unit(field, aligned[:, place]).reshape(-1, 4)).reshape(block.shape[:2])
            shift = (2.0 * scales_of(field)).astype(np.float32) * np.broadcast_to(field.offset, 4).astype(np.float32)
            aligned[:, place] = np.where(opposite[..., None], -block - shift, block).reshape(len(aligned), -1)
    return aligned


def _opposite(quaternions: Array) -> NDArray[np.bool_]:
    """Return which of some quaternions [N, 4] are to change their sign, bool [N]."""
    axis = np.linalg.eigh(quaternions.T @ quaternions)[1][:, -1]
    axis = axis * np.sign(axis[np.argmax(np.abs(axis))])
    signs = np.where(quaternions @ axis < 0.0, -1.0, 1.0)
    for _ in range(_MOST_ROUNDS):  # each round brings the mean nearer to all of them
        mean = signs @ quaternions
        better = np.where(quaternions @ mean < 0.0, -1.0, 1.0)
        if (better == signs).all():
            break
        signs = better
    opposite: NDArray[np.bool_] = signs < 0.0
    return opposite
