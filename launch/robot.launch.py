"""The policy node on a robot: `ros2 launch qgf_ros robot.launch.py bundle:=/path/of/a/bundle`.

Values come from `params_file`; an argument that is given goes before the file, an empty one leaves the file's value.
`enable_motion` and `autostart` never come from the file.
"""

from __future__ import annotations

import time

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Name, default, description and allowed values of every argument.
ARGUMENTS = (
    ("bundle", "", "Path of a bundle, or the name of an installed one; empty: as in params_file.", None),
    (
        "contract",
        "",
        "Path of a robot contract: where this robot serves the observations; empty: as in params_file.",
        None,
    ),
    ("critic", "", "Critic that guides; empty: as in params_file.", None),
    (
        "guidance_weight",
        "",
        "1/beta, a number from 0 (plain behaviour cloning), or 'recommended'; empty: as in params_file.",
        None,
    ),
    ("num_samples", "", "Candidate chunks, of which the one of highest Q is kept; empty: as in params_file.", None),
    ("seed", "", "Seed of the noise; empty: as in params_file.", None),
    (
        "trigger",
        "",
        "What starts a tick: the control rate, or a complete new observation; empty: as in params_file.",
        ["", "timer", "observation"],
    ),
    (
        "enable_motion",
        "false",
        "Publish commands on 'command'; false publishes them on '~/shadow_command' only.",
        ["true", "false"],
    ),
    ("autostart", "true", "Configure and activate by itself; false waits for 'ros2 lifecycle set'.", ["true", "false"]),
    ("use_sim_time", "", "Take the time from /clock; empty: as in params_file.", ["", "true", "false"]),
    ("namespace", "", "Namespace of the node, its topics and services.", None),
    ("record", "false", "Record the run into record_file; see docs/recording.md.", ["true", "false"]),
    ("record_file", "", "MCAP file to record into; empty: run-DATE-TIME.mcap in the working directory.", None),
    ("log_level", "info", "Log level of the node.", ["debug", "info", "warn", "error", "fatal"]),
)

# Arguments that become parameters of the same name when they are given, with their type.
OVERRIDES = {
    "bundle": str,
    "contract": str,
    "critic": str,
    "guidance_weight": None,
    "num_samples": int,
    "seed": int,
    "trigger": str,
    "use_sim_time": bool,
}


def policy_node(context: LaunchContext) -> list[Node]:
    """Return the node, with the arguments that were given as parameters after the file's."""
    overrides = {
        # Without a type the value is read as YAML, so that a weight is a number and 'recommended' a word.
        name: ParameterValue(LaunchConfiguration(name), value_type=value_type)
        for name, value_type in OVERRIDES.items()
        if LaunchConfiguration(name).perform(context)
    }
    return [
        Node(
            package="qgf_ros",
            executable="policy_node",
            name="policy_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[
                LaunchConfiguration("params_file"),
                {
                    "enable_motion": ParameterValue(LaunchConfiguration("enable_motion"), value_type=bool),
                    "autostart": ParameterValue(LaunchConfiguration("autostart"), value_type=bool),
                    **overrides,
                },
            ],
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            output="screen",
            emulate_tty=True,
        )
    ]


def recorder(context: LaunchContext) -> list[Node]:
    """Return the node that records the run, if one is wanted; its end, whatever the reason, ends nothing else."""
    if LaunchConfiguration("record").perform(context) != "true":
        return []
    given = {name: LaunchConfiguration(name).perform(context) for name in ("bundle", "contract", "record_file")}
    file = given.pop("record_file") or time.strftime("run-%Y%m%d-%H%M%S.mcap")
    values = {name: value for name, value in given.items() if value}
    overrides = {name: ParameterValue(value, value_type=str) for name, value in {**values, "out": file}.items()}
    return [
        Node(
            package="qgf_ros",
            executable="recorder",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), overrides],
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` asks for."""
    params_file = PathJoinSubstitution([FindPackageShare("qgf_ros"), "config", "policy_node.yaml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file", default_value=params_file, description="Parameters of the policy node."
            ),
            *(
                DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
                for name, default, description, choices in ARGUMENTS
            ),
            OpaqueFunction(function=policy_node),
            OpaqueFunction(function=recorder),
        ]
    )
