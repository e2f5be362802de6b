"""Parameters of the simulation bridge: each with its type, default, range and meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from qgf_ros.errors import SimulationError
from qgf_ros.nodes.admission.strict_parameters import StrictNode
from qgf_sim.worlds.shift import NONE, RANGES, Shift

MODES = ("lockstep", "realtime", "replay")


@dataclass(frozen=True)
class _Parameter:
    name: str
    default: Any
    description: str
    bounds: tuple[float, float] | None = None
    live: bool = False


_SHIFTS = {
    "observation_noise": "standard deviation of each measured value [m, rad, m/s, rad/s, N, N m].",
    "observation_delay": "age of what is measured [control steps].",
    "observation_dropout": "probability that a topic's message of a control step is not published [1].",
    "action_delay": "from a command to its effect [control steps].",
    "friction_factor": "times the friction of every contact [1].",
    "mass_factor": "times the mass of every object [1].",
    "size_factor": "times the size of every free object [1].",
    "camera_jitter": "standard deviation of the camera's pose, once per episode [m, rad].",
    "picture_noise": "standard deviation of each number of a pixel [0 to 255].",
    "brightness_factor": "times the brightness of what the robot's cameras see [1].",
    "occlusion": "height and width of a grey patch over the pictures, as a share of theirs [1].",
}

PARAMETERS = (
    _Parameter("environment", "cube-single", "OGBench environment."),
    _Parameter("mode", "lockstep", "lockstep: a step per command; realtime: 20 steps a second; replay: a recording."),
    _Parameter("task", 1, "Single-task number; takes effect at the next reset.", (1, 5), live=True),
    _Parameter(
        "seed",
        0,
        "Seed of the episode, in replay the number of the recorded episode; takes effect at the next reset.",
        (0, 2**31 - 1),
        live=True,
    ),
    _Parameter("episodes", 0, "Episodes to run, 0 for no end.", (0, 2**31 - 1), live=True),
    _Parameter("auto_reset", True, "Start the next episode, with seed + 1, by itself.", live=True),
    _Parameter("autostart", True, "Start the first episode by itself; false waits for ~/reset."),
    _Parameter("exit_when_done", False, "End the process after the last episode.", live=True),
    _Parameter(
        "hold_limit",
        0.25,
        "Real time: greatest age of a repeated command [s]; an older one is replaced by standing still.",
        (0.0, 10.0),
        live=True,
    ),
    _Parameter(
        "keyframe",
        "",
        "Where the arm begins: home; empty for where the task puts it. Read at the next reset.",
        live=True,
    ),
    _Parameter("steps", 1, "Control steps that one call of ~/step does.", (1, 100_000), live=True),
    _Parameter(
        "speed_factor", 1.0, "Real time: simulated seconds per second of wall time [1].", (0.01, 100.0), live=True
    ),
    *(
        _Parameter(
            name, getattr(NONE, name), f"Domain shift: {_SHIFTS[name]} Read at the next reset.", bounds, live=True
        )
        for name, bounds in RANGES.items()
    ),
    _Parameter("results_file", "", "JSON lines file that outcomes are appended to; empty for none."),
    _Parameter("replay_file", "", "Replay: an .npz data set in OGBench's format."),
    _Parameter("camera", False, "Publish pictures on ~/image (needs EGL)."),
    _Parameter("camera_width", 320, "Width of the pictures [pixels].", (16, 4096)),
    _Parameter("camera_height", 240, "Height of the pictures [pixels].", (16, 4096)),
)


def declare(node: StrictNode) -> None:
    """Declare every parameter on a node and check what ranges cannot say.

    Raises:
        ParameterError: What was given for a parameter is of another type or out of range, or no parameter has its name.
        SimulationError: The mode is unknown, or replay was asked for without a file.
    """
    for parameter in PARAMETERS:
        descriptor = ParameterDescriptor(description=parameter.description, read_only=not parameter.live)
        if parameter.bounds is not None:
            low, high = parameter.bounds
            if isinstance(parameter.default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        node.declare_parameter(parameter.name, parameter.default, descriptor)
    node.refuse_unknown()
    mode = node.get_parameter("mode").value
    if mode not in MODES:
        raise SimulationError(f"mode {mode!r} was given; it is one of {', '.join(MODES)}")
    if mode == "replay" and not node.get_parameter("replay_file").value:
        raise SimulationError("mode replay needs a recording; give the path of an .npz data set as replay_file")


def beginning(node: StrictNode) -> str:
    """Return what is simulated, and what is waited for, in one line."""
    values = {name: node.get_parameter(name).value for name in ("environment", "mode", "task", "seed", "episodes")}
    many = f"{values['episodes']} episodes" if values["episodes"] else "episodes without end"
    command = f"commands on {node.resolve_topic_name('command')}"
    awaited = command if node.get_parameter("autostart").value else f"{node.get_fully_qualified_name()}/reset"
    return (
        f"environment {values['environment']}, mode {values['mode']}, task {values['task']}, seed {values['seed']}, {many}; "
        f"waiting for {awaited}"
    )


def shift_of(node: Any) -> Shift:
    """Return the domain shift that the parameters of a node describe."""
    return Shift(**{name: node.get_parameter(name).value for name in RANGES})
