"""What the trainer, and export after it, ask of a training algorithm; they know none by name.

An algorithm is a torch module: its networks are its attributes, and a checkpoint holds their tensors under the names of
these (of which `adam`, `generator` and `step` are the trainer's). What has `requires_grad` is moved by the optimiser; a
target network, or one taken from another run, has not. One update is

    draw         everything random that the losses need, from the run's generator and outside what torch compiles
    losses       one number to go down, and what to report
    before_step  with the gradients there and the weights still old: targets follow, gradients are clipped

Actors that belong to one critic each are members of one stacked network, and `policies` names each of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from qgf_ros.learning.algorithms.networks import CriticNetwork, VelocityNetwork
from qgf_ros.learning.data.chunks import Batch

Stored = TypeVar("Stored", bound="StoredConfig")


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
class Problem:
    """What an algorithm is made for.

    Attributes:
        critics: Names of the critics, one per task, K in all.
        observation_size: S, the goal included where there is one.
        chunk_size: C, horizon times action size.
    """

    critics: tuple[str, ...]
    observation_size: int
    chunk_size: int


class Losses(NamedTuple):
    """What one batch gives.

    Attributes:
        total: What the optimiser makes smaller, a scalar.
        reported: Scalars by name, as logs and displays show them; each must be finite.
    """

    total: Tensor
    reported: dict[str, Tensor]


@dataclass(frozen=True)
class ExportedPolicy:
    """What one bundle is made of.

    Attributes:
        velocity: The velocity field.
        critic: The critics whose gradient guides it, one task per name.
        critics: Their names, some or all of the run's, in the order of the tasks of `critic`.
        denoising_steps: Euler steps T.
        aggregation: How the members of each critic become the value that guides; see `bundle.aggregation`.
    """

    velocity: VelocityNetwork
    critic: CriticNetwork
    critics: tuple[str, ...]
    denoising_steps: int
    aggregation: str = "min"


class Algorithm(nn.Module, ABC):
    """One way to make policies and critics of chunks.

    A subclass is constructed from its configuration, a `Problem`, and the generator of its initial weights, so that the
    same seed gives the same run.
    """

    #: Its part of the configuration; no field is called as one of `TrainingConfig`.
    config_class: ClassVar[type[StoredConfig]]

    @abstractmethod
    def __init__(self, config: Any, problem: Problem, generator: torch.Generator) -> None:
        super().__init__()

    def draw(self, size: int, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return what is random in the losses of one batch, by name; they find it in `Batch.draws`.

        Args:
            size: Chunks in the batch N.
            generator: Of the processor, whatever the device. Nothing else may be drawn from, or a resumed run is another.
            device: Where the tensors are wanted.
        """
        return {}

    @abstractmethod
    def losses(self, batch: Batch) -> Losses:
        """Return the losses of a batch. It changes nothing, may be compiled, and is validated under `torch.no_grad`."""

    def before_step(self) -> None:
        """Act between the backward pass and the optimiser's step."""

    @abstractmethod
    def policies(self) -> Mapping[str, ExportedPolicy]:
        """Return what can be exported, by name, the usual one first."""

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the networks of a checkpoint.

        Args:
            tensors: By name; what is none of the networks' is passed over.

        Raises:
            RuntimeError: They are of other networks.
        """
        networks = {key.partition(".")[0] for key in self.state_dict()}
        self.load_state_dict({key: value for key, value in tensors.items() if key.partition(".")[0] in networks})
