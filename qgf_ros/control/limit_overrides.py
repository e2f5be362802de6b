"""The limits of a bundle's action, set anew for one robot."""

from __future__ import annotations

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
