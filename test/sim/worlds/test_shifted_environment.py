"""A shifted environment is another simulation as far as asked, and the plain one again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="environments need the sim extra")

import mujoco

from qgf_ros.errors import SimulationError
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.shift import NONE, Shift
from qgf_sim.worlds.shifted_environment import KEYFRAMES, ShiftedEnvironment

ALL = Shift(0.01, 1, 0.1, 2, 0.5, 3.0, 1.2, 0.02)
DOWN = np.array([0.01, 0.02, -0.05, 0.1, 1.0])


@pytest.fixture(scope="module", params=["cube-single", pytest.param("scene", marks=pytest.mark.slow)])
def env(request: pytest.FixtureRequest) -> Iterator[ShiftedEnvironment]:
    env = ShiftedEnvironment(request.param, 2)
    env.reset(0)
    yield env
    env.close()


def episode(env: TaskEnvironment, seed: int, steps: int = 12) -> bytes:
    """Every bit of what an episode publishes."""
    published = [env.reset(seed), *(env.step(DOWN).readings for _ in range(steps))]
    return b"".join(
        topic.encode() + b"".join(value.tobytes() for value in vars(reading).values() if isinstance(value, np.ndarray))
        for readings in published
        for topic, reading in readings.items()
    )


def model_bits(env: TaskEnvironment) -> dict[str, bytes]:
    model = env.unwrapped.model
    arrays = {name: getattr(model, name) for name in dir(model) if not name.startswith("__")}
    # Colours are how OGBench shows success.
    return {n: a.tobytes() for n, a in arrays.items() if isinstance(a, np.ndarray) and "rgba" not in n}


def test_without_a_shift_an_episode_is_that_of_the_plain_environment(env: ShiftedEnvironment) -> None:
    plain = TaskEnvironment(env.name, env.task)
    env.shift = NONE
    assert episode(env, 11) == episode(plain, 11)
    plain.close()


def test_a_shift_repeats_with_its_seed_and_leaves_no_trace(env: ShiftedEnvironment) -> None:
    env.shift = NONE
    expected, model = episode(env, 11), model_bits(env)
    env.shift = ALL
    shifted = episode(env, 11)
    assert shifted != expected
    assert episode(env, 12) != shifted
    assert episode(env, 11) == shifted
    env.shift = NONE
    assert episode(env, 11) == expected
    assert model_bits(env) == model


def test_shifts_of_one_environment_do_not_reach_another(env: ShiftedEnvironment) -> None:
    other = ShiftedEnvironment(env.name, env.task, ALL)
    shifted = episode(other, 5)
    env.shift = NONE
    expected = episode(env, 5)
    env.shift = ALL
    assert episode(env, 5) == shifted, "the first episode of an environment is one as any other"
    other.shift = NONE
    assert episode(other, 5) == expected
    other.close()


def test_masses_frictions_and_sizes_are_multiplied_and_the_robot_stays(env: ShiftedEnvironment) -> None:
    model, data = env.unwrapped.model, env.unwrapped.data
    env.shift = NONE
    env.reset(0)
    before = {
        name: getattr(model, name).copy() for name in ("body_mass", "geom_friction", "geom_size", "body_invweight0")
    }
    env.shift = Shift(mass_factor=3.0, friction_factor=0.5, size_factor=1.2)
    env.reset(0)
    cube, robot = model.body("object_0").id, model.body("ur5e/wrist_1_link").id
    geom = model.body_geomadr[cube]
    assert model.body_mass[cube] == pytest.approx(3.0 * before["body_mass"][cube])
    assert model.body_mass[robot] == before["body_mass"][robot]
    np.testing.assert_allclose(model.geom_friction, 0.5 * before["geom_friction"])
    np.testing.assert_allclose(model.geom_size[geom], 1.2 * before["geom_size"][geom])
    # A solid cube of side a: I = m a^2 / 6.
    side = 2 * model.geom_size[geom][0]
    np.testing.assert_allclose(model.body_inertia[cube], model.body_mass[cube] * side**2 / 6, rtol=1e-6)
    # What MuJoCo derives from the mass followed: the inverse mass seen by a force on the cube.
    assert model.body_invweight0[cube, 0] == pytest.approx(before["body_invweight0"][cube, 0] / 3.0, rel=1e-6)
    for _ in range(10):
        mujoco.mj_step(model, data, nstep=25)
    height = data.body("object_0").xpos[2]
    assert height == pytest.approx(side / 2, abs=5e-4), "the larger cube rests on the table"


def test_a_cube_of_less_friction_slides_further(env: ShiftedEnvironment) -> None:
    distances = []
    for factor in (0.2, 1.0):
        env.shift = Shift(friction_factor=factor)
        env.reset(0)
        data = env.unwrapped.data
        joint = data.joint("object_joint_0")
        start = joint.qpos[:2].copy()
        joint.qvel[:2] = [0.3, 0.0]
        mujoco.mj_step(env.unwrapped.model, data, nstep=150)
        distances.append(np.linalg.norm(joint.qpos[:2] - start))
    assert distances[0] > 2.0 * distances[1]


def test_the_camera_moves_and_stays_for_the_episode(env: ShiftedEnvironment) -> None:
    camera = env.unwrapped.model.camera("front")
    env.shift = NONE
    env.reset(0)
    place = camera.pos.copy()
    env.shift = Shift(camera_jitter=0.05)
    env.reset(1)
    first = (camera.pos.copy(), camera.quat.copy())
    assert 0.001 < np.linalg.norm(first[0] - place) < 0.5
    assert np.linalg.norm(first[1]) == pytest.approx(1.0)
    env.step(DOWN)
    np.testing.assert_array_equal(camera.pos, first[0])
    env.reset(2)
    assert not np.array_equal(camera.pos, first[0])


def test_an_episode_can_begin_in_a_keyframe(env: ShiftedEnvironment) -> None:
    env.shift = NONE
    drawn = env.reset(4)
    placed = env.reset(4, "home")
    np.testing.assert_array_equal(placed["joint_states"].position[:6], KEYFRAMES["home"])
    np.testing.assert_array_equal(placed["object_0_pose"].position, drawn["object_0_pose"].position)
    assert not np.allclose(placed["effector_pose"].position, drawn["effector_pose"].position)
    with pytest.raises(SimulationError, match="empty or one of home"):
        env.reset(4, "away")
    assert replace(NONE) == env.shift
