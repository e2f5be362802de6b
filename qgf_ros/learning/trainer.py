"""Training: one velocity field for all tasks, one IQL critic per task, one update at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qgf_ros.errors import TrainingError
from qgf_ros.learning.compilation import compiled
from qgf_ros.learning.data.dataset import Dataset, Float, chunk_actions, chunk_returns
from qgf_ros.learning.data.goals import goal_returns, later_rows, mixed_rows
from qgf_ros.learning.losses import critic_loss, flow_loss, value_loss
from qgf_ros.learning.networks import CriticNetwork, ValueNetwork, VelocityNetwork


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the outcome of a training run, the data apart.

    Attributes:
        horizon: Actions per chunk H.
        updates: Number of updates.
        batch_size: Chunks per update.
        hidden: Hidden layer sizes of every network.
        learning_rate: Adam's, at the start.
        final_learning_rate: Adam's at the last update, reached along a cosine; equal to the first for none.
        restart_at: Update at which the cosine begins again from the first learning rate; 0 for never.
        discount: Per control step.
        expectile: Of the value regression.
        target_rate: Share of the critic that enters the target critic at each update.
        ensemble: Critics per task E.
        denoising_steps: Euler steps T; flow times are drawn from {0, 1/T, ..., 1}.
        seed: Of the initial weights and of every batch.
        compile: Fuse the losses with torch.compile; needs a C++ compiler.
        goal_conditioned: Append goals in hindsight to the observations, and value the way to them; see `learning.data.goals`.
    """

    horizon: int = 1
    updates: int = 75_000
    batch_size: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    learning_rate: float = 3e-4
    final_learning_rate: float = 3e-4
    restart_at: int = 0
    discount: float = 0.99
    expectile: float = 0.9
    target_rate: float = 0.005
    ensemble: int = 2
    denoising_steps: int = 10
    seed: int = 0
    compile: bool = False
    goal_conditioned: bool = False

    def __post_init__(self) -> None:
        positive = ("horizon", "updates", "batch_size", "learning_rate", "ensemble", "denoising_steps")
        wrong = [f"{name} {getattr(self, name)}" for name in positive if not 0 < getattr(self, name) < np.inf]
        wrong += (
            [f"final_learning_rate {self.final_learning_rate}"] if not 0.0 <= self.final_learning_rate < np.inf else []
        )
        wrong += [f"hidden {self.hidden}"] if not self.hidden or min(self.hidden) < 1 else []
        wrong += [f"discount {self.discount}"] if not 0.0 < self.discount <= 1.0 else []
        wrong += ["discount 1 with goal_conditioned"] if self.goal_conditioned and self.discount == 1.0 else []
        wrong += [f"expectile {self.expectile}"] if not 0.0 < self.expectile < 1.0 else []
        wrong += [f"target_rate {self.target_rate}"] if not 0.0 < self.target_rate <= 1.0 else []
        wrong += [f"restart_at {self.restart_at}"] if not 0 <= self.restart_at < self.updates else []
        if wrong:
            raise TrainingError(
                f"{', '.join(wrong)} was given; counts and rates must be positive and finite (the final rate may be 0), "
                "discount (below 1 with goals) and target_rate at most 1, expectile below 1, restart_at below updates"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        return {**asdict(self), "hidden": list(self.hidden)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """Return the configuration of `to_dict`."""
        return cls(**{**values, "hidden": tuple(values["hidden"])})


@dataclass(frozen=True)
class ChunkData:
    """Every chunk of a data set, resident on the device.

    Attributes:
        observations: [R, S], all rows.
        starts: First row of each chunk [B].
        ends: Last row of its trajectory [B].
        actions: Flattened chunks [B, C].
        returns, bootstraps: n-step return and discounted mask per task [K, B]; K = 0 where they follow from the goals.
    """

    observations: Tensor
    starts: Tensor
    ends: Tensor
    actions: Tensor
    returns: Tensor
    bootstraps: Tensor

    @classmethod
    def build(
        cls,
        dataset: Dataset,
        rewards: Mapping[str, tuple[Float, Float]],
        config: TrainingConfig,
        device: torch.device,
    ) -> ChunkData:
        """Cut a data set into chunks.

        Args:
            dataset: Trajectories.
            rewards: Rewards and masks [R] of each critic, by its name.
            config: Gives horizon and discount.
            device: Where the data lives.
        """
        starts = dataset.chunk_starts(config.horizon)
        ends = dataset.trajectory_ends[np.searchsorted(dataset.trajectory_ends, starts)]
        per_task = [chunk_returns(starts, r, m, config.horizon, config.discount) for r, m in rewards.values()]
        returns, bootstraps = np.array(per_task, np.float32).reshape(-1, 2, len(starts)).swapaxes(0, 1)
        actions = chunk_actions(starts, dataset.actions, config.horizon)
        arrays = (dataset.observations, starts, ends, actions, returns, bootstraps)
        return cls(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


@dataclass(frozen=True)
class Batch:
    """Chunks of one update: s, action, next_s, and per task returns and bootstraps; noise and flow time t.

    What the policy sees, policy_s, differs from s by its goals only.
    """

    policy_s: Tensor
    s: Tensor
    action: Tensor
    next_s: Tensor
    returns: Tensor
    bootstraps: Tensor
    noise: Tensor
    t: Tensor


@dataclass
class Networks:
    """The networks under training and the target critic."""

    velocity: VelocityNetwork
    critic: CriticNetwork
    target: CriticNetwork
    value: ValueNetwork

    @classmethod
    def create(cls, config: TrainingConfig, tasks: int, observation_size: int, chunk_size: int) -> Networks:
        """Return freshly initialised networks, the same for the same seed."""
        generator = torch.Generator().manual_seed(config.seed)
        velocity = VelocityNetwork(observation_size, chunk_size, config.hidden, generator)
        critic = CriticNetwork(tasks, config.ensemble, observation_size, chunk_size, config.hidden, generator)
        target = CriticNetwork(tasks, config.ensemble, observation_size, chunk_size, config.hidden)
        target.load_state_dict(critic.state_dict())
        target.requires_grad_(False)
        return cls(velocity, critic, target, ValueNetwork(tasks, observation_size, config.hidden, generator))

    def items(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield each network with its name."""
        yield from (
            ("velocity", self.velocity),
            ("critic", self.critic),
            ("target", self.target),
            ("value", self.value),
        )

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters the optimiser moves."""
        return [*self.velocity.parameters(), *self.critic.parameters(), *self.value.parameters()]


@dataclass
class Trainer:
    """Owns networks, optimiser and random generator; one call of `update` is one step of all of them.

    Args:
        config: The run.
        critics: Names of the critics, in order.
        data: Chunks to train on.
        device: Where to train.
    """

    config: TrainingConfig
    critics: tuple[str, ...]
    data: ChunkData
    device: torch.device
    step: int = 0
    networks: Networks = field(init=False)
    optimiser: torch.optim.Adam = field(init=False)
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        observation_size, chunk_size = self.data.observations.shape[1], self.data.actions.shape[1]
        if self.config.goal_conditioned:
            observation_size *= 2
        self.networks = Networks.create(self.config, len(self.critics), observation_size, chunk_size)
        for _, network in self.networks.items():
            network.to(self.device)
        self.optimiser = torch.optim.Adam(self.networks.trained_parameters(), lr=self.config.learning_rate, fused=True)
        self.generator = torch.Generator().manual_seed(self.config.seed + 1)
        self._losses: Callable[[Batch], tuple[Tensor, ...]] = self._compute_losses
        if self.config.compile:
            self._losses = compiled(self._compute_losses)

    def sample(self, data: ChunkData, size: int, generator: torch.Generator) -> Batch:
        """Draw a batch of chunks with fresh noise and flow times."""
        config = self.config
        index = torch.randint(len(data.starts), (size,), generator=generator).to(self.device)
        noise = torch.randn(size, data.actions.shape[1], generator=generator).to(self.device)
        t = torch.randint(config.denoising_steps + 1, (size,), generator=generator).to(self.device)
        rows = data.starts[index]
        s = data.observations[rows]
        batch = Batch(
            s,
            s,
            data.actions[index],
            data.observations[rows + config.horizon],
            data.returns[:, index],
            data.bootstraps[:, index],
            noise,
            t / config.denoising_steps,
        )
        return self._with_goals(batch, data, index, generator) if config.goal_conditioned else batch

    def _with_goals(self, batch: Batch, data: ChunkData, index: Tensor, generator: torch.Generator) -> Batch:
        """Return a batch whose observations end with goals, and whose rewards are those of going there."""
        horizon, discount = self.config.horizon, self.config.discount
        rows, ends = data.starts[index], data.ends[index]
        policy_goals = data.observations[later_rows(rows, ends, generator)]
        goal_rows = mixed_rows(rows, ends, len(data.observations), discount, generator)
        goals = data.observations[goal_rows]
        returns, bootstraps = goal_returns(goal_rows - rows, horizon, discount)
        return replace(
            batch,
            policy_s=torch.cat([batch.s, policy_goals], dim=1),
            s=torch.cat([batch.s, goals], dim=1),
            next_s=torch.cat([batch.next_s, goals], dim=1),
            returns=returns[None],
            bootstraps=bootstraps[None],
        )

    def _compute_losses(self, batch: Batch) -> tuple[Tensor, ...]:
        networks = self.networks
        with torch.no_grad():
            target = batch.returns + batch.bootstraps * networks.value(batch.next_s)
            q = networks.target(batch.s, batch.action).amin(dim=1)
        flow = flow_loss(networks.velocity, batch.policy_s, batch.action, batch.noise, batch.t)
        bellman = critic_loss(networks.critic, batch.s, batch.action, target)
        value = value_loss(networks.value, batch.s, q, self.config.expectile)
        return flow, bellman, value, q.mean()

    def learning_rate(self) -> float:
        """Return the learning rate of the next update."""
        first, last = self.config.learning_rate, self.config.final_learning_rate
        begin, end = 0, self.config.updates
        if self.step >= self.config.restart_at > 0:
            begin = self.config.restart_at
        elif self.config.restart_at:
            end = self.config.restart_at
        progress = min(1.0, (self.step - begin) / (end - begin))
        return last + (first - last) * 0.5 * (1.0 + float(np.cos(np.pi * progress)))

    def update(self) -> Callable[[], dict[str, float]]:
        """Take one gradient step.

        Returns:
            A function that gives the losses; reading them waits for the device, so call it only to report.
        """
        losses = self._losses(self.sample(self.data, self.config.batch_size, self.generator))
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        self.optimiser.zero_grad(set_to_none=True)
        (losses[0] + losses[1] + losses[2]).backward()  # type: ignore[no-untyped-call]
        # The target follows the critic as it was before this step, as in the published code.
        torch._foreach_lerp_(
            list(self.networks.target.parameters()),
            [p.detach() for p in self.networks.critic.parameters()],
            self.config.target_rate,
        )
        self.optimiser.step()
        self.step += 1
        return lambda: self._report(losses)

    def _report(self, losses: tuple[Tensor, ...]) -> dict[str, float]:
        flow, bellman, value, q = (float(loss.detach()) for loss in losses)
        count = len(self.critics)
        report = {"flow": flow, "critic": bellman / count, "value": value / count, "q": q}
        if not all(np.isfinite(number) for number in report.values()):
            raise TrainingError(f"a loss is not finite at update {self.step} ({report}); lower the learning rate")
        return report

    def validate(self, data: ChunkData, size: int = 4096) -> dict[str, float]:
        """Return the losses on held-out data, on the same chunks, noise and times at every call."""
        generator = torch.Generator().manual_seed(0)
        batch = self.sample(data, min(size, len(data.starts)), generator)
        with torch.no_grad():
            return self._report(self._compute_losses(batch))

    def state(self) -> dict[str, Tensor]:
        """Return everything a bit-exact continuation needs, as named tensors."""
        tensors = {
            f"{name}.{key}": value
            for name, network in self.networks.items()
            for key, value in network.state_dict().items()
        }
        for index, parameter in enumerate(self.networks.trained_parameters()):
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
            for name, network in self.networks.items():
                prefix = f"{name}."
                network.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
            for index, parameter in enumerate(self.networks.trained_parameters()):
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
