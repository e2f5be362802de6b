"""Which outcomes of methods can be compared: the training seeds and tasks that all of them have, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Of one method, training seed and task; see `qgf_sim.rollouts.method_trials.record_of`.
Record = Mapping[str, Any]


def reported(record: Record) -> list[bool]:
    """Return the successes of a record on the held-out seeds."""
    return list(record["reporting"]["outcomes"]["success"])


@dataclass(frozen=True)
class Cells:
    """Records by their place.

    Attributes:
        records: By family, method, training seed and task.
    """

    records: Mapping[tuple[str, str, int, int], Record]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Cells:
        """Return records by their place."""
        keys = ("family", "method", "training_seed", "task")
        return cls({tuple(record[key] for key in keys): record for record in records})

    @property
    def families(self) -> tuple[str, ...]:
        """Families, in the order of the records."""
        return tuple(dict.fromkeys(family for family, _, _, _ in self.records))

    def methods_in(self, families: Sequence[str]) -> tuple[str, ...]:
        """Return the methods that have run in every one of some families, in the order of the records."""
        found = dict.fromkeys(method for family, method, _, _ in self.records if family in families)
        return tuple(method for method in found if all(self.places(family, [method])[0] for family in families))

    def places(self, family: str, methods: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the training seeds and tasks of a family that all of some methods have run on.

        The tasks are those of the first such training seed; another one counts once it has all of them.
        """
        by_method = [
            {(seed, task) for other, name, seed, task in self.records if (other, name) == (family, method)}
            for method in methods
        ]
        both = set.intersection(*by_method)
        if not both:
            return (), ()
        first = min(both)[0]
        tasks = tuple(sorted(task for seed, task in both if seed == first))
        seeds = sorted({seed for seed, _ in both})
        return tuple(seed for seed in seeds if all((seed, task) in both for task in tasks)), tasks

    def shared(self, families: Sequence[str], methods: Sequence[str]) -> list[list[Record]] | None:
        """Return the records [N][K] of the first method on what all of them have run on; None where there is nothing.

        Families have tasks of their own, side by side, and as many training seeds: the first ones, as many as all have.
        """
        places = [self.places(family, methods) for family in families]
        count = min(len(seeds) for seeds, _ in places)
        if not count or not all(tasks for _, tasks in places):
            return None
        return [
            [
                self.records[family, methods[0], seeds[row], task]
                for family, (seeds, tasks) in zip(families, places)
                for task in tasks
            ]
            for row in range(count)
        ]


def outcomes_of(
    rows: Sequence[Sequence[Record]], successes: Callable[[Record], Sequence[bool] | None] = reported
) -> NDArray[np.float64] | None:
    """Return outcomes [N, K, E] of records [N][K]; None where one of them has none."""
    found = [[successes(record) for record in row] for row in rows]
    if any(cell is None for row in found for cell in row):
        return None
    return np.asarray(found, dtype=np.float64)
