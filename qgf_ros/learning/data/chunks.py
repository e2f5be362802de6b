"""Action chunks of a data set as tensors on the device, and the batches drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qgf_ros.learning.data.dataset import Dataset, Float, chunk_actions, chunk_returns
from qgf_ros.learning.data.goals import PartialGoal, goal_returns, later_rows, mixed_rows
from qgf_ros.learning.data.picture_files import Pictures


@dataclass(frozen=True)
class Batch:
    """Chunks of one update.

    Attributes:
        policy_s: What the policy sees [N, S]; it differs from s by its goals only.
        s: Observations [N, S].
        action: Flattened chunks [N, C], in [-1, 1].
        next_s: Observations after the chunk [N, S].
        returns, bootstraps: n-step return and discounted mask per task [K, N].
        draws: What the algorithm drew for this batch, by name.
        pictures: What the cameras saw beside s, uint8 [N, h, w, 3] by name; none where they are not trained on.
        next_pictures: The same beside next_s; none where nothing looks ahead.
    """

    policy_s: Tensor
    s: Tensor
    action: Tensor
    next_s: Tensor
    returns: Tensor
    bootstraps: Tensor
    draws: Mapping[str, Tensor]
    pictures: Mapping[str, Tensor] = field(default_factory=dict)
    next_pictures: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ChunkData:
    """Every chunk of a data set, resident on the device.

    Attributes:
        observations: [R, S], all rows.
        starts: First row of each chunk [B].
        ends: Last row of its trajectory [B].
        actions: Flattened chunks [B, C].
        returns, bootstraps: n-step return and discounted mask per task [K, B]; K = 0 where they follow from the goals.
        horizon: Actions per chunk H.
        discount: Per control step.
        goal: What goals hold; None where they are whole observations, or there are none.
        pictures: Those of the rows, on disk; None where they are not trained on.
        looks_ahead: Whether those after each chunk are read, too.
    """

    observations: Tensor
    starts: Tensor
    ends: Tensor
    actions: Tensor
    returns: Tensor
    bootstraps: Tensor
    horizon: int
    discount: float
    goal: PartialGoal | None = None
    pictures: Pictures | None = None
    looks_ahead: bool = False

    @classmethod
    def build(
        cls,
        dataset: Dataset,
        rewards: Mapping[str, tuple[Float, Float]],
        horizon: int,
        discount: float,
        device: torch.device,
        goal: PartialGoal | None = None,
        pictures: Pictures | None = None,
        looks_ahead: bool = False,
    ) -> ChunkData:
        """Cut a data set into chunks.

        Args:
            dataset: Trajectories.
            rewards: Rewards and masks [R] of each critic, by its name.
            horizon: Actions per chunk H.
            discount: Per control step.
            device: Where the data lives.
            goal: What goals hold, as far as there are any; None for whole observations.
            pictures: Those of its rows, where they are trained on.
            looks_ahead: Whether those after each chunk are, too.

        Raises:
            DatasetError: No trajectory is long enough.
        """

        def tensor(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        starts = dataset.chunk_starts(horizon)
        ends = dataset.trajectory_ends[np.searchsorted(dataset.trajectory_ends, starts)]
        per_task = [chunk_returns(starts, r, m, horizon, discount) for r, m in rewards.values()]
        returns, bootstraps = np.array(per_task, np.float32).reshape(-1, 2, len(starts)).swapaxes(0, 1)
        return cls(
            observations=tensor(dataset.observations),
            starts=tensor(starts),
            ends=tensor(ends),
            actions=tensor(chunk_actions(starts, dataset.actions, horizon)),
            returns=tensor(returns),
            bootstraps=tensor(bootstraps),
            horizon=horizon,
            discount=discount,
            goal=goal,
            pictures=pictures,
            looks_ahead=looks_ahead,
        )

    @property
    def goal_size(self) -> int:
        """Values of a goal."""
        return self.observations.shape[1] if self.goal is None else self.goal.size

    def batch(self, index: Tensor, draws: Mapping[str, Tensor]) -> Batch:
        """Return the chunks of the numbers `index` [N] with what was drawn for them."""
        rows = self.starts[index]
        s = self.observations[rows]
        return Batch(
            policy_s=s,
            s=s,
            action=self.actions[index],
            next_s=self.observations[rows + self.horizon],
            returns=self.returns[:, index],
            bootstraps=self.bootstraps[:, index],
            draws=draws,
            pictures=self._seen(rows),
            next_pictures=self._seen(rows + self.horizon) if self.looks_ahead else {},
        )

    def _seen(self, rows: Tensor) -> dict[str, Tensor]:
        if self.pictures is None:
            return {}
        taken = self.pictures.take(rows.cpu().numpy())
        return {name: torch.from_numpy(frames).to(rows.device) for name, frames in taken.items()}

    def batch_with_goals(self, index: Tensor, draws: Mapping[str, Tensor], generator: torch.Generator) -> Batch:
        """Return a batch whose observations end with goals, and whose rewards are those of going there [1, N].

        Args:
            index, draws: As in `batch`.
            generator: Of the processor; the goals are drawn from it.
        """
        batch = self.batch(index, draws)
        rows, ends = self.starts[index], self.ends[index]
        policy_goals = self.observations[later_rows(rows, ends, generator)]
        goal_rows = mixed_rows(rows, ends, len(self.observations), self.discount, generator)
        goals, distance = self.observations[goal_rows], goal_rows - rows
        if self.goal is not None:
            policy_goals, goals = self.goal.of(policy_goals), self.goal.of(goals)
            distance = self.goal.steps(self.observations, rows, goals, self.horizon)
        returns, bootstraps = goal_returns(distance, self.horizon, self.discount)
        return replace(
            batch,
            policy_s=torch.cat([batch.s, policy_goals], dim=1),
            s=torch.cat([batch.s, goals], dim=1),
            next_s=torch.cat([batch.next_s, goals], dim=1),
            returns=returns[None],
            bootstraps=bootstraps[None],
        )
