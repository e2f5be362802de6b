"""What is said of a package that is missing: which it is, and a command that brings it."""

from __future__ import annotations

import ast
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qgf_ros.launching import executables, extras
from qgf_ros.launching.extras import EXTRAS, install_command, missing

ROOT = Path(__file__).resolve().parents[2]
#: Brought by the core installation, by a ROS installation alone, or by another package of the same extra.
CORE = {"docstring_parser", "numpy", "pydantic", "yaml", "rich", "tyro"}
ROS_ONLY = {"control_msgs", "tf2_msgs"}


def imported() -> set[str]:
    """Return the packages that the product imports anywhere, and Python does not bring."""
    names = set()
    for path in [*(ROOT / "qgf_ros").rglob("*.py"), *(ROOT / "sim").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"qgf_ros", "qgf_sim"}


def gone(package: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {package!r}", name=package)


def test_every_package_that_is_imported_is_brought_by_the_core_or_by_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    setuptools = pytest.importorskip("setuptools", reason="reading setup.py needs setuptools")
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    assert imported() - CORE - ROS_ONLY <= EXTRAS.keys()
    assert set(EXTRAS.values()) <= given["extras_require"].keys()


@pytest.mark.parametrize("package", sorted(EXTRAS))
def test_a_missing_package_is_one_line_that_names_it_and_what_brings_it(package: str) -> None:
    sentence = missing(gone(f"{package}.part"))
    assert sentence is not None
    assert sentence.startswith(f"{package} cannot be imported (No module named '{package}.part'); ")
    assert "\n" not in sentence
    assert sentence.endswith(install_command(EXTRAS[package]))


def test_a_mistake_of_ours_is_no_missing_package() -> None:
    assert missing(gone("qgf_ros.nonsense")) is None
    assert missing(ImportError("something else")) is None


def test_the_command_needs_nothing_sourced_and_uses_the_pinned_versions() -> None:
    words = shlex.split(install_command("record"))
    assert words == [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-c",
        str(ROOT / "constraints.txt"),
        "-e",
        f"{ROOT}[record]",
    ]
    assert Path(words[5]).is_file()


@pytest.mark.slow
def test_the_command_is_one_that_pip_accepts() -> None:
    pytest.importorskip("pip", reason="this test asks pip")
    words = [*shlex.split(install_command("record")), "--dry-run", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_an_installation_has_the_pinned_versions_in_its_share_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "lib" / "python3.11" / "site-packages" / "qgf_ros" / "launching" / "extras.py"
    module.parent.mkdir(parents=True)
    monkeypatch.setattr(extras, "__file__", str(module))
    assert shlex.split(install_command("sim"))[4:] == ["qgf_ros[sim]"]
    pinned = tmp_path / "share" / "qgf_ros" / "constraints.txt"
    pinned.parent.mkdir(parents=True)
    pinned.touch()
    assert shlex.split(install_command("sim"))[4:] == ["-c", str(pinned), "qgf_ros[sim]"]


def test_a_checkout_right_below_the_root_of_the_file_system_has_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "__file__", "/qgf/qgf_ros/launching/extras.py")
    assert shlex.split(install_command("sim"))[:4] == [sys.executable, "-m", "pip", "install"]


def test_where_ros_is_installed_but_not_sourced_that_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "_DISTRIBUTIONS", tmp_path)
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    assert "source" not in (missing(gone("rclpy")) or "").partition("install it with")[0]
    (tmp_path / "jazzy").mkdir()
    (tmp_path / "jazzy" / "setup.bash").touch()
    sentence = missing(gone("rclpy")) or ""
    assert f"; source your ROS 2 first: source {tmp_path}/jazzy/setup.bash; or install it with: " in sentence
    assert "source your ROS" not in (missing(gone("mcap")) or "")


def test_where_ros_is_sourced_for_another_python_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "humble")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"ROS 2 humble is sourced, but not made for this Python {version}" in (missing(gone("rclpy")) or "")


def test_a_machine_with_the_gpu_runtime_is_not_told_to_install_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_has_gpu_runtime", lambda: True)
    assert (missing(gone("onnx")) or "").endswith(install_command("gpu"))


@pytest.mark.parametrize("name", ["policy_node", "recorder", "sim_bridge", "dashboard"])
def test_an_executable_without_its_packages_says_so_in_one_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def halted(module: str) -> Any:
        raise gone("rclpy")

    monkeypatch.setattr(executables.importlib, "import_module", halted)
    assert getattr(executables, name)() == executables.STARTED_WRONGLY
    assert capsys.readouterr().err == f"{name}: {missing(gone('rclpy'))}\n"


def test_an_executable_with_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def halted(module: str) -> Any:
        raise gone("qgf_ros.nonsense")

    monkeypatch.setattr(executables.importlib, "import_module", halted)
    with pytest.raises(ModuleNotFoundError):
        executables.recorder()


@pytest.mark.parametrize("name", ["policy_node", "recorder", "sim_bridge", "dashboard"])
def test_the_scripts_of_ros2_run_load_nothing_before_they_can_say_so(name: str) -> None:
    """In a Python in which nothing but the standard library can be imported."""
    script = (
        "import runpy, sys\n"
        "class Halting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.partition('.')[0]\n"
        "        if top not in sys.stdlib_module_names and top not in ('qgf_ros', 'qgf_sim'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name if top != 'numpy' else 'rclpy')\n"
        "sys.meta_path.insert(0, Halting())\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"runpy.run_path({str(ROOT / 'scripts' / name)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == executables.STARTED_WRONGLY, done.stderr
    assert done.stderr.startswith(f"{name}: ")
    assert done.stderr.count("\n") == 1
