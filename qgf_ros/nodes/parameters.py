"""The parameters of the policy node: declaration, meaning and what is refused.

`guidance_weight` and `execution_horizon` take a number or the word ``recommended``: the weight its bundle recommends
for the critic in use (and so another one after a live change of critic), or the bundle's execution horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter

from qgf_ros.bundle.manifest import UNSTAMPED, Manifest, ObservationField
from qgf_ros.control.controller import Settings
from qgf_ros.control.options import GuidanceOptions
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.shaping import METHODS, MOST_ASCENT_STEPS, SCHEDULES

RECOMMENDED = "recommended"
TRIGGERS = ("timer", "observation")
RELIABILITIES = ("best_effort", "reliable")

#: Parameters that change live; the change takes effect at the next tick.
LIVE = (
    "guidance_weight",
    "critic",
    "num_samples",
    "execution_horizon",
    "seed",
    *(option.name for option in fields(GuidanceOptions)),
)
#: Parameters read by `configure`; a change is refused from there to `cleanup`.
FIXED = ("bundle", "contract", "trigger", "observation_reliability", "providers", "threads")

_LARGEST_WEIGHT = 1000.0
_LARGEST_SEED = 2**63 - 1
_AT_CONFIGURE = "Read by configure; refused while configured, cleanup first."
_LIVE = "Live: takes effect at the next tick and drops the chunk under way."


@dataclass(frozen=True)
class Startup:
    """What `configure` reads.

    Attributes:
        bundle: Path or name of the bundle.
        contract: Path of a robot contract, or None.
        trigger: "timer" or "observation".
        reliable: Whether observation subscriptions ask for reliable delivery.
        providers: ONNX Runtime execution providers in order of preference.
        threads: Threads per operator.
    """

    bundle: Path
    contract: Path | None
    trigger: str
    reliable: bool
    providers: tuple[str, ...]
    threads: int


def _integer(lower: int, upper: int) -> list[Any]:
    return [IntegerRange(from_value=lower, to_value=upper, step=0 if upper == _LARGEST_SEED else 1)]


def _declarations() -> dict[str, tuple[Any, ParameterDescriptor]]:
    weight = [FloatingPointRange(from_value=0.0, to_value=_LARGEST_WEIGHT, step=0.0)]
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
                additional_constraints=f"A number from 0 to {_LARGEST_WEIGHT:g}, or 'recommended'. {_LIVE}",
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


def declare(node: Any) -> None:
    """Declare every parameter on a node; overrides from files and launch apply here."""
    for name, (default, descriptor) in _declarations().items():
        node.declare_parameter(name, default, descriptor)


def values_of(node: Any) -> dict[str, Any]:
    """Return the values of all parameters of a node by name."""
    return {name: node.get_parameter(name).value for name in _declarations()}


def settings_from(values: Mapping[str, Any], manifest: Manifest) -> Settings:
    """Return the settings that parameter values mean for a bundle.

    Args:
        values: Value by name, of at least `LIVE`.
        manifest: Of the bundle.

    Raises:
        GuidanceError: A value is of the wrong type or out of range; the message names it and what is allowed.
    """
    check_types(values)
    critic = values["critic"] or next(iter(manifest.critics), "")
    weight = values["guidance_weight"]
    if weight == RECOMMENDED:
        card = manifest.critics.get(critic)
        weight = 0.0 if card is None else card.recommended_weight
    horizon = values["execution_horizon"]
    if horizon == RECOMMENDED:
        horizon = manifest.execution_horizon
    guidance = _options(values).resolve(manifest)
    settings = Settings(float(weight), critic, values["num_samples"], horizon, values["seed"], guidance)
    settings.check(manifest)
    return settings


def _options(values: Mapping[str, Any]) -> GuidanceOptions:
    return GuidanceOptions(**{option.name: values[option.name] for option in fields(GuidanceOptions)})


def check_types(values: Mapping[str, Any]) -> None:
    """Check what can be said of values without a bundle.

    Raises:
        GuidanceError: A value is of the wrong type or out of range.
    """
    weight = values.get("guidance_weight", RECOMMENDED)
    if weight != RECOMMENDED and (
        isinstance(weight, bool) or not isinstance(weight, (int, float)) or not weight >= 0.0
    ):
        raise GuidanceError(
            f"guidance_weight {weight!r} was given; it must be a number of at least 0, or {RECOMMENDED!r}"
        )
    if weight != RECOMMENDED and weight > _LARGEST_WEIGHT:  # the declared range binds floats only
        raise GuidanceError(f"guidance_weight {weight!r} was given; it must be finite and at most {_LARGEST_WEIGHT:g}")
    horizon = values.get("execution_horizon", RECOMMENDED)
    if horizon != RECOMMENDED and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
        raise GuidanceError(
            f"execution_horizon {horizon!r} was given; it must be an integer of at least 1, or {RECOMMENDED!r}"
        )
    for name, choices in (("trigger", TRIGGERS), ("observation_reliability", RELIABILITIES)):
        if name in values and values[name] not in choices:
            raise GuidanceError(f"{name} {values[name]!r} was given; it must be {' or '.join(choices)}")


def startup_from(values: Mapping[str, Any]) -> Startup:
    """Return what `configure` needs.

    Raises:
        GuidanceError: A value is missing or not among the choices.
    """
    check_types(values)
    if not values["bundle"]:
        raise GuidanceError("parameter bundle is empty; give the path or name of a bundle, such as cube-single")
    return Startup(
        bundle=Path(values["bundle"]).expanduser(),
        contract=Path(values["contract"]).expanduser() if values["contract"] else None,
        trigger=values["trigger"],
        reliable=values["observation_reliability"] == "reliable",
        providers=tuple(values["providers"] or ()),
        threads=values["threads"],
    )


def check_trigger(trigger: str, fields: Sequence[ObservationField]) -> None:
    """Refuse to tick by observation where a live topic has no stamp; raises GuidanceError."""
    unstamped = [field.topic for field in fields if field.live and field.message_type in UNSTAMPED]
    if trigger == "observation" and unstamped:
        raise GuidanceError(
            f"trigger observation needs stamped topics, and {', '.join(unstamped)} has no header; set trigger to timer"
        )


def review(changes: list[Parameter], current: Mapping[str, Any], manifest: Manifest | None) -> Settings | None:
    """Decide on a change of parameters.

    Args:
        changes: The parameters to be set.
        current: The values in force, by name.
        manifest: Of the bundle when configured, else None.

    Returns:
        New settings to use from the next tick on, or None when there is nothing to use them yet.

    Raises:
        GuidanceError: The change is refused; the message is the reason.
    """
    changed = {parameter.name: parameter.value for parameter in changes if parameter.name in current}
    deleted = [name for name, value in changed.items() if value is None]
    if deleted:
        raise GuidanceError(f"parameter {', '.join(deleted)} cannot be deleted; set it to another value")
    if manifest is None:
        check_types(changed)
        _options({**current, **changed}).check()
        return None
    fixed = [name for name in FIXED if name in changed and changed[name] != current[name]]
    if fixed:
        raise GuidanceError(f"{', '.join(fixed)} is fixed while the node is configured; run cleanup, set it, configure")
    if not any(name in changed for name in LIVE):
        return None
    return settings_from({**current, **changed}, manifest)
