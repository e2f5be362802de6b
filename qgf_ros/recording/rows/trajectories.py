"""Trajectories of recorded rows, and the data set they make, by OGBench's keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.quaternions import with_one_sign
from qgf_ros.errors import RecordingError
from qgf_ros.recording.rows.picture_rows import PictureRows
from qgf_ros.recording.rows.source import Source

Float = NDArray[np.float32]

#: Rows that are looked at to tell whether actions are observations, and the share of them that may differ.
_MOST_COMPARED, _DIFFERING = 10_000, 0.01


@dataclass
class Trajectory:
    """Rows of one trajectory; its last row has no successor.

    Attributes:
        observations, actions, rewards: One entry per row.
        pictures: Where what the cameras saw is; None without cameras.
        seen: Which of the rows of `pictures` each row's is; nothing without cameras.
        solved: Whether its last command solved the task.
    """

    observations: list[Float] = field(default_factory=list)
    actions: list[Float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    pictures: PictureRows | None = None
    seen: list[int] = field(default_factory=list)
    solved: bool = False

    def append(self, observation: Float, action: Float, reward: float, seen: Sequence[int] = ()) -> None:
        """Add a row; `seen` is the one number of what the cameras saw, or nothing."""
        self.observations.append(observation)
        self.actions.append(action)
        self.rewards.append(reward)
        self.seen += seen


@dataclass
class Conversion:
    """Trajectories of one or more recordings, and what was left out of them.

    Attributes:
        trajectories: Of at least two rows each.
        left_out: Number of commands by reason.
        outcomes: Number of episodes whose outcome was recorded.
        inferred: Whether times of arrival had to tell which readings some command answers.
        clipped: Number of commands that are more than a normalised action can be, and are cut to it.
        notes: A sentence for each thing about the recordings that whoever trains on them should know.
        damage: A sentence for each thing that could not be read of the recordings.
        measured: Topics that both a command and an observation were read from.
    """

    trajectories: list[Trajectory] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    outcomes: int = 0
    inferred: bool = False
    clipped: int = 0
    notes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    measured: set[str] = field(default_factory=set)

    def add(self, other: Conversion) -> None:
        """Take in what another recording gave."""
        self.trajectories += other.trajectories
        self.left_out.update(other.left_out)
        self.outcomes += other.outcomes
        self.inferred |= other.inferred
        self.clipped += other.clipped
        self.notes += other.notes
        self.damage += other.damage
        self.measured |= other.measured

    def align_quaternions(self, fields: Sequence[ObservationField]) -> None:
        """Give the quaternions of each field one sign, where the field does not know that of its data."""
        rows = [trajectory.observations for trajectory in self.trajectories]
        if rows:
            aligned = iter(with_one_sign(fields, np.concatenate(rows)))
            for trajectory in self.trajectories:
                trajectory.observations = [next(aligned) for _ in trajectory.observations]

    def notice_copies(self, source: Source) -> None:
        """Note where commands are what was measured; raises RecordingError where they are of the same topic, too."""
        fields = self._copied(source.observation, source.action)
        if not fields:
            return
        sentence = (
            f"every command on {source.command} is what is observed beside it as {', '.join(fields)}: it says where the robot "
            "is, not where it is to go, and a policy of such commands stands still; give the topic of what the robot was told, "
            "such as that of a leader's joints, as --command"
        )
        if self.measured:
            raise RecordingError(sentence)
        self.notes.append(sentence)

    def _copied(self, observation: Sequence[ObservationField], action: Sequence[ActionField]) -> list[str]:
        """Return the fields that commands are taken from, if each command that moves is what is observed beside it."""
        rows = [row for one in self.trajectories for row in zip(one.observations[:-1], one.actions[:-1])]
        rows = rows[:: len(rows) // _MOST_COMPARED + 1]
        if not rows:
            return []
        scales, offsets, names = [], [], []
        for block in observation:
            scales += [block.scale] * block.size
            offsets += np.tile(np.broadcast_to(block.offset, block.instant_size), block.history).tolist()
            names += [block.name] * block.size
        scale = np.where(np.array(scales) == 0.0, np.nan, scales)  # of which nothing is known any more
        seen = np.array([row[0] for row in rows], dtype=np.float64) / scale + offsets
        found: list[str] = []
        for i, component in enumerate(action):
            commands = np.array([row[1][i] for row in rows], dtype=np.float64) * component.scale + component.offset
            rounding = 1e-5 * (component.scale + abs(component.offset))
            if np.ptp(commands) > 100 * rounding:
                same = (np.abs(seen - commands[:, None]) <= rounding).mean(axis=0) >= 1.0 - _DIFFERING
                if not same.any():
                    return []
                found.append(names[int(np.flatnonzero(same)[0])])
        return list(dict.fromkeys(found))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the data set by OGBench's keys, but for what the cameras saw.

        Raises:
            RecordingError: There is no trajectory.
        """
        if not self.trajectories:
            reasons = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)
            raise RecordingError(
                f"there is no trajectory of two rows or more ({reasons or 'no commands'}); "
                f"check the contract, its control rate and the topics{explained_by([*self.notes, *self.damage])}"
            )
        lengths = [len(trajectory.actions) for trajectory in self.trajectories]
        rows = sum(lengths)
        ends = np.cumsum(lengths) - 1
        terminals = np.zeros(rows, dtype=bool)
        terminals[ends] = True
        masks = np.ones(rows, dtype=np.float32)
        for end, trajectory in zip(ends, self.trajectories):
            if trajectory.solved:
                masks[end - 1 : end + 1] = 0.0
        return {
            "observations": np.concatenate([trajectory.observations for trajectory in self.trajectories]),
            "actions": np.concatenate([trajectory.actions for trajectory in self.trajectories]),
            "terminals": terminals,
            "rewards": np.concatenate([trajectory.rewards for trajectory in self.trajectories]).astype(np.float32),
            "masks": masks,
        }

    def seen(self, camera: str) -> Iterator[bytes]:
        """Yield what a camera saw at every row, uint8 [h, w, 3] each, a few rows at a time."""
        for trajectory in self.trajectories:
            if trajectory.pictures is not None:
                yield from trajectory.pictures.read(camera, trajectory.seen)


def explained_by(sentences: Sequence[str]) -> str:
    """Return what follows a complaint where something is known that may be its cause; nothing where nothing is."""
    most = 5
    more = f"; and {len(sentences) - most} more" if len(sentences) > most else ""
    return f"; the cause may be: {'; '.join(sentences[:most])}{more}" if sentences else ""
