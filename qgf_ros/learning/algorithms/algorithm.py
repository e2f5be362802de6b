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
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms.actors import DiffusionFlow, OneStepFlow
from qgf_ros.learning.algorithms.networks import CriticNetwork, StackedMLP, VelocityNetwork
from qgf_ros.learning.algorithms.options import StoredConfig
from qgf_ros.learning.data.chunks import Batch


@dataclass(frozen=True)
class TakenCritics(StoredConfig):
    """The form of critics that another run has trained, and that stay as they are in this one.

    Attributes:
        hidden: Their hidden layer sizes.
        ensemble: Members E.
        aggregate: How these become one value.
    """

    hidden: tuple[int, ...]
    ensemble: int
    aggregate: str


@dataclass(frozen=True)
class Problem:
    """What an algorithm is made for.

    Attributes:
        critics: Names of the critics, one per task, K in all.
        observation_size: S, the goal included where there is one.
        chunk_size: C, horizon times action size.
        taken: What the critics are like where they are another run's; None where the algorithm trains its own.
        pictures: Height and width of those that are trained on, by camera [pixels]; none where they are features already.
    """

    critics: tuple[str, ...]
    observation_size: int
    chunk_size: int
    taken: TakenCritics | None = None
    pictures: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class Losses(NamedTuple):
    """What one batch gives.

    Attributes:
        total: What the optimiser makes smaller, a scalar.
        reported: Scalars by name, as logs and displays show them; each must be finite.
    """

    total: Tensor
    reported: dict[str, Tensor]


#: A velocity field, or what is one in a bundle: called with s [N, S], a [N, C] and t [N].
ExportedVelocity: TypeAlias = VelocityNetwork | OneStepFlow | DiffusionFlow


@dataclass(frozen=True)
class ExportedPolicy:
    """What one bundle is made of.

    Attributes:
        velocity: The velocity field, or what is one in a bundle.
        critic: The critics whose gradient guides it, one task per name.
        critics: Their names, some or all of the run's, in the order of the tasks of `critic`.
        denoising_steps: Euler steps T.
        aggregation: How the members of each critic become the value that guides; see `bundle.aggregation`.
        about: What the bundle is, in a few words for people.
        robust: A critic of noised chunks beside each critic, over [s, a, embedding(t)], for the estimator `robust`; None for
            none.
        filtered: A second velocity field, for the estimator `classifier_free`, which then guides; None for none.
    """

    velocity: ExportedVelocity
    critic: CriticNetwork
    critics: tuple[str, ...]
    denoising_steps: int
    aggregation: str = "min"
    about: str = ""
    robust: StackedMLP | None = None
    filtered: VelocityNetwork | None = None


class Algorithm(nn.Module, ABC):
    """One way to make policies and critics of chunks.

    A subclass is constructed from its configuration, a `Problem`, and the generator of its initial weights, so that the
    same seed gives the same run.
    """

    #: Its part of the configuration; no field is called as one of `TrainingConfig`.
    config_class: ClassVar[type[StoredConfig]]
    #: Its networks that may be another run's, critics stacked over the tasks; none where nothing is trained against critics.
    critic_networks: ClassVar[tuple[str, ...]] = ()

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

    def take_critics(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the critics of another run.

        Args:
            tensors: Of all of `critic_networks`, for the tasks of the problem.

        Raises:
            TrainingError: They are of other networks.
        """
        own = {key for key in self.state_dict() if key.partition(".")[0] in self.critic_networks}
        if own != tensors.keys():
            raise TrainingError(
                f"critics of another form were given ({', '.join(sorted(own ^ tensors.keys())[:3])}); train them again"
            )
        self.load_state_dict(tensors, strict=False)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the networks of a checkpoint.

        Args:
            tensors: By name; what is none of the networks' is passed over.

        Raises:
            RuntimeError: They are of other networks.
        """
        networks = {key.partition(".")[0] for key in self.state_dict()}
        self.load_state_dict({key: value for key, value in tensors.items() if key.partition(".")[0] in networks})
