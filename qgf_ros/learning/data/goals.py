"""Goals in hindsight: what a trajectory came to later is what it was to reach, and any state of the data may be asked for.

The rows of goals are drawn anew for every batch, as by OGBench's reference agents (their GCDataset and GCIQL's defaults):

    the policy    any later row of the chunk's own trajectory, all alike
    the critic    0.2  the row itself, which is what teaches it that nothing is left to do there
                  0.5  a later row of the trajectory, farther ahead by a geometric law of mean 1 / (1 - discount), at most
                       the last one
                  0.3  any row of the data set

A control step costs 1 until the goal is reached, so that a value is the discounted number of steps still to go, negative.

A goal is a whole row, and reached at that row; or, with `PartialGoal`, some fields of it, and reached wherever they are near.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.goal_fields import goal_columns

#: Shares of the critic's goals that are the row itself, and that are later in its trajectory.
CURRENT, LATER = 0.2, 0.5


@dataclass(frozen=True)
class PartialGoal:
    """Goals that say of some fields only what they are to be, such as where the objects are and not where the arm is.

    Attributes:
        blocks: For each field that a goal holds, in its order: its components in an observation, and how far they may be
            from the goal [norm, in the units of the data].
    """

    blocks: tuple[tuple[tuple[int, ...], float], ...]

    @classmethod
    def of_fields(cls, observation: Sequence[ObservationField], tolerances: Mapping[str, float]) -> PartialGoal:
        """Return that of the fields of an observation that are named, with how far each may be from the goal."""
        named = tolerances.items()
        return cls(tuple((tuple(goal_columns(observation, (name,)).tolist()), far) for name, far in named))

    @property
    def size(self) -> int:
        """Values of a goal G."""
        return sum(len(columns) for columns, _ in self.blocks)

    def of(self, observations: Tensor) -> Tensor:
        """Return what a goal would hold of observations [..., S]: [..., G]."""
        columns = [column for block, _ in self.blocks for column in block]
        return observations[..., columns]

    def reached(self, observations: Tensor, goals: Tensor) -> Tensor:
        """Return in which observations [..., S] everything is where goals [..., G] want it, bool [...]."""
        ends = np.cumsum([len(columns) for columns, _ in self.blocks]).tolist()
        apart = self.of(observations) - goals
        near = [
            torch.linalg.vector_norm(apart[..., end - len(columns) : end], dim=-1) <= tolerance
            for (columns, tolerance), end in zip(self.blocks, ends)
        ]
        return torch.stack(near).all(dim=0)

    def steps(self, observations: Tensor, rows: Tensor, goals: Tensor, horizon: int) -> Tensor:
        """Return after how many steps of its chunk each goal is reached first, int64 [N]; `horizon` where it is not.

        Args:
            observations: Of the data set [R, S].
            rows: First rows of the chunks, int64 [N].
            goals: [N, G].
            horizon: Chunk length H.
        """
        first = torch.full_like(rows, horizon)
        for step in reversed(range(horizon)):
            first = torch.where(self.reached(observations[rows + step], goals), step, first)
        return first


def later_rows(rows: Tensor, ends: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a later row of each trajectory, all alike.

    Args:
        rows: int64 [N].
        ends: Last rows of their trajectories, int64 [N], each behind its row.
        generator: Of the processor, whatever the device of the rows.

    Returns:
        int64 [N], in rows + 1 .. ends.
    """
    share = torch.rand(len(rows), generator=generator, dtype=torch.float64).to(rows.device)
    return rows + 1 + (share * (ends - rows)).long()


def mixed_rows(rows: Tensor, ends: Tensor, count: int, discount: float, generator: torch.Generator) -> Tensor:
    """Draw the critic's mixture of the row itself, a later one of its trajectory and any of the data set.

    Args:
        rows, ends, generator: As in `later_rows`.
        count: Rows of the data set R.
        discount: Per control step, below 1.

    Returns:
        int64 [N].
    """
    size = (len(rows),)
    kind = torch.rand(size, generator=generator).to(rows.device)
    ahead = torch.empty(size, dtype=torch.int64).geometric_(1.0 - discount, generator=generator).to(rows.device)
    anywhere = torch.randint(count, size, generator=generator).to(rows.device)
    goals = torch.where(kind < CURRENT + LATER, torch.minimum(rows + ahead, ends), anywhere)
    return torch.where(kind < CURRENT, rows, goals)


def goal_returns(distance: Tensor, horizon: int, discount: float) -> tuple[Tensor, Tensor]:
    """Return n-step returns and bootstrap factors of chunks under way to goals; see `dataset.chunk_returns`.

    Args:
        distance: From the first row of each chunk to its goal [rows], int64 [N]; a goal that does not lie ahead within the
            chunk, behind it or in another trajectory, is not reached.
        horizon: Chunk length H.
        discount: Discount per control step.

    Returns:
        -1 for every step before the goal, discounted, and discount^H, or 0 where the chunk reaches the goal; float32 [N].
    """
    reached = (distance >= 0) & (distance < horizon)
    steps = torch.where(reached, distance, horizon)
    powers = discount ** torch.arange(horizon + 1, dtype=torch.float64, device=distance.device)
    costs = torch.cat([powers.new_zeros(1), powers[:-1].cumsum(0)])
    return -costs[steps].float(), (powers[-1] * ~reached).float()
