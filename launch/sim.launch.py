"""The policy node against MuJoCo: `ros2 launch qgf_ros sim.launch.py task:=2 guidance_weight:=0.03`.

The bridge starts here and the node through robot.launch.py, whose further arguments (seed, num_samples, autostart,
params_file, ...) apply here too. When the bridge ends, everything ends.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("qgf_ros")

# Name, default, description and allowed values of the arguments that robot.launch.py does not have.
ARGUMENTS = (
    ("environment", "", "OGBench environment; empty: as in sim_params_file.", None),
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
)

# Arguments that become parameters of the bridge when they are given: parameter and type.
OVERRIDES = {
    "environment": ("environment", str),
    "task": ("task", int),
    "mode": ("mode", str),
    "episode_seed": ("seed", int),
    "episodes": ("episodes", int),
    "results_file": ("results_file", str),
    "replay_file": ("replay_file", str),
    "camera": ("camera", bool),
    "keyframe": ("keyframe", str),
    "speed_factor": ("speed_factor", float),
    "observation_noise": ("observation_noise", float),
    "observation_delay": ("observation_delay", int),
    "observation_dropout": ("observation_dropout", float),
    "action_delay": ("action_delay", int),
    "friction_factor": ("friction_factor", float),
    "mass_factor": ("mass_factor", float),
    "size_factor": ("size_factor", float),
    "camera_jitter": ("camera_jitter", float),
}


def check(context: LaunchContext) -> None:
    """Refuse what is no number while nothing runs yet: a launch that fails later leaves its nodes behind."""
    for name, (_, value_type) in OVERRIDES.items():
        text = LaunchConfiguration(name).perform(context)
        try:
            value_type(text or 0)
        except ValueError:
            kind = "a whole number" if value_type is int else "a number"
            raise RuntimeError(f"{name}:={text} was given; give {kind}") from None


def sim_bridge(context: LaunchContext) -> list[Node]:
    """Return the bridge, with the arguments that were given as parameters after the file's."""
    overrides = {
        parameter: ParameterValue(LaunchConfiguration(name), value_type=value_type)
        for name, (parameter, value_type) in OVERRIDES.items()
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
            on_exit=Shutdown(reason="the simulation ended"),
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` asks for."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("task", default_value="1", description="Single-task number, 1 to 5."),
            # Declared before the include, these five are the defaults of robot.launch.py too.
            DeclareLaunchArgument(
                "critic",
                default_value=["task", LaunchConfiguration("task")],
                description="Critic that guides; the default is the one of the task.",
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
