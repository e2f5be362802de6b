"""A bare server: the loader of this process finds no GL library, and there is no display."""

from __future__ import annotations

import os
import subprocess
import sys

_NO_GL = """
import ctypes, ctypes.util
original = ctypes.CDLL.__init__
def no_gl(self, name=None, *args, **kwargs):
    if name and any(part in str(name) for part in ("libEGL", "libGL.", "libOSMesa", "libOpenGL")):
        raise OSError(f"{name}: cannot open shared object file")
    original(self, name, *args, **kwargs)
ctypes.CDLL.__init__ = no_gl
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name in ("EGL", "GL", "OSMesa", "OpenGL") else find(name)
from qgf_ros.errors import SimulationError
from qgf_sim.worlds.environment import TaskEnvironment
"""


def refused_on_a_bare_server(code: str, *, before: str = "", chosen: str = "") -> str:
    """Return the one sentence by which some code is refused there.

    Args:
        code: A line of Python that raises SimulationError.
        before: Python that needs no GL, and is not refused.
        chosen: What MUJOCO_GL says; nothing by default.
    """
    whole = f"{_NO_GL}{before}\ntry:\n    {code}\nexcept SimulationError as error:\n    print(error)\n"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "QGF_MUJOCO_GL", "DISPLAY")
    }
    environment.update({"MUJOCO_GL": chosen} if chosen else {})
    done = subprocess.run([sys.executable, "-c", whole], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (sentence,) = done.stdout.strip().splitlines()
    return sentence
