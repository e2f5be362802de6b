"""All metadata of the package, in the form that setuptools 59 (ROS 2 Humble) and later read, with pip and colcon."""

from __future__ import annotations

import os

from setuptools import find_packages, setup

PACKAGE = "qgf_ros"
SHARE = "share/" + PACKAGE

# ROS 2 Jazzy as Python wheels, for machines without a ROS installation; `fastrtps` is the wheels' DDS implementation.
ROS = [
    "ros-rclpy[fastrtps]==7.1.6",
    *(f"ros-{name}==2.0.3" for name in ("builtin-interfaces", "lifecycle-msgs", "rcl-interfaces", "rosgraph-msgs")),
    *(f"ros-{name}==5.3.6" for name in ("diagnostic-msgs", "geometry-msgs", "sensor-msgs", "std-msgs", "std-srvs")),
    "ros-nav-msgs==5.3.6",
    "ros-trajectory-msgs==5.3.6",
]

EXTRAS = {
    # A machine has one ONNX Runtime: `cpu` or `gpu`, never both, because both install the same import package.
    # The fast path composes its graphs with onnx when a bundle is loaded.
    "cpu": ["onnxruntime>=1.18", "onnx>=1.16"],
    "gpu": ["onnxruntime-gpu>=1.18", "onnx>=1.16"],
    "ros": ROS,
    "sim": [
        "ogbench==1.2.2",
        "dm-control>=1.0.20",
        # MuJoCo 4 has no build for Python 3.10.
        "mujoco==4.0.0; python_version >= '3.11'",
        "mujoco>=3.3,<4; python_version < '3.11'",
        "gymnasium>=1.1",
        "pillow>=9.2",
    ],
    # The server of the dashboard wraps viser's own, which a minor version may change.
    "dashboard": ["viser>=1.1.1,<1.2", "trimesh>=4.0", "websockets>=13.0"],
    "film": ["av>=12"],
    # Of a bundle with cameras: pictures are decoded and resized by it, on the robot and where data sets are made.
    "camera": ["opencv-python-headless>=4.8"],
    "record": ["lz4>=4.0", "mcap>=1.6,<2", "mcap-ros2-support>=0.6", "zstandard>=0.20"],
    "train": ["torch==2.13.0", "onnx>=1.16", "pillow>=9.2", "safetensors>=0.4", "tensorboard>=2.14"],
    "analysis": ["matplotlib>=3.8", "onnx>=1.16"],
    # What `qgf benchmark tick --peers` and `training --peers` compare with beside torch: constraints.txt has the newest
    # that each Python gets.
    "peers": ["jax>=0.6.2"],
    # `--ray` of `qgf tune`, `evaluate` and `generate`: their episodes on the machines of a cluster.
    "ray": ["ray>=2.40"],
    "dev": [
        "colcon-core>=0.15",
        "colcon-library-path>=0.2",
        "colcon-package-information>=0.4",
        "colcon-package-selection>=0.2",
        "colcon-python-setup-py>=0.2",
        "colcon-recursive-crawl>=0.2",
        "colcon-ros>=0.4",
        "cosmic-ray>=8.3",
        "coverage>=7.0",
        "hypothesis>=6.80",
        "mypy>=1.10",
        "playwright>=1.40",
        "pre-commit>=3.5",
        # launch_testing, which a sourced ROS 2 brings along as a plugin, does not load under pytest 9.
        "pytest>=7.4,<9",
        "pytest-xdist>=3.5",
        "ruff>=0.5",
        "types-PyYAML>=6.0",
        "uv>=0.5",
    ],
}


def files_below(*folders: str) -> list[tuple[str, list[str]]]:
    """Return data_files entries that put whole folders below the package's share folder."""
    entries = []
    for folder in folders:
        for path, subfolders, names in os.walk(folder):
            subfolders[:] = sorted(name for name in subfolders if name != "__pycache__")
            kept = sorted(os.path.join(path, name) for name in names if not name.startswith("."))
            if kept:
                entries.append((SHARE + "/" + path.replace(os.sep, "/"), kept))
    return entries


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Q-Guided Flow policies on robots: train, export and run a flow policy steered by a critic, on ROS 2",
    long_description="Q-Guided Flow (QGF) steers a behaviour-cloned flow policy with the gradient of a critic while "
    "it denoises. qgf_ros trains both parts, exports them as one bundle and runs it as a ROS 2 lifecycle node.",
    long_description_content_type="text/plain",
    author="qgf_ros maintainers",
    author_email="maintainers@qgf-ros.example",
    maintainer="qgf_ros maintainers",
    maintainer_email="maintainers@qgf-ros.example",
    license="Apache-2.0",
    keywords=["ROS 2", "robot learning", "flow matching", "offline reinforcement learning"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.10",
    # `qgf_sim` is a symbolic link to `sim`, so that the import name is a folder of the checkout in every install mode.
    packages=find_packages(include=[PACKAGE, PACKAGE + ".*", "qgf_sim", "qgf_sim.*"]),
    package_data={PACKAGE: ["py.typed"]},
    install_requires=[
        "docstring-parser>=0.15",
        "numpy>=1.24",
        "pydantic>=2.5",
        "pyyaml>=6.0",
        "rich>=13.0",
        "tyro>=0.9",
    ],
    extras_require=EXTRAS,
    zip_safe=False,
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + PACKAGE]),
        (SHARE, ["package.xml", "LICENSE", "constraints.txt"]),
        # `ros2 run` and launch look here; pip ignores install_scripts, so the executables are plain files.
        (
            "lib/" + PACKAGE,
            [f"scripts/{name}" for name in ("dashboard", "policy_node", "qgf", "recorder", "sim_bridge")],
        ),
        *files_below("config", "launch", "models"),
    ],
    entry_points={
        "console_scripts": [
            "dashboard = qgf_ros.launching.executables:dashboard",
            "qgf = qgf_ros.cli:main",
            "policy_node = qgf_ros.launching.executables:policy_node",
            "recorder = qgf_ros.launching.executables:recorder",
            "sim_bridge = qgf_ros.launching.executables:sim_bridge",
        ],
    },
)
