"""How the pictures of a simulated robot are made: one setting, written into data sets and manifests.

Without a GPU nearly all of the time goes into shadows (drawn at 4096x4096 for a picture of 64x64), into four samples a
pixel, and into the arm's visual meshes of 193,000 triangles, some smaller than a thousandth of a pixel. A `Rendering` says
what is left out, and a policy never sees other pictures than it was trained on. Nothing here needs MuJoCo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from qgf_ros.errors import SimulationError
from qgf_sim.worlds.families import PICTURE_SIDE


@dataclass(frozen=True)
class Rendering:
    """How pictures are made.

    Attributes:
        camera: MuJoCo's name of the camera.
        width, height: Of a picture [pixels].
        shadows: Whether lights cast shadows and the floor reflects.
        samples: Samples a pixel for smooth edges; 0 for none.
        mesh_grid: Vertices of a large mesh that lie in one cell of such a grid become one [m]; 0 for meshes as they are.
    """

    camera: str = "front_pixels"
    width: int = PICTURE_SIDE
    height: int = PICTURE_SIDE
    shadows: bool = False
    samples: int = 0
    mesh_grid: float = 0.005

    def record(self) -> dict[str, Any]:
        """Return it as data sets, checkpoints and manifests keep it."""
        return {"renderer": "mujoco", **asdict(self)}


#: Of every environment with a camera.
RENDERING = Rendering()
#: OGBench's own, of its published data sets.
OGBENCH_RENDERING = Rendering(shadows=True, samples=4, mesh_grid=0.0)


def check_rendering(recorded: Mapping[str, Any] | None, source: str) -> None:
    """Check that pictures were made as they are made here.

    Args:
        recorded: What `Rendering.record` gave; None where nobody said.
        source: What has them, for the error.

    Raises:
        SimulationError: They were made otherwise.
    """
    made = RENDERING.record()
    if recorded is None or dict(recorded) == made:
        return
    different = [key for key in {**made, **recorded} if recorded.get(key) != made.get(key)]
    pairs = ", ".join(f"{key} {recorded.get(key)} instead of {made.get(key)}" for key in different)
    raise SimulationError(
        f"{source} has pictures of another renderer setting than the simulation ({pairs}); make data and bundle again with "
        "this version"
    )
