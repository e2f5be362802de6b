"""Training: batches, gradient steps and the learning rate, whatever the algorithm; one update at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms.algorithm import Algorithm, Losses, Problem, TakenCritics
from qgf_ros.learning.algorithms.options import Stored, StoredConfig
from qgf_ros.learning.compilation import compiled
from qgf_ros.learning.data.chunks import Batch, ChunkData

Made = TypeVar("Made", bound=Algorithm)


@dataclass(frozen=True)
class TrainingConfig(StoredConfig):
    """What decides the outcome of a training run, the data, the algorithm and its own configuration apart.

    Attributes:
        horizon: Actions per chunk H.
        updates: Number of updates.
        batch_size: Chunks per update.
        learning_rate: Adam's, at the start.
        final_learning_rate: Adam's at the last update, reached along a cosine; equal to the first for none.
        restart_at: Update at which the cosine begins again from the first learning rate, or several in order; 0 for never.
        discount: Per control step.
        seed: Of the initial weights and of every batch.
        compile: Fuse the losses with torch.compile; needs a C++ compiler.
        goal_conditioned: Append goals in hindsight to the observations, and value the way to them; see `learning.data.goals`.
    """

    horizon: int = 1
    updates: int = 75_000
    batch_size: int = 256
    learning_rate: float = 3e-4
    final_learning_rate: float = 3e-4
    restart_at: int | tuple[int, ...] = 0
    discount: float = 0.99
    seed: int = 0
    compile: bool = False
    goal_conditioned: bool = False

    def __post_init__(self) -> None:
        positive = ("horizon", "updates", "batch_size", "learning_rate")
        wrong = [f"{name} {getattr(self, name)}" for name in positive if not 0 < getattr(self, name) < np.inf]
        wrong += (
            [f"final_learning_rate {self.final_learning_rate}"] if not 0.0 <= self.final_learning_rate < np.inf else []
        )
        wrong += [f"discount {self.discount}"] if not 0.0 < self.discount <= 1.0 else []
        wrong += ["discount 1 with goal_conditioned"] if self.goal_conditioned and self.discount == 1.0 else []
        course = (0, *self.restarts, self.updates)
        wrong += [f"restart_at {self.restart_at}"] if any(a >= b for a, b in zip(course, course[1:])) else []
        if wrong:
            raise TrainingError(
                f"{', '.join(wrong)} was given; counts and rates must be positive and finite (the final rate may be 0), "
                "discount (below 1 with goals) at most 1, restart_at below updates and rising"
            )

    @classmethod
    def from_dict(cls: type[Stored], values: Mapping[str, Any]) -> Stored:
        """See `StoredConfig`; one restart is the same as a list of one."""
        restarts = values.get("restart_at", 0)
        if isinstance(restarts, (list, tuple)) and len(restarts) < 2:
            restarts = restarts[0] if restarts else 0
        return super().from_dict({**values, "restart_at": restarts})

    @property
    def restarts(self) -> tuple[int, ...]:
        """The updates at which the cosine begins again, in order."""
        if isinstance(self.restart_at, tuple):
            return self.restart_at
        return (self.restart_at,) if self.restart_at else ()

    def learning_rate_of(self, step: int) -> float:
        """Return the learning rate of the update after `step` others."""
        first, last = self.learning_rate, self.final_learning_rate
        begin = max((restart for restart in self.restarts if restart <= step), default=0)
        end = min((restart for restart in self.restarts if restart > step), default=self.updates)
        progress = min(1.0, (step - begin) / (end - begin))
        return last + (first - last) * 0.5 * (1.0 + float(np.cos(np.pi * progress)))


def new_algorithm(
    config: TrainingConfig,
    kind: type[Made],
    options: StoredConfig,
    critics: tuple[str, ...],
    data: ChunkData,
    taken: TakenCritics | None = None,
) -> Made:
    """Return an algorithm for the data with its initial weights, the same for the same seed.

    Args:
        config: The run.
        kind: Which algorithm.
        options: Its own configuration.
        critics: Names of the critics, in order.
        data: Chunks to train on.
        taken: What its critics are like, where they are another run's.
    """
    observation_size = data.observations.shape[1] + (data.goal_size if config.goal_conditioned else 0)
    sizes = {} if data.pictures is None else data.pictures.sizes
    problem = Problem(critics, observation_size, data.actions.shape[1], taken, sizes)
    return kind(options, problem, torch.Generator().manual_seed(config.seed))


@dataclass
class Trainer:
    """Owns algorithm, optimiser and random generator; one call of `update` is one step of all networks.

    Args:
        config: The run.
        algorithm: What to train.
        data: Chunks to train on.
        device: Where to train.
    """

    config: TrainingConfig
    algorithm: Algorithm
    data: ChunkData
    device: torch.device
    step: int = 0
    optimiser: torch.optim.Adam = field(init=False)
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.algorithm.to(self.device)
        self.optimiser = torch.optim.Adam(self._trained(), lr=self.config.learning_rate, fused=True)
        self.generator = torch.Generator().manual_seed(self.config.seed + 1)
        self._losses: Callable[[Batch], Losses] = self.algorithm.losses
        if self.config.compile:
            self._losses = compiled(self.algorithm.losses)

    def _trained(self) -> list[nn.Parameter]:
        """Return the parameters the optimiser moves."""
        return [parameter for parameter in self.algorithm.parameters() if parameter.requires_grad]

    def sample(self, data: ChunkData, size: int, generator: torch.Generator) -> Batch:
        """Draw a batch of chunks, what the algorithm wants at random for them, and their goals if there are any."""
        index = torch.randint(len(data.starts), (size,), generator=generator).to(self.device)
        draws = self.algorithm.draw(size, generator, self.device)
        if self.config.goal_conditioned:
            return data.batch_with_goals(index, draws, generator)
        return data.batch(index, draws)

    def learning_rate(self) -> float:
        """Return the learning rate of the next update."""
        return self.config.learning_rate_of(self.step)

    def update(self) -> Callable[[], dict[str, float]]:
        """Take one gradient step.

        Returns:
            A function that gives the losses; reading them waits for the device, so call it only to report.
        """
        losses = self._losses(self.sample(self.data, self.config.batch_size, self.generator))
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        self.optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        self.algorithm.before_step()
        self.optimiser.step()
        self.step += 1
        return lambda: self._report(losses)

    def _report(self, losses: Losses) -> dict[str, float]:
        report = {name: float(loss.detach()) for name, loss in losses.reported.items()}
        if not all(np.isfinite(number) for number in report.values()):
            raise TrainingError(f"a loss is not finite at update {self.step} ({report}); lower the learning rate")
        return report

    def validate(self, data: ChunkData, size: int = 4096) -> dict[str, float]:
        """Return the losses on held-out data as it is, on the same chunks, noise and times at every call.

        Args:
            data: What to validate on.
            size: Chunks at most; with pictures, which would not fit into memory together, a batch at a time.
        """
        generator, size = torch.Generator().manual_seed(0), min(size, len(data.starts))
        pieces = 1 if data.pictures is None else max(1, size // self.config.batch_size)
        self.algorithm.eval()  # pictures are moved at random in training only
        try:
            with torch.no_grad():
                told = [self.algorithm.losses(self.sample(data, size // pieces, generator)) for _ in range(pieces)]
        finally:
            self.algorithm.train()
        found = [self._report(losses) for losses in told]
        return {name: sum(report[name] for report in found) / pieces for name in found[0]}

    def state(self) -> dict[str, Tensor]:
        """Return everything a bit-exact continuation needs, as named tensors."""
        tensors: dict[str, Tensor] = {**self.algorithm.state_dict()}
        for index, parameter in enumerate(self._trained()):
            moments: Mapping[str, Any] = self.optimiser.state[parameter]
            tensors.update({f"adam.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()})
        tensors["generator"] = self.generator.get_state()
        tensors["step"] = torch.tensor(self.step)
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `state`.

        Raises:
            TrainingError: The tensors are of other networks.
        """
        try:
            self.algorithm.load_tensors(tensors)
            for index, parameter in enumerate(self._trained()):
                prefix = f"adam.{index}."
                self.optimiser.state[parameter] = {
                    k[len(prefix) :]: v.clone().to(
                        "cpu" if k.endswith(".step") and v.device.type == "cpu" else self.device
                    )
                    for k, v in tensors.items()
                    if k.startswith(prefix)
                }
            self.generator.set_state(tensors["generator"].cpu())
            self.step = int(tensors["step"])
        except (KeyError, RuntimeError) as error:
            raise TrainingError(
                f"the checkpoint does not fit the configuration ({error}); use another --out folder"
            ) from error
