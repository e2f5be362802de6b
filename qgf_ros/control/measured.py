"""Where the robot is, in the units of its action, out of an observation vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import Manifest


class MeasuredValues:
    """Finds in an observation what the components of an action set or move.

    Args:
        manifest: The contract.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._nothing = np.full(manifest.action_size, np.nan)
        fields = {field.name: field for field in manifest.observation}
        ends = dict(zip(fields, np.cumsum([field.size for field in manifest.observation]).tolist()))
        self._found: list[tuple[int, int, float, float]] = []
        for i, action in enumerate(manifest.action):
            if action.measured is not None:
                field, component = fields[action.measured.field], action.measured.component
                newest = ends[field.name] - field.instant_size  # instant, which stands last
                offset = np.broadcast_to(field.offset, field.instant_size)[component]
                self._found.append((i, newest + component, field.scale, float(offset)))

    def __call__(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the measured values of an observation vector, float64 [A] in the units of the action; NaN if unknown."""
        values: NDArray[np.float64] = self._nothing.copy()
        for i, index, scale, offset in self._found:
            values[i] = float(vector[index]) / scale + offset
        return values
