"""Pictures of the robot's camera: one setting, the same pixels for the same state, and a plain word where there is no GL."""

from __future__ import annotations

import numpy as np
import pytest
from bare_server import refused_on_a_bare_server
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ogbench", reason="environments need the sim extra")

from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.errors import SimulationError
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import CAMERA, CAMERA_TOPIC, VISUAL_ENVIRONMENTS, observation_fields
from qgf_sim.worlds.picture_setting import OGBENCH_RENDERING, RENDERING, check_rendering
from qgf_sim.worlds.picture_shift import shifted_picture
from qgf_sim.worlds.rendering import check_drawing, clustered, coarse
from qgf_sim.worlds.shift import Shift
from qgf_sim.worlds.shifted_environment import ShiftedEnvironment

NAME = "visual-cube-single"


def sees(env: TaskEnvironment) -> np.ndarray:
    return env.frames()[CAMERA]


@pytest.fixture
def drawing() -> None:
    """Skip where no picture can be drawn at all."""
    try:
        check_drawing()
    except SimulationError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("drawing")
def test_a_robot_that_sees_acts_in_the_same_world_and_knows_of_itself_only() -> None:
    blind, seeing = TaskEnvironment("cube-single", 2), TaskEnvironment(NAME, 2)
    for env in (blind, seeing):
        env.reset(3)
        for _ in range(5):
            step = env.step(np.full(5, 0.01))
    assert np.array_equal(blind.unwrapped.data.qpos, seeing.unwrapped.data.qpos)
    assert np.array_equal(blind.observation()[:19], seeing.observation())
    told, shown = {field.topic for field in observation_fields(NAME)}, step.readings[CAMERA_TOPIC]
    assert told == {"joint_states", "effector_pose", "gripper_wrench"}
    assert set(step.readings) == {*told, CAMERA_TOPIC}
    assert isinstance(shown, ImageReading)
    assert shown.data.tobytes() == seeing.frames()[CAMERA].tobytes()
    assert sum(field.size for field in observation_fields(NAME)) == len(seeing.observation())
    assert blind.frames() == {}
    blind.close()
    seeing.close()


def test_goals_of_a_robot_that_sees_are_refused() -> None:
    with pytest.raises(SimulationError, match="the goals of visual-scene are pictures"):
        observation_fields("visual-scene", goal_conditioned=True)
    assert "visual-cube-octuple" not in VISUAL_ENVIRONMENTS  # OGBench has none


@pytest.mark.usefixtures("drawing")
def test_the_same_state_is_the_same_pixels_in_every_environment_and_copy() -> None:
    first, second = TaskEnvironment(NAME, 2), TaskEnvironment(NAME, 4)
    first.reset(3)
    picture = sees(first)
    assert picture.shape == (RENDERING.height, RENDERING.width, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 5.0
    second.reset(8)
    assert sees(second).tobytes() != picture.tobytes()
    data, copied = first.unwrapped.data, first.copy()
    second.set_state(data.qpos.copy(), data.qvel.copy())
    assert sees(second).tobytes() == picture.tobytes()
    first.step(np.array([0.0, 0.0, -0.05, 0.3, 1.0]))
    assert sees(first).tobytes() != picture.tobytes()
    assert sees(copied).tobytes() == picture.tobytes()
    for env in (first, second, copied):
        env.close()


@pytest.mark.usefixtures("drawing")
def test_to_look_changes_nothing_of_what_happens() -> None:
    blind, seeing = TaskEnvironment("cube-single", 2), TaskEnvironment(NAME, 2)
    states = []
    for env in (blind, seeing):
        env.reset(3)
        for _ in range(4):
            if env is seeing:
                sees(env)
            env.step(np.full(5, 0.02))
        states.append(env.unwrapped.data.qpos.tobytes())
        env.close()
    assert states[0] == states[1]


@pytest.mark.usefixtures("drawing")
def test_a_pressed_button_is_seen() -> None:
    env = TaskEnvironment("visual-puzzle-3x3", 1)
    env.reset(0)
    data = env.unwrapped.data
    qpos, qvel = data.qpos.copy(), data.qvel.copy()
    pictures = []
    for state in (0, 1):
        env.set_state(qpos, qvel, np.full(9, state))
        pictures.append(sees(env).astype(int))
    redder = (pictures[0] - pictures[1])[..., 0]
    assert 20 < (redder > 40).sum() < 500
    env.close()


@pytest.mark.usefixtures("drawing")
def test_a_camera_off_its_place_or_in_other_light_sees_another_picture() -> None:
    env = ShiftedEnvironment(NAME, 1)
    env.reset(0)
    picture = sees(env)
    env.shift = Shift(camera_jitter=0.02)
    env.reset(0)
    assert np.abs(sees(env).astype(int) - picture).mean() > 1.0
    env.shift = Shift(brightness_factor=0.5, picture_noise=2.0, occlusion=0.25)
    assert np.abs(sees(env).astype(int) - picture).mean() > 1.0, "a shift takes effect at the next reset"
    env.reset(0)
    shifted = sees(env)
    assert np.array_equal(shifted, shifted_picture(picture, env.shift, 0, 0))
    assert np.array_equal(shifted, sees(env))
    env.step(np.zeros(5))
    assert (sees(env) != shifted).mean() > 0.3, "another step has other noise"
    env.shift = Shift()
    env.reset(0)
    assert np.array_equal(sees(env), picture)
    env.close()


@pytest.mark.usefixtures("drawing")
def test_coarse_meshes_are_for_drawing_only_and_look_alike() -> None:
    env = TaskEnvironment(NAME, 1)
    env.reset(0)
    model = env.unwrapped.model
    before = model.mesh_facenum.copy()
    drawn = coarse(model, RENDERING.mesh_grid)
    assert drawn.mesh_facenum.sum() < before.sum() / 8
    assert (model.mesh_facenum == before).all()
    for mesh in range(model.nmesh):
        fine, rough = (
            m.mesh_vert[m.mesh_vertadr[mesh] : m.mesh_vertadr[mesh] + m.mesh_vertnum[mesh]] for m in (model, drawn)
        )
        for edge in (np.min, np.max):
            assert np.abs(edge(fine, axis=0) - edge(rough, axis=0)).max() <= RENDERING.mesh_grid
        normals = drawn.mesh_normal[drawn.mesh_normaladr[mesh] :][: drawn.mesh_normalnum[mesh]]
        assert np.linalg.norm(normals, axis=1).max() < 1.0 + 1e-4
    env.close()


@given(st.integers(0, 2**31), st.sampled_from([1e-4, 0.1, 0.5, 3.0]))
def test_clustering_joins_the_vertices_of_a_cell_and_keeps_proper_triangles_once(seed: int, grid: float) -> None:
    random = np.random.default_rng(seed)
    points = random.uniform(-1.0, 1.0, (40, 3)).astype(np.float32)
    triangles = random.integers(0, 40, (60, 3)).astype(np.int32)
    joined, left = clustered(points, triangles, grid)
    assert len(joined) == len(np.unique(np.floor(points / grid), axis=0))
    assert len(left) == len(np.unique(np.sort(left, axis=1), axis=0))
    assert all(len(set(corners)) == 3 for corners in left.tolist())
    assert all(np.abs(points - point).max(axis=1).min() <= grid for point in joined)


def test_pictures_of_another_renderer_setting_are_refused_with_the_difference() -> None:
    check_rendering(RENDERING.record(), "data.npz")
    check_rendering(None, "data.npz")
    with pytest.raises(
        SimulationError, match=r"data.npz has pictures of another .*\(shadows True instead of False, samples 4"
    ):
        check_rendering(OGBENCH_RENDERING.record(), "data.npz")


@pytest.mark.parametrize(("chosen", "missing"), [("osmesa", "libOSMesa"), ("", "libEGL")])
def test_without_the_back_end_the_refusal_is_one_sentence(chosen: str, missing: str) -> None:
    said = refused_on_a_bare_server('TaskEnvironment("visual-cube-single", 1).reset(0)', chosen=chosen)
    assert missing in said
