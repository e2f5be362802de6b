"""What a training algorithm is told: a class for each, and in it one row per option, with its default and its words.

`qgf train` makes its options from the rows, so nothing here loads torch. Adding an option is adding a row, and using it.
An option that several algorithms have is said in the same words by all of them; its default may differ.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from qgf_ros.errors import TrainingError

Stored = TypeVar("Stored", bound="StoredConfig")


#: What a critic's target follows from: IQL's value network, or an action after the chunk.
IQL, SARSA, BEST_OF_N, ACTOR = "iql", "sarsa", "best_of_n", "actor"


def _option(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"text": text})


def row_of(kind: type[Any], name: str, default: Any) -> Any:
    """Return the row of an option that another class has, in its words, with another default."""
    (row,) = (row for row in fields(kind) if row.name == name)
    return _option(default, row.metadata["text"])


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

    def without_effect(self, option: str) -> str:
        """Return why one of these options changes nothing beside the others, in a few words; "" where it does."""
        return ""


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
    critic_hidden: tuple[int, ...] = _option(
        (), "Hidden layer sizes of critics and values, where they are not those of --hidden."
    )


@dataclass(frozen=True)
class IqlFlowConfig(CriticOptions):
    """What decides the outcome of `iql_flow`, and most of what decides that of the others; flow times are drawn from
    {0, 1/T, ..., 1} unless an algorithm says otherwise."""

    hidden: tuple[int, ...] = _option((256, 256, 256), "Hidden layer sizes of every network, but see --critic-hidden.")
    denoising_steps: int = _option(10, "Denoising steps T: of Euler, or of the diffusion.")

    def __post_init__(self) -> None:
        counts = ("ensemble", "denoising_steps")
        wrong = [f"{name} {getattr(self, name)}" for name in counts if not 0 < getattr(self, name) < math.inf]
        wrong += [f"hidden {self.hidden}"] if not self.hidden or min(self.hidden) < 1 else []
        wrong += [f"critic_hidden {self.critic_hidden}"] if min(self.critic_hidden, default=1) < 1 else []
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

    @property
    def critic_sizes(self) -> tuple[int, ...]:
        """Hidden layer sizes of critics and values."""
        return self.critic_hidden or self.hidden


@dataclass(frozen=True)
class EdpConfig(IqlFlowConfig):
    """What decides the outcome of `edp`."""

    bc_weight: float = _option(30.0, "Weight of imitation beside the critic's value, in units of rewards.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive("bc_weight", self.bc_weight)


@dataclass(frozen=True)
class TdOptions(CriticOptions):
    """What decides how critics train whose target may be the value of an action; see `learning.algorithms.td_critic`."""

    backup: str = _option(
        IQL,
        "What the critic's target follows from: iql for the value that its expectile regression finds, or the action after "
        "the chunk: sarsa for one of the imitating flow, best_of_n for the best of several, actor for the policy's.",
    )


@dataclass(frozen=True)
class CandidateOptions(StoredConfig):
    """What decides the backup `best_of_n`."""

    candidates: int = _option(8, "Actions of which backup best_of_n takes the best.")


@dataclass(frozen=True)
class TdConfig(TdOptions, IqlFlowConfig):
    """What decides the outcome of an algorithm whose critics may be of either kind."""

    #: What its `backup` may be.
    backups: ClassVar[tuple[str, ...]] = (IQL, ACTOR)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backup not in self.backups:
            raise TrainingError(f"backup {self.backup!r} was given; expected {' or '.join(self.backups)}")
        if self.denoising_steps < 2:
            raise TrainingError(f"denoising_steps {self.denoising_steps} was given; expected 2 or more")
        weights = ("distillation_weight", "inverse_temperature")
        for name in weights:
            if not 0.0 <= getattr(self, name, 0.0) < math.inf:
                raise TrainingError(f"{name} {getattr(self, name)} was given; it must be finite and at least 0")
        if getattr(self, "candidates", 1) < 1:
            raise TrainingError("fewer than 1 candidates were given; backup best_of_n needs some")

    def without_effect(self, option: str) -> str:
        """See `StoredConfig`."""
        needed = {"expectile": IQL, "candidates": BEST_OF_N}.get(option, self.backup)
        return "" if needed == self.backup else f"backup {self.backup} has no use for it, {needed} has"


@dataclass(frozen=True)
class TdFlowConfig(CandidateOptions, TdConfig):
    """What decides the outcome of `td_flow`."""

    backups: ClassVar[tuple[str, ...]] = (IQL, SARSA, BEST_OF_N)

    ensemble: int = row_of(TdOptions, "ensemble", 10)
    aggregate: str = row_of(TdOptions, "aggregate", "mean - 0.5 std")
    backup: str = row_of(TdOptions, "backup", SARSA)


@dataclass(frozen=True)
class FqlConfig(CandidateOptions, TdConfig):
    """What decides the outcome of `fql`; its denoising steps are those of the flow that is imitated."""

    backups: ClassVar[tuple[str, ...]] = (IQL, SARSA, BEST_OF_N, ACTOR)

    distillation_weight: float = _option(
        300.0, "Alpha, of the distance to the flow that is imitated, against the value; in units of rewards."
    )
    normalise_q: bool = _option(False, "Whether the actor's value is divided by the mean of its size.")


@dataclass(frozen=True)
class QamConfig(CandidateOptions, TdConfig):
    """What decides the outcome of `qam`."""

    backups: ClassVar[tuple[str, ...]] = (IQL, SARSA, BEST_OF_N, ACTOR)

    inverse_temperature: float = _option(0.1, "Lambda, of the value in what the policy is to become.")


@dataclass(frozen=True)
class DacConfig(TdConfig):
    """What decides the outcome of `dac`; its denoising steps are those of the diffusion."""

    bc_weight: float = row_of(EdpConfig, "bc_weight", 100.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive("bc_weight", self.bc_weight)


@dataclass(frozen=True)
class QsmConfig(DacConfig):
    """What decides the outcome of `qsm`."""

    bc_weight: float = row_of(DacConfig, "bc_weight", 10.0)
    inverse_temperature: float = row_of(QamConfig, "inverse_temperature", 0.1)


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
    "td_flow": TdFlowConfig,
    "edp": EdpConfig,
    "fql": FqlConfig,
    "qam": QamConfig,
    "dac": DacConfig,
    "qsm": QsmConfig,
    "cfgrl": CfgrlConfig,
    "robust_q": RobustQConfig,
}
#: Options of critics alone, which another run has settled where it gives them.
OF_CRITICS = tuple(field.name for kind in (TdOptions, CandidateOptions) for field in fields(kind))
