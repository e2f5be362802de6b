"""The environment: reproducible, and its readings are OGBench's own observation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from bare_server import refused_on_a_bare_server

pytest.importorskip("ogbench", reason="environments need the sim extra")

from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.errors import SimulationError
from qgf_sim.worlds.environment import TaskEnvironment, collection_environment
from qgf_sim.worlds.environment import seed_everything as seed_collection
from qgf_sim.worlds.families import ENVIRONMENTS, action_fields, observation_fields
from qgf_sim.worlds.oracle_data import run_episode

#: Building an environment takes seconds; these two have a second cube, buttons, a drawer and a window.
QUICK = ("cube-double", "scene")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ENVIRONMENTS if name not in ("cube-single", *QUICK)]
SCALE = np.array([field.scale for field in action_fields()])


def assemble(readings: object, name: str = "cube-single") -> np.ndarray:
    assembler = ObservationAssembler(observation_fields(name), 0.05)
    for topic, reading in dict(readings).items():  # type: ignore[call-overload]
        assembler.update(topic, 1, reading)
    return assembler.assemble(1).vector


@pytest.fixture(scope="module")
def cube() -> Iterator[TaskEnvironment]:
    """A cube, whose task a test may replace."""
    env = TaskEnvironment("cube-single", 1)
    yield env
    env.close()


@pytest.mark.parametrize("task", [1, 2, 3, 4, 5])
def test_readings_assemble_to_ogbench_own_vector_over_random_actions(cube: TaskEnvironment, task: int) -> None:
    env, cube.task = cube, task
    random = np.random.default_rng(task)
    readings = env.reset(task)
    for _ in range(40):
        np.testing.assert_allclose(assemble(readings), env.observation(), atol=1e-6, rtol=1e-6)
        readings = env.step(random.uniform(-1, 1, 5) * SCALE).readings


def test_readings_assemble_to_ogbench_own_vector_while_an_oracle_grasps(cube: TaskEnvironment) -> None:
    """A grasp brings contact, a closed gripper and a lifted cube, which random actions never reach."""
    from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle

    env, cube.task = cube, 2
    # The oracle reads where to bring the cube from what data collection reports.
    readings = env.reset(3)
    inner = env.unwrapped
    oracle = CubeMarkovOracle(env=env.gymnasium_env, min_norm=0.4)

    def info() -> dict[str, object]:
        target = {
            "privileged/target_task": "cube",
            "privileged/target_block": 0,
            "privileged/target_block_pos": inner.data.mocap_pos[0].copy(),
            "privileged/target_block_yaw": np.zeros(1),
        }
        return {**inner.compute_ob_info(), **target}

    oracle.reset(None, info())
    contacts, heights = [], []
    for _ in range(80):
        vector = env.observation()
        np.testing.assert_allclose(assemble(readings), vector, atol=1e-6, rtol=1e-6)
        contacts.append(vector[18])
        heights.append(vector[21])
        step = env.step(np.clip(np.asarray(oracle.select_action(None, info())), -1, 1) * SCALE)
        readings = step.readings
        if step.done:
            break
    assert max(contacts) > 0.1
    assert max(heights) > 0.5
    assert step.success


def test_an_episode_is_the_same_bits_whatever_ran_before() -> None:
    random = np.random.default_rng(0).uniform(-1, 1, (30, 5)) * SCALE

    def episode(env: TaskEnvironment, seed: int) -> bytes:
        env.reset(seed)
        return b"".join((env.step(action), env.observation().tobytes())[1] for action in random)

    fresh = TaskEnvironment("cube-single", 2)
    used = TaskEnvironment("cube-single", 2)
    expected = episode(fresh, 11)
    np.random.seed(1)  # noqa: NPY002 (the generator in question)
    np.random.random(100)  # noqa: NPY002 (the generator in question)
    episode(used, 4)
    assert episode(used, 11) == expected
    assert episode(used, 12) != expected
    fresh.close()
    used.close()


@pytest.fixture(scope="module", params=[*QUICK, *SLOW])
def family(request: pytest.FixtureRequest) -> Iterator[TaskEnvironment]:
    """The first task of every family but cube-single."""
    env = TaskEnvironment(request.param, 1)
    yield env
    env.close()


def test_every_family_s_readings_assemble_to_ogbench_own_vector(family: TaskEnvironment) -> None:
    random = np.random.default_rng(0)
    for seed in (1, 2):
        readings = family.reset(seed)
        for _ in range(20):
            np.testing.assert_allclose(assemble(readings, family.name), family.observation(), atol=1e-6, rtol=1e-6)
            readings = family.step(random.uniform(-1, 1, 5) * SCALE).readings


def test_a_recorded_state_put_back_gives_the_recorded_observation(family: TaskEnvironment) -> None:
    """An oracle moves what random actions never reach: lifted cubes, pressed buttons, an open drawer."""
    collection = collection_environment(family.name, 120)
    episode = run_episode(collection, "play", 4)
    collection.close()
    family.reset(0)
    fields = observation_fields(family.name)
    # Contact forces do not come back, and OGBench's effector pose of the cubes is one physics step old.
    elsewhere = ("gripper_contact", "effector_position", "effector_yaw")
    told = np.concatenate([np.full(field.size, field.name not in elsewhere) for field in fields])
    for row in range(0, 120, 3):
        family.set_state(*(episode[key][row].copy() for key in family.family.state_keys))
        vector = assemble(family.readings(), family.name)
        np.testing.assert_allclose(vector, family.observation(), atol=1e-6, rtol=1e-6)
        np.testing.assert_allclose(vector[told], episode["observations"][row][told], atol=1e-4, rtol=0)
    joints = family.unwrapped.model.nq - 14  # of the objects; the robot has 14
    assert np.ptp(episode["qpos"][:, -joints:], axis=0).max() > 0.02, "the oracle moved nothing"


def test_an_episode_of_every_family_is_the_same_bits_whatever_ran_before(family: TaskEnvironment) -> None:
    def episode(seed: int) -> bytes:
        family.reset(seed)
        down = np.array([0.01, 0.02, -0.05, 0.1, 1.0])
        return b"".join((family.step(down), family.observation().tobytes())[1] for _ in range(15))

    expected = episode(11)
    if family.family.buttons:  # which, in OGBench, change the model itself
        state = family.unwrapped.data
        family.set_state(state.qpos.copy(), state.qvel.copy(), np.arange(family.family.buttons) % 2)
    assert episode(12) != expected
    assert episode(11) == expected


@pytest.mark.parametrize("task", [2, 5])
def test_an_environment_whose_task_is_replaced_runs_the_episodes_of_that_task(
    family: TaskEnvironment, task: int
) -> None:
    def episode(env: TaskEnvironment) -> bytes:
        env.reset(21)
        steps = [env.step(np.array([0.01, 0.02, -0.05, 0.1, 1.0])) for _ in range(15)]
        return env.goal.tobytes() + env.observation().tobytes() + bytes([step.success for step in steps])

    other = TaskEnvironment(family.name, task)
    expected = episode(other)
    assert other.max_steps == family.max_steps
    other.close()
    first = episode(family)
    family.task = task
    assert episode(family) == expected != first
    with pytest.raises(SimulationError, match=f"task 6 was given; {family.name} has tasks 1 to 5"):
        family.task = 6
    assert family.task == task
    family.task = 1
    assert episode(family) == first


def test_a_copy_runs_the_same_episodes_beside_the_original(family: TaskEnvironment) -> None:
    down = np.array([0.01, 0.02, -0.05, 0.1, 1.0])

    def episodes(*runs: tuple[TaskEnvironment, int]) -> list[bytes]:
        for env, seed in runs:
            env.reset(seed)
        steps = [[(env.step(down), env.observation().tobytes())[1] for env, _ in runs] for _ in range(15)]
        return [b"".join(one) for one in zip(*steps)]

    family.reset(0)
    family.step(-down)
    twin = family.copy()
    alone = episodes((family, 11)) + episodes((family, 12))
    assert episodes((twin, 11), (family, 12)) == alone
    assert episodes((family, 11), (twin, 12)) == alone
    if family.family.buttons:  # which, in OGBench, change the model itself
        data, buttons = twin.unwrapped.data, family.family.buttons
        untouched = family.unwrapped.model.dof_damping.copy()
        for state in (0, 1):
            twin.set_state(data.qpos.copy(), data.qvel.copy(), np.full(buttons, state))
        assert np.array_equal(family.unwrapped.model.dof_damping, untouched)
    twin.close()


def test_a_state_with_other_buttons_than_the_family_has_is_refused(family: TaskEnvironment) -> None:
    family.reset(0)
    data, buttons = family.unwrapped.data, family.family.buttons
    with pytest.raises(
        SimulationError, match=rf"\({buttons + 1},\) button states was given; .* and \({buttons},\), use"
    ):
        family.set_state(data.qpos.copy(), data.qvel.copy(), np.zeros(buttons + 1))


def test_a_collection_episode_ignores_the_global_generator() -> None:
    env = collection_environment("cube-single", steps=5)
    first, _ = seed_collection(env, 7)
    np.random.random(50)  # noqa: NPY002 (the generator in question)
    env.unwrapped.action_space.sample()
    second, _ = seed_collection(env, 7)
    assert first.tobytes() == second.tobytes()
    env.close()


def test_commands_beyond_their_limits_are_clipped(cube: TaskEnvironment) -> None:
    vectors = []
    for command in ([0.05, 0.0, -0.05, 0.0, 1.0], [5.0, 0.0, -0.06, 0.0, 2.0]):
        cube.reset(0)
        cube.step(np.array(command))
        vectors.append(cube.observation().tobytes())
    assert vectors[0] == vectors[1]


def test_an_episode_ends_at_the_step_limit_without_success(cube: TaskEnvironment) -> None:
    env, cube.task = cube, 1
    env.reset(0)
    steps = [env.step(np.zeros(5)) for _ in range(env.max_steps)]
    assert [step.done for step in steps] == [False] * (env.max_steps - 1) + [True]
    assert not any(step.success for step in steps)


@pytest.mark.parametrize(("name", "task", "reason"), [("cube-dozen", 1, "cube-single"), ("cube-single", 6, "1 to 5")])
def test_an_unknown_environment_or_task_is_refused(name: str, task: int, reason: str) -> None:
    with pytest.raises(SimulationError, match=reason):
        TaskEnvironment(name, task)


def test_a_state_of_another_size_is_refused(cube: TaskEnvironment) -> None:
    cube.reset(0)
    with pytest.raises(SimulationError, match="use a data set of this environment"):
        cube.set_state(np.zeros(3), np.zeros(3))


def test_importing_needs_no_gl_and_no_display() -> None:
    before = 'env = TaskEnvironment("cube-single", 1); env.reset(0)'
    assert "turn the camera off" in refused_on_a_bare_server("env.render()", before=before)


def test_a_picture_has_the_size_asked_for() -> None:
    env = TaskEnvironment("cube-single", 1)
    env.reset(0)
    try:
        picture = env.render(64, 48)
    except SimulationError as error:
        pytest.skip(str(error))
    assert picture.shape == (48, 64, 3)
    assert picture.std() > 5.0
    assert env.render(800, 600).shape == (600, 800, 3)
    env.close()
