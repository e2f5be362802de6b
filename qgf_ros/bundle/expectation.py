"""How an observation compares with those of the training data: what is plausible, and what the data never reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qgf_ros.bundle.demonstrations import Array, Distribution, component_name, in_own_unit, invertible, places
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.manifest import Manifest

#: What may be said of a bundle that keeps none.
UNKNOWN = "unknown: the bundle keeps no quantiles of its training data"
#: How far from the median of the data a value is plausible unless somebody says otherwise [widths of the data].
PLAUSIBLE_RANGE = 5.0
#: Most components that are named at once.
_MOST = 8


@dataclass(frozen=True)
class Expected:
    """What a field is expected to yield as one robot serves it.

    Attributes:
        own: The field as the bundle has it, in whose unit the demonstrations are.
        served: The field as the robot serves it.
        known: The demonstrations, or None.
        lower, upper: Between what one instant of it is plausible, float64 [components], in the robot's own unit; the
            largest numbers there are where nothing is known.
    """

    own: ObservationField
    served: ObservationField
    known: Distribution | None
    lower: Array
    upper: Array

    def in_unit(self, values: Array) -> Array:
        """Return an instant as the robot has it, float64 [components], in the unit of the demonstrations."""
        if not invertible(self.own):
            return values
        scaled = (values - np.array(self.served.offset)) * np.array(self.served.scale)
        converted: Array = scaled / np.array(self.own.scale) + np.array(self.own.offset)
        return converted

    def implausible(self, values: Array) -> str | None:
        """Say which component of an instant as the robot has it is not plausible, or return None."""
        wrong = np.flatnonzero(~((values >= self.lower) & (values <= self.upper)))
        if self.known is None or not len(wrong):
            return None
        i, given = int(wrong[0]), self.in_unit(values)
        low, high = (row[i] for row in np.sort([self.in_unit(self.lower), self.in_unit(self.upper)], axis=0))
        return (
            f"{component_name(self.own, i)} is {given[i]:.4g} {self.own.unit}, plausible is {low:.4g} to {high:.4g}, of the "
            f"training data {self.known.minimum[i]:.4g} to {self.known.maximum[i]:.4g}"
        )

    def outside(self, values: Array) -> list[tuple[str, float]]:
        """Return the components of an instant in the own unit that the data never reached, each with how far [own unit]."""
        if self.known is None:
            return []
        low, high = np.array(self.known.minimum), np.array(self.known.maximum)
        values = self._clipped(values)
        distance = np.maximum(low - values, values - high)
        rounding = 1e-5 + 1e-5 * np.maximum(np.abs(low), np.abs(high))
        return [(component_name(self.own, i), float(distance[i])) for i in np.flatnonzero(distance > rounding).tolist()]

    def _clipped(self, values: Array) -> Array:
        """Return an instant in the own unit as far as the policy would see it."""
        if self.own.clip is None:
            return values
        low, high = np.sort(
            [edge / np.array(self.own.scale) + np.array(self.own.offset) for edge in self.own.clip], axis=0
        )
        return np.clip(values, low, high)


def expected_fields(
    manifest: Manifest, served: Sequence[ObservationField], factor: float = np.inf
) -> tuple[Expected, ...]:
    """Return what each field is expected to yield as a robot serves it.

    Args:
        manifest: Of the bundle.
        served: Its fields as the robot serves them.
        factor: How far from the median is plausible [widths of the data]; see `Distribution.plausible`.
    """
    known = {} if manifest.demonstrations is None else manifest.demonstrations.fields
    return tuple(_expected(own, field, known.get(own.name), factor) for own, field in zip(manifest.observation, served))


def plausible_bounds(fields: Sequence[ObservationField], expected: Mapping[str, Expected]) -> tuple[Array, Array]:
    """Return between what every extracted value of an observation is plausible, or at least finite, float64 [S] each.

    Args:
        fields: As a robot serves them.
        expected: What each is expected to yield, by name; of one that is left out, anything finite is.
    """
    upper = np.full(sum(field.size for field in fields), np.finfo(np.float64).max)
    lower = -upper
    for field, place in places(fields):
        if field.constant is None and field.name in expected:
            lower[place] = np.tile(expected[field.name].lower, field.history)
            upper[place] = np.tile(expected[field.name].upper, field.history)
    return lower, upper


def _expected(own: ObservationField, served: ObservationField, known: Distribution | None, factor: float) -> Expected:
    largest = np.full(served.instant_size, np.finfo(np.float64).max)
    if known is None or served.constant is not None or not np.isfinite(factor):
        return Expected(own, served, known if served.constant is None else None, -largest, largest)
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that no data have
        ends = [
            (edge - np.array(own.offset)) * np.array(own.scale) / np.array(served.scale) + np.array(served.offset)
            for edge in known.plausible(own, factor)
        ]
    lower, upper = np.sort(ends, axis=0)
    return Expected(own, served, known, np.fmax(lower, -largest), np.fmin(upper, largest))


def outside_demonstrations(expected: Sequence[Expected], vector: Array | None) -> str:
    """Say what of an observation the training data never reached, the farthest first, and how far.

    Args:
        expected: What each field is expected to yield.
        vector: The observation, float64 [S]; None where there is none yet.

    Returns:
        "" if there is nothing to say, or that the bundle does not know its data.
    """
    if not any(one.known is not None for one in expected):
        return UNKNOWN
    found = []
    for one, (field, place) in zip(expected, places([one.own for one in expected])):
        if one.known is not None and vector is not None:
            newest = in_own_unit(field, vector[place])[-field.instant_size :]
            found += [(distance, f"{field.name} {name}", field.unit) for name, distance in one.outside(newest)]
    return ", ".join(f"{name} by {distance:.3g} {unit}" for distance, name, unit in sorted(found, reverse=True)[:_MOST])
