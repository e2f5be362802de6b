"""The policy node on a robot: `ros2 launch qgf_ros robot.launch.py bundle:=/path/of/a/bundle`.

Values come from `params_file`; an argument that is given goes before the file, an empty one leaves the file's value.
`enable_motion` and `autostart` never come from the file.

A node that dies is started again, without motion: it infers, publishes shadows and says how it is, and moves the robot
when somebody who knows why it died sets `enable_motion`. One that was started wrongly would end the same way again, so
that everything ends, with a non-zero exit code.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, TimerAction
from launch.events.process import ProcessExited
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, TextSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from qgf_ros.launching.executables import STARTED_WRONGLY
from qgf_ros.launching.launch_arguments import check_names, check_robot, likely_misspelt, of_the_run, weight

# Time from the death of the policy node to its restart [s].
RESTART_DELAY = 2.0
# Time that a policy node which ends has, after the 5 s from Ctrl-C to SIGTERM, before it is killed [s]: a robot that slows down, or
# is led back, takes up to 200 control periods to rest, and only then has its hold.
LONGEST_END = 30.0

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
        "1/beta, a number from 0 (plain behaviour cloning), or recommended; empty: as in params_file.",
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
    (
        "respawn",
        "true",
        "Start a node that died again, with enable_motion false; after a clean end, never.",
        ["true", "false"],
    ),
    (
        "exit_on_failed_start",
        "false",
        "End everything where autostart cannot configure and activate; false: the node stays, to be mended.",
        ["true", "false"],
    ),
    ("use_sim_time", "", "Take the time from /clock; empty: as in params_file.", ["", "true", "false"]),
    ("namespace", "", "Namespace of the node, its topics and services.", None),
    ("record", "false", "Record the run into record_file; see docs/recording.md.", ["true", "false"]),
    ("record_file", "", "MCAP file to record into; empty: run-DATE-TIME.mcap in the working directory.", None),
    ("dashboard", "false", "Serve a page that shows and steers the node; see docs/dashboard.md.", ["true", "false"]),
    (
        "dashboard_host",
        "127.0.0.1",
        "Address that the page is served on; whoever reaches it can steer the robot.",
        None,
    ),
    ("dashboard_port", "8080", "TCP port of the page.", None),
    ("log_level", "info", "Log level of the node.", ["debug", "info", "warn", "error", "fatal"]),
)

# Arguments that become parameters of the same name when they are given, with their type.
OVERRIDES = {
    "bundle": str,
    "contract": str,
    "critic": str,
    "num_samples": int,
    "seed": int,
    "trigger": str,
    "use_sim_time": bool,
}


def check(context: LaunchContext) -> None:
    """Refuse a name or a value that is wrong while nothing runs yet."""
    known = {"params_file", *(name for name, _, _, _ in ARGUMENTS)}
    # Whatever includes this file has further arguments of its own, and they are here too.
    check_names(sys.argv, "robot.launch.py", known)
    known |= context.get_locals_as_dict().get("arguments_of_sim", set())
    for sentence in likely_misspelt(context.launch_configurations, known):
        get_logger("robot.launch.py").warning(sentence)
    check_robot(context.launch_configurations)


def policy_node(context: LaunchContext) -> list[Node]:
    """Return the node, as the arguments are now: another robot of the same launch may have others."""
    names = (
        "params_file",
        "namespace",
        "log_level",
        "enable_motion",
        "autostart",
        "exit_on_failed_start",
        "respawn",
        "guidance_weight",
        *OVERRIDES,
    )
    return [started({name: LaunchConfiguration(name).perform(context) for name in names})]


def started(given: Mapping[str, str]) -> Node:
    """Return the node, with the arguments that were given as parameters after the file's."""

    def restart(event: ProcessExited, context: LaunchContext) -> list[TimerAction]:
        if event.returncode == 0 or context.is_shutdown:
            return []
        if event.returncode == STARTED_WRONGLY:
            raise RuntimeError("the policy node cannot start, as it says above; mend that, and launch again")
        if given["respawn"] != "true":
            return []
        return [TimerAction(period=RESTART_DELAY, actions=[started({**given, "enable_motion": "false"})])]

    types = {"enable_motion": bool, "autostart": bool, "exit_on_failed_start": bool, **OVERRIDES}
    parameters = {
        name: ParameterValue(TextSubstitution(text=given[name]), value_type=value_type)
        for name, value_type in types.items()
        if given[name]
    }
    parameters.update(weight(given["guidance_weight"]))
    return Node(
        package="qgf_ros",
        executable="policy_node",
        name="policy_node",
        namespace=given["namespace"],
        parameters=[given["params_file"], parameters],
        ros_arguments=["--log-level", given["log_level"]],
        output="screen",
        emulate_tty=True,
        sigkill_timeout=str(LONGEST_END),
        on_exit=restart,
    )


def recorder(context: LaunchContext) -> list[Node]:
    """Return the node that records the run, if one is wanted; its end, whatever the reason, ends nothing else."""
    if LaunchConfiguration("record").perform(context) != "true":
        return []
    names = ("bundle", "contract", "params_file", "namespace", "record_file")
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    values = {**of_the_run(given), "out": given["record_file"] or time.strftime("run-%Y%m%d-%H%M%S.mcap")}
    overrides = {name: ParameterValue(value, value_type=str) for name, value in values.items()}
    return [
        Node(
            package="qgf_ros",
            executable="recorder",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), overrides],
            output="screen",
        )
    ]


def dashboard(context: LaunchContext) -> list[Node]:
    """Return the page's node, if it is wanted; its end, whatever the reason, ends nothing else."""
    if LaunchConfiguration("dashboard").perform(context) != "true":
        return []
    arguments = [word for name in ("host", "port") for word in (f"--{name}", LaunchConfiguration(f"dashboard_{name}"))]
    return [
        Node(
            package="qgf_ros",
            executable="dashboard",
            namespace=LaunchConfiguration("namespace"),
            arguments=arguments,
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
            OpaqueFunction(function=check),
            OpaqueFunction(function=policy_node),
            OpaqueFunction(function=recorder),
            OpaqueFunction(function=dashboard),
        ]
    )
