"""Q-Guided Flow policies on robots, through ROS 2: the names that a program needs, loaded when they are asked for.

Stands on: control, errors, guidance, runtime. Libraries: none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qgf_ros.control.controller import Controller
    from qgf_ros.control.extraction import JointReading, PoseReading
    from qgf_ros.control.observation import Observation, ObservationAssembler
    from qgf_ros.control.run_options import RunOptions
    from qgf_ros.errors import QgfError
    from qgf_ros.guidance.shaping import Guidance
    from qgf_ros.runtime.loading import load_bundle
    from qgf_ros.runtime.policy import Policy

__version__ = "0.1.0"
__all__ = [
    "Controller",
    "Guidance",
    "JointReading",
    "Observation",
    "ObservationAssembler",
    "Policy",
    "PoseReading",
    "QgfError",
    "RunOptions",
    "load_bundle",
]

#: Where each name is defined. Whoever wants the version or a module, such as `qgf --help`, loads none of them.
_HOMES = {
    "Controller": "control.controller",
    "Guidance": "guidance.shaping",
    "JointReading": "control.extraction",
    "Observation": "control.observation",
    "ObservationAssembler": "control.observation",
    "Policy": "runtime.policy",
    "PoseReading": "control.extraction",
    "QgfError": "errors",
    "RunOptions": "control.run_options",
    "load_bundle": "runtime.loading",
}


def __getattr__(name: str) -> Any:
    """Load a name of the face (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
