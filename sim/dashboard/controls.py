"""The parameters of the policy node that the page offers, each with the control that sets it.

`enable_motion` is not among them: the page steers a robot that moves, it does not let one move.
"""

from __future__ import annotations

from dataclasses import dataclass

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.guidance.shaping import METHODS

#: Largest guidance weight of the slider, unless a larger one is in force; the paper's are 0.004 to 0.12.
LARGEST_WEIGHT = 0.3
MOST_SAMPLES = 32


@dataclass(frozen=True)
class Slider:
    """A number: its parameter, range and step; integers are integers throughout."""

    name: str
    lower: float
    upper: float
    step: float


@dataclass(frozen=True)
class Choice:
    """One of several words: its parameter and the words."""

    name: str
    words: tuple[str, ...]


Control = Slider | Choice


def controls_for(manifest: Manifest | None) -> tuple[Control, ...]:
    """Return the controls, the guidance weight first.

    Args:
        manifest: Of the bundle that the node runs; None where it cannot be read, as on another machine: then those that
            only it can bound are left out.
    """
    controls: list[Control] = [Slider("guidance_weight", 0.0, LARGEST_WEIGHT, 0.001)]
    controls.append(Slider("num_samples", 1, MOST_SAMPLES, 1))
    if manifest is not None:
        if manifest.horizon > 1:
            controls.append(Slider("execution_horizon", 1, manifest.horizon, 1))
        if len(manifest.critics) > 1:
            controls.append(Choice("critic", tuple(manifest.critics)))
    controls.append(Choice("estimator", tuple(METHODS)))
    return tuple(controls)
