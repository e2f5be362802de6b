"""What the best policy for the dense reward comes to: known tasks, and arithmetic on small graphs."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ogbench", reason="the tasks are OGBench's, which needs the sim extra")

from qgf_sim.worlds import optima
from qgf_sim.worlds.optima import SubTasks, unsolved

TASKS = (1, 2, 3, 4, 5)
#: What the documentation says of it.
COMMITTED = json.loads((Path(__file__).resolve().parents[3] / "docs" / "results" / "optima.json").read_text())["optima"]


@pytest.mark.parametrize("known", COMMITTED, ids=lambda known: f"{known['environment']}-{known['discount']}")
def test_where_the_dense_reward_rests_is_as_committed_and_the_sparse_one_never_does(known: dict[str, Any]) -> None:
    name, discount = known["environment"], known["discount"]
    left = {int(task): wrong for task, wrong in known["left_wrong"].items()}
    assert unsolved(name, TASKS, discount, "dense") == left
    assert unsolved(name, TASKS, discount, "sparse") == {}


def test_the_arithmetic_of_scene_task_4() -> None:
    """After the button, 1 object is wrong; the drawer is opened, the cube put in (2 wrong meanwhile), the drawer shut."""
    for discount, solved in ((0.99, False), (0.995, True)):

        def cost(wrong: int, steps: int, g: float = discount) -> float:
            return wrong * (1.0 - g**steps) / (1.0 - g)

        on = cost(1, optima.DRAWER) + discount**optima.DRAWER * cost(2, optima.CUBE + optima.DRAWER)
        assert (on < 1.0 / (1.0 - discount)) == solved
        assert (unsolved("scene", [4], discount, "dense") == {}) == solved


@given(data=st.data())
def test_value_iteration_finds_the_best_of_all_ways(data: st.DataObject) -> None:
    """On small random graphs, against every sequence of sub-tasks that visits no state twice."""
    count = data.draw(st.integers(2, 4))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    wrong = np.concatenate([[0], random.integers(1, 4, count - 1)])
    after, steps = random.integers(0, count, (count, 2)), random.integers(1, 40, (count, 2))
    discount = data.draw(st.sampled_from([0.9, 0.95, 0.99]))
    best, rests = -np.inf, set()
    for length in range(count):
        for way in product(range(2), repeat=length):
            state, value, power = 1, 0.0, 1.0
            for choice in way:
                factor = discount ** steps[state, choice]
                value -= power * wrong[state] * (1.0 - factor) / (1.0 - discount)
                state, power = after[state, choice], power * factor
            value -= power * wrong[state] / (1.0 - discount)
            if value > best + 1e-5:
                best, rests = value, {int(wrong[state])}
            elif value > best - 1e-5:
                rests.add(int(wrong[state]))
    assert SubTasks(1, wrong, after, steps).left_wrong(discount) in rests


def test_without_discount_to_wait_costs_without_end() -> None:
    assert unsolved("scene", TASKS, 1.0, "dense") == {}
