"""The two parameters that say the guidance weight: a number, and whether the recommended one is used in its place.

Whichever was set last decides: to set `guidance_weight` is to want it, so `use_recommended_weight` follows and becomes
false by itself. A number that is always one is what a slider can show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, ParameterType
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.run_options import ROWS, USE_RECOMMENDED
from qgf_ros.nodes.declarations import declarations, weight_descriptor

WEIGHT = "guidance_weight"


class RecommendedWeight:
    """Keeps the two parameters of a node in step.

    Args:
        node: Their node; both are declared by `declare`.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._follow_up: Any = None
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)

    def declare(self) -> str:
        """Declare both; where only a weight is given, it is used, and the recommended one otherwise.

        Returns:
            A sentence for people where both were given, and the weight is not used; else "".

        Raises:
            GuidanceError: The weight that was given is none.
        """
        table = declarations()
        weight, description = table[WEIGHT]
        found = self._node.declare_parameter(WEIGHT, math.nan)
        given = not math.isnan(found.value)
        if given:
            ROWS[WEIGHT].check(WEIGHT, found.value, float)
        else:
            self._node.set_parameters([Parameter(WEIGHT, value=weight)])
        self._describe(description)
        use = self._node.declare_parameter(USE_RECOMMENDED, not given, table[USE_RECOMMENDED][1]).value
        if given and use:
            return (
                f"{WEIGHT} {found.value:g} is not used, because {USE_RECOMMENDED} is true; set that to false to use it"
            )
        return ""

    def bound(self, manifest: Manifest | None) -> None:
        """Give the weight the range that suits a bundle, or its widest again."""
        value = self._node.get_parameter(WEIGHT).value
        wide = declarations()[WEIGHT][1]
        self._describe(wide if manifest is None else weight_descriptor(manifest, value))

    def _describe(self, descriptor: ParameterDescriptor) -> None:
        descriptor.type = ParameterType.PARAMETER_DOUBLE  # which a declaration fills in, and a change does not
        self._node.set_descriptor(WEIGHT, descriptor)

    def with_follow_up(self, changes: Sequence[Parameter]) -> list[Parameter]:
        """Return changes with the one that follows from them."""
        names = {change.name for change in changes}
        if WEIGHT in names and USE_RECOMMENDED not in names:
            return [*changes, Parameter(USE_RECOMMENDED, value=False)]
        return list(changes)

    def in_force(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameter values with what has followed from a change and is yet to be set."""
        return {**values, USE_RECOMMENDED: values[USE_RECOMMENDED] and self._follow_up is None}

    def follow(self, changes: Sequence[Parameter]) -> None:
        """Set what follows from changes that were accepted, as soon as they are in force."""
        names = {change.name for change in changes}
        if USE_RECOMMENDED in names:
            self._forget()
        elif WEIGHT in names and self._follow_up is None and self._node.get_parameter(USE_RECOMMENDED).value:
            self._follow_up = self._node.create_timer(0.0, self._set, clock=self._steady)

    def _set(self) -> None:
        # Callbacks take turns: nothing else has been set since, or `follow` would have forgotten it.
        self._node.set_parameters([Parameter(USE_RECOMMENDED, value=False)])

    def _forget(self) -> None:
        if self._follow_up is not None:
            self._node.destroy_timer(self._follow_up)
            self._follow_up = None
