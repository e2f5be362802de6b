"""What answers an observation, before any output of a robot makes a message of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Command:
    """The answer to one observation.

    Attributes:
        values: float64 [A], in the units of the action contract.
        action: The normalised action behind it, float32 [A].
        stamp: Stamp of the observation it answers [ns].
        inferred: Whether this tick ran inference, rather than going on with a chunk.
        begins: Whether it is the first one, or the first after a hold.
        measured: Where the robot was, float64 [A] in the same units; NaN if unknown.
        upcoming: The commands that follow if the rest of the chunk is executed, one per control period, float64 [K, A];
            none unless the controller previews.
        braking: Whether it answers no observation, but is on the way from the one it follows to rest.
        led_back: Whether it is on the way to where a robot stands that does not follow; `braking`, too.
        telemetry: Of the chunk it belongs to.
    """

    values: NDArray[np.float64]
    action: NDArray[np.float32]
    stamp: int
    inferred: bool
    begins: bool
    measured: NDArray[np.float64]
    upcoming: NDArray[np.float64]
    braking: bool = False
    led_back: bool = False
    telemetry: Mapping[str, float] = field(default_factory=dict)
