"""Trajectories of recorded rows, and the data set they make, by OGBench's keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.quaternions import with_one_sign
from qgf_ros.errors import RecordingError

Float = NDArray[np.float32]


@dataclass
class Trajectory:
    """Rows of one trajectory; its last row has no successor.

    Attributes:
        observations, actions, rewards: One entry per row.
        solved: Whether its last command solved the task.
    """

    observations: list[Float] = field(default_factory=list)
    actions: list[Float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    solved: bool = False

    def append(self, observation: Float, action: Float, reward: float) -> None:
        """Add a row."""
        self.observations.append(observation)
        self.actions.append(action)
        self.rewards.append(reward)


@dataclass
class Conversion:
    """Trajectories of one or more recordings, and what was left out of them.

    Attributes:
        trajectories: Of at least two rows each.
        left_out: Number of commands by reason.
        outcomes: Number of episodes whose outcome was recorded.
        inferred: Whether times of arrival had to tell which readings some command answers.
        clipped: Number of commands that are more than a normalised action can be, and are cut to it.
    """

    trajectories: list[Trajectory] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    outcomes: int = 0
    inferred: bool = False
    clipped: int = 0

    def align_quaternions(self, fields: Sequence[ObservationField]) -> None:
        """Give the quaternions of each field one sign, where the field does not know that of its data."""
        rows = [trajectory.observations for trajectory in self.trajectories]
        if rows:
            aligned = iter(with_one_sign(fields, np.concatenate(rows)))
            for trajectory in self.trajectories:
                trajectory.observations = [next(aligned) for _ in trajectory.observations]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the data set by OGBench's keys.

        Raises:
            RecordingError: There is no trajectory.
        """
        if not self.trajectories:
            reasons = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)
            raise RecordingError(
                f"there is no trajectory of two rows or more ({reasons or 'no commands'}); "
                "check the contract, its control rate and the topics"
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
