"""Name, default, description and range of every parameter of the policy node.

Those of a run are made from the rows of `control.run_options`; those of the node itself are here.
"""

from __future__ import annotations

import math
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from qgf_ros.bundle.expectation import PLAUSIBLE_RANGE
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.own_graphs import usual_weights
from qgf_ros.control.limit_overrides import ADJUSTABLE
from qgf_ros.control.run_options import DEFAULTS, LARGEST_SEED, ROWS, USE_RECOMMENDED, Row
from qgf_ros.nodes.executors import EXECUTORS
from qgf_ros.runtime.precision import CHOICES

RECOMMENDED = "recommended"
TRIGGERS = ("timer", "observation")
RELIABILITIES = ("best_effort", "reliable")
FAULT_REACTIONS = ("hold", "decelerate", "stop_publishing")

SHORTEST_LIMIT = 0.001  # [s], of inference and of the watchdog
_AT_CONFIGURE = "Read by configure; refused while configured, cleanup first."
_LIVE = "Live: takes effect at the next tick and drops the chunk under way."

#: Default, description, and what is allowed when, of the parameters that are no part of a run.
_OF_THE_NODE: dict[str, tuple[Any, str, str]] = {
    "bundle": ("", "Path of the bundle to run, or the name of an installed one.", _AT_CONFIGURE),
    "contract": (
        "",
        "Path of a robot contract, which says where this robot serves the bundle's observation fields; empty for the "
        "bundle's own topics.",
        _AT_CONFIGURE,
    ),
    USE_RECOMMENDED: (
        True,
        "Whether the guidance weight is the bundle's recommended one for the critic in use, with the settings recommended beside "
        "it in place of defaults; setting guidance_weight makes it false.",
        _LIVE,
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
    "accept_unlimited": (
        "",
        "Absolute action components that may move a robot without measured, max_rate or max_start_jump; without them such "
        "a component may jump to anywhere within its lower and upper.",
        f"Names, as a list or separated by commas. {_AT_CONFIGURE}",
    ),
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
    "plausible_range": (
        PLAUSIBLE_RANGE,
        "How far from the median of the training data an observed value is still plausible [widths of the data, from its 0.001 "
        "to its 0.999 quantile]; farther, it is a hold. Without effect where the bundle keeps no quantiles.",
        f"A number of at least 1; .inf switches it off. {_AT_CONFIGURE}",
    ),
    "start_retry_distance": (
        0.2,
        "How far the robot must have moved before a start that was refused is tried again [shares of max_start_jump].",
        _AT_CONFIGURE,
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
    "exit_on_failed_start": (
        False,
        "Whether the process ends with exit code 2 where autostart cannot configure or activate; otherwise it stays, to be "
        "mended.",
        "Read only.",
    ),
}


def _integers(lower: int, upper: int) -> dict[str, Any]:
    return {"integer_range": [IntegerRange(from_value=lower, to_value=upper, step=0 if upper == LARGEST_SEED else 1)]}


def _numbers(lower: float, upper: float) -> dict[str, Any]:
    return {"floating_point_range": [FloatingPointRange(from_value=lower, to_value=upper, step=0.0)]}


#: What else a descriptor says.
_MORE: dict[str, dict[str, Any]] = {
    "accept_unlimited": {"dynamic_typing": True},
    "inference_deadline": {"dynamic_typing": True},
    "deadline_misses": _integers(1, 1000),
    "watchdog_timeout": {"dynamic_typing": True},
    "start_retry_distance": _numbers(0.01, 10.0),
    "heartbeat_rate": _numbers(1.0, 1000.0),
    "threads": _integers(1, 256),
    "sched_fifo": _integers(0, 98),
    "executor": {"read_only": True},
    "autostart": {"read_only": True},
    "exit_on_failed_start": {"read_only": True},
}


#: Parameters read by `configure`; a change is refused from there to `cleanup`.
FIXED = (
    *(name for name, row in ROWS.items() if not row.live),
    *(name for name, (_, _, allowed) in _OF_THE_NODE.items() if allowed.endswith(_AT_CONFIGURE)),
)


def declarations() -> dict[str, tuple[Any, ParameterDescriptor]]:
    """Return default and description of every parameter by name."""
    of_the_run = {name: (0.0 if name == "guidance_weight" else DEFAULTS[name], _of_a_row(ROWS[name])) for name in ROWS}
    of_the_node = {
        name: (
            default,
            ParameterDescriptor(description=description, additional_constraints=allowed, **_MORE.get(name, {})),
        )
        for name, (default, description, allowed) in _OF_THE_NODE.items()
    }
    return {**of_the_run, **of_the_node}


def _of_a_row(row: Row) -> ParameterDescriptor:
    bounds: dict[str, Any] = {}
    allowed = [f"One of {', '.join(row.choices)}"] if row.choices else []
    if row.allowed:
        allowed.append(row.allowed)
    if row.limit:
        allowed.append(f"A number above {row.lower:g}; .inf switches it off")
    elif math.isfinite(row.upper):
        whole = isinstance(row.lower, int)
        bounds = _integers(int(row.lower), int(row.upper)) if whole else _numbers(row.lower, row.upper)
    when = _LIVE if row.live else _AT_CONFIGURE
    return ParameterDescriptor(
        description=row.sentence(),
        additional_constraints=f"{'; '.join(allowed)}. {when}" if allowed else when,
        **bounds,
    )


def weight_descriptor(manifest: Manifest, in_force: float) -> ParameterDescriptor:
    """Return the description of `guidance_weight` for a bundle: a range in which a slider is of use.

    It goes to four times the largest weight that was tried with a critic, to the largest that `qgf tune` tries by default, or
    to the weight in force, whichever is largest.
    """
    tried = [weight for card in manifest.critics.values() for weight in (card.recommended_weight, *card.tested_range)]
    descriptor = _of_a_row(ROWS["guidance_weight"])
    largest = max(*usual_weights(manifest), in_force, *(4.0 * weight for weight in tried))
    descriptor.floating_point_range[0].to_value = float(largest)
    return descriptor
