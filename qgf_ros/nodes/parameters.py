"""The parameters of the policy node: what they mean and what is refused.

`guidance_weight` and `execution_horizon` take a number or the word ``recommended``: the weight its bundle recommends
for the critic in use (and so another one after a live change of critic), or the bundle's execution horizon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rclpy.parameter import Parameter

from qgf_ros.bundle.fields import UNSTAMPED, ObservationField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.chunking import SEAMS
from qgf_ros.control.options import GuidanceOptions
from qgf_ros.control.settings import EXECUTIONS, Settings, without_idle
from qgf_ros.errors import GuidanceError
from qgf_ros.loop.realtime import RealTime, parse_cores
from qgf_ros.loop.supervision import RECOMMENDED_SUPERVISION, Supervision
from qgf_ros.nodes.declarations import (
    FAULT_REACTIONS,
    LARGEST_WEIGHT,
    RECOMMENDED,
    RELIABILITIES,
    SHORTEST_LIMIT,
    TRIGGERS,
    declarations,
)
from qgf_ros.runtime.precision import CHOICES

#: Parameters that change live; the change takes effect at the next tick.
LIVE = (
    "guidance_weight",
    "critic",
    "num_samples",
    "execution_horizon",
    "seed",
    "max_guidance_deviation",
    "guidance_weight_slew",
    "execution",
    "seam",
    "blend_steps",
    *(option.name for option in fields(GuidanceOptions)),
)
#: Parameters read by `configure`; a change is refused from there to `cleanup`.
FIXED = (
    "bundle",
    "contract",
    "limits",
    "dry_run",
    "trigger",
    "observation_reliability",
    "inference_deadline",
    "deadline_misses",
    "watchdog_timeout",
    "on_fault",
    "heartbeat_rate",
    "providers",
    "precision",
    "threads",
    "sched_fifo",
    "cpu_affinity",
    "memory_lock",
)
#: On these depends which weight is best: what else changes live, but for what only delays the weight.
DECISIVE = tuple(n for n in LIVE if n not in ("guidance_weight", "critic", "seed", "guidance_weight_slew"))


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
        precision: One of `runtime.precision.CHOICES`.
        limits: Limits of the action that differ from the bundle's; see `control.limit_overrides`.
        dry_run: Whether no command may ever reach the robot.
        motion: Whether commands go to the robot.
        supervision: What is done about slow inference, stalled threads and faults.
        heartbeat_rate: [Hz].
        real_time: What the process is to get from the kernel.
    """

    bundle: Path
    contract: Path | None
    trigger: str
    reliable: bool
    providers: tuple[str, ...]
    threads: int
    precision: str = "fp32"
    limits: str = ""
    dry_run: bool = False
    motion: bool = False
    supervision: Supervision = RECOMMENDED_SUPERVISION
    heartbeat_rate: float = 10.0
    real_time: RealTime = RealTime()  # noqa: RUF009  (frozen)


def declare(node: Any) -> None:
    """Declare every parameter on a node; overrides from files and launch apply here."""
    for name, (default, descriptor) in declarations().items():
        node.declare_parameter(name, default, descriptor)


def values_of(node: Any) -> dict[str, Any]:
    """Return the values of all parameters of a node by name."""
    return {name: node.get_parameter(name).value for name in declarations()}


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
        _check_recommended({} if card is None else card.recommended_settings, values)
    horizon = values["execution_horizon"]
    if horizon == RECOMMENDED:
        horizon = manifest.execution_horizon
    guidance = _options(values).resolve(manifest)
    settings = Settings(
        float(weight),
        critic,
        values["num_samples"],
        horizon,
        values["seed"],
        guidance,
        values["max_guidance_deviation"],
        values["guidance_weight_slew"],
        values["execution"],
        values["seam"],
        values["blend_steps"],
    )
    settings.check(manifest)
    return settings


def _check_recommended(recommended: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuse a recommended weight with other settings than it was found with; raises GuidanceError."""
    found = without_idle(recommended)
    missing = ", ".join(f"{name} {value}" for name, value in found.items() if values.get(name) != value)
    if missing:
        raise GuidanceError(
            f"guidance_weight {RECOMMENDED!r} was given, which was found with {missing}; set that too, or give a number"
        )


def untested(values: Mapping[str, Any], manifest: Manifest) -> str:
    """Return a sentence if the recommended weight is used with other settings than it was found with, "" if not.

    What it was found with and is no default is not among them: without that, `settings_from` refuses.

    Args:
        values: As of `settings_from`, which has taken them.
        manifest: Of the bundle.
    """
    card = manifest.critics.get(values["critic"] or next(iter(manifest.critics), ""))
    if values["guidance_weight"] != RECOMMENDED or card is None or not card.recommended_weight:
        return ""
    found = {name: default for name, (default, _) in declarations().items() if name in DECISIVE}
    found.update(card.recommended_settings)
    own = {RECOMMENDED: manifest.execution_horizon}
    in_use = without_idle(values)
    differ = {
        name: value
        for name, value in found.items()
        if name in in_use and own.get(values[name], values[name]) != own.get(value, value)
    }
    if not differ:
        return ""
    used = ", ".join(f"{name} {values[name]}" for name in differ)
    known = ", ".join(f"{name} {value}" for name, value in differ.items())
    return (
        f"guidance_weight {RECOMMENDED!r} is untested with {used}; it was found with {known}: tune again, or set that"
    )


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
    if weight != RECOMMENDED and weight > LARGEST_WEIGHT:  # the declared range binds floats only
        raise GuidanceError(f"guidance_weight {weight!r} was given; it must be finite and at most {LARGEST_WEIGHT:g}")
    horizon = values.get("execution_horizon", RECOMMENDED)
    if horizon != RECOMMENDED and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
        raise GuidanceError(
            f"execution_horizon {horizon!r} was given; it must be an integer of at least 1, or {RECOMMENDED!r}"
        )
    for name in ("max_guidance_deviation", "guidance_weight_slew"):
        if not values.get(name, math.inf) > 0.0:
            raise GuidanceError(f"{name} {values[name]!r} was given; it must be above 0, .inf for no limit")
    for name in ("inference_deadline", "watchdog_timeout"):
        value = values.get(name, RECOMMENDED)
        if value != RECOMMENDED and (
            isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= SHORTEST_LIMIT
        ):
            raise GuidanceError(
                f"{name} {value!r} was given; it must be a number of seconds of at least {SHORTEST_LIMIT:g}, .inf for no "
                f"limit, or {RECOMMENDED!r}"
            )
    for name, choices in (
        ("trigger", TRIGGERS),
        ("observation_reliability", RELIABILITIES),
        ("on_fault", FAULT_REACTIONS),
        ("execution", EXECUTIONS),
        ("seam", SEAMS),
        ("precision", CHOICES),
    ):
        if name in values and values[name] not in choices:
            raise GuidanceError(f"{name} {values[name]!r} was given; it must be {' or '.join(choices)}")


def _supervision(values: Mapping[str, Any]) -> Supervision:
    deadline, timeout = (
        None if values[name] == RECOMMENDED else float(values[name])
        for name in ("inference_deadline", "watchdog_timeout")
    )
    return Supervision(deadline, values["deadline_misses"], timeout, values["on_fault"])


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
        precision=values["precision"],
        limits=values["limits"],
        dry_run=values["dry_run"],
        motion=values["enable_motion"] and not values["dry_run"],
        supervision=_supervision(values),
        heartbeat_rate=values["heartbeat_rate"],
        real_time=RealTime(values["sched_fifo"], parse_cores(values["cpu_affinity"]), values["memory_lock"]),
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
