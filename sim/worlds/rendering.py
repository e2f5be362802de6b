"""What the cameras of a simulated robot see: one renderer, with one setting, for data, evaluation and bridge alike.

The same state gives the same pixels on one machine; another driver may round otherwise.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from qgf_ros.errors import SimulationError
from qgf_sim.worlds.headless import load_gl
from qgf_sim.worlds.picture_setting import RENDERING, Rendering

#: Triangles of a mesh that costs too little to be made coarser, as those of all objects are.
_FEW = 800
#: Arrays of a model that tasks and shifts write into and that pictures show.
_SHOWN = ("geom_rgba", "geom_size", "mat_rgba", "site_rgba")


def check_drawing() -> None:
    """Check that pictures can be drawn, before work that needs them begins.

    Raises:
        SimulationError: No GL back end can be loaded, or it has no device to draw with.
    """
    load_gl()
    with _device():
        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()


@contextmanager
def _device() -> Iterator[None]:
    """Say in one sentence what the back ends and their libraries raise in many ways."""
    try:
        yield
    except Exception as error:
        raise SimulationError(
            f"no picture can be rendered, the GL back end has no device to draw with ({error}); install Mesa's drivers "
            "(Debian: libgl1-mesa-dri)"
        ) from error


class SceneRenderer:
    """Draws the states of one environment and of its copies.

    Args:
        model: MuJoCo's compiled model of the environment; it stays as it is.
        rendering: How.

    Raises:
        SimulationError: No GL back end can be loaded, or it has no device to draw with.
    """

    def __init__(self, model: Any, rendering: Rendering = RENDERING) -> None:
        load_gl()
        os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's software renderer: a core draws its own pictures
        self.rendering = rendering
        self._model = coarse(model, rendering.mesh_grid)
        self._placed = mujoco.MjData(model)
        self._model.vis.quality.offsamples = rendering.samples
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = rendering.width, rendering.height
        with _device():
            self._renderer = mujoco.Renderer(self._model, rendering.height, rendering.width)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = rendering.shadows

    def __deepcopy__(self, memo: dict[int, Any]) -> SceneRenderer:
        """Copies of an environment share it."""
        return self

    def picture(self, model: Any, data: Any) -> NDArray[np.uint8]:
        """Return what the camera sees, uint8 [height, width, 3].

        Args:
            model: Of the environment or of a copy, with its colours and sizes of the moment.
            data: Its state. It stays as it is: after a step its bodies are where they were one step of physics before, and
                the next action counts from there.
        """
        for name in _SHOWN:
            getattr(self._model, name)[:] = getattr(model, name)
        placed = self._placed
        placed.qpos[:], placed.mocap_pos[:], placed.mocap_quat[:] = data.qpos, data.mocap_pos, data.mocap_quat
        for place in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            place(model, placed)
        self._renderer.update_scene(placed, camera=self.rendering.camera)
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture


def coarse(model: Any, grid: float) -> Any:
    """Return a copy of a model, for drawing only, whose large meshes have no details smaller than a grid.

    Args:
        model: MuJoCo's compiled model.
        grid: Width of a cell [m]; 0 for meshes as they are.
    """
    drawn = copy.copy(model)
    for mesh in np.flatnonzero(drawn.mesh_facenum > _FEW) if grid > 0.0 else ():
        vertices, faces, normals = (
            slice(first[mesh], first[mesh] + count[mesh])
            for first, count in (
                (drawn.mesh_vertadr, drawn.mesh_vertnum),
                (drawn.mesh_faceadr, drawn.mesh_facenum),
                (drawn.mesh_normaladr, drawn.mesh_normalnum),
            )
        )
        points, triangles = clustered(drawn.mesh_vert[vertices], drawn.mesh_face[faces], grid)
        room = min(vertices.stop - vertices.start, normals.stop - normals.start)
        if drawn.mesh_texcoordadr[mesh] >= 0 or not 0 < len(points) <= room:
            continue  # a texture is bound to the vertices
        drawn.mesh_vertnum[mesh] = drawn.mesh_normalnum[mesh] = len(points)
        drawn.mesh_facenum[mesh] = len(triangles)
        drawn.mesh_vert[vertices][: len(points)] = points
        drawn.mesh_normal[normals][: len(points)] = _vertex_normals(points, triangles)
        drawn.mesh_face[faces][: len(triangles)] = triangles
        drawn.mesh_facenormal[faces][: len(triangles)] = triangles
    return drawn


def clustered(
    points: NDArray[np.float32], triangles: NDArray[np.int32], grid: float
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return a mesh in which the vertices of each cell of a grid are one, at their mean (Rossignac and Borrel 1993).

    Args:
        points: [V, 3] in m.
        triangles: Their vertices [F, 3].
        grid: Width of a cell [m].

    Returns:
        Points [v, 3], and the triangles that still have three corners, each once [f, 3].
    """
    cells, cell_of = np.unique(np.floor(points / grid).astype(np.int64), axis=0, return_inverse=True)
    cell_of = cell_of.reshape(-1)
    counts = np.bincount(cell_of, minlength=len(cells))
    sums = np.stack([np.bincount(cell_of, points[:, axis], len(cells)) for axis in range(3)], axis=1)
    corners = cell_of[triangles]
    a, b, c = corners.T
    corners = corners[(a != b) & (b != c) & (c != a)]
    _, first = np.unique(np.sort(corners, axis=1), axis=0, return_index=True)
    return (sums / counts[:, None]).astype(np.float32), corners[np.sort(first)].astype(np.int32)


def _vertex_normals(points: NDArray[np.float32], triangles: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the mean normal of the triangles at each vertex, weighted by area, [v, 3]."""
    a, b, c = points[triangles].astype(np.float64).swapaxes(0, 1)
    areas = np.cross(b - a, c - a)
    sums = np.zeros((len(points), 3))
    for corner in triangles.T:
        np.add.at(sums, corner, areas)
    normals: NDArray[np.float64] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return normals.astype(np.float32)


def observe_states(env: Any) -> None:
    """Let a visual environment observe the state vector, and make a picture by our renderer when it is wanted."""
    inner = env.unwrapped
    original = type(inner)

    def state(self: Any) -> Any:
        self._ob_type = "states"
        try:
            return original.compute_observation(self)
        finally:
            self._ob_type = "pixels"

    def picture(self: Any) -> NDArray[np.uint8]:
        if self._eye is None:
            self._eye = SceneRenderer(self.model)
        shown: NDArray[np.uint8] = self._eye.picture(self.model, self.data)
        return shown

    inner._eye = None
    inner.__class__ = type(original.__name__, (original,), {"get_pixel_observation": state, "picture": picture})
