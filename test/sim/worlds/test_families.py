"""The table of families: its contracts, and the documentation and help that repeat it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="environments need the sim extra")

import gymnasium
import mujoco

from qgf_ros.commands.generate import generate
from qgf_ros.control.extraction import JointReading, extract
from qgf_ros.errors import SimulationError
from qgf_sim.worlds.families import ENVIRONMENTS, FAMILIES, VISUAL, VISUAL_ENVIRONMENTS, family_of, observation_fields

PAGE = Path(__file__).resolve().parents[3] / "docs" / "environments.md"


def test_every_family_is_one_that_ogbench_registers() -> None:
    registered = {
        name.removesuffix("-singletask-task1-v0")
        for name in gymnasium.registry
        if name.endswith("-singletask-task1-v0") and name.removeprefix(VISUAL).startswith(("cube", "scene", "puzzle"))
    }
    assert set(FAMILIES) == registered
    assert (*ENVIRONMENTS, *VISUAL_ENVIRONMENTS) == tuple(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_contract_names_each_block_once_and_takes_it_from_a_stamped_message(name: str) -> None:
    fields = observation_fields(name)
    assert len({field.name for field in fields}) == len(fields)
    types = {field.topic: field.message_type for field in fields}
    assert all(types[field.topic] == field.message_type for field in fields)
    assert set(types.values()) <= {
        "sensor_msgs/msg/JointState",
        "geometry_msgs/msg/PoseStamped",
        "geometry_msgs/msg/WrenchStamped",
    }


@pytest.mark.parametrize("state", [0.0, 1.0])
def test_the_state_of_a_button_becomes_ogbench_own_pair(state: float) -> None:
    fields = {field.name: field for field in observation_fields("scene")}
    reading = JointReading(("button_0", "button_1"), np.array([1.0 - state, state]), np.empty(0), np.empty(0))
    pair = [extract(fields[f"button_1_is_{value}"], reading)[0] for value in (0, 1)]
    assert pair == np.eye(2)[int(state)].tolist()


def test_an_unknown_environment_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SimulationError, match="cube-dozen is unknown; the known ones are cube-single, .*puzzle-4x6"):
        family_of("cube-dozen")


def test_the_help_of_generate_names_every_environment() -> None:
    described = re.search(r"environment: ([^.]*)\.", generate.__doc__ or "")
    assert described is not None
    assert tuple(re.findall(r"[a-z]+(?:-\w+)?", described[1].replace(" or ", " "))) == ENVIRONMENTS


def test_the_documentation_says_of_each_family_what_the_code_says() -> None:
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in PAGE.read_text("utf-8").splitlines()]
    documented = {row[0]: row[1:] for row in rows if row[0] in FAMILIES and len(row) == 7}
    expected = {}
    for name, family in FAMILIES.items():
        fields = observation_fields(name)
        objects = [f"{family.cubes} cube" + "s" * (family.cubes > 1)] * bool(family.cubes)
        objects += [f"{family.buttons} buttons"] * bool(family.buttons) + [slide.name for slide in family.slides]
        size, topics = sum(field.size for field in fields), len({field.topic for field in fields})
        limits = {gymnasium.spec(f"{name}-singletask-task{task}-v0").max_episode_steps for task in range(1, 6)}
        seen = " and a camera" if family.visual else ""
        counts = [str(size), f"{topics}{seen}", "1 to 5", *map(str, limits), f"{family.random_actions:g}"]
        expected[name] = [", ".join(objects), *counts]
    assert documented == expected


@pytest.mark.parametrize("name", ["cube-double", "scene", "puzzle-3x3"])
def test_a_goal_without_the_arm_is_ogbench_s_own_and_is_reached_as_its_success_says(name: str) -> None:
    torch = pytest.importorskip("torch", reason="goals are drawn by the train extra")
    from qgf_ros.learning.data.goals import PartialGoal
    from qgf_sim.worlds.environment import TaskEnvironment

    env, fields, family = TaskEnvironment(name, 2), observation_fields(name), family_of(name)
    goals = PartialGoal.of_fields(fields, family.object_goal)
    random, found = np.random.default_rng(5), set()
    try:
        env.reset(1)
        raw = env.unwrapped
        for _ in range(40):
            place_near_goal(raw, random)
            own = goals.of(torch.from_numpy(env.observation()))
            np.testing.assert_array_equal(own.numpy(), raw.compute_oracle_observation())
            wanted = goals.of(torch.from_numpy(env.goal))
            solved = all(np.hstack([np.ravel(part) for part in raw._compute_successes()]))
            assert bool(goals.reached(torch.from_numpy(env.observation()), wanted)) == solved
            found.add(solved)
    finally:
        env.close()
    assert found == {True, False}


def place_near_goal(raw: Any, random: np.random.Generator) -> None:
    """Put each object where OGBench's task wants it, or just as often so far off that it is not there."""

    def off() -> float:
        return float(random.choice([0.0, 0.02, 0.02, 0.06]) * random.choice([-1.0, 1.0]))

    data = raw._data
    for i, mocap in enumerate(getattr(raw, "_cube_target_mocap_ids", [])):
        data.joint(f"object_joint_{i}").qpos[:3] = data.mocap_pos[mocap] + [off(), 0.0, 0.0]
    if hasattr(raw, "_target_button_states"):
        flipped = random.random(len(raw._target_button_states)) < 0.05
        raw._cur_button_states = np.where(flipped, 1 - raw._target_button_states, raw._target_button_states)
    if hasattr(raw, "_target_drawer_pos"):
        data.joint("drawer_slide").qpos[0] = raw._target_drawer_pos + off()
        data.joint("window_slide").qpos[0] = raw._target_window_pos + off()
    mujoco.mj_forward(raw._model, data)
