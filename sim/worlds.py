"""What stands behind the bridge's topics: a simulated task or a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.observation import Reading
from qgf_sim.environment import TaskEnvironment


@dataclass(frozen=True)
class WorldStep:
    """What one control step led to.

    Attributes:
        readings: One reading per topic.
        success: Whether the task is solved; None where nothing is controlled.
        done: Whether the episode is over.
    """

    readings: Mapping[str, Reading]
    success: bool | None
    done: bool


class World(Protocol):
    """A source of readings that takes commands."""

    def start(self, task: int, seed: int) -> Mapping[str, Reading]:
        """Begin an episode and return its first readings."""
        ...

    def step(self, command: NDArray[np.float64]) -> WorldStep:
        """Apply one command for one control period."""
        ...

    def has_episode(self, seed: int) -> bool:
        """Whether there is an episode of this seed."""
        ...

    def details(self) -> dict[str, Any]:
        """Return what to add to the outcome of the episode that just ended."""
        ...

    def picture(self, width: int, height: int) -> NDArray[np.uint8]:
        """Return a picture of the present state, uint8 [height, width, 3]."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class SimulatedWorld:
    """OGBench tasks. One environment per task is kept, as building one takes a second.

    Args:
        name: Environment, such as ``cube-single``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._environments: dict[int, TaskEnvironment] = {}
        self._current: TaskEnvironment | None = None

    def start(self, task: int, seed: int) -> Mapping[str, Reading]:
        """Begin the episode of a seed and return its first readings.

        Raises:
            SimulationError: The task does not exist.
        """
        if task not in self._environments:
            self._environments[task] = TaskEnvironment(self._name, task)
        self._current = self._environments[task]
        return self._current.reset(seed)

    def step(self, command: NDArray[np.float64]) -> WorldStep:
        """Apply one command, float64 [A] in the units of the action contract, for one control period."""
        step = self._environment.step(command)
        return WorldStep(step.readings, step.success, step.done)

    def has_episode(self, seed: int) -> bool:
        """Every seed has an episode."""
        return True

    def details(self) -> dict[str, Any]:
        """Nothing to add."""
        return {}

    def picture(self, width: int, height: int) -> NDArray[np.uint8]:
        """Return a picture of the present state, uint8 [height, width, 3].

        Raises:
            SimulationError: No GL back end can be loaded.
        """
        return self._environment.render(width, height)

    def close(self) -> None:
        """Free the environments."""
        for environment in self._environments.values():
            environment.close()

    @property
    def _environment(self) -> TaskEnvironment:
        if self._current is None:
            raise RuntimeError("start an episode first")
        return self._current
