"""Data sets, laid out as OGBench's files are, and the action chunks trained on.

A data set is a run of trajectories laid end to end; ``terminals`` is True on the last row of each. A row holds
the observation and the action taken there, so the last row of a trajectory has no successor:

    row        0    1    2  ...  999   1000 | 1001 ...
    terminal   0    0    0        0      1  |    0

A chunk of horizon H that starts at row i uses actions i .. i+H-1 and bootstraps from row i+H. It never crosses the
end of a trajectory, so its last possible start is H rows before the terminal one. `conventions` lays other files out so.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ActionField
from qgf_ros.bundle.text import one_line
from qgf_ros.errors import DatasetError
from qgf_ros.learning.data.conventions import KEYS, PICTURES, check_finite, lay_out
from qgf_ros.learning.data.file_kinds import check_kind
from qgf_ros.learning.data.npz_archive import read_npz
from qgf_ros.learning.data.picture_files import RENDERING_KEY, PictureFile, picture_headers, rows_of

#: JSON of what commands were normalised with: [[name, scale, offset], ...].
NORMALISATION_KEY = "action_normalisation"

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Trajectories laid end to end.

    Attributes:
        observations: float32 [R, S].
        actions: float32 [R, A], in [-1, 1].
        terminals: bool [R], True on the last row of each trajectory.
        extras: Other arrays of R rows, such as qpos and qvel.
        normalisation: Scale and offset of each action component by its name, in order; empty where the file does not say.
        closing: Rows that repeat the one before, because its successor is unknown and a mask of 0 hides it, int64.
        notes: A sentence for each thing that was concluded from the keys of a file, or is odd about it.
        pictures: Where the pictures of its rows are; None where it has none.
        rendering: How a simulation made them; empty where the file does not say.
    """

    observations: Float
    actions: Float
    terminals: NDArray[np.bool_]
    extras: Mapping[str, NDArray[np.generic]]
    normalisation: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    closing: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    notes: tuple[str, ...] = ()
    pictures: PictureFile | None = None
    rendering: Mapping[str, object] = field(default_factory=dict)

    @property
    def trajectory_ends(self) -> NDArray[np.int64]:
        """Row number of the last row of each trajectory."""
        return np.flatnonzero(self.terminals)

    def chunk_starts(self, horizon: int) -> NDArray[np.int64]:
        """Return the rows at which a chunk of `horizon` actions and its successor stay inside one trajectory.

        Raises:
            DatasetError: No trajectory is long enough.
        """
        rows, ends = np.arange(len(self.terminals)), self.trajectory_ends
        chosen = rows[ends[np.searchsorted(ends, rows)] - rows >= horizon]
        if not len(chosen):
            why = "".join(f"; {note}" for note in self.notes)
            raise DatasetError(
                f"no trajectory has more than {horizon} rows; use a shorter horizon or longer episodes{why}"
            )
        return chosen

    def observed(self) -> Dataset:
        """Return the data set without rows that only repeat others: for rewards of another origin than its own masks."""
        if not len(self.closing):
            return self
        terminals = self.terminals.copy()
        terminals[self.closing - 1] = True
        kept = np.delete(np.arange(len(terminals)), self.closing)
        return replace(
            self,
            observations=self.observations[kept],
            actions=self.actions[kept],
            terminals=terminals[kept],
            extras={key: array[kept] for key, array in self.extras.items()},
            closing=self.closing[:0],
            pictures=None if self.pictures is None else self.pictures.kept(kept),
        )


def validation_path(path: Path) -> Path:
    """Return where OGBench's convention puts the validation file of a training file."""
    return path.with_name(path.stem + "-val.npz")


def normalisation_of(action: Iterable[ActionField]) -> dict[str, tuple[float, float]]:
    """Return scale and offset of each action component by its name."""
    return {one.name: (one.scale, one.offset) for one in action}


def stored_normalisation(action: Iterable[ActionField], unscaled: Collection[str] = ()) -> NDArray[np.str_]:
    """Return them as a data set holds them under `NORMALISATION_KEY`; those that are kept in their unit have 1 and 0."""
    pairs = {name: (1.0, 0.0) if name in unscaled else pair for name, pair in normalisation_of(action).items()}
    return np.array(json.dumps([[name, *pair] for name, pair in pairs.items()]))


def load_dataset(path: Path, *, bounded: bool = True) -> Dataset:
    """Read a data set of a known convention; docs/data.md says which, and what each key means.

    Args:
        path: An ``.npz`` file.
        bounded: Whether its actions must lie in [-1, 1].

    Raises:
        DatasetError: There is no such file or it is of another kind or unreadable, a key is missing or ambiguous, or
            the arrays do not fit together.
    """
    check_kind(path)
    seen = picture_headers(path)
    keys = [key for key in KEYS if f"{key}.npy" not in {header.member for header in seen.values()}]
    arrays, names = read_npz(path, keys, (NORMALISATION_KEY, RENDERING_KEY))
    normalisation = _told_normalisation(arrays.pop(NORMALISATION_KEY, None), path)
    rendering = _told_rendering(arrays.pop(RENDERING_KEY, None), path)
    pictures = PictureFile(path, seen, np.arange(rows_of(seen, path))) if seen else None
    blind = pictures is not None and "observations" not in arrays  # nothing is observed but what is seen
    if pictures is not None:
        arrays[PICTURES] = pictures.rows[:, None]
    if pictures is not None and blind:
        arrays["observations"] = np.zeros((len(pictures.rows), 1), np.float32)
    laid = lay_out(arrays, names, str(path))
    observations = laid.observations[:, :0] if blind else laid.observations
    extras = {key: array for key, array in laid.extras.items() if key != PICTURES}
    if pictures is not None:
        pictures = pictures.kept(laid.extras[PICTURES][:, 0])
    told = (extras, normalisation, laid.closing, laid.notes, pictures, rendering)
    return check_dataset(Dataset(observations, laid.actions, laid.ends, *told), str(path), bounded=bounded)


def _told_normalisation(text: NDArray[np.generic] | None, path: Path) -> dict[str, tuple[float, float]]:
    if text is None:
        return {}
    try:
        return {str(name): (float(scale), float(offset)) for name, scale, offset in json.loads(str(text))}
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DatasetError(
            f"{path}: {NORMALISATION_KEY} is no JSON of [[name, scale, offset], ...] ({one_line(str(error))}); convert the "
            "recording again"
        ) from error


def _told_rendering(text: NDArray[np.generic] | None, path: Path) -> dict[str, object]:
    if text is None:
        return {}
    try:
        return dict(json.loads(str(text)))
    except (TypeError, ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path}: {RENDERING_KEY} is no JSON object ({one_line(str(error))}); make it again"
        ) from error


def check_dataset(dataset: Dataset, source: str, *, bounded: bool = True) -> Dataset:
    """Return the data set unchanged if it is sound.

    Args:
        dataset: What was read.
        source: What to call it in an error.
        bounded: Whether its actions must lie in [-1, 1].

    Raises:
        DatasetError: Lengths differ, a value is not finite, an action leaves [-1, 1] or a trajectory has no end.
    """
    rows = len(dataset.terminals)
    if dataset.observations.ndim != 2 or dataset.actions.ndim != 2:
        raise DatasetError(
            f"{source}: observations {dataset.observations.shape} and actions {dataset.actions.shape} must be matrices"
        )
    for name, array in (("observations", dataset.observations), ("actions", dataset.actions), *dataset.extras.items()):
        if len(array) != rows:
            raise DatasetError(f"{source}: {name} has {len(array)} rows, terminals has {rows}; they must be equal")
        check_finite(name, array, source)
    if not rows or not dataset.terminals[-1]:
        raise DatasetError(f"{source}: the last row is not terminal; mark the last row of every trajectory")
    if bounded:
        check_bounds(dataset.actions, source)
    return dataset


def check_alike(held_out: Dataset, training: Dataset, source: str) -> Dataset:
    """Return a validation set unchanged if it is of the same kind as the data set it is beside.

    Args:
        held_out, training: The two.
        source: What to call the first in an error.

    Raises:
        DatasetError: Their sizes, their scales or their cameras differ, or how both say that their pictures were made.
    """
    sizes, expected = (
        (data.observations.shape[1], data.actions.shape[1], data.normalisation) for data in (held_out, training)
    )
    if sizes != expected:
        raise DatasetError(
            f"{source} has observations of size {sizes[0]} and actions of size {sizes[1]}, the data set {expected[0]} and "
            f"{expected[1]}, or they were scaled otherwise; make both in one way, or take the validation file away"
        )
    seen, wanted = ({} if data.pictures is None else data.pictures.sizes for data in (held_out, training))
    rendered = held_out.rendering and training.rendering and held_out.rendering != training.rendering
    if seen != wanted or rendered:
        raise DatasetError(
            f"{source} has {told_sizes(seen)}, the data set {told_sizes(wanted)}, or they were rendered otherwise; make both in "
            "one way, or take the validation file away"
        )
    return held_out


def told_sizes(pictures: Mapping[str, tuple[int, ...]]) -> str:
    """Return what a sentence calls the pictures of cameras, of height and width by name."""
    named = ", ".join(f"{name} of {' x '.join(map(str, size))} pixels" for name, size in pictures.items())
    return f"pictures ({named})" if named else "no pictures"


def check_bounds(actions: Float, source: str) -> None:
    """Raise DatasetError where an action leaves [-1, 1]."""
    if np.abs(actions).max(initial=0.0) > 1.0 + 1e-5:
        raise DatasetError(
            f"{source}: an action leaves [-1, 1]; give a contract without its scale and offset, which training then takes "
            "from the data, or scale actions before training"
        )


def chunk_returns(
    starts: NDArray[np.int64], rewards: Float, masks: Float, horizon: int, discount: float
) -> tuple[Float, Float]:
    """Return n-step returns and bootstrap factors of every chunk.

    A mask of 0 marks a state in which the task is solved: nothing after it counts, neither reward nor value.

    Args:
        starts: First rows of the chunks [B].
        rewards, masks: [R], of the state a row's action is taken in.
        horizon: Chunk length H = n.
        discount: Discount per control step.

    Returns:
        sum_{j<H} discount^j r_{i+j} prod_{l<j} m_{i+l}, and discount^H prod_{l<H} m_{i+l}; float32 [B] each.
    """
    total = np.zeros(len(starts))
    alive = np.ones(len(starts))
    for j in range(horizon):
        total += discount**j * alive * rewards[starts + j]
        alive *= masks[starts + j]
    return total.astype(np.float32), (discount**horizon * alive).astype(np.float32)


def solved_chunks(starts: NDArray[np.int64], masks: Float, horizon: int) -> NDArray[np.bool_]:
    """Return which chunks come to a state in which the task is solved, bool [B], as those that are trained on do."""
    solved: NDArray[np.bool_] = (masks[starts[:, None] + np.arange(horizon)] == 0).any(axis=1)
    return solved


def chunk_actions(starts: NDArray[np.int64], actions: Float, horizon: int) -> Float:
    """Return the flattened action chunks, float32 [B, H * A]."""
    rows = starts[:, None] + np.arange(horizon)
    chunks: Float = actions[rows].reshape(len(starts), -1)
    return chunks
