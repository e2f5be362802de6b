"""The parameters of the policy node that the page offers, each with the control that sets it.

A run option has a control where its row says between what people steer it, or which words they choose from.
`enable_motion` is not among them: the page steers a robot that moves, it does not let one move.
"""

from __future__ import annotations

from dataclasses import dataclass

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.own_graphs import DIFFERENCE_WEIGHTS, estimators_of, guided_by_difference
from qgf_ros.control.run_options import KINDS, ROWS, Row

#: Steps of a slider over numbers that are no integers.
_STEPS = 300


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
    """Return the controls in the order of the rows, the guidance weight first.

    Args:
        manifest: Of the bundle that the node runs; None where it cannot be read, as on another machine: then those that
            only it can bound are left out.
    """
    controls = [_control(name, row, manifest) for name, row in ROWS.items()]
    return tuple(control for control in controls if control is not None)


def _control(name: str, row: Row, manifest: Manifest | None) -> Control | None:
    """Return the control of an option; None where there is nothing to choose."""
    words = row.choices if row.steered else ()
    bounds = row.typical
    if manifest is not None and name == "critic":
        words = tuple(manifest.critics)
    if manifest is not None and name == "estimator":
        words = estimators_of(manifest)
    if manifest is not None and name == "guidance_weight" and guided_by_difference(manifest):
        bounds = (0.0, max(DIFFERENCE_WEIGHTS))
    if name == "execution_horizon" and bounds is not None:
        bounds = None if manifest is None else (bounds[0], manifest.horizon)
    if len(words) > 1:
        return Choice(name, words)
    if bounds is None or bounds[0] == bounds[1]:
        return None
    lower, upper = bounds
    if KINDS[name] is int:
        return Slider(name, int(lower), int(upper), 1)
    return Slider(name, lower, upper, (upper - lower) / _STEPS)
