"""Name, default, description and range of every parameter of the policy node."""

from __future__ import annotations

import math
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from qgf_ros.control.chunking import SEAMS
from qgf_ros.control.limit_overrides import ADJUSTABLE
from qgf_ros.control.options import GuidanceOptions
from qgf_ros.control.settings import EXECUTIONS
from qgf_ros.guidance.shaping import METHODS, MOST_ASCENT_STEPS, SCHEDULES
from qgf_ros.nodes.executors import EXECUTORS
from qgf_ros.runtime.precision import CHOICES

RECOMMENDED = "recommended"
TRIGGERS = ("timer", "observation")
RELIABILITIES = ("best_effort", "reliable")
FAULT_REACTIONS = ("hold", "decelerate", "stop_publishing")

LARGEST_WEIGHT = 1000.0
SHORTEST_LIMIT = 0.001  # [s], of inference and of the watchdog
_LARGEST_SEED = 2**63 - 1
_AT_CONFIGURE = "Read by configure; refused while configured, cleanup first."
_LIVE = "Live: takes effect at the next tick and drops the chunk under way."
_LIMIT = f"A number above 0; .inf switches it off. {_LIVE}"
_PER_STEP = f"{', '.join(SCHEDULES)}, or one number per denoising step, separated by commas. {_LIVE}"
_OPTIONS = GuidanceOptions()

#: Default, description, and what is allowed when.
_TABLE: dict[str, tuple[Any, str, str]] = {
    "bundle": ("", "Path of the bundle to run, or the name of an installed one.", _AT_CONFIGURE),
    "contract": (
        "",
        "Path of a robot contract, which says where this robot serves the bundle's observation fields; empty for the "
        "bundle's own topics.",
        _AT_CONFIGURE,
    ),
    "critic": ("", "Name of the critic that guides; empty for the bundle's first.", _LIVE),
    "guidance_weight": (
        RECOMMENDED,
        "Guidance weight 1/beta [1]; 0 is plain behaviour cloning, 'recommended' is the bundle's weight for the critic in "
        "use.",
        f"A number from 0 to {LARGEST_WEIGHT:g}, or 'recommended'. {_LIVE}",
    ),
    "num_samples": (1, "Candidate chunks [1] of which the one of highest Q is kept.", _LIVE),
    "execution_horizon": (
        RECOMMENDED,
        "Actions [control steps] executed of each chunk; 'recommended' is the bundle's own number.",
        f"An integer from 1 to the bundle's horizon, or 'recommended'. {_LIVE}",
    ),
    "seed": (0, "Seed of the noise [1]; setting it, even to the same value, restarts the noise.", _LIVE),
    "estimator": (
        _OPTIONS.estimator,
        "How the guidance gradient is estimated.",
        f"One of {', '.join(METHODS)}. {_LIVE}",
    ),
    "ascent_steps": (_OPTIONS.ascent_steps, "Steps [1] of grad_step, whose step size is guidance_weight.", _LIVE),
    "ascent_sign": (_OPTIONS.ascent_sign, "Whether grad_step follows the sign of each gradient component.", _LIVE),
    "max_gradient_norm": (
        _OPTIONS.max_gradient_norm,
        "Longer gradients are shortened to this norm [Q per normalised action].",
        _LIMIT,
    ),
    "disagreement_scale": (
        _OPTIONS.disagreement_scale,
        "The weight is multiplied by d / (d + spread of the ensemble's Q), d being this scale [Q].",
        _LIMIT,
    ),
    "weight_schedule": (
        _OPTIONS.weight_schedule,
        "Factor [1] on guidance_weight over the denoising steps.",
        _PER_STEP,
    ),
    "unguided_actions": (
        _OPTIONS.unguided_actions,
        "Action components that are never guided.",
        f"Names, separated by commas. {_LIVE}",
    ),
    "enable_motion": (
        False,
        "Whether commands go to 'command'; false publishes them on '~/shadow_command' only.",
        "Live: switching it off sends the hold first.",
    ),
    "dry_run": (False, "Never publish on 'command', whatever enable_motion says.", _AT_CONFIGURE),
    "limits": (
        "",
        "Limits of the action that differ from the bundle's, in the units of the action.",
        f"component.attribute=value, separated by commas, such as 'dx.max_rate=0.5, dx.workspace=0.2:0.6'; attributes are "
        f"{', '.join(ADJUSTABLE)}. {_AT_CONFIGURE}",
    ),
    "max_guidance_deviation": (
        math.inf,
        "Largest distance of a guided action from the unguided one of the same noise, per component [normalised action "
        "units].",
        _LIMIT,
    ),
    "guidance_weight_slew": (math.inf, "Fastest change of the guidance weight in use [1/s].", _LIMIT),
    "execution": (
        "synchronous",
        "Whether the robot waits for each inference, or goes on with the chunk under way meanwhile.",
        f"One of {', '.join(EXECUTIONS)}; asynchronous needs an execution_horizon below the bundle's horizon. Live: takes "
        "effect at the next tick.",
    ),
    "seam": ("switch", "How a chunk goes over into the next.", f"One of {', '.join(SEAMS)}. {_LIVE}"),
    "blend_steps": (3, "Length of the seam 'linear' [control steps].", _LIVE),
    "trigger": (
        "timer",
        "What starts a tick: 'timer', at the bundle's control rate on the node's clock, or 'observation', whenever every "
        "topic has delivered the same new stamp.",
        f"One of {', '.join(TRIGGERS)}. {_AT_CONFIGURE}",
    ),
    "observation_reliability": (
        "best_effort",
        "Reliability asked of the observation topics; best_effort matches every publisher.",
        f"One of {', '.join(RELIABILITIES)}. {_AT_CONFIGURE}",
    ),
    "inference_deadline": (
        RECOMMENDED,
        "A chunk whose inference took longer [s of wall time] is dropped; 'recommended' is as long as a chunk lasts, and "
        "no limit in simulated time.",
        f"A number of at least {SHORTEST_LIMIT:g}, .inf for no limit, or 'recommended'. {_AT_CONFIGURE}",
    ),
    "deadline_misses": (
        3,
        "Late chunks [1] in a row after which less is inferred: one sample, then plain behaviour cloning, then none.",
        _AT_CONFIGURE,
    ),
    "watchdog_timeout": (
        RECOMMENDED,
        "Longest wait of an observation for its answer [s of wall time], after which the watchdog ends commanding; "
        "'recommended' is deadline_misses deadlines, at least 0.5 s, and no limit in simulated time.",
        f"A number of at least {SHORTEST_LIMIT:g}, .inf for no limit, or 'recommended'. {_AT_CONFIGURE}",
    ),
    "on_fault": (
        "hold",
        "How commanding ends at a fault: 'hold' at once, 'decelerate' to rest inside the limits and hold, or "
        "'stop_publishing' for a controller with a timeout of its own.",
        f"One of {', '.join(FAULT_REACTIONS)}. {_AT_CONFIGURE}",
    ),
    "heartbeat_rate": (10.0, "Rate of '~/heartbeat' [Hz of wall time].", _AT_CONFIGURE),
    "providers": (
        ["CPUExecutionProvider"],
        "ONNX Runtime execution providers in order of preference: cpu, cuda, tensorrt, or their full names.",
        _AT_CONFIGURE,
    ),
    "precision": (
        "fp32",
        "Precision of the networks; 'auto' is the fastest whose measured action error is within the bundle's tolerance.",
        f"One of {', '.join(CHOICES)}. {_AT_CONFIGURE}",
    ),
    "threads": (1, "Threads [1] of each ONNX Runtime operator.", _AT_CONFIGURE),
    "sched_fifo": (
        0,
        "Real-time priority [1] of every thread of the process under SCHED_FIFO, 1 more for the watchdog; 0 leaves the "
        "scheduling as it is.",
        _AT_CONFIGURE,
    ),
    "cpu_affinity": (
        "",
        "Cores that the process may run on, more than threads of them; empty for all.",
        f"Cores and ranges of cores, separated by commas, such as '2,4-6'. {_AT_CONFIGURE}",
    ),
    "memory_lock": (False, "Keep all memory of the process from being swapped out (mlockall).", _AT_CONFIGURE),
    "executor": (
        EXECUTORS[0],
        "What takes messages in; 'events' is faster, and experimental in rclpy.",
        f"One of {', '.join(EXECUTORS)}. Read only.",
    ),
    "autostart": (False, "Configure and activate by itself at start.", "Read only."),
}


def _integer(lower: int, upper: int) -> dict[str, Any]:
    return {"integer_range": [IntegerRange(from_value=lower, to_value=upper, step=0 if upper == _LARGEST_SEED else 1)]}


def _number(lower: float, upper: float) -> dict[str, Any]:
    return {"floating_point_range": [FloatingPointRange(from_value=lower, to_value=upper, step=0.0)]}


#: What else a descriptor says.
_MORE: dict[str, dict[str, Any]] = {
    "guidance_weight": {**_number(0.0, LARGEST_WEIGHT), "dynamic_typing": True},
    "num_samples": _integer(1, 1024),
    "execution_horizon": {"dynamic_typing": True},
    "seed": _integer(0, _LARGEST_SEED),
    "ascent_steps": _integer(1, MOST_ASCENT_STEPS),
    "blend_steps": _integer(1, 1000),
    "inference_deadline": {"dynamic_typing": True},
    "deadline_misses": _integer(1, 1000),
    "watchdog_timeout": {"dynamic_typing": True},
    "heartbeat_rate": _number(1.0, 1000.0),
    "threads": _integer(1, 256),
    "sched_fifo": _integer(0, 98),
    "executor": {"read_only": True},
    "autostart": {"read_only": True},
}


def declarations() -> dict[str, tuple[Any, ParameterDescriptor]]:
    """Return default and description of every parameter by name."""
    return {
        name: (
            default,
            ParameterDescriptor(description=description, additional_constraints=allowed, **_MORE.get(name, {})),
        )
        for name, (default, description, allowed) in _TABLE.items()
    }
