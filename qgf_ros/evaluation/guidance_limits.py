"""Limits of guidance that a robot may be given with a recommended weight, from what the weight did when it was reported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: The recommended limit over the farthest that guidance moved an action.
MARGIN = 1.25
#: How long a recommended weight takes to come in from 0 with its recommended slew [s].
SLEW_TIME = 1.0


def guidance_limits(reported: Mapping[str, Any]) -> dict[str, float]:
    """Return limits of guidance that the reported episodes of a configuration never met, for a robot.

    The deviation is `MARGIN` times the farthest that guidance moved an action in them, and the weight comes in from 0 in
    `SLEW_TIME`. They bound what a critic does where nobody has seen it, and nothing of what was reported.

    Args:
        reported: As of `qgf_ros.evaluation.tuning.summarise`, on the reporting seeds.

    Returns:
        Values by the names of the node's parameters; no deviation where none was measured, or one was in force.
    """
    limits = {}
    farthest, weight = reported["guidance_distance"], reported["guidance_weight"]
    if farthest is not None and farthest > 0.0 and "max_guidance_deviation" not in reported["settings"]:
        limits["max_guidance_deviation"] = float(math.ceil(100.0 * MARGIN * farthest) / 100.0)
    if weight > 0.0:
        limits["guidance_weight_slew"] = float(weight / SLEW_TIME)
    return limits
