"""MuJoCo on a machine without a display: its GL back end is loaded when the first picture is asked for, not before."""

from __future__ import annotations

import importlib
import os
import sys

import mujoco

from qgf_ros.errors import SimulationError

#: By the name that MUJOCO_GL gives it: its module, and what is to be installed for it.
_BACK_ENDS = {
    "egl": ("mujoco.egl", "EGL", "libEGL (Debian: libegl1)"),
    "osmesa": ("mujoco.osmesa", "OSMesa", "libOSMesa (Debian: libosmesa6)"),
    "glfw": ("mujoco.glfw", "GLFW", "a display, or choose MUJOCO_GL=egl"),
}


def load_gl() -> None:
    """Give MuJoCo's renderer the GL back end that MUJOCO_GL named when this process began; EGL where it named none.

    Raises:
        SimulationError: It cannot be loaded.
    """
    chosen = os.environ.get("QGF_MUJOCO_GL", "").lower()
    module, name, needed = _BACK_ENDS.get(chosen, _BACK_ENDS["egl"])
    try:
        context = importlib.import_module(module).GLContext
    except Exception as error:  # PyOpenGL raises AttributeError, ImportError or its own, depending on what is missing
        raise SimulationError(
            f"no picture can be rendered, {name} does not load ({error}); install {needed} or turn the camera off"
        ) from error
    sys.modules[mujoco.Renderer.__module__].gl_context.GLContext = context
