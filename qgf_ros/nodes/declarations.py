"""Name, default, description and range of every parameter of the policy node."""

from __future__ import annotations

import math
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from qgf_ros.control.adjustment import ADJUSTABLE
from qgf_ros.control.options import GuidanceOptions
from qgf_ros.guidance.shaping import METHODS, MOST_ASCENT_STEPS, SCHEDULES

RECOMMENDED = "recommended"
TRIGGERS = ("timer", "observation")
RELIABILITIES = ("best_effort", "reliable")

LARGEST_WEIGHT = 1000.0
_LARGEST_SEED = 2**63 - 1
_AT_CONFIGURE = "Read by configure; refused while configured, cleanup first."
_LIVE = "Live: takes effect at the next tick and drops the chunk under way."


def _integer(lower: int, upper: int) -> list[Any]:
    return [IntegerRange(from_value=lower, to_value=upper, step=0 if upper == _LARGEST_SEED else 1)]


def declarations() -> dict[str, tuple[Any, ParameterDescriptor]]:
    """Return default and description of every parameter by name."""
    weight = [FloatingPointRange(from_value=0.0, to_value=LARGEST_WEIGHT, step=0.0)]
    return {
        "bundle": (
            "",
            ParameterDescriptor(
                description="Path of the bundle to run, or the name of an installed one.",
                additional_constraints=_AT_CONFIGURE,
            ),
        ),
        "contract": (
            "",
            ParameterDescriptor(
                description="Path of a robot contract, which says where this robot serves the bundle's observation "
                "fields; empty for the bundle's own topics.",
                additional_constraints=_AT_CONFIGURE,
            ),
        ),
        "critic": (
            "",
            ParameterDescriptor(
                description="Name of the critic that guides; empty for the bundle's first.",
                additional_constraints=_LIVE,
            ),
        ),
        "guidance_weight": (
            RECOMMENDED,
            ParameterDescriptor(
                description="Guidance weight 1/beta [1]; 0 is plain behaviour cloning, "
                "'recommended' is the bundle's weight for the critic in use.",
                additional_constraints=f"A number from 0 to {LARGEST_WEIGHT:g}, or 'recommended'. {_LIVE}",
                floating_point_range=weight,
                dynamic_typing=True,
            ),
        ),
        "num_samples": (
            1,
            ParameterDescriptor(
                description="Candidate chunks [1] of which the one of highest Q is kept.",
                additional_constraints=_LIVE,
                integer_range=_integer(1, 1024),
            ),
        ),
        "execution_horizon": (
            RECOMMENDED,
            ParameterDescriptor(
                description="Actions [control steps] executed of each chunk; 'recommended' is the bundle's own number.",
                additional_constraints=f"An integer from 1 to the bundle's horizon, or 'recommended'. {_LIVE}",
                dynamic_typing=True,
            ),
        ),
        "seed": (
            0,
            ParameterDescriptor(
                description="Seed of the noise [1]; setting it, even to the same value, restarts the noise.",
                additional_constraints=_LIVE,
                integer_range=_integer(0, _LARGEST_SEED),
            ),
        ),
        **_guidance_declarations(),
        **_safety_declarations(),
        "trigger": (
            "timer",
            ParameterDescriptor(
                description="What starts a tick: 'timer', at the bundle's control rate on the node's clock, or "
                "'observation', whenever every topic has delivered the same new stamp.",
                additional_constraints=f"One of {', '.join(TRIGGERS)}. {_AT_CONFIGURE}",
            ),
        ),
        "observation_reliability": (
            "best_effort",
            ParameterDescriptor(
                description="Reliability asked of the observation topics; best_effort matches every publisher.",
                additional_constraints=f"One of {', '.join(RELIABILITIES)}. {_AT_CONFIGURE}",
            ),
        ),
        "providers": (
            ["CPUExecutionProvider"],
            ParameterDescriptor(
                description="ONNX Runtime execution providers in order of preference.",
                additional_constraints=_AT_CONFIGURE,
            ),
        ),
        "threads": (
            1,
            ParameterDescriptor(
                description="Threads [1] of each ONNX Runtime operator.",
                additional_constraints=_AT_CONFIGURE,
                integer_range=_integer(1, 256),
            ),
        ),
        "autostart": (
            False,
            ParameterDescriptor(description="Configure and activate by itself at start.", read_only=True),
        ),
    }


def _safety_declarations() -> dict[str, tuple[Any, ParameterDescriptor]]:
    above_zero = f"A number above 0; .inf switches it off. {_LIVE}"
    texts: dict[str, tuple[Any, str, str]] = {
        "enable_motion": (
            False,
            "Whether commands go to 'command'; false publishes them on '~/shadow_command' only.",
            "Live: switching it off sends the hold first.",
        ),
        "dry_run": (False, "Never publish on 'command', whatever enable_motion says.", _AT_CONFIGURE),
        "limits": (
            "",
            "Limits of the action that differ from the bundle's, in the units of the action.",
            f"component.attribute=value, separated by commas, such as 'dx.max_rate=0.5, dx.workspace=0.2:0.6'; "
            f"attributes are {', '.join(ADJUSTABLE)}. {_AT_CONFIGURE}",
        ),
        "max_guidance_deviation": (
            math.inf,
            "Largest distance of a guided action from the unguided one of the same noise, per component "
            "[normalised action units].",
            above_zero,
        ),
        "guidance_weight_slew": (math.inf, "Fastest change of the guidance weight in use [1/s].", above_zero),
    }
    return {
        name: (default, ParameterDescriptor(description=description, additional_constraints=allowed))
        for name, (default, description, allowed) in texts.items()
    }


def _guidance_declarations() -> dict[str, tuple[Any, ParameterDescriptor]]:
    above_zero = f"A number above 0; .inf switches it off. {_LIVE}"
    per_step = f"{', '.join(SCHEDULES)}, or one number per denoising step, separated by commas. {_LIVE}"
    texts = {
        "estimator": ("How the guidance gradient is estimated.", f"One of {', '.join(METHODS)}. {_LIVE}"),
        "ascent_steps": ("Steps [1] of grad_step, whose step size is guidance_weight.", _LIVE),
        "ascent_sign": ("Whether grad_step follows the sign of each gradient component.", _LIVE),
        "max_gradient_norm": ("Longer gradients are shortened to this norm [Q per normalised action].", above_zero),
        "disagreement_scale": (
            "The weight is multiplied by d / (d + spread of the ensemble's Q), d being this scale [Q].",
            above_zero,
        ),
        "weight_schedule": ("Factor [1] on guidance_weight over the denoising steps.", per_step),
        "unguided_actions": ("Action components that are never guided.", f"Names, separated by commas. {_LIVE}"),
    }
    ranges = {"ascent_steps": {"integer_range": _integer(1, MOST_ASCENT_STEPS)}}
    defaults = GuidanceOptions()
    return {
        name: (
            getattr(defaults, name),
            ParameterDescriptor(description=description, additional_constraints=allowed, **ranges.get(name, {})),
        )
        for name, (description, allowed) in texts.items()
    }
