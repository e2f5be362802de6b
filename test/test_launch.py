"""The launch files, with the real launch system where it is installed."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
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


def test_a_number_that_is_none_is_refused_before_anything_starts(launch_environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTER, str(LAUNCH / "sim.launch.py"), "observation_noise:=much"],
        env=launch_environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 1
    assert "observation_noise:=much was given; give a number" in done.stdout + done.stderr
    assert "process started" not in done.stdout + done.stderr


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
