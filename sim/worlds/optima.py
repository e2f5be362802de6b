"""Whether the best that a task's reward allows ends with the task solved.

The dense reward is minus the number w of objects that are wrong. To live with w of them for ever costs w / (1 - g) at the
discount g, 100 for each at 0.99. Where an object must be undone to set another right, the way there may cost more, and the
best policy then rests with the task unsolved: no critic that is right will lead further. The sparse reward, -1 until all is
done, has the fewest steps as its best, at any discount.

A task is a graph of sub-tasks: press a button, move the drawer or the window, carry the cube. Each takes as long as it takes
OGBench's oracles, the state stays what it was meanwhile, and waiting is allowed. Value iteration on it is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import Reward, family_of

#: Control steps that OGBench's oracles take for a sub-task, measured over episodes of `qgf generate`.
BUTTON, DRAWER, WINDOW, CUBE, PRESS = 34, 36, 36, 88, 32
#: Buttons of the largest puzzle whose states are gone through.
MOST_BUTTONS = 16
#: Where the cube of a scene may be.
_START, _GOAL, _IN_DRAWER = range(3)


@dataclass(frozen=True)
class SubTasks:
    """The graph of a task.

    Attributes:
        start: Number of the state that the task begins in.
        wrong: Objects that are wrong in each state [N].
        after: State after each sub-task [N, M]; the same where it cannot be done.
        steps: How long it takes [N, M] [control steps].
    """

    start: int
    wrong: NDArray[np.int64]
    after: NDArray[np.int64]
    steps: NDArray[np.int64]

    def left_wrong(self, discount: float) -> int:
        """Return how many objects are wrong where the best policy for the dense reward comes to rest, 0 if it solves the task.

        Args:
            discount: Per control step, in (0, 1].
        """
        if discount == 1.0:
            return 0  # to wait costs without end
        rest = -self.wrong / (1.0 - discount)
        power = discount**self.steps
        cost = -self.wrong[:, None] * (1.0 - power) / (1.0 - discount)
        value = rest
        while True:
            best = np.maximum(rest, (cost + power * value[self.after]).max(axis=1))
            if np.allclose(best, value, rtol=0.0, atol=1e-9):
                break
            value = best
        state = self.start
        while value[state] > rest[state] + 1e-6:
            state = int(self.after[state, (cost[state] + power[state] * value[self.after[state]]).argmax()])
        return int(self.wrong[state])


def unsolved(name: str, tasks: Iterable[int], discount: float, reward: Reward) -> dict[int, int]:
    """Return the tasks that the best policy for a reward does not solve, and how many objects it leaves wrong.

    Args:
        name: Environment, such as ``scene``.
        tasks: Single-task numbers.
        discount: Per control step.
        reward: The reward.

    Raises:
        SimulationError: The environment or a task does not exist.
    """
    family = family_of(name)
    # A cube that is where it belongs stays there; of larger puzzles nobody has gone through all states.
    if reward == "sparse" or not 0 < family.buttons <= MOST_BUTTONS:
        return {}
    graph = scene_task if family.slides else puzzle_task
    found = {task: graph(info).left_wrong(discount) for task, info in _task_infos(name, tasks).items()}
    return {task: wrong for task, wrong in found.items() if wrong}


def _task_infos(name: str, tasks: Iterable[int]) -> dict[int, Mapping[str, Any]]:
    """Return what OGBench says of each task."""
    numbers = tuple(tasks)
    env = TaskEnvironment(name, numbers[0])
    try:
        for task in numbers:
            env.task = task
        return {task: env.gymnasium_env.unwrapped.task_infos[task - 1] for task in numbers}
    finally:
        env.close()


def puzzle_task(info: Mapping[str, Any]) -> SubTasks:
    """Return the graph of a puzzle: a press turns a button and its neighbours in row and column over.

    Args:
        info: What OGBench says of the task.
    """
    begin, goal = (np.asarray(info[f"{which}_button_states"]).ravel() for which in ("init", "goal"))
    count = len(begin)
    columns = {9: 3, 16: 4}[count]
    place = np.arange(count)
    row, column = place // columns, place % columns
    near = np.abs(row[:, None] - row) + np.abs(column[:, None] - column) <= 1
    presses = near @ (1 << place)
    states = np.arange(1 << count)
    wrong = ((states[:, None] ^ int(goal @ (1 << place))) >> place & 1).sum(axis=1)
    after = states[:, None] ^ presses
    return SubTasks(int(begin @ (1 << place)), wrong, after, np.full(after.shape, PRESS))


def scene_task(info: Mapping[str, Any]) -> SubTasks:
    """Return the graph of a scene: buttons lock drawer and window, and the cube gets into the drawer while that is open.

    Args:
        info: What OGBench says of the task.
    """
    init, goal = info["init"], info["goal"]
    cube = np.asarray(goal["block_xyzs"])[0]
    cube_goal = _IN_DRAWER if cube[2] > 0.05 else _GOAL
    if np.allclose(np.asarray(init["block_xyzs"])[0], cube):
        cube_goal = _START

    def parts(of: Mapping[str, Any]) -> tuple[int, int, int, int]:
        first, second = (int(state) for state in np.asarray(of["button_states"]))
        return first, second, int(of["drawer_pos"] < -0.08), int(of["window_pos"] > 0.1)

    states = [(place, *rest) for place in range(3) for rest in product((0, 1), repeat=4)]
    number = {state: index for index, state in enumerate(states)}
    wanted = parts(goal)
    wrong, after, steps = [], [], []
    for place, first, second, drawer, window in states:
        # In a drawer that is not where it belongs, the cube is not either.
        right = place == cube_goal and (place != _IN_DRAWER or drawer == wanted[2])
        wrong.append(sum(a != b for a, b in zip((first, second, drawer, window), wanted)) + (not right))
        held = place == _IN_DRAWER and not drawer
        ways = [
            (BUTTON, (place, 1 - first, second, drawer, window)),
            (BUTTON, (place, first, 1 - second, drawer, window)),
            (DRAWER, (place, first, second, 1 - drawer if first else drawer, window)),
            (WINDOW, (place, first, second, drawer, 1 - window if second else window)),
            *((CUBE, (place if held else to, first, second, drawer, window)) for to in (_START, _GOAL)),
            (CUBE, (_IN_DRAWER if drawer else place, first, second, drawer, window)),
        ]
        after.append([number[state] for _, state in ways])
        steps.append([time for time, _ in ways])
    begin = (_START, *parts(init))
    return SubTasks(number[begin], np.array(wrong), np.array(after), np.array(steps))
