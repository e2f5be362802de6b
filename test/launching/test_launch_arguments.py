"""What is said of the arguments of the launch files before anything starts; the launch system itself is not needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qgf_ros.bundle.store import load_manifest
from qgf_ros.errors import ParameterError
from qgf_ros.launching.launch_arguments import (
    Number,
    check_names,
    check_namespace,
    check_robot,
    likely_misspelt,
    of_the_run,
    resolve_simulation,
    weight,
)

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = {"task": Number(int, 1, 5), "mass_factor": Number(float, 0.05, 20.0)}


def given(**values: str) -> dict[str, str]:
    """Return the arguments of both launch files, with their defaults."""
    empty = ("bundle", "contract", "critic", "guidance_weight", "num_samples", "seed", "namespace", "record_file")
    simulation = ("environment", "task", "mode", "replay_file", "mass_factor")
    files = {"params_file": "policy_node.yaml", "sim_params_file": "sim.yaml"}
    return {
        **dict.fromkeys((*empty, *simulation), ""),
        **{name: str(ROOT / "config" / file) for name, file in files.items()},
        "autostart": "true",
        "record": "false",
        "dashboard_port": "8080",
        **values,
    }


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """Write parameter files, of which each is given by the names of its values."""

    def write(**values: Any) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        lines = "".join(f"    {name}: {value}\n" for name, value in values.items())
        path.write_text(f"/**:\n  ros__parameters:\n{lines}")
        return str(path)

    return write


def test_the_defaults_are_right() -> None:
    check_robot(given())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"bundle": "cube-singel"}, "^argument bundle: bundle 'cube-singel' was given, but no folder"),
        (
            {"contract": "~nobody-of-this-name/arm.yaml"},
            "^contract:=~nobody-of-this-name/arm.yaml was given, and there is no",
        ),
        ({"contract": "/absent.yaml"}, "^contract:=/absent.yaml was given, and there is no such file; give the path"),
        ({"critic": "task9"}, "^critic:=task9 was given; bundle cube-single has task1, task2, task3, task4, task5$"),
        ({"guidance_weight": "strong"}, "^guidance_weight:=strong was given; give a number from 0.* or recommended$"),
        ({"guidance_weight": "-1"}, "^guidance_weight:=-1 was given"),
        ({"guidance_weight": "nan"}, "^guidance_weight:=nan was given"),
        ({"num_samples": "0"}, "^num_samples:=0 was given; give a whole number from 1 to 1024$"),
        ({"num_samples": "2.5"}, "^num_samples:=2.5 was given; give a whole number"),
        ({"seed": "x"}, "^seed:=x was given; give a whole number from 0 to 9223372036854775807$"),
        ({"namespace": "my-cell"}, "^namespace:=my-cell was given; give letters, digits and _"),
        ({"dashboard_port": "http"}, "^dashboard_port:=http was given; give a whole number from 0 to 65535$"),
        ({"params_file": "/absent.yaml"}, "^argument params_file: parameter file /absent.yaml cannot be read"),
        ({"record": "true", "record_file": __file__}, "^record_file:=.* was given, and is there; give another name$"),
        (
            {"record_file": "run.mcap"},
            "^record_file:=run.mcap was given, and nothing is recorded; give record:=true as well$",
        ),
    ],
)
def test_an_argument_of_the_robot_that_is_wrong_is_named(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        check_robot(given(**values))


def test_the_bundle_of_the_file_is_checked_as_that_of_the_file(files: Any) -> None:
    check_robot(given(params_file=files(bundle="scene"), critic="task3"))
    with pytest.raises(ParameterError, match="^argument params_file: bundle 'absent' was given"):
        check_robot(given(params_file=files(bundle="absent")))
    with pytest.raises(ParameterError, match="no bundle was given, and params_file names none"):
        check_robot(given(params_file=files(seed=1)))
    check_robot(given(params_file=files(seed=1), autostart="false"))


def test_a_recorder_has_bundle_and_contract_of_its_node_wherever_they_are_said(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("/cell/policy_node: {ros__parameters: {bundle: scene, contract: arm.yaml}}\n")
    cell = given(params_file=str(file), namespace="cell")
    assert of_the_run(cell) == {"bundle": "scene", "contract": "arm.yaml"}
    assert of_the_run({**cell, "bundle": "mine", "contract": "other.yaml"}) == {
        "bundle": "mine",
        "contract": "other.yaml",
    }
    assert of_the_run(given()) == {"bundle": "cube-single"}


def test_a_weight_is_a_number_or_the_recommended_one() -> None:
    assert weight("") == {}
    assert weight("recommended") == {"use_recommended_weight": True}
    assert weight("1") == {"guidance_weight": 1.0, "use_recommended_weight": False}


@pytest.mark.parametrize("namespace", ["", "/", "cell", "/cell", "/cell/arm_1", "cell/arm"])
def test_namespaces_of_ros_are_taken(namespace: str) -> None:
    check_namespace(namespace)


@pytest.mark.parametrize("namespace", ["a b", "1cell", "cell//arm", "cell/2", "~"])
def test_what_is_no_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(ParameterError, match="namespace:="):
        check_namespace(namespace)


@pytest.mark.parametrize("bundle", sorted(path.name for path in (ROOT / "models").iterdir()))
@pytest.mark.parametrize("task", ["", "2", "5"])
def test_the_bundle_says_what_is_simulated_and_which_critic_guides(bundle: str, task: str) -> None:
    manifest = load_manifest(ROOT / "models" / bundle)
    resolved = resolve_simulation(given(bundle=bundle, task=task), NUMBERS)
    assert resolved["environment"] == manifest.environment
    of_the_task = f"task{task or 1}"
    assert resolved["critic"] == (of_the_task if of_the_task in manifest.critics else "")


def test_what_is_given_goes_before_what_the_bundle_says(files: Any) -> None:
    assert resolve_simulation(given(critic="task3"), NUMBERS)["critic"] == "task3"
    of_node = files(bundle="scene", critic="task4")
    assert resolve_simulation(given(params_file=of_node), NUMBERS) == {"environment": "scene", "critic": "task4"}
    of_bridge = files(task=2)
    assert resolve_simulation(given(sim_params_file=of_bridge), NUMBERS)["critic"] == "task2"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"task": "9"}, "^task:=9 was given; give a whole number from 1 to 5$"),
        ({"task": "two"}, "^task:=two was given"),
        ({"mass_factor": "heavy"}, "^mass_factor:=heavy was given; give a number from 0.05 to 20.0$"),
        ({"mass_factor": "nan"}, "^mass_factor:=nan was given"),
        ({"bundle": "absent"}, "^argument bundle: bundle 'absent' was given"),
        ({"environment": "scene"}, "^environment:=scene was given, and bundle cube-single is for cube-single; leave"),
        ({"mode": "replay"}, "^mode:=replay was given without a recording; give replay_file:="),
        ({"mode": "replay", "replay_file": "/absent.npz"}, "^replay_file:=/absent.npz was given, and there is no such"),
        ({"sim_params_file": "/absent.yaml"}, "^argument sim_params_file: parameter file /absent.yaml cannot be read"),
    ],
)
def test_an_argument_of_the_simulation_that_is_wrong_is_named(values: dict[str, str], sentence: str) -> None:
    values = {"bundle": "cube-single", **values}
    with pytest.raises(ParameterError, match=sentence):
        resolve_simulation(given(**values), NUMBERS)


KNOWN = {"bundle", "task", "guidance_weight"}


def test_an_unknown_argument_is_refused_with_the_nearest() -> None:
    words = ["/opt/ros/jazzy/bin/ros2", "launch", "qgf_ros", "sim.launch.py", "task:=2", "bundel:=x"]
    with pytest.raises(ParameterError, match=r"^sim.launch.py has no argument bundel; did you mean bundle\?$"):
        check_names(words, "sim.launch.py", KNOWN)
    with pytest.raises(ParameterError, match="no argument colour; ros2 launch qgf_ros sim.launch.py --show-args"):
        check_names(["/launch/sim.launch.py", "colour:=red"], "sim.launch.py", KNOWN)


def test_arguments_of_a_file_that_includes_this_one_are_its_own() -> None:
    check_names(["ros2", "launch", "cell", "cell.launch.py", "bundel:=x"], "sim.launch.py", KNOWN)
    assert likely_misspelt(["bundle", "guidance_wieght", "arm", "tasks_per_hour"], KNOWN) == [
        "argument guidance_wieght is not known here; did you mean guidance_weight?"
    ]


def test_the_numbers_of_the_launch_file_are_those_of_the_bridge() -> None:
    """The launch file has them in its own words, as it runs where the bridge's packages may be missing."""
    pytest.importorskip("rcl_interfaces", reason="the parameters of the bridge need the ros extra")
    from qgf_sim.bridge.bridge_parameters import PARAMETERS

    declared = {parameter.name: parameter for parameter in PARAMETERS}
    tree = ast.parse((ROOT / "launch" / "sim.launch.py").read_text(encoding="utf-8"))
    (table,) = (
        node.value for node in tree.body if isinstance(node, ast.Assign) and "OVERRIDES" in ast.unparse(node.targets[0])
    )
    rows: dict[str, Any] = eval(
        ast.unparse(table), {"Number": Number, "str": str, "bool": bool, "int": int, "float": float}
    )
    for parameter, kind in rows.values():
        if isinstance(kind, Number):
            assert kind.kind is type(declared[parameter].default)
            assert (kind.lower, kind.upper) == declared[parameter].bounds
        else:
            assert kind is type(declared[parameter].default)


def test_launch_files_need_nothing_but_what_the_python_of_ros_has() -> None:
    """The nodes' own packages may be in a virtual environment that `ros2 launch` does not run in."""
    script = (
        "import sys\n"
        "for name in ('numpy', 'pydantic', 'rich', 'tyro', 'onnxruntime', 'rclpy'): sys.modules[name] = None\n"
        "import qgf_ros.launching.launch_arguments, qgf_ros.launching.executables\n"
        "qgf_ros.launching.launch_arguments.manifest_of('cube-single')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
