"""The package is whole in every way it can be installed, and says the same thing about itself everywhere."""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qgf_ros

ROOT = Path(__file__).resolve().parents[1]
EXECUTABLES = {"dashboard", "policy_node", "recorder", "sim_bridge", "qgf"}

# Import names whose distribution is called something else.
DISTRIBUTIONS = {
    "torch.utils.tensorboard": "tensorboard",
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "mcap_ros2.decoder": "mcap-ros2-support",
    "yaml": "pyyaml",
}
ROS_PACKAGES = {
    "builtin_interfaces",
    "control_msgs",
    "diagnostic_msgs",
    "geometry_msgs",
    "lifecycle_msgs",
    "rcl_interfaces",
    "rclpy",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "tf2_msgs",
    "trajectory_msgs",
}
# Used where it is installed.
WITHOUT_A_WHEEL = {"control_msgs", "tf2_msgs"}


def test_the_bundles_that_are_shipped_are_small() -> None:
    sizes = {path: path.stat().st_size for path in (ROOT / "models").rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 60_000_000
    assert max(sizes.values()) < 5_000_000


@pytest.fixture
def setup_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    setuptools = pytest.importorskip("setuptools", reason="reading setup.py needs setuptools")
    captured: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: captured.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    return captured


def requirements(setup_arguments: dict[str, Any]) -> list[str]:
    """Return the requirements of the package and of every extra."""
    groups = [setup_arguments["install_requires"], *setup_arguments["extras_require"].values()]
    return list(itertools.chain.from_iterable(groups))


def canonical(requirement: str) -> str:
    """Return the normalised name of a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]).lower()


def test_version_is_the_same_everywhere(setup_arguments: dict[str, Any]) -> None:
    manifest = (ROOT / "package.xml").read_text()
    changelog = (ROOT / "CHANGELOG.rst").read_text()
    newest = re.search(r"^(\d+\.\d+\.\d+) \(", changelog, re.MULTILINE)
    assert newest is not None
    assert {
        "setup.py": setup_arguments["version"],
        "package.xml": re.findall(r"<version>(.*)</version>", manifest)[0],
        "CHANGELOG.rst": newest.group(1),
    } == dict.fromkeys(("setup.py", "package.xml", "CHANGELOG.rst"), qgf_ros.__version__)


def test_package_xml_is_valid_and_ament_python() -> None:
    catkin_pkg = pytest.importorskip("catkin_pkg.package", reason="checking package.xml needs catkin_pkg")
    warnings: list[str] = []
    package = catkin_pkg.parse_package(str(ROOT / "package.xml"), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    assert package.package_format == 3
    assert [e.content for e in package.exports if e.tagname == "build_type"] == ["ament_python"]


def test_package_xml_names_every_ros_package_that_is_imported() -> None:
    declared = set(re.findall(r"<exec_depend>(.*)</exec_depend>", (ROOT / "package.xml").read_text()))
    assert {name for name in third_party_imports() if name in ROS_PACKAGES} <= declared


def third_party_imports() -> set[str]:
    """Return the top-level names that the code imports and Python does not bring."""
    names = set()
    for path in [*(ROOT / "qgf_ros").rglob("*.py"), *(ROOT / "sim").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found = [node.module]
            else:
                continue
            names.update(DISTRIBUTIONS.get(name, name.split(".")[0]) for name in found)
    return names - sys.stdlib_module_names - {"qgf_ros", "qgf_sim"}


def test_every_imported_library_is_declared(setup_arguments: dict[str, Any]) -> None:
    declared = {canonical(requirement) for requirement in requirements(setup_arguments)}
    names = third_party_imports() - WITHOUT_A_WHEEL
    imported = {f"ros-{name}" if name in ROS_PACKAGES else name for name in names}
    assert {canonical(name) for name in imported} <= declared


def test_constraints_pin_every_requirement_and_name_no_index(setup_arguments: dict[str, Any]) -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[^\s;]+( ; .+)?", line) for line in lines)
    assert {canonical(requirement) for requirement in requirements(setup_arguments)} <= {
        canonical(line) for line in lines
    }


def test_cpu_and_gpu_runtimes_are_alternatives(setup_arguments: dict[str, Any]) -> None:
    """Both distributions install the import package `onnxruntime`, so nothing may ask for both."""
    users = {
        extra: {canonical(r) for r in requirements} & {"onnxruntime", "onnxruntime-gpu"}
        for extra, requirements in {
            **setup_arguments["extras_require"],
            "": setup_arguments["install_requires"],
        }.items()
    }
    assert {extra: names for extra, names in users.items() if names} == {
        "cpu": {"onnxruntime"},
        "gpu": {"onnxruntime-gpu"},
    }


def test_executables_are_where_ros2_run_looks(setup_arguments: dict[str, Any]) -> None:
    installed = dict(setup_arguments["data_files"])["lib/qgf_ros"]
    assert {Path(path).name for path in installed} == EXECUTABLES
    assert {entry.split(" = ")[0] for entry in setup_arguments["entry_points"]["console_scripts"]} == EXECUTABLES
    for path in [*installed, ".ci/run"]:
        assert os.access(ROOT / path, os.X_OK), f"{path} has no run bit"


def test_config_launch_and_models_are_installed(setup_arguments: dict[str, Any]) -> None:
    installed = {path for _, paths in setup_arguments["data_files"] for path in paths}
    for folder in ("config", "launch", "models"):
        files = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}
        expected = {path for path in files if "__pycache__" not in path and not Path(path).name.startswith(".")}
        assert expected <= installed


def run(command: list[str], folder: Path, **environment: str) -> str:
    """Run a command with this interpreter's scripts first on the path, and return what it printed."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**clean, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def colcon(folder: Path, *arguments: str) -> str:
    """Run colcon with its logs below `folder`."""
    executable = shutil.which("colcon", path=sysconfig.get_path("scripts")) or shutil.which("colcon")
    if executable is None:
        pytest.skip("colcon is not installed; the dev extra brings it")
    return run([executable, "--log-base", str(folder / "log"), *arguments], folder, COLCON_HOME=str(folder / "colcon"))


def test_colcon_sees_an_ament_python_package(tmp_path: Path) -> None:
    listed = colcon(tmp_path, "list", "--base-paths", str(ROOT)).split()
    assert (listed[0], listed[-1]) == ("qgf_ros", "(ros.ament_python)")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the source tree, so that builds leave nothing in the real one."""
    target = tmp_path / "src" / "qgf_ros"
    skip = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "install", "log", "data", "runs", "docs")
    shutil.copytree(ROOT, target, symlinks=True, ignore=skip)
    return target


def pip(checkout: Path, *arguments: str) -> Path:
    """Install a copy of the tree below a prefix of its own; nothing is downloaded."""
    prefix = checkout.parents[1] / "install" / "qgf_ros"
    pytest.importorskip("pip", reason="this test installs with pip")
    offline = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
    run([sys.executable, "-m", "pip", "install", *offline, "--prefix", str(prefix), *arguments], checkout)
    return prefix


def pip_editable(checkout: Path) -> Path:
    """Install a copy of the tree in place; needs the build hook that setuptools has since 64."""
    setuptools_version = importlib.metadata.version("setuptools")  # importing it here would replace distutils
    if int(setuptools_version.split(".")[0]) < 64:
        pytest.skip(f"without build isolation, an editable install needs setuptools 64; this is {setuptools_version}")
    return pip(checkout, "--editable", ".")


def build(checkout: Path, *arguments: str) -> Path:
    """Build a copy of the tree in a colcon workspace."""
    workspace = checkout.parents[1]
    colcon(workspace, "build", "--event-handlers", "console_direct+", *arguments)
    return workspace / "install" / "qgf_ros"


INSTALLERS: dict[str, Callable[[Path], Path]] = {
    "pip": lambda checkout: pip(checkout, "."),
    "pip-editable": pip_editable,
    "colcon": build,
    "colcon-symlink": lambda checkout: build(checkout, "--symlink-install"),
}

# Without site-packages (-S), so that only the new installation can answer and not the environment of this test.
PROBE = """
import importlib.util, site, sys
for folder in sys.argv[1:]: site.addsitedir(folder)
import qgf_ros, qgf_sim
assert importlib.util.find_spec("qgf_sim.worlds.environment") and importlib.util.find_spec("qgf_ros.nodes.policy_node")
print(qgf_ros.__file__, qgf_sim.__file__, sep="\\n")
"""


def import_locations(mode: str, prefix: Path) -> list[Path]:
    """Return where both packages come from, asked of a new process as a user of that installation would start it."""
    python = [sys.executable, "-S", "-c", PROBE]
    if mode.startswith("colcon"):
        command = ["sh", "-c", '. "$0" && exec "$@"', str(prefix.parent / "local_setup.sh"), *python]
    else:
        command = [*python, *(str(path) for path in prefix.rglob("*-packages"))]
    return [Path(line) for line in run(command, prefix).split()]


@pytest.mark.slow
@pytest.mark.parametrize("mode", INSTALLERS)
def test_both_packages_import_after(mode: str, checkout: Path) -> None:
    prefix = INSTALLERS[mode](checkout)
    found = import_locations(mode, prefix)
    assert all(path.is_relative_to(checkout.parents[1]) for path in found), found
    live = mode in ("pip-editable", "colcon-symlink")
    assert all(path.resolve().is_relative_to(checkout) == live for path in found), found


@pytest.mark.slow
@pytest.mark.parametrize("mode", [mode for mode in INSTALLERS if mode != "pip-editable"])
def test_share_and_executables_are_there_after(mode: str, checkout: Path) -> None:
    prefix = INSTALLERS[mode](checkout)
    share = prefix / "share" / "qgf_ros"
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / "qgf_ros").is_file()
    for name in EXECUTABLES:
        assert os.access(prefix / "lib" / "qgf_ros" / name, os.X_OK), name
        assert os.access(prefix / "bin" / name, os.X_OK), name
    for folder in ("config", "launch", "models"):
        for source in (path for path in (checkout / folder).rglob("*") if path.is_file()):
            assert (share / source.relative_to(checkout)).read_bytes() == source.read_bytes()
