"""Data sets in OGBench's format, and the action chunks trained on.

An OGBench file is a run of trajectories laid end to end; ``terminals`` is True on the last row of each. A row holds
the observation and the action taken there, so the last row of a trajectory has no successor:

    row        0    1    2  ...  999   1000 | 1001 ...
    terminal   0    0    0        0      1  |    0

A chunk of horizon H that starts at row i uses actions i .. i+H-1 and bootstraps from row i+H. It never crosses the
end of a trajectory, so its last possible start is H rows before the terminal one.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ActionField
from qgf_ros.errors import DatasetError

REQUIRED_KEYS = ("observations", "actions", "terminals")
OPTIONAL_KEYS = ("qpos", "qvel", "button_states", "rewards", "masks")
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
    """

    observations: Float
    actions: Float
    terminals: NDArray[np.bool_]
    extras: Mapping[str, NDArray[np.generic]]
    normalisation: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def trajectory_ends(self) -> NDArray[np.int64]:
        """Row number of the last row of each trajectory."""
        return np.flatnonzero(self.terminals)

    def chunk_starts(self, horizon: int) -> NDArray[np.int64]:
        """Return the rows at which a chunk of `horizon` actions and its successor stay inside one trajectory.

        Raises:
            DatasetError: No trajectory is long enough.
        """
        ends = self.trajectory_ends
        starts = np.concatenate([[0], ends[:-1] + 1])
        rows = [np.arange(first, last - horizon + 1) for first, last in zip(starts, ends)]
        chosen = np.concatenate(rows)
        if not len(chosen):
            raise DatasetError(f"no trajectory has more than {horizon} rows; use a shorter horizon or longer episodes")
        return chosen


def validation_path(path: Path) -> Path:
    """Return where OGBench's convention puts the validation file of a training file."""
    return path.with_name(path.stem + "-val.npz")


def normalisation_of(action: Iterable[ActionField]) -> dict[str, tuple[float, float]]:
    """Return scale and offset of each action component by its name."""
    return {one.name: (one.scale, one.offset) for one in action}


def stored_normalisation(action: Iterable[ActionField]) -> NDArray[np.str_]:
    """Return them as a data set holds them under `NORMALISATION_KEY`."""
    return np.array(json.dumps([[name, *pair] for name, pair in normalisation_of(action).items()]))


def load_dataset(path: Path) -> Dataset:
    """Read a data set in OGBench's format.

    Args:
        path: An ``.npz`` file.

    Raises:
        DatasetError: The file is missing or unreadable, lacks a key, or its arrays do not fit together.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path} does not exist; make it with 'qgf generate' or give the path of an OGBench .npz file"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in (*REQUIRED_KEYS, *OPTIONAL_KEYS) if key in archive.files}
            told = json.loads(str(archive[NORMALISATION_KEY])) if NORMALISATION_KEY in archive.files else []
            normalisation = {str(name): (float(scale), float(offset)) for name, scale, offset in told}
    except (OSError, TypeError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path} is not a readable .npz file ({error}); make or copy it again") from error
    missing = [key for key in REQUIRED_KEYS if key not in arrays]
    if missing:
        raise DatasetError(f"{path} lacks {', '.join(missing)}; OGBench's format has {', '.join(REQUIRED_KEYS)}")
    observations, actions, terminals = (arrays.pop(key) for key in REQUIRED_KEYS)
    return check_dataset(
        Dataset(
            observations.astype(np.float32), actions.astype(np.float32), terminals.astype(bool), arrays, normalisation
        ),
        str(path),
    )


def check_dataset(dataset: Dataset, source: str) -> Dataset:
    """Return the data set unchanged if it is sound.

    Args:
        dataset: What was read.
        source: What to call it in an error.

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
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DatasetError(f"{source}: {name} holds a value that is not finite; clean the recording")
    if not rows or not dataset.terminals[-1]:
        raise DatasetError(f"{source}: the last row is not terminal; mark the last row of every trajectory")
    if np.abs(dataset.actions).max() > 1.0 + 1e-5:
        raise DatasetError(f"{source}: an action leaves [-1, 1]; scale actions before training")
    return dataset


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


def chunk_actions(starts: NDArray[np.int64], actions: Float, horizon: int) -> Float:
    """Return the flattened action chunks, float32 [B, H * A]."""
    rows = starts[:, None] + np.arange(horizon)
    chunks: Float = actions[rows].reshape(len(starts), -1)
    return chunks
