"""What every analysis of a bundle starts from: its models, its critics, and states to ask them about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import read_bundle
from qgf_ros.errors import DatasetError, GuidanceError
from qgf_ros.guidance.conditioning import Critic, VelocityField
from qgf_ros.guidance.protocols import ActionValue, Array
from qgf_ros.learning.data.dataset import Dataset, chunk_actions, load_dataset, validation_path
from qgf_ros.learning.data.normalisation import as_seen
from qgf_ros.learning.data.picture_files import Pictures
from qgf_ros.runtime.encoders import Encode, Features, Images, load_encoders
from qgf_ros.runtime.models import OnnxCritic, OnnxVelocityField
from qgf_ros.runtime.session import CPU

Float = NDArray[np.float32]
#: Pictures that an encoder is given at a time.
_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Primitives:
    """A bundle's models.

    Attributes:
        manifest: Its contract.
        velocity: The velocity field.
        critics: Chosen critics by name.
        encoders: By critic, the policy's under None; none for a bundle without cameras.
    """

    manifest: Manifest
    velocity: VelocityField
    critics: dict[str, Critic]
    encoders: Mapping[str | None, Encode] = field(default_factory=dict)

    def given(self, observations: Float, images: Images | None = None) -> Features | None:
        """Return what velocity field and critics are given where the bundle sees; None where that is `observations`.

        Args:
            observations: float32 [N, S].
            images: What each camera sees, uint8 [N, h, w, 3].
        """
        return Features(self.encoders, observations, images) if self.encoders else None

    def features(self, critic: str | None, observations: Float, pictures: Pictures | None) -> Float:
        """Return what the velocity field, or a critic, is given of states: their features where the bundle sees.

        Args:
            critic: Its name; None for the velocity field.
            observations: float32 [N, S].
            pictures: Of these N rows; None without cameras.
        """
        if pictures is None:
            return observations
        found = []
        for first in range(0, len(observations), _ROWS_AT_ONCE):
            rows = np.arange(first, min(first + _ROWS_AT_ONCE, len(observations)))
            seen = Features(self.encoders, observations[rows], pictures.take(rows))
            found.append(seen.policy if critic is None else seen.of(critic))
        return np.concatenate(found)

    def asked_about(
        self, critic: str, observations: Float, pictures: Pictures | None
    ) -> tuple[VelocityField, Critic, Float]:
        """Return the velocity field, a critic, and what both are given of states: observations, or their features."""
        asked = self.critics[critic]
        if critic in self.encoders:  # whatever the velocity field is given, it looks for itself
            asked = _Seeing(asked, self.features(critic, observations, pictures))
        return self.velocity, asked, self.features(None, observations, pictures)


class _Seeing:
    """A critic that is given features of its own, [N, Z], of the rows that it is asked about."""

    def __init__(self, critic: Critic, features: Float) -> None:
        self._critic, self._features = critic, features

    def given(self, observations: Array) -> ActionValue:
        """See `Critic`."""
        return self._critic.given(self._features)

    def aggregate(self, q: Array) -> Array:
        """See `Critic`."""
        return self._critic.aggregate(q)


def load_primitives(bundle: Path, tasks: Sequence[int] | None = None) -> Primitives:
    """Check and load a bundle's models, on one thread.

    Args:
        bundle: Folder of the bundle.
        tasks: Single-task numbers whose critics are wanted; every critic by default.

    Raises:
        BundleError: The bundle is missing or damaged.
        GuidanceError: It has no critic for a task.
    """
    manifest, files = read_bundle(bundle)
    by_task = {card.task_id: name for name, card in manifest.critics.items()}
    missing = [task for task in tasks or () if task not in by_task]
    if missing:
        known = ", ".join(str(task) for task in by_task)
        raise GuidanceError(f"task {missing[0]} was given; the critics of bundle {manifest.name} are for tasks {known}")
    names = list(manifest.critics) if tasks is None else [by_task[task] for task in tasks]
    critics: dict[str, Critic] = {
        name: OnnxCritic(files, name, manifest.critics[name].aggregation, (CPU,), 1) for name in names
    }
    encoders = load_encoders(manifest, files, (CPU,), 1)
    return Primitives(manifest, OnnxVelocityField(files, (CPU,), 1), critics, encoders)


@dataclass(frozen=True)
class Chunks:
    """Chunks of a data set.

    Attributes:
        observations: float32 [R, S].
        actions: float32 [R, C], flattened chunks.
        pictures: Of the rows; None without cameras.
    """

    observations: Float
    actions: Float
    pictures: Pictures | None = None

    def split(self, count: int, seed: int) -> tuple[Chunks, Chunks]:
        """Return `count` chunks drawn at random, and the others.

        Raises:
            DatasetError: There are not as many, with one left over.
        """
        if not 1 <= count < len(self.observations):
            raise DatasetError(
                f"{count} states were asked for; expected 1 to {len(self.observations) - 1}, one less than the data set has"
            )
        rows = np.random.default_rng(seed).permutation(len(self.observations))
        first, rest = rows[:count], np.sort(rows[count:])
        return self._taken(first), self._taken(rest)

    def _taken(self, rows: NDArray[np.int64]) -> Chunks:
        seen = None if self.pictures is None else Pictures(self.pictures.cameras, self.pictures.rows[rows])
        return Chunks(self.observations[rows], self.actions[rows], seen)


def open_pictures(dataset: Dataset) -> Pictures | None:
    """Return the pictures of a data set, to take some of; None where it has none.

    Raises:
        DatasetError: They are damaged, or compressed and there is no room to unpack them.
    """
    if dataset.pictures is None:
        return None
    with TemporaryDirectory(prefix="qgf-pictures-") as folder:  # what is mapped stays until it is let go
        return dataset.pictures.opened(Path(folder))


def load_chunks(path: Path, manifest: Manifest) -> Chunks:
    """Read every chunk of a data set.

    Args:
        path: OGBench's format.
        manifest: Says how long a chunk is, and what an observation and an action are.

    Raises:
        DatasetError: The data set is unsound, or not of the bundle's sizes.
    """
    dataset: Dataset = load_dataset(path, bounded=False)
    sizes = dataset.observations.shape[1], dataset.actions.shape[1]
    expected = manifest.observation_size, manifest.action_size
    if sizes != expected:
        raise DatasetError(
            f"{path} holds observations and actions of sizes {sizes}; bundle {manifest.name} needs {expected}"
        )
    dataset = as_seen(dataset, manifest, str(path))
    starts, seen = dataset.chunk_starts(manifest.horizon), open_pictures(dataset)
    actions = chunk_actions(starts, dataset.actions, manifest.horizon)
    pictures = None if seen is None else Pictures(seen.cameras, seen.rows[starts])
    return Chunks(dataset.observations[starts], actions, pictures)


def load_states(path: Path, manifest: Manifest, count: int, seed: int) -> tuple[Chunks, Chunks]:
    """Return chunks of states drawn from a data set, and the chunks to look for neighbours in.

    States are drawn from the validation set beside the data set where there is one, so that their own action is not
    among the neighbours'; else from the data set, and left out of the neighbours.

    Args:
        path: OGBench's format.
        manifest: Of the bundle.
        count: States to draw.
        seed: Of the draw.

    Raises:
        DatasetError: See `load_chunks` and `Chunks.split`.
    """
    chunks = load_chunks(path, manifest)
    validation = validation_path(path)
    if validation.is_file():
        return load_chunks(validation, manifest).split(count, seed)[0], chunks
    return chunks.split(count, seed)
