"""Packages that the core installation lacks: which extra brings each, and what to say where one is missing.

Imported by everything that starts, so it loads nothing.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

_ROS = "ros"

#: Which extra brings a package, by the name it is imported by.
EXTRAS = {
    **dict.fromkeys(("mujoco", "ogbench", "gymnasium", "dm_control", "PIL"), "sim"),
    **dict.fromkeys(("torch", "safetensors", "tensorboard"), "train"),
    **dict.fromkeys(("rclpy", "std_msgs", "std_srvs", "sensor_msgs", "geometry_msgs", "diagnostic_msgs"), _ROS),
    **dict.fromkeys(("rcl_interfaces", "rosgraph_msgs", "lifecycle_msgs", "builtin_interfaces"), _ROS),
    **dict.fromkeys(("action_msgs", "ament_index_python", "trajectory_msgs"), _ROS),
    **dict.fromkeys(("onnx", "onnxruntime"), "cpu"),
    "matplotlib": "analysis",
    "av": "film",
    "cv2": "camera",
    **dict.fromkeys(("mcap", "mcap_ros2", "zstandard", "lz4"), "record"),
    **dict.fromkeys(("jax", "jaxlib"), "peers"),
    "ray": "ray",
    **dict.fromkeys(("viser", "websockets", "trimesh"), "dashboard"),
}

#: Where ROS 2 is installed from packages.
_DISTRIBUTIONS = Path("/opt/ros")


def missing(error: ImportError) -> str | None:
    """Return the sentence about a package that cannot be imported, with what brings it.

    Args:
        error: What its import raised.

    Returns:
        The sentence, or None where no extra brings the package: a mistake of ours.
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    extra = EXTRAS[package]
    if extra == "cpu" and _has_gpu_runtime():  # both extras bring the same import package, so it is one of them
        extra = "gpu"
    remedy = f"install it with: {install_command(extra)}"
    if extra == _ROS and (source := _of_ros()):
        remedy = f"{source}; or {remedy}"
    return f"{package} cannot be imported ({error}); {remedy}"


def install_command(extra: str) -> str:
    """Return the command that installs an extra for the Python that runs this, whatever is sourced or active.

    Versions are those of constraints.txt, from the checkout or from the share folder of an installation.
    """
    root = Path(__file__).resolve().parents[2]
    words = [sys.executable, "-m", "pip", "install"]
    prefix = root / ".." / ".." / ".."  # of PREFIX/lib/pythonX.Y/site-packages
    shared = (prefix / "share" / "qgf_ros" / "constraints.txt").resolve()
    if (root / "setup.py").is_file():
        words += ["-c", str(root / "constraints.txt"), "-e", f"{root}[{extra}]"]
    elif shared.is_file():
        words += ["-c", str(shared), f"qgf_ros[{extra}]"]
    else:
        words += [f"qgf_ros[{extra}]"]
    return shlex.join(words)


def _has_gpu_runtime() -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version("onnxruntime-gpu"))
    except PackageNotFoundError:
        return False


def _of_ros() -> str:
    """Return what to do so that this Python finds a ROS 2 that is there already; "" where none seems to be."""
    if distribution := os.environ.get("ROS_DISTRO"):
        version = ".".join(map(str, sys.version_info[:2]))
        return f"ROS 2 {distribution} is sourced, but not made for this Python {version}: use the one it was made for"
    scripts = sorted(_DISTRIBUTIONS.glob("*/setup.bash"))
    return f"source your ROS 2 first: source {scripts[-1]}" if scripts else ""
