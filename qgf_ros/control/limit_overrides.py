"""The limits of a bundle's action, set anew for one robot, and which must not be absent before it moves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.errors import SafetyError

#: Attributes of an action that `manifest_with_limits` may set.
ADJUSTABLE = (
    "lower",
    "upper",
    "max_rate",
    "max_acceleration",
    "max_jerk",
    "measured",
    "workspace",
    "max_start_jump",
    "max_tracking_error",
    "stuck_after",
    "stuck_distance",
)


def manifest_with_limits(manifest: Manifest, limits: str) -> Manifest:
    """Return the manifest with other limits of its action, such as ``"dx.max_rate=0.5, dx.workspace=0.2:0.6"``.

    Args:
        manifest: The contract.
        limits: Assignments component.attribute=value, separated by commas; a pair is joined by a colon, ``none`` is no
            limit or no measurement, and ``measured=FIELD:INDEX`` names an observation component.

    Raises:
        SafetyError: An assignment cannot be read, or the limits do not fit together.
    """
    actions = {field.name: field.model_dump() for field in manifest.action}
    for text in filter(None, (part.strip() for part in limits.split(","))):
        left, _, value = (side.strip() for side in text.partition("="))
        name, _, attribute = left.rpartition(".")
        if name not in actions or attribute not in ADJUSTABLE or not value:
            raise SafetyError(
                f"limits {text!r} was given; expected component.attribute=value with a component of "
                f"{', '.join(actions)} and an attribute of {', '.join(ADJUSTABLE)}"
            )
        first, colon, second = value.partition(":")
        if value == "none":
            actions[name][attribute] = None
        elif attribute == "measured":
            actions[name][attribute] = {"field": first, "component": second or 0}
        else:
            actions[name][attribute] = (first, second) if colon else first
    try:
        return Manifest.model_validate({**manifest.model_dump(), "action": list(actions.values())})
    except ValidationError as error:
        first_error = error.errors()[0]
        place = ".".join(str(part) for part in first_error["loc"])
        raise SafetyError(f"limits {limits!r} was given; {place}: {first_error['msg']}") from error


def limits_text(limits: Mapping[str, Any]) -> str:
    """Return the text of `manifest_with_limits` that means limits given as a map.

    Args:
        limits: Value by component.attribute; a pair is a list of two numbers.
    """

    def written(value: Any) -> str:
        return str(value) if isinstance(value, (str, int, float)) else ":".join(map(str, value))

    return ", ".join(f"{name}={written(value)}" for name, value in limits.items())


#: Attributes without which an absolute action could jump to anywhere within its `lower` and `upper`.
REQUIRED = ("measured", "max_rate", "max_start_jump")


def check_limited(manifest: Manifest, accepted: Collection[str]) -> None:
    """Refuse to move a robot whose absolute actions lack one of `REQUIRED`.

    Args:
        manifest: The contract, with the limits of this robot.
        accepted: Names of components that may lack them.

    Raises:
        SafetyError: A component does, and is not accepted; or an accepted one does not exist.
    """
    names = [field.name for field in manifest.action]
    unknown = [name for name in accepted if name not in names]
    if unknown:
        raise SafetyError(
            f"accept_unlimited {', '.join(unknown)} was given; the components of the action are {', '.join(names)}"
        )
    lacks: dict[str, list[str]] = {}
    for field in manifest.action:
        missing = [name for name in REQUIRED if getattr(field, name) is None]
        if field.hold is None and missing and field.name not in accepted:
            lacks.setdefault(", ".join(missing), []).append(field.name)
    if lacks:
        what = "; ".join(f"{', '.join(components)} (no {missing})" for missing, components in lacks.items())
        raise SafetyError(
            f"absolute actions are not limited enough to move a robot: {what}; set what is missing in limits or the "
            "bundle, or name the components in accept_unlimited"
        )
