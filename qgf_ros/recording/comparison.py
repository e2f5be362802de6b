"""What a bundle would have commanded beside what was commanded: tick by tick, and in sum."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import Manifest


@dataclass(frozen=True)
class Replayed:
    """One recorded tick, answered again.

    Attributes:
        stamp: Of the observation [ns].
        recorded, replayed: Commands, float64 [A].
        causes: What was another than in the recorded run.
    """

    stamp: int
    recorded: NDArray[np.float64]
    replayed: NDArray[np.float64]
    causes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the commands are the same bits."""
        return bool(np.array_equal(self.recorded, self.replayed))


@dataclass
class Replay:
    """The outcome of a replay.

    Attributes:
        manifest: Of the bundle that was replayed.
        ticks: What could be replayed.
        not_replayed: Number of recorded ticks by the reason why they could not be.
        remarks: What limits the comparison as a whole.
    """

    manifest: Manifest
    ticks: list[Replayed] = field(default_factory=list)
    not_replayed: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the outcome as JSON has it."""
        different = [tick for tick in self.ticks if not tick.same]
        causes = Counter(", ".join(tick.causes) for tick in different)
        return {
            "bundle": self.manifest.name,
            "ticks": len(self.ticks) + sum(self.not_replayed.values()),
            "identical": len(self.ticks) - len(different),
            "different": len(different),
            "not_replayed": dict(self.not_replayed),
            "causes": dict(causes),
            "first_difference": different[0].stamp if different else None,
            "dimensions": self._dimensions(),
            "remarks": self.remarks,
        }

    def _dimensions(self) -> dict[str, dict[str, Any]]:
        """Return the differences of each command component over all replayed ticks."""
        if not self.ticks:
            return {}
        distances = np.abs([tick.replayed - tick.recorded for tick in self.ticks])
        return {
            action.name: {
                "unit": action.unit,
                "different": int((column > 0).sum()),
                "mean": float(column.mean()),
                "p99": float(np.percentile(column, 99)),
                "largest": float(column.max()),
            }
            for action, column in zip(self.manifest.action, distances.T)
        }
