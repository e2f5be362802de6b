"""The scene of an environment without any graphics library: shapes once, and poses from what the bridge publishes.

The shapes are the visible geoms of the compiled MuJoCo model. The poses are forward kinematics of the joint and object
states on the observation topics; of the gripper's linkage only the driven joint is published, the others follow it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.extraction import JointReading, PoseReading, Reading
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import ARM_JOINTS, GRIPPER_JOINT

#: Geoms of higher groups are for collisions only.
LAST_VISIBLE_GROUP = 2
#: Meshes of more faces than this are drawn coarser: vertices within one cell [m] become one.
FINE_FACES, CELL = 500, 0.004

_DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)
# How the joints of a finger of the gripper (a parallel linkage) follow its driver; 0 for the coupler.
_LINKAGE = {"driver": 1.0, "spring_link": 1.0, "follower": -1.0}


@dataclass(frozen=True)
class Shape:
    """A rigid shape.

    Attributes:
        geom: Index of its geom.
        body: Index of the body it moves with; 0 is the world, which never moves.
        vertices: float32 [V, 3] in the frame of the body [m].
        faces: uint32 [F, 3], indices of vertices, counter-clockwise from outside.
    """

    geom: int
    body: int
    vertices: NDArray[np.float32]
    faces: NDArray[np.uint32]


class Scene:
    """Shapes, poses and colours of an OGBench environment.

    Args:
        name: Environment, such as ``cube-single``.
        task: Single-task number of the first episode.

    Raises:
        SimulationError: There is no such environment or task.
    """

    def __init__(self, name: str, task: int = 1) -> None:
        self._environment = TaskEnvironment(name, task)
        self.begin(task, 0)
        self.shapes = tuple(_shapes(self._environment.unwrapped.model))

    def begin(self, task: int, seed: int) -> None:
        """Put everything, targets included, where the episode of a task and a seed begins.

        Raises:
            SimulationError: There is no such task.
        """
        self._environment.task = task
        self._environment.reset(seed)
        self._qpos = self._environment.unwrapped.data.qpos.copy()
        self._buttons = np.zeros(self._environment.family.buttons, dtype=np.int64)

    def observe(self, topic: str, reading: Reading) -> None:
        """Take in what an observation topic says; what is not about a pose of this environment is passed over."""
        if isinstance(reading, PoseReading) and topic.startswith("object_"):
            joint = "object_joint_" + topic.removeprefix("object_").removesuffix("_pose")
            self._move(joint, np.concatenate([reading.position, reading.quaternion_xyzw[[3, 0, 1, 2]]]))
        elif isinstance(reading, JointReading) and topic == "button_states":
            if reading.position.shape == self._buttons.shape:
                self._buttons = (reading.position > 0.5).astype(np.int64)
        elif isinstance(reading, JointReading):
            for name, position in zip(reading.names, reading.position):
                if name == GRIPPER_JOINT:
                    for side, (link, factor) in itertools.product(("left", "right"), _LINKAGE.items()):
                        self._move(f"ur5e/robotiq/{side}_{link}_joint", factor * position)
                else:
                    self._move(f"ur5e/{name}" if name in ARM_JOINTS else name, position)

    def poses(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return position [m] and orientation (w, x, y, z) of every body now, float64 [B, 3] and [B, 4]."""
        env = self._environment.unwrapped
        buttons = self._buttons if self._environment.family.buttons else None
        self._environment.set_state(self._qpos, np.zeros(env.model.nv), buttons)
        return env.data.xpos.copy(), env.data.xquat.copy()

    def colours(self) -> NDArray[np.float32]:
        """Return red, green, blue and opacity of every shape as of the last `poses`, float32 [len(shapes), 4], 0 to 1."""
        model = self._environment.unwrapped.model
        rows = []
        for shape in self.shapes:
            rgba, material = model.geom_rgba[shape.geom], model.geom_matid[shape.geom]
            # MuJoCo's rule: a geom that keeps the default colour takes that of its material.
            rows.append(model.mat_rgba[material] if material >= 0 and np.allclose(rgba, _DEFAULT_RGBA) else rgba)
        return np.array(rows, dtype=np.float32)

    def close(self) -> None:
        """Free the environment."""
        self._environment.close()

    def _move(self, joint: str, position: Any) -> None:
        model = self._environment.unwrapped.model
        index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, joint)
        if index >= 0 and np.isfinite(position).all():
            start = model.jnt_qposadr[index]
            self._qpos[start : start + np.size(position)] = position


def _shapes(model: Any) -> Iterator[Shape]:
    for geom in range(model.ngeom):
        if model.geom_group[geom] > LAST_VISIBLE_GROUP or model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE:
            continue
        vertices, faces = _geometry(model, geom)
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
        vertices = vertices @ rotation.reshape(3, 3).T + model.geom_pos[geom]
        yield Shape(geom, int(model.geom_bodyid[geom]), vertices.astype(np.float32), faces.astype(np.uint32))


def _geometry(model: Any, geom: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return vertices [V, 3], in the frame of the geom, and faces [F, 3] of a geom."""
    from trimesh import creation

    kind, size = mujoco.mjtGeom(model.geom_type[geom]), model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        first, number = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        return coarser(model.mesh_vert[start : start + count], model.mesh_face[first : first + number])
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        body = creation.box(2 * size)
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        body = creation.cylinder(size[0], 2 * size[1])
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        body = creation.capsule(2 * size[1], size[0], count=(16, 16))
    else:
        body = creation.icosphere(2)
        body.apply_scale(size if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID else size[0])
    return np.asarray(body.vertices), np.asarray(body.faces)


def coarser(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], cell: float = CELL
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a mesh with one vertex per occupied cell of a grid, so that a browser without a GPU can draw it.

    Args:
        vertices: float [V, 3].
        faces: int [F, 3].
        cell: Edge of a cell, in the unit of the vertices.

    Returns:
        Vertices, each the mean of its cell, and the faces that still have three different ones. Small meshes stay.
    """
    if len(faces) <= FINE_FACES:
        return np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int64)
    _, cells = np.unique(np.round(vertices / cell).astype(np.int64), axis=0, return_inverse=True)
    cells = cells.ravel()
    sums = np.stack([np.bincount(cells, column) for column in np.asarray(vertices).T], axis=1)
    corners = cells[faces]
    a, b, c = corners.T
    corners = corners[(a != b) & (b != c) & (c != a)]
    return sums / np.bincount(cells)[:, None], corners.astype(np.int64)
