"""The conventions of published data sets, told apart by the keys of a file, and made one: trajectories end to end.

    keys                          a row is                          a trajectory ends                  convention
    terminals                     a state and the action there      at terminals                       OGBench's files
    terminals, valids             the same                          where valids is 0                  OGBench, compact
    next_observations             a transition                      at every flag, and where the next  OGBench, D4RL for
                                                                    row is not what it leads to        Q-learning
    terminals, timeouts           a transition; its successor       at either                          D4RL's files
    terminations, truncations     is the next row                   at either                          Gymnasium
    dones                         the same                          at dones                           Gym

Made one, a trajectory of n transitions has n + 1 rows, the last of which is the successor of the one before and nothing
else. A last transition whose successor is in no row is given up, unless its mask of 0 says that nothing after it counts:
then a copy of its row closes the trajectory, at which nobody looks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.text import one_line
from qgf_ros.errors import DatasetError

Array = NDArray[Any]
Float = NDArray[np.float32]
Bools = NDArray[np.bool_]

#: Flags, 0 or 1 for each row; two of them have other names in Gymnasium.
FLAGS = ("terminals", "timeouts", "dones", "valids")
GYMNASIUM = {"terminations": "terminals", "truncations": "timeouts"}
#: Vectors, and how many components a bundle may have of them; a number for each row; states of a simulator.
VECTORS = {"observations": 10_000, "actions": 1_000, "next_observations": 10_000}
SCALARS = ("rewards", "masks")
STATES = ("qpos", "qvel", "button_states")
#: Which picture belongs to each row, where there are any; `learning.data.picture_files` numbers them.
PICTURES = "images"
#: Every array of numbers that is read.
KEYS = (*VECTORS, *FLAGS, *GYMNASIUM, *SCALARS, *STATES)
#: Other names of what is read: to pass over them would change the meaning of the rest.
_OTHER_NAMES = {
    **dict.fromkeys(("terminal", "terminated", "is_terminal"), "terminals"),
    **dict.fromkeys(("timeout", "truncated"), "timeouts"),
    **dict.fromkeys(("done", "is_last", "is_first", "episode_ends", "ends"), "dones"),
    "valid": "valids",
    **dict.fromkeys(("next_observation", "next_obs", "obs_next"), "next_observations"),
    "reward": "rewards",
    "mask": "masks",
}
#: Successors that differ by no more are the same state, rounded [share, unit of the observation].
_RELATIVE, _ABSOLUTE = 1e-5, 1e-6


@dataclass(frozen=True)
class Layout:
    """Trajectories end to end.

    Attributes:
        observations, actions: float32 [R, S] and [R, A].
        ends: bool [R], True on the last row of each trajectory.
        extras: Rewards and masks, float32 [R], and states [R, ...].
        closing: Rows that repeat the one before in place of an unknown successor, int64.
        notes: A sentence for each thing that was concluded, not read.
    """

    observations: Float
    actions: Float
    ends: Bools
    extras: dict[str, Array]
    closing: NDArray[np.int64]
    notes: tuple[str, ...]


def lay_out(arrays: Mapping[str, Array], names: Collection[str], source: str) -> Layout:
    """Return the trajectories that some arrays are.

    Args:
        arrays: Numbers, by keys of `KEYS`.
        names: Of everything that is in the file.
        source: What to call it in an error.

    Raises:
        DatasetError: A key is missing, its array has another shape than its meaning allows, or two keys contradict.
    """
    arrays = _renamed(arrays, names, source)
    flags = {key: _flag(key, arrays[key], source) for key in FLAGS if key in arrays}
    marks = flags.get("terminals", flags.get("dones"))
    missing = [key for key in ("observations", "actions") if key not in arrays]
    if missing or marks is None:
        missing += ["terminals"] if marks is None else []
        there = one_line(", ".join(sorted(map(repr, names)))) or "nothing"
        raise DatasetError(f"{source} lacks {', '.join(missing)}; it has {there}, and docs/data.md says what is read")
    vectors = {key: _vectors(key, arrays[key], most, source) for key, most in VECTORS.items() if key in arrays}
    scalars = {key: _float32(_column(key, arrays[key], source)) for key in SCALARS if key in arrays}
    states = {key: _matrix(key, arrays[key], source) for key in (*STATES, PICTURES) if key in arrays}
    _check_rows({**vectors, **flags, **scalars, **states}, marks, source)
    return _closed(vectors, flags, scalars, states, source)


def check_finite(name: str, array: Array, source: str) -> None:
    """Raise DatasetError where an array holds a value that is not finite."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DatasetError(f"{source}: {name} holds a value that is not finite; clean the recording")


def _renamed(arrays: Mapping[str, Array], names: Collection[str], source: str) -> dict[str, Array]:
    """Return the arrays by OGBench's and D4RL's keys."""
    if "terminations" in names and "truncations" not in names:
        raise DatasetError(
            f"{source} has terminations and no truncations; add truncations [R], True where an episode was cut off"
        )
    renamed = {GYMNASIUM.get(key, key): array for key, array in arrays.items()}
    for other, key in (*GYMNASIUM.items(), *_OTHER_NAMES.items()):
        if other in names and key in names and other in GYMNASIUM:
            raise DatasetError(f"{source} has both {key} and {other}, which are one thing; keep one of them")
        if other in names and key not in renamed and other in _OTHER_NAMES:
            raise DatasetError(f"{source} has {other}, which is not read; give it as {key}, a value for each row")
    return renamed


def _column(name: str, array: Array, source: str) -> Array:
    """Return one value for each row [R] of an array of shape [R] or [R, 1]."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DatasetError(f"{source}: {name} has shape {array.shape}, expected a value for each row, [R] or [R, 1]")
    return array


def _flag(name: str, array: Array, source: str) -> Bools:
    column = _column(name, array, source)
    wrong = column[(column != 0) & (column != 1)]
    if len(wrong):
        raise DatasetError(f"{source}: {name} holds {wrong[0]}, expected 0 or 1 on every row")
    return column.astype(bool)


def _matrix(name: str, array: Array, source: str) -> Array:
    if array.ndim != 2 or not array.shape[1]:
        raise DatasetError(
            f"{source}: {name} has shape {array.shape}; observations, actions and states must be matrices of numbers, and "
            "pictures uint8 [R, h, w, 3]"
        )
    return array


def _vectors(name: str, array: Array, most: int, source: str) -> Float:
    if _matrix(name, array, source).shape[1] > most:
        raise DatasetError(
            f"{source}: {name} has {array.shape[1]} columns, expected at most {most}; give pictures as "
            "images/NAME, uint8 [R, h, w, 3]"
        )
    return _float32(array)


def _float32(array: Array) -> Float:
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite afterwards
        return array.astype(np.float32, copy=False)


def _check_rows(arrays: Mapping[str, Array], marks: Bools, source: str) -> None:
    """Check that all arrays have the rows of the marks, and finite values."""
    flag = next(name for name, array in arrays.items() if array is marks)
    if not len(marks):
        raise DatasetError(f"{source} holds no row; record at least one episode")
    for name, array in arrays.items():
        if len(array) != len(marks):
            more = len(array) - len(marks)
            hint = " (one more for each episode: split it into observations and next_observations)"
            raise DatasetError(
                f"{source}: {name} has {len(array)} rows, {flag} has {len(marks)}; they must be equal"
                f"{hint if name == 'observations' and more == marks.sum() else ''}"
            )
        check_finite(name, array, source)
    if "next_observations" in arrays and arrays["next_observations"].shape != arrays["observations"].shape:
        raise DatasetError(
            f"{source}: next_observations has shape {arrays['next_observations'].shape}, "
            f"observations {arrays['observations'].shape}; they must be equal"
        )
    masks = arrays.get("masks", np.zeros(0))
    if not np.isin(masks, (0, 1)).all():
        raise DatasetError(
            f"{source}: masks holds {masks[~np.isin(masks, (0, 1))][0]}, expected 1, or 0 where it is solved"
        )


def _closed(
    vectors: dict[str, Float], flags: dict[str, Bools], scalars: dict[str, Float], states: dict[str, Array], source: str
) -> Layout:
    """Return trajectories each of whose transitions has its successor in the next row."""
    notes = []
    following = vectors.get("next_observations")
    ends = _ends(flags, following is not None, source)
    if "timeouts" in flags and "rewards" in scalars and "masks" not in scalars:
        over = flags["terminals"] if "terminals" in flags else flags["dones"] & ~flags["timeouts"]
        scalars = {**scalars, "masks": 1.0 - over.astype(np.float32)}
        notes.append(
            "there are timeouts and no masks, so masks are 0 where an episode ended otherwise than by a timeout"
        )
    closed = np.zeros_like(ends)
    if following is not None:
        cuts = _cuts(vectors["observations"], following, ends)
        if cuts.any():
            notes.append(
                f"after {cuts.sum()} rows that no key marks as an end, next_observations is not what the next row observes, so "
                "trajectories end there"
            )
        ends = closed = ends | cuts
    elif {"timeouts", "dones"} & flags.keys() and {"rewards", "masks"} <= scalars.keys():
        closed = ends & (scalars["masks"] == 0)
    rows, ends, added = _with_rows_after(closed, {**vectors, **scalars, **states}, ends)
    if following is not None:
        rows["observations"][added] = rows.pop("next_observations")[added]
        added = added[:0]
    masks = rows.get("masks")
    if masks is not None and (masks == 0).any() and (masks[~ends] == 1).all():
        notes.append(
            "masks is 0 on last rows of trajectories only, whose actions are not trained on (if rows are transitions, give "
            "timeouts or next_observations, too)"
        )
    observations, actions = rows.pop("observations"), rows.pop("actions")
    return Layout(observations, actions, ends, rows, added, tuple(notes))


def _with_rows_after(
    closed: Bools, arrays: dict[str, Array], ends: Bools
) -> tuple[dict[str, Array], Bools, NDArray[np.int64]]:
    """Return arrays and ends with a copy of each row that is `closed`, one of the ends, after it, and where the copies are."""
    if not closed.any():
        return dict(arrays), ends, np.zeros(0, np.int64)
    order = np.repeat(np.arange(len(closed)), 1 + closed)
    added = np.flatnonzero(closed) + np.arange(1, 1 + closed.sum())
    ends = ends[order]
    ends[added - 1] = False
    return {key: array[order] for key, array in arrays.items()}, ends, added


def _ends(flags: dict[str, Bools], followed: bool, source: str) -> Bools:
    """Return where trajectories end by their flags; `followed` where successors are there, too."""
    if "valids" in flags:
        others = [key for key in ("timeouts", "dones") if key in flags] + ["next_observations"] * followed
        if others:
            raise DatasetError(f"{source} has valids and {others[0]}, which are of two conventions; keep one of them")
        return _ends_of_valids(flags["terminals"], flags["valids"], source)
    ends: Bools = np.logical_or.reduce(list(flags.values()))
    if "dones" in flags and "terminals" in flags:
        alone = np.flatnonzero(flags["terminals"] & ~flags["dones"])
        if len(alone):
            raise DatasetError(
                f"{source}: terminals is 1 and dones 0 on row {alone[0]}; where one is, the other must be"
            )
    if followed or len(flags) > 1 or "dones" in flags:
        if not followed and not ends.any():
            raise DatasetError(f"{source}: no row has {' or '.join(flags)}; mark the last row of every trajectory")
        ends[-1] = True  # a file of transitions ends where its recording did
    return ends


def _ends_of_valids(terminals: Bools, valids: Bools, source: str) -> Bools:
    """Return the rows without a successor; terminals is True there and on the row before."""
    ends = ~valids
    short = np.flatnonzero(ends & np.append(True, ends[:-1]))
    if len(short):
        raise DatasetError(
            f"{source}: valids is 0 on row {short[0]}, which has no transition before it; take rows of padding out"
        )
    if not ends[-1]:
        raise DatasetError(f"{source}: valids is 1 on the last row, after which there is none; it must be 0 there")
    stray = np.flatnonzero(terminals & ~ends & ~np.append(ends[1:], False))
    if len(stray):
        raise DatasetError(
            f"{source}: terminals is 1 on row {stray[0]}, and valids 0 neither there nor on the next; keep one of them"
        )
    return ends


def _cuts(observations: Float, following: Float, ends: Bools) -> Bools:
    """Return the rows but the ends that lead to another state than the next row's."""
    cuts = np.zeros_like(ends)
    differ = np.flatnonzero((following[:-1] != observations[1:]).any(axis=1) & ~ends[:-1])
    near = np.isclose(following[differ], observations[differ + 1], _RELATIVE, _ABSOLUTE).all(axis=1)
    cuts[differ[~near]] = True
    return cuts
