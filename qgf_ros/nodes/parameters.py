"""The parameters of the policy node: what they mean and what is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.parameter import Parameter

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.messages.message_types import UNSTAMPED
from qgf_ros.control.limit_overrides import check_limited
from qgf_ros.control.run_options import RECOMMENDED as RECOMMENDED_WEIGHT
from qgf_ros.control.run_options import ROWS, USE_RECOMMENDED, RunOptions
from qgf_ros.errors import GuidanceError
from qgf_ros.loop.realtime import RealTime, parse_cores
from qgf_ros.loop.supervision import RECOMMENDED_SUPERVISION, Supervision
from qgf_ros.nodes.declarations import (
    FAULT_REACTIONS,
    FIXED,
    RECOMMENDED,
    RELIABILITIES,
    SHORTEST_LIMIT,
    TRIGGERS,
    declarations,
)
from qgf_ros.runtime.precision import CHOICES

#: Parameters that change a run while the robot runs; the change takes effect at the next tick.
LIVE = (*(name for name, row in ROWS.items() if row.live), USE_RECOMMENDED)
#: rclpy's own. With it go timer, limits of time and what counts as silence, which are made by `configure` and `activate`.
SIMULATED_TIME = "use_sim_time"


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
        unlimited: Absolute components of the action that may lack limits before the robot moves.
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
    unlimited: tuple[str, ...] = ()
    dry_run: bool = False
    motion: bool = False
    supervision: Supervision = RECOMMENDED_SUPERVISION
    heartbeat_rate: float = 10.0
    real_time: RealTime = RealTime()  # noqa: RUF009  (frozen)


def values_of(node: Any) -> dict[str, Any]:
    """Return the values of all parameters of a node by name."""
    return {name: node.get_parameter(name).value for name in (*declarations(), SIMULATED_TIME)}


def options_from(values: Mapping[str, Any]) -> RunOptions:
    """Return the run options that parameter values mean.

    Args:
        values: Value by name, of at least `LIVE`.

    Raises:
        GuidanceError: The weight is none, even if it is not used.
    """
    options = {name: values[name] for name in ROWS}
    ROWS["guidance_weight"].check("guidance_weight", options["guidance_weight"], float)
    if values[USE_RECOMMENDED]:
        options["guidance_weight"] = RECOMMENDED_WEIGHT
    return RunOptions(**options)


def names_from(value: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names in a parameter that is a list of them, or a text with commas between them."""
    names = value.split(",") if isinstance(value, str) else value
    return tuple(name.strip() for name in names if name.strip())


def check_types(values: Mapping[str, Any]) -> None:
    """Check what can be said of the values of the node's own parameters.

    Raises:
        GuidanceError: A value is of the wrong type or out of range.
    """
    for name in ("inference_deadline", "watchdog_timeout"):
        value = values.get(name, RECOMMENDED)
        if value != RECOMMENDED and (
            isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= SHORTEST_LIMIT
        ):
            raise GuidanceError(
                f"{name} {value!r} was given; it must be a number of seconds of at least {SHORTEST_LIMIT:g}, .inf for no "
                f"limit, or {RECOMMENDED!r}"
            )
    unlimited = values.get("accept_unlimited", "")
    if isinstance(unlimited, (bool, int, float, bytes)) or not all(isinstance(name, str) for name in unlimited):
        raise GuidanceError(
            f"accept_unlimited {unlimited!r} was given; it must be names of action components, as a list or separated by "
            "commas"
        )
    if not values.get("plausible_range", 1.0) >= 1.0:
        raise GuidanceError(
            f"plausible_range {values['plausible_range']} was given; it must be at least 1, .inf for no limit"
        )
    for name, choices in (
        ("trigger", TRIGGERS),
        ("observation_reliability", RELIABILITIES),
        ("on_fault", FAULT_REACTIONS),
        ("precision", CHOICES),
    ):
        if name in values and values[name] not in choices:
            raise GuidanceError(f"{name} {values[name]!r} was given; it must be {' or '.join(choices)}")


def _supervision(values: Mapping[str, Any]) -> Supervision:
    deadline, timeout = (
        None if values[name] == RECOMMENDED else float(values[name])
        for name in ("inference_deadline", "watchdog_timeout")
    )
    return Supervision(
        deadline,
        values["deadline_misses"],
        timeout,
        values["on_fault"],
        values["plausible_range"],
        values["start_retry_distance"],
    )


def startup_from(values: Mapping[str, Any]) -> Startup:
    """Return what `configure` needs.

    Raises:
        GuidanceError: A value is missing or not among the choices.
    """
    check_types(values)
    if not values["bundle"]:
        raise GuidanceError("parameter bundle is empty; give the path or name of a bundle, such as cube-single")
    return Startup(
        bundle=Path(os.path.expanduser(values["bundle"])),
        contract=Path(os.path.expanduser(values["contract"])) if values["contract"] else None,
        trigger=values["trigger"],
        reliable=values["observation_reliability"] == "reliable",
        providers=tuple(values["providers"] or ()),
        threads=values["threads"],
        precision=values["precision"],
        limits=values["limits"],
        unlimited=names_from(values["accept_unlimited"]),
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


def review(changes: Sequence[Parameter], current: Mapping[str, Any], manifest: Manifest | None) -> RunOptions | None:
    """Decide on a change of parameters.

    Args:
        changes: The parameters to be set.
        current: The values in force, by name.
        manifest: Of the bundle when configured, else None.

    Returns:
        New options to use from the next tick on, or None when there is nothing to use them yet.

    Raises:
        GuidanceError: The change is refused; the message is the reason.
        SafetyError: Motion is refused, because of absent limits.
    """
    changed = {parameter.name: parameter.value for parameter in changes if parameter.name in current}
    deleted = [name for name, value in changed.items() if value is None]
    if deleted:
        raise GuidanceError(f"parameter {', '.join(deleted)} cannot be deleted; set it to another value")
    check_types(changed)
    options = options_from({**current, **changed})
    if manifest is None:
        options.check()
        return None
    fixed = [name for name in (*FIXED, SIMULATED_TIME) if name in changed and changed[name] != current[name]]
    if fixed:
        raise GuidanceError(f"{', '.join(fixed)} is fixed while the node is configured; run cleanup, set it, configure")
    if changed.get("enable_motion") and not current["dry_run"]:
        check_limited(manifest, names_from(current["accept_unlimited"]))
    return options.resolve(manifest) if any(name in changed for name in LIVE) else None
