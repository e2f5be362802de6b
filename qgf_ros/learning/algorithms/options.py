"""What a training algorithm is told: a class for each, and in it one row per option, with its default and its words.

`qgf train` makes its options from the rows, so nothing here loads torch. Adding an option is adding a row, and using it.
An option that several algorithms have is said in the same words by all of them; its default may differ.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from qgf_ros.errors import TrainingError

Stored = TypeVar("Stored", bound="StoredConfig")


def _option(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"text": text})


def _check_positive(name: str, value: float) -> None:
    if not 0.0 < value < math.inf:
        raise TrainingError(f"{name} {value} was given; it must be above 0 and finite")


@dataclass(frozen=True)
class StoredConfig:
    """A part of a run's configuration, as a checkpoint's header holds it: numbers, switches, text and tuples of them."""

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls: type[Stored], values: Mapping[str, Any]) -> Stored:
        """Return this part of a header's configuration; what is not there has its default.

        Raises:
            TrainingError: A value is outside its domain.
        """
        own = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in own.items()})


@dataclass(frozen=True)
class CriticOptions(StoredConfig):
    """What decides how IQL critics train; means nothing where they are another run's."""

    expectile: float = _option(0.9, "Of the value regression; published runs have 0.9 to 0.95.")
    target_rate: float = _option(0.005, "Share of the critic that enters the target critic at each update.")
    ensemble: int = _option(2, "Q networks per critic E; qgf export --members may give the bundle fewer.")
    aggregate: str = _option(
        "min",
        "How their values become the one that the value regresses on and that guides: min, mean, or 'mean - RHO std', such "
        "as 'mean - 0.5 std'.",
    )


@dataclass(frozen=True)
class IqlFlowConfig(CriticOptions):
    """What decides the outcome of `iql_flow`, and most of what decides that of the others; flow times are drawn from
    {0, 1/T, ..., 1} unless an algorithm says otherwise."""

    hidden: tuple[int, ...] = _option((256, 256, 256), "Hidden layer sizes of every network.")
    denoising_steps: int = _option(10, "Euler steps T.")

    def __post_init__(self) -> None:
        counts = ("ensemble", "denoising_steps")
        wrong = [f"{name} {getattr(self, name)}" for name in counts if not 0 < getattr(self, name) < math.inf]
        wrong += [f"hidden {self.hidden}"] if not self.hidden or min(self.hidden) < 1 else []
        wrong += [f"expectile {self.expectile}"] if not 0.0 < self.expectile < 1.0 else []
        wrong += [f"target_rate {self.target_rate}"] if not 0.0 < self.target_rate <= 1.0 else []
        if wrong:
            raise TrainingError(
                f"{', '.join(wrong)} was given; sizes and counts must be positive, target_rate above 0 and at most 1, "
                "expectile between 0 and 1"
            )
        from qgf_ros.bundle.aggregation import deviations  # here, as it loads NumPy

        try:
            deviations(self.aggregate)
        except ValueError as error:
            raise TrainingError(str(error)) from None


@dataclass(frozen=True)
class EdpConfig(IqlFlowConfig):
    """What decides the outcome of `edp`."""

    bc_weight: float = _option(
        30.0,
        "Weight of imitation beside the critic's value: the actor is that of guidance at C / (2 bc_weight) times 1 - t.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive("bc_weight", self.bc_weight)


@dataclass(frozen=True)
class CfgrlConfig(IqlFlowConfig):
    """What decides the outcome of `cfgrl`."""

    plain_weight: float = _option(0.1, "Weight of the imitation of all data beside that of what the critic chose.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive("plain_weight", self.plain_weight)


@dataclass(frozen=True)
class RobustQConfig(IqlFlowConfig):
    """What decides the outcome of `robust_q`; its flow times are those of `iql_flow` and, for its own critics, from [0, 1)."""


#: The options of every algorithm by its name.
OPTIONS: dict[str, type[StoredConfig]] = {
    "iql_flow": IqlFlowConfig,
    "edp": EdpConfig,
    "cfgrl": CfgrlConfig,
    "robust_q": RobustQConfig,
}
#: Options of critics alone, which another run has settled where it gives them.
OF_CRITICS = tuple(field.name for field in fields(CriticOptions))
