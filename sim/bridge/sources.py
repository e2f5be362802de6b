"""What stands behind the bridge's topics: a simulated task or a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.extraction import Reading
from qgf_ros.control.vision.pictures import ImageReading
from qgf_sim.worlds.shift import NONE, Shift
from qgf_sim.worlds.shifted_environment import ShiftedEnvironment


@dataclass(frozen=True)
class WorldStep:
    """What one control step led to.

    Attributes:
        readings: One reading per topic; topics that drop out are missing.
        success: Whether the task is solved; None where nothing is controlled.
        done: Whether the episode is over.
    """

    readings: Mapping[str, Reading | ImageReading]
    success: bool | None
    done: bool


class World(Protocol):
    """A source of readings that takes commands."""

    def start(
        self, task: int, seed: int, shift: Shift = NONE, keyframe: str = ""
    ) -> Mapping[str, Reading | ImageReading]:
        """Begin an episode and return its first readings; topics that drop out are missing."""
        ...

    @property
    def goal(self) -> NDArray[np.float64]:
        """What the episode is to reach, an observation vector, float64 [S]."""
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

    @property
    def physics(self) -> tuple[Any, Any] | None:
        """MuJoCo's model and data of the present state; None where nothing is simulated."""
        ...

    def picture(self, width: int, height: int) -> NDArray[np.uint8]:
        """Return a picture of the present state, uint8 [height, width, 3]."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class SimulatedWorld:
    """OGBench tasks, in one environment, as building one takes a second.

    Args:
        name: Environment, such as ``cube-single``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._current: ShiftedEnvironment | None = None

    def start(
        self, task: int, seed: int, shift: Shift = NONE, keyframe: str = ""
    ) -> Mapping[str, Reading | ImageReading]:
        """Begin the episode of a seed and return its first readings.

        Args:
            task: Single-task number.
            seed: Of the episode and of its shift.
            shift: The domain shift.
            keyframe: Where the arm begins; see `ShiftedEnvironment.reset`.

        Raises:
            SimulationError: The task or the keyframe does not exist.
        """
        if self._current is None:
            self._current = ShiftedEnvironment(self._name, task)
        self._current.task, self._current.shift = task, shift
        return self._current.reset(seed, keyframe)

    @property
    def goal(self) -> NDArray[np.float64]:
        """OGBench's goal of the task in this episode, float64 [S]."""
        return self._environment.goal

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

    @property
    def physics(self) -> tuple[Any, Any]:
        """MuJoCo's model and data of the present state."""
        return self._environment.unwrapped.model, self._environment.unwrapped.data

    def picture(self, width: int, height: int) -> NDArray[np.uint8]:
        """Return a picture of the present state, uint8 [height, width, 3].

        Raises:
            SimulationError: No GL back end can be loaded.
        """
        return self._environment.render(width, height)

    def close(self) -> None:
        """Free the environment."""
        if self._current is not None:
            self._current.close()

    @property
    def _environment(self) -> ShiftedEnvironment:
        if self._current is None:
            raise RuntimeError("start an episode first")
        return self._current
