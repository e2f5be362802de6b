"""What the observations of the training data were like, component by component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from qgf_ros.bundle.fields import Finite, Name, ObservationField, Record

Array = NDArray[np.float64]
Values = Annotated[tuple[Finite, ...], Field(min_length=1, max_length=10_000)]

#: Share of the data that lies below each quantile.
QUANTILES = {
    "minimum": 0.0,
    "q0_001": 0.001,
    "q0_01": 0.01,
    "median": 0.5,
    "q0_99": 0.99,
    "q0_999": 0.999,
    "maximum": 1.0,
}
#: Every value is plausible that is so near to those of the data [unit of the field]: a whole turn of a joint, and six
#: deviations of the strongest noise of the simulated sensors.
FLOOR = 6.5
#: Where the data reach a clip, as many widths of it beyond are plausible: what lay there was not kept.
_BEYOND_CLIP = 1000.0
#: Digits that are kept.
_DIGITS = 7


class Distribution(Record):
    """Quantiles of the components of one instant of an observation field over the training data, in the field's unit.

    Attributes:
        minimum, maximum: Smallest and largest value.
        q0_001, q0_01, median, q0_99, q0_999: What that share of the data lies below.
    """

    minimum: Values
    q0_001: Values
    q0_01: Values
    median: Values
    q0_99: Values
    q0_999: Values
    maximum: Values

    @model_validator(mode="after")
    def _rising(self) -> Distribution:
        rows = [getattr(self, name) for name in QUANTILES]
        if len({len(row) for row in rows}) > 1:
            raise ValueError(f"quantiles of {', '.join(str(len(row)) for row in rows)} components; each must be of all")
        if any(low > high for lower, upper in zip(rows, rows[1:]) for low, high in zip(lower, upper)):
            raise ValueError(f"quantiles must not fall from {' to '.join(QUANTILES)}")
        return self

    def plausible(self, field: ObservationField, factor: float) -> tuple[Array, Array]:
        """Return the smallest and the largest plausible value of each component, float64 [components] each.

        They lie `factor` widths (from q0_001 to q0_999) from the median, or at the farthest value of the data if that is
        farther, and `FLOOR` more.
        """
        reach = factor * (np.array(self.q0_999) - np.array(self.q0_001))
        low = np.minimum(np.array(self.median) - reach, self.minimum) - FLOOR
        high = np.maximum(np.array(self.median) + reach, self.maximum) + FLOOR
        if field.clip is not None:
            edges = np.sort([edge / np.array(field.scale) + np.array(field.offset) for edge in field.clip], axis=0)
            width = edges[1] - edges[0]
            low = np.where(self.minimum <= edges[0] + 1e-6 * width, edges[0] - _BEYOND_CLIP * width, low)
            high = np.where(self.maximum >= edges[1] - 1e-6 * width, edges[1] + _BEYOND_CLIP * width, high)
        return low, high


class Demonstrations(Record):
    """Of the training data of a bundle.

    Attributes:
        dataset: Name of the file.
        rows: Observations in it.
        fields: By name; a constant field has no entry.
    """

    dataset: str
    rows: Annotated[int, Field(ge=1)]
    fields: dict[Name, Distribution]

    def check(self, fields: Sequence[ObservationField]) -> None:
        """Raise ValueError where they are not of these fields."""
        sizes = {field.name: field.instant_size for field in fields if field.constant is None}
        for name, found in self.fields.items():
            if sizes.get(name) != len(found.median):
                raise ValueError(
                    f"demonstrations of {name} have {len(found.median)} components, the field has "
                    f"{sizes.get(name, 'no')}; make them again of the data"
                )


def demonstrations_of(
    fields: Sequence[ObservationField], observations: NDArray[np.float32], name: str
) -> Demonstrations:
    """Return what a data set was like.

    Args:
        fields: The observation contract.
        observations: Of the data, float32 [R, S].
        name: Of the file.
    """
    found = {}
    for field, place in places(fields):
        if field.constant is None and invertible(field):
            values = in_own_unit(field, observations[:, place]).reshape(-1, field.instant_size)
            rows = np.quantile(values, list(QUANTILES.values()), axis=0)
            found[field.name] = Distribution(**{key: rounded(row) for key, row in zip(QUANTILES, rows)})
    return Demonstrations(dataset=name, rows=len(observations), fields=found)


def places(fields: Sequence[ObservationField]) -> list[tuple[ObservationField, slice]]:
    """Return each field with its place in the observation vector."""
    ends = np.cumsum([field.size for field in fields]).tolist()
    return [(field, slice(end - field.size, end)) for field, end in zip(fields, ends)]


def scales_of(field: ObservationField) -> Array:
    """Return the factor of each component of an instant, float64 [field.instant_size]."""
    return np.broadcast_to(np.asarray(field.scale, dtype=np.float64), field.instant_size)


def invertible(field: ObservationField) -> bool:
    """Return whether what was extracted follows from the scaled values, a clip aside: no factor is 0."""
    return bool(scales_of(field).all())


def in_own_unit(field: ObservationField, block: NDArray[np.floating]) -> Array:
    """Return a block of the observation vector [..., size] in the field's unit, float64; what was clipped stays so."""
    offset = np.tile(np.broadcast_to(field.offset, field.instant_size), field.history)
    values: Array = block.astype(np.float64) / np.tile(scales_of(field), field.history) + offset
    return values


def rounded(values: Array) -> tuple[float, ...]:
    """Return numbers with as many digits as a manifest keeps of the data."""
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values.tolist())


def component_name(field: ObservationField, index: int) -> str:
    """Return what people call a component of an instant: its joint or axis, else its number."""
    place = field.components[index] if field.components else index
    if field.joints:
        name = field.joints[place % len(field.joints)]
        return f"{('cos', 'sin')[place // len(field.joints)]} {name}" if field.extraction.endswith("cos_sin") else name
    if field.extraction in ("position", "linear", "angular", "force", "torque", "linear_acceleration"):
        return "xyz"[place]
    return field.extraction[-4:][place] if field.is_quaternion else f"component {place}"
