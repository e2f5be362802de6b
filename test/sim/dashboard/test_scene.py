"""The scene against the simulation whose readings it is told."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="needs the sim extra")
pytest.importorskip("trimesh", reason="needs the dashboard extra")

from qgf_ros.control.extraction import JointReading, PoseReading
from qgf_sim.dashboard.scene import Scene, coarser
from qgf_sim.worlds.environment import TaskEnvironment

SCALE = np.array([0.05, 0.05, 0.05, 0.3, 1.0])


@pytest.mark.parametrize("name", ["cube-single", "scene", "puzzle-3x3"])
def test_bodies_are_where_the_simulation_has_them(name: str) -> None:
    scene, environment = Scene(name, 2), TaskEnvironment(name, 2)
    readings = environment.reset(5)
    scene.begin(2, 5)
    generator = np.random.default_rng(0)
    model, data = environment.unwrapped.model, environment.unwrapped.data
    finger = np.array(["robotiq" in model.body(i).name for i in range(model.nbody)])
    for _ in range(20):
        readings = environment.step(generator.uniform(-1.0, 1.0, 5) * SCALE).readings
    for topic, reading in readings.items():
        scene.observe(topic, reading)
    positions, orientations = scene.poses()
    # The bodies of the simulation are as of its last physics step; a millimetre is less than it moves in one.
    assert np.abs(positions - data.xpos)[~finger].max() < 1e-3
    assert np.abs(np.sum(orientations * data.xquat, axis=1))[~finger].min() > 0.9999
    # Of the gripper's linkage only the driver is told, and the rest lags behind it while it moves.
    assert np.abs(positions - data.xpos)[finger].max() < 0.02
    environment.close()
    scene.close()


def test_the_targets_are_those_of_the_episode() -> None:
    scene = Scene("cube-double", 1)
    scene.begin(3, 4)
    positions, _ = scene.poses()
    environment = TaskEnvironment("cube-double", 3)
    environment.reset(4)
    model, data = environment.unwrapped.model, environment.unwrapped.data
    targets = [i for i in range(model.nbody) if model.body_mocapid[i] >= 0]
    assert len(targets) == 2
    assert positions[targets] == pytest.approx(data.mocap_pos[model.body_mocapid[targets]])
    environment.close()
    scene.close()


def test_a_pressed_button_changes_its_colour() -> None:
    scene = Scene("puzzle-3x3", 1)
    environment = TaskEnvironment("puzzle-3x3", 1)
    readings = environment.reset(0)
    states = readings["button_states"]
    colours = []
    for value in (0.0, 1.0):
        states.position[:] = 0.0
        states.position[4] = value
        scene.observe("button_states", states)
        scene.poses()
        colours.append(scene.colours())
    changed = np.flatnonzero((colours[0] != colours[1]).any(axis=1))
    model = environment.unwrapped.model
    assert [model.geom(scene.shapes[i].geom).name for i in changed] == ["btngeom_4"]
    environment.close()
    scene.close()


def test_what_is_of_no_body_of_the_scene_is_passed_over() -> None:
    scene = Scene("puzzle-3x3", 1)
    before = scene.poses()
    none = np.empty(0)
    scene.observe("joint_states", JointReading(("extra_joint", "elbow_joint"), np.array([0.1, np.nan]), none, none))
    scene.observe("object_7_pose", PoseReading(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])))
    scene.observe("button_states", JointReading((), np.array([1.0]), none, none))
    for now, then in zip(scene.poses(), before):
        np.testing.assert_array_equal(now, then)
    scene.close()


def test_shapes_are_the_visible_geoms_within_their_bounds() -> None:
    scene, environment = Scene("scene", 1), TaskEnvironment("scene", 1)
    environment.reset(0)
    model = environment.unwrapped.model
    assert len({shape.geom for shape in scene.shapes}) == len(scene.shapes)
    for shape in scene.shapes:
        assert model.geom_group[shape.geom] <= 2
        assert shape.faces.max() < len(shape.vertices)
        radius = np.linalg.norm(shape.vertices - model.geom_pos[shape.geom], axis=1).max()
        assert radius <= model.geom_rbound[shape.geom] + 1e-4, "MuJoCo's bounding sphere holds every vertex"
    environment.close()
    scene.close()


def test_a_coarser_mesh_stays_within_a_cell_of_the_fine_one() -> None:
    from trimesh import creation

    sphere = creation.icosphere(4, radius=0.1)
    vertices, faces = coarser(np.array(sphere.vertices), np.array(sphere.faces), cell=0.02)
    assert len(faces) < len(sphere.faces) / 4
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.1).max() < 0.02
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.sum(normals * corners.mean(axis=1), axis=1) >= -1e-9).mean() > 0.99, "faces still look outwards"


def test_a_small_mesh_is_left_as_it_is() -> None:
    vertices, faces = np.eye(3), np.array([[0, 1, 2]])
    same, kept = coarser(vertices, faces)
    assert (same == vertices).all() and (kept == faces).all()
