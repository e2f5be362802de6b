"""The policy node against MuJoCo: `ros2 launch qgf_ros sim.launch.py task:=2 guidance_weight:=0.03`.

The bridge starts here and the node through robot.launch.py, whose further arguments (seed, num_samples, autostart,
params_file, ...) apply here too. The bundle says which environment is simulated, and which critic guides in the task.
When the bridge ends, everything ends; if it fails, or the node cannot start, with a non-zero exit code.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from qgf_ros.launching.launch_arguments import Number, check_names, resolve_simulation

SHARE = FindPackageShare("qgf_ros")

# Name, default, description and allowed values of the arguments that robot.launch.py does not have.
ARGUMENTS = (
    ("task", "", "Single-task number, 1 to 5; empty: as in sim_params_file.", None),
    ("environment", "", "OGBench environment; empty: the bundle's own, or as in sim_params_file.", None),
    ("mode", "", "lockstep, realtime or replay; empty: as in sim_params_file.", ["", "lockstep", "realtime", "replay"]),
    ("episode_seed", "", "Seed of the first episode; each further one adds 1; empty: as in sim_params_file.", None),
    ("episodes", "", "Episodes to run, then everything ends; 0: no end; empty: as in sim_params_file.", None),
    ("results_file", "", "JSON lines file for the outcomes; empty: as in sim_params_file.", None),
    ("replay_file", "", "Recording for mode replay; empty: as in sim_params_file.", None),
    ("camera", "", "Publish pictures on ~/image; empty: as in sim_params_file.", ["", "true", "false"]),
    ("keyframe", "", "Where the arm begins: home; empty: as in sim_params_file.", ["", "home"]),
    ("speed_factor", "", "Simulated seconds per second, in mode realtime; empty: as in sim_params_file.", None),
    (
        "observation_noise",
        "",
        "Domain shift: noise of each measured value, in its unit; empty: as in sim_params_file.",
        None,
    ),
    (
        "observation_delay",
        "",
        "Domain shift: age of what is measured [control steps]; empty: as in sim_params_file.",
        None,
    ),
    (
        "observation_dropout",
        "",
        "Domain shift: probability that a message is not published; empty: as in sim_params_file.",
        None,
    ),
    (
        "action_delay",
        "",
        "Domain shift: from a command to its effect [control steps]; empty: as in sim_params_file.",
        None,
    ),
    ("friction_factor", "", "Domain shift: times the friction of every contact; empty: as in sim_params_file.", None),
    ("mass_factor", "", "Domain shift: times the mass of every object; empty: as in sim_params_file.", None),
    ("size_factor", "", "Domain shift: times the size of every free object; empty: as in sim_params_file.", None),
    (
        "camera_jitter",
        "",
        "Domain shift: standard deviation of the camera's pose [m, rad]; empty: as in sim_params_file.",
        None,
    ),
    (
        "picture_noise",
        "",
        "Domain shift: noise of each number of a pixel [0 to 255]; empty: as in sim_params_file.",
        None,
    ),
    (
        "brightness_factor",
        "",
        "Domain shift: times the brightness of the pictures; empty: as in sim_params_file.",
        None,
    ),
    ("occlusion", "", "Domain shift: sides of a grey patch over the pictures [1]; empty: as in sim_params_file.", None),
)

# Arguments that become parameters of the bridge when they are given: parameter and type, or smallest and largest number.
OVERRIDES = {
    "environment": ("environment", str),
    "task": ("task", Number(int, 1, 5)),
    "mode": ("mode", str),
    "episode_seed": ("seed", Number(int, 0, 2**31 - 1)),
    "episodes": ("episodes", Number(int, 0, 2**31 - 1)),
    "results_file": ("results_file", str),
    "replay_file": ("replay_file", str),
    "camera": ("camera", bool),
    "keyframe": ("keyframe", str),
    "speed_factor": ("speed_factor", Number(float, 0.01, 100.0)),
    "observation_noise": ("observation_noise", Number(float, 0.0, 1.0)),
    "observation_delay": ("observation_delay", Number(int, 0, 100)),
    "observation_dropout": ("observation_dropout", Number(float, 0.0, 0.95)),
    "action_delay": ("action_delay", Number(int, 0, 100)),
    "friction_factor": ("friction_factor", Number(float, 0.05, 20.0)),
    "mass_factor": ("mass_factor", Number(float, 0.05, 20.0)),
    "size_factor": ("size_factor", Number(float, 0.5, 2.0)),
    "camera_jitter": ("camera_jitter", Number(float, 0.0, 0.5)),
    "picture_noise": ("picture_noise", Number(float, 0.0, 128.0)),
    "brightness_factor": ("brightness_factor", Number(float, 0.0, 4.0)),
    "occlusion": ("occlusion", Number(float, 0.0, 1.0)),
}
NUMBERS = {name: kind for name, (_, kind) in OVERRIDES.items() if isinstance(kind, Number)}


def check(context: LaunchContext) -> None:
    """Refuse what is wrong while nothing runs yet, and take what was not given from the bundle."""
    share = Path(SHARE.perform(context))
    robot = runpy.run_path(str(share / "launch" / "robot.launch.py"))["ARGUMENTS"]
    own = {"sim_params_file", "params_file", *(name for name, _, _, _ in ARGUMENTS)}
    check_names(sys.argv, "sim.launch.py", {*own, *(name for name, _, _, _ in robot)})
    context.extend_globals({"arguments_of_sim": own})  # for robot.launch.py, which is included
    given = {
        **{name: default for name, default, _, _ in robot},
        "params_file": str(share / "config" / "policy_node.yaml"),
        **context.launch_configurations,
    }
    context.launch_configurations.update(resolve_simulation(given, NUMBERS))


def ended(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """End everything with the bridge: cleanly, or with a non-zero exit code where it failed."""
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError(f"the simulation bridge ended with exit code {event.returncode}, as it says above")
    return Shutdown(reason="the simulation ended")


def sim_bridge(context: LaunchContext) -> list[Node]:
    """Return the bridge, with the arguments that were given as parameters after the file's."""
    overrides = {
        parameter: ParameterValue(LaunchConfiguration(name), value_type=kind.kind if isinstance(kind, Number) else kind)
        for name, (parameter, kind) in OVERRIDES.items()
        if LaunchConfiguration(name).perform(context)
    }
    return [
        Node(
            package="qgf_ros",
            executable="sim_bridge",
            name="sim_bridge",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("sim_params_file"), {"exit_when_done": True, **overrides}],
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            output="screen",
            emulate_tty=True,
            on_exit=ended,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` asks for."""
    return LaunchDescription(
        [
            # Declared before the include, these six are the defaults of robot.launch.py too.
            DeclareLaunchArgument(
                "critic",
                default_value="",
                description="Critic that guides; empty: as in params_file, or that of the task, or the bundle's first.",
            ),
            DeclareLaunchArgument(
                "exit_on_failed_start",
                default_value="true",
                description="End everything where autostart cannot configure and activate.",
                choices=["true", "false"],
            ),
            DeclareLaunchArgument(
                "trigger",
                default_value="observation",
                description="What starts a tick: the control rate, or a complete new observation.",
                choices=["timer", "observation"],
            ),
            DeclareLaunchArgument(
                "enable_motion",
                default_value="true",
                description="Publish commands on 'command', which the bridge follows.",
                choices=["true", "false"],
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="true",
                description="Take the time from /clock, which the bridge publishes.",
                choices=["true", "false"],
            ),
            DeclareLaunchArgument(
                "sim_params_file",
                default_value=PathJoinSubstitution([SHARE, "config", "sim.yaml"]),
                description="Parameters of the simulation bridge.",
            ),
            *(
                DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
                for name, default, description, choices in ARGUMENTS
            ),
            OpaqueFunction(function=check),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(PathJoinSubstitution([SHARE, "launch", "robot.launch.py"]))
            ),
            OpaqueFunction(function=sim_bridge),
        ]
    )
