"""Environments that are copies of one made before, for tests of what is done with environments.

A copy takes a tenth of the time, and runs the same episodes: `test_environment.py`, whose environments are new ones, holds
`TaskEnvironment.copy` to that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from qgf_sim.worlds import environment
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import VISUAL

#: Each holds some 100 MB.
MOST = 4
_ready: dict[tuple[str, int], TaskEnvironment] = {}
_as_they_are = environment._make


@contextmanager
def ready_environments() -> Iterator[None]:
    """Let this process make each kind of environment once, and copy it from then on; one that draws is made each time."""
    begin = TaskEnvironment.__init__

    def begin_as_copy(self: TaskEnvironment, name: str, task: int) -> None:
        steps = getattr(environment._make, "steps", 0)
        usual = environment._make is _as_they_are or steps
        if name.startswith(VISUAL) or not usual or (name, steps) not in _ready:
            begin(self, name, task)
            if name.startswith(VISUAL) or not usual:
                return
            first = TaskEnvironment.__new__(TaskEnvironment)
            vars(first).update(vars(self))
            first.reset(0)  # compiles
            if len(_ready) == MOST:
                del _ready[next(iter(_ready))]
            _ready[name, steps] = first
        self.name = name
        self._check_task(task)
        vars(self).update(vars(TaskEnvironment.copy(_ready[name, steps])))
        self.goal, self.task = np.zeros(0), task

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskEnvironment, "__init__", begin_as_copy)
        yield
