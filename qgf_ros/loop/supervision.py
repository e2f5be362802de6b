"""What the node does about its own faults."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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
    """

    deadline: float | None = math.inf
    misses: int = 3
    timeout: float | None = math.inf
    on_fault: str = "hold"

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
RECOMMENDED_SUPERVISION = Supervision(deadline=None, timeout=None)
