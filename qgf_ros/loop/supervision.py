"""What the node does about its own faults, and about a start that was refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.expectation import PLAUSIBLE_RANGE
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.observation import MeasuredValues
from qgf_ros.errors import StartError

#: The watchdog waits at least this long [s] where nobody says how long.
SHORTEST_TIMEOUT = 0.5


@dataclass(frozen=True)
class Supervision:
    """How inference and threads are watched, and what a fault leads to.

    Attributes:
        deadline: An inference that takes longer [s] is late; None for as long as a chunk lasts.
        misses: Late chunks in a row after which less is inferred.
        timeout: Longest wait of an observation for its answer [s]; None for what `misses` late inferences take.
        on_fault: How commanding ends at a fault: "hold", "decelerate" or "stop_publishing".
        plausible_range: How far from the median of the training data an observed value is still plausible [widths of the
            data]; infinity for any distance.
        start_retry_distance: How far the robot must have moved before a start that was refused is tried again [shares of
            max_start_jump].
    """

    deadline: float | None = math.inf
    misses: int = 3
    timeout: float | None = math.inf
    on_fault: str = "hold"
    plausible_range: float = math.inf
    start_retry_distance: float = 0.2

    def in_simulated_time(self) -> Supervision:
        """Return the same with no limit where nobody said one: a simulated world waits for its commands."""
        return replace(
            self,
            deadline=math.inf if self.deadline is None else self.deadline,
            timeout=math.inf if self.timeout is None and self.deadline is None else self.timeout,
        )

    def longest_wait(self, deadline: float) -> float:
        """Return how long [s] an observation may wait for its answer, where an inference may take `deadline` [s]."""
        return max(SHORTEST_TIMEOUT, self.misses * deadline) if self.timeout is None else self.timeout


#: Nothing is ever late, and a fault is a hold.
UNSUPERVISED = Supervision()
#: The limits that suit the bundle.
RECOMMENDED_SUPERVISION = Supervision(deadline=None, timeout=None, plausible_range=PLAUSIBLE_RANGE)


class RefusedStart:
    """A start that was refused stays so: each inference draws other noise, and one would pass by luck.

    Args:
        manifest: The contract.
        distance: How far the robot must have moved before it is tried again [shares of max_start_jump].
        vector: The observation that it was refused at, float32 [S].
        consents: `CommandGate.consents` at that time.
        error: Why.

    Attributes:
        reason: Why, and until when.
    """

    def __init__(
        self, manifest: Manifest, distance: float, vector: NDArray[np.float32], consents: int, error: StartError
    ) -> None:
        self._measured = MeasuredValues(manifest)
        self._place = self._measured(vector)
        self._step = distance * np.array([field.max_start_jump or np.inf for field in manifest.action])
        self._consents = consents
        self.reason = f"{error}; it is tried again once the robot has moved, or after ~/resume"

    def stands(self, vector: NDArray[np.float32], consents: int) -> bool:
        """Whether the robot, as measured in `vector` [S], is where it was, and nobody has consented since."""
        moved = np.abs(self._measured(vector) - self._place) >= self._step
        return consents == self._consents and not moved.any()
