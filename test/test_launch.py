"""The launch files, with the real launch system where it is installed."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch and launch_ros are on no package index; they come with ROS 2 itself")

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument

from qgf_sim.processes import reserve_domain
from qgf_sim.worlds.shift import RANGES

LAUNCH = Path(__file__).resolve().parents[1] / "launch"

# Starts a file as `ros2 launch` does, without needing ros2cli.
STARTER = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
arguments = [tuple(text.split(":=", 1)) for text in sys.argv[2:]]
service = LaunchService(noninteractive=True)
service.include_launch_description(
    IncludeLaunchDescription(AnyLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)
)
sys.exit(service.run())
"""


def declared(name: str) -> dict[str, DeclareLaunchArgument]:
    """Return the arguments that a launch file declares itself."""
    description = runpy.run_path(str(LAUNCH / name))["generate_launch_description"]()
    assert isinstance(description, LaunchDescription)
    return {entity.name: entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)}


@pytest.mark.parametrize("name", ["robot.launch.py", "sim.launch.py"])
def test_every_argument_is_described_and_has_a_default(name: str) -> None:
    for argument in declared(name).values():
        assert "no description" not in argument.description, argument.name
        assert argument.default_value is not None, argument.name


def test_arguments_are_the_documented_ones() -> None:
    robot, sim = declared("robot.launch.py").keys(), declared("sim.launch.py").keys()
    common = {"bundle", "params_file", "namespace", "log_level", "autostart", "guidance_weight", "critic", "trigger"}
    assert {*common, "use_sim_time", "respawn", "dashboard", "dashboard_host", "dashboard_port"} <= robot
    assert {"task", "mode", "episodes", "results_file", "use_sim_time", "keyframe", "speed_factor", *RANGES} <= sim


@pytest.fixture
def launch_environment(tmp_path: Path) -> dict[str, str]:
    """An environment of its own for ROS, in which the package is found."""
    packages = pytest.importorskip("ament_index_python.packages", reason="finding packages needs ament_index_python")
    try:
        packages.get_package_prefix("qgf_ros")
    except packages.PackageNotFoundError:
        pytest.skip("qgf_ros is not in the ament index; build the workspace and source it")
    own = {"ROS_DOMAIN_ID": str(reserve_domain()), "ROS_LOG_DIR": str(tmp_path), "ROS_HOME": str(tmp_path)}
    return {**os.environ, **own, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


@pytest.mark.slow
def test_simulation_runs_its_episodes_and_ends_by_itself(
    tiny_bundle: Path, tmp_path: Path, launch_environment: dict[str, str]
) -> None:
    results = tmp_path / "results.jsonl"
    arguments = [f"bundle:={tiny_bundle}", "task:=2", "guidance_weight:=0.1", "episodes:=1", "episode_seed:=5"]
    # Numbers as a person writes them, whatever type the parameter has.
    arguments += ["keyframe:=home", "mass_factor:=2", "action_delay:=1", "observation_noise:=0.005"]
    done = subprocess.run(
        [sys.executable, "-c", STARTER, str(LAUNCH / "sim.launch.py"), *arguments, f"results_file:={results}"],
        env=launch_environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    outcomes = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(outcome["task"], outcome["seed"], outcome["keyframe"]) for outcome in outcomes] == [(2, 5, "home")]
    assert outcomes[0]["shift"] == {"mass_factor": 2.0, "action_delay": 1, "observation_noise": 0.005}
    assert "critic task2, guidance weight 0.1" in output
    assert output.count("process has finished cleanly") == 2


def launched(environment: dict[str, str], file: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Launch a file until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-c", STARTER, str(LAUNCH / file), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


def interrupted(
    environment: dict[str, str], file: str, *arguments: str, until: Callable[[str], bool]
) -> tuple[int, str, list[int]]:
    """Launch a file, and end it as Ctrl-C does when its output satisfies; return exit code, output and the nodes' ids."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(LAUNCH / file), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(240.0, process.kill)
    watchdog.start()
    output = ""
    for line in process.stdout:
        output += line
        if until(output):
            break
    # Launch loses a signal that comes while it has a process started and not yet taken charge of it.
    while not all(map(has_come_far, started(output))):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output += process.communicate()[0]
    watchdog.cancel()
    return process.returncode, output, started(output)


def started(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"process started with pid \[(\d+)\]", output)]


def has_come_far(pid: int) -> bool:
    """Whether a process loads ROS, or has done so, or has ended."""
    try:
        return "librcl" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return True


def running(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize(
    ("file", "argument", "sentence"),
    [
        (
            "sim.launch.py",
            "observation_noise:=much",
            "observation_noise:=much was given; give a number from 0.0 to 1.0",
        ),
        ("sim.launch.py", "task:=9", "task:=9 was given; give a whole number from 1 to 5"),
        ("sim.launch.py", "bundel:=cube-single", "sim.launch.py has no argument bundel; did you mean bundle?"),
        (
            "sim.launch.py",
            "environment:=scene",
            "environment:=scene was given, and bundle cube-single is for cube-single",
        ),
        ("sim.launch.py", "mode:=fast", 'Argument "mode" provided value "fast" is not valid'),
        ("robot.launch.py", "num_samples:=x", "num_samples:=x was given; give a whole number from 1 to 1024"),
        ("robot.launch.py", "bundle:=absent", "argument bundle: bundle 'absent' was given, but no folder"),
        (
            "robot.launch.py",
            "guidance_wieght:=0",
            "robot.launch.py has no argument guidance_wieght; did you mean guidance_wei",
        ),
        (
            "robot.launch.py",
            "params_file:=/absent.yaml",
            "argument params_file: parameter file /absent.yaml cannot be read",
        ),
    ],
)
def test_a_wrong_argument_is_refused_by_name_before_anything_starts(
    launch_environment: dict[str, str], file: str, argument: str, sentence: str
) -> None:
    done = launched(launch_environment, file, argument)
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert f"Caught exception in launch (see debug for traceback): {sentence}" in output
    assert "process started" not in output
    assert "Traceback" not in output


def test_a_file_that_includes_one_of_ours_may_have_arguments_of_its_own(
    launch_environment: dict[str, str], tmp_path: Path
) -> None:
    """Its misspelt ones are refused by nobody, so that they are said; what it gives on is checked as ever."""
    parent = tmp_path / "cell.launch.py"
    robot = str(LAUNCH / "robot.launch.py")
    parent.write_text(
        "from launch import LaunchDescription\n"
        "from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription\n"
        "from launch.launch_description_sources import AnyLaunchDescriptionSource\n"
        "given = {'guidance_wieght': '0', 'bundle': 'absent'}.items()\n"
        "def generate_launch_description():\n"
        "    include = IncludeLaunchDescription(AnyLaunchDescriptionSource("
        f"{robot!r}), launch_arguments=given)\n"
        "    return LaunchDescription([DeclareLaunchArgument('gripper', default_value='2f'), include])\n"
    )
    done = launched(launch_environment, str(parent), "gripper:=3f")
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "argument guidance_wieght is not known here; did you mean guidance_weight?" in output
    assert "argument bundle: bundle 'absent' was given" in output
    assert "gripper is not known" not in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bundle", "environment", "critic"), [("cube-single-goal", "cube-single", "goal"), ("scene", "scene", "task2")]
)
def test_the_bundle_says_which_world_is_simulated_and_which_critic_guides(
    launch_environment: dict[str, str], bundle: str, environment: str, critic: str
) -> None:
    code, output, pids = interrupted(
        launch_environment,
        "sim.launch.py",
        f"bundle:={bundle}",
        "task:=2",
        until=lambda said: "commanding after a hold" in said,
    )
    assert code == 0, output
    assert f"environment {environment}, mode lockstep, task 2, seed 0, episodes without end; waiting for com" in output
    assert f"bundle {bundle}: critic {critic}, " in output
    assert "Traceback" not in output
    assert running(pids) == []


@pytest.mark.slow
def test_a_recorder_and_a_page_run_beside_the_simulation_and_end_with_it(
    launch_environment: dict[str, str], tiny_bundle: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mcap", reason="recording needs the record extra")
    pytest.importorskip("viser", reason="the page needs the dashboard extra")
    file = tmp_path / "run.mcap"
    parameters = tmp_path / "mine.yaml"  # which says nothing to the recorder itself
    parameters.write_text(f"policy_node: {{ros__parameters: {{bundle: {tiny_bundle}}}}}\n")
    code, output, pids = interrupted(
        launch_environment,
        "sim.launch.py",
        f"params_file:={parameters}",
        "task:=2",
        "guidance_weight:=0",
        "record:=true",
        f"record_file:={file}",
        "dashboard:=true",
        "dashboard_port:=0",
        until=lambda said: all(
            sentence in said
            for sentence in ("recording /command,", "the dashboard is at http", "[sim_bridge]: environment ")
        ),
    )
    assert code == 0, output
    assert output.count("process has finished cleanly") == len(pids) == 4, output
    assert file.stat().st_size > 0
    assert running(pids) == []


@pytest.mark.slow
def test_a_bridge_that_fails_ends_everything_with_a_non_zero_exit_code(launch_environment: dict[str, str]) -> None:
    done = launched(launch_environment, "sim.launch.py", "results_file:=/proc/nowhere/results.jsonl")
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "results file /proc/nowhere/results.jsonl cannot be written" in output
    assert "the simulation bridge ended with exit code 1, as it says above" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_node_that_cannot_configure_ends_the_simulation_with_a_non_zero_exit_code(
    launch_environment: dict[str, str], tiny_bundle: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    with (damaged / "velocity.onnx").open("ab") as file:
        file.write(b"x")
    done = launched(launch_environment, "sim.launch.py", f"bundle:={damaged}", "task:=2")
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "configure failed: " in output
    assert "velocity.onnx has" in output
    assert "the policy node cannot start, as it says above; mend that, and launch again" in output


@pytest.mark.slow
def test_a_misspelt_parameter_in_the_file_ends_everything_and_is_not_tried_again(
    launch_environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "given.yaml"
    file.write_text("/**:\n  ros__parameters:\n    bundle: cube-single\n    guidance_wieght: 0.0\n")
    done = launched(launch_environment, "robot.launch.py", f"params_file:={file}")
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "policy_node has no parameter guidance_wieght; did you mean guidance_weight?" in output
    assert output.count("process started with pid") == 1


def documented() -> list[list[str]]:
    """The words of every `ros2 launch qgf_ros …` of the documentation."""
    root = LAUNCH.parent
    found = set()
    for page in [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = re.findall(r"^ {4}(ros2 launch qgf_ros .*)$", text, re.MULTILINE)
        for command in [
            *lines,
            *(" ".join(words.split()) for words in re.findall(r"`(ros2 launch qgf_ros [^`]*)`", text)),
        ]:
            found.add(command.removeprefix("ros2 launch qgf_ros ").split(" #")[0].strip())
    return [words for words in map(shlex.split, sorted(found)) if "--show-args" not in words]


@pytest.mark.slow
@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_a_documented_launch_starts_all_it_should_and_ends_on_interrupt(
    launch_environment: dict[str, str], tiny_bundle: Path, tmp_path: Path, words: list[str]
) -> None:
    contract, parameters = tmp_path / "contract.yaml", tmp_path / "parameters.yaml"
    contract.write_text("fields: {}\n")
    parameters.write_text("policy_node:\n  ros__parameters:\n    bundle: cube-single\n")
    # What stands for a file of the reader's, and what would be written into the working directory.
    stands_for = {
        "bundle:=/path/of/a/bundle": f"bundle:={tiny_bundle}",
        "contract:=ur5e.yaml": f"contract:={contract}",
        "params_file:=$PWD/ur5e-parameters.yaml": f"params_file:={parameters}",
        "record_file:=run.mcap": f"record_file:={tmp_path / 'run.mcap'}",
        "results_file:=noise.jsonl": f"results_file:={tmp_path / 'noise.jsonl'}",
    }
    file, *arguments = [stands_for.get(word, word) for word in words]
    if "dashboard:=true" in arguments:
        arguments.append("dashboard_port:=0")
    awaited = [] if "autostart:=false" in arguments else [": critic "]
    awaited += ["[sim_bridge]: environment "] if file == "sim.launch.py" else []
    awaited += ["recording into"] if "record:=true" in arguments else []
    awaited += ["the dashboard is at http"] if "dashboard:=true" in arguments else []
    code, output, pids = interrupted(
        launch_environment,
        file,
        *arguments,
        until=lambda said: "process started" in said and all(sentence in said for sentence in awaited),
    )
    assert code == 0, output
    assert all(sentence in output for sentence in awaited), output
    assert "Traceback" not in output
    assert running(pids) == []


@pytest.mark.slow
def test_robot_launch_commands_nothing_without_observations_and_ends_on_interrupt(
    tiny_bundle: Path, launch_environment: dict[str, str]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(LAUNCH / "robot.launch.py"), f"bundle:={tiny_bundle}", "namespace:=cell"],
        env=launch_environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(90.0, process.kill)
    watchdog.start()
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "holding: " in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate()
    watchdog.cancel()
    output = "".join(lines) + rest
    assert process.returncode == 0, output
    assert "[cell.policy_node]" in output
    assert "trigger timer" in output
    assert "nothing received yet" in output
    assert "process has finished cleanly" in output


@pytest.mark.slow
def test_robot_launch_starts_a_killed_node_again_without_motion(
    tiny_bundle: Path, launch_environment: dict[str, str]
) -> None:
    arguments = [f"bundle:={tiny_bundle}", "enable_motion:=true"]
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(LAUNCH / "robot.launch.py"), *arguments],
        env=launch_environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(120.0, process.kill)
    watchdog.start()
    lines: list[str] = []
    pids: list[int] = []
    for line in process.stdout:
        lines.append(line)
        if "process started with pid [" in line:
            pids.append(int(line.rsplit("[", 1)[1].split("]")[0]))
        if "holding: " in line:
            if len(pids) == 2:
                break
            os.kill(pids[0], signal.SIGKILL)
    # What the second node was started with, from the file that launch made of its parameters.
    words = Path(f"/proc/{pids[-1]}/cmdline").read_text().split("\0")
    files = [Path(word) for word, before in zip(words[1:], words) if before == "--params-file"]
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate()
    watchdog.cancel()
    assert process.returncode == 0, "".join(lines) + rest
    assert any("enable_motion: false" in file.read_text() for file in files)
