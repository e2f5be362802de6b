"""One training update, timed: the trainer, eager and compiled, and a jitted JAX update of the same losses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from qgf_ros.benchmark.latency import Times, no_garbage_collection, ratio
from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms.iql_flow import IqlFlow
from qgf_ros.learning.algorithms.options import IqlFlowConfig
from qgf_ros.learning.data.chunks import ChunkData
from qgf_ros.learning.trainer import Trainer, TrainingConfig, new_algorithm
from qgf_ros.reports.machine import LoadMeter, describe_machine

SCHEMA = 1
#: Largest relative difference of a loss at which two backends take the same update.
TOLERANCE = 1e-4
#: Updates on which the losses must agree before anything is timed; they include what Adam made of the first ones.
CHECKED = 5
BACKENDS = ("torch", "torch.compile", "jax")
_ROWS = 4096


@dataclass(frozen=True)
class UpdatePlan:
    """What to time.

    Attributes:
        shapes: Hidden layers x width, such as "3x256".
        backends: Some of `BACKENDS`.
        tasks: Critics that train side by side.
        observation, action, horizon: Sizes.
        batch: Chunks per update.
        threads: Of every backend.
        rounds: Turns of each backend.
        updates: Timed updates in a turn, after one that is not timed.
        seed: Of weights, data and the order within each round.
    """

    shapes: tuple[str, ...] = ("3x256", "4x512")
    backends: tuple[str, ...] = ("torch", "jax")
    tasks: int = 1
    observation: int = 46
    action: int = 5
    horizon: int = 5
    batch: int = 256
    threads: int = 2
    rounds: int = 20
    updates: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.backends if name not in BACKENDS]
        unknown += [shape for shape in self.shapes if not re.fullmatch(r"[1-9]\d?x[1-9]\d{0,4}", shape)]
        if unknown:
            raise TrainingError(
                f"{unknown[0]!r} was given; expected shapes such as 3x256 and backends of {', '.join(BACKENDS)}"
            )

    @property
    def config(self) -> TrainingConfig:
        """The configuration of a run."""
        return TrainingConfig(horizon=self.horizon, batch_size=self.batch, seed=self.seed)

    def options(self, shape: str) -> IqlFlowConfig:
        """Return the algorithm's configuration with networks of one shape."""
        layers, width = map(int, shape.split("x"))
        return IqlFlowConfig(hidden=(width,) * layers)


Update = Callable[[], object]


def measure(plan: UpdatePlan, progress: Callable[[str], None] = lambda note: None) -> dict[str, Any]:
    """Check that all backends take the same updates, then time them in turns.

    The batches of JAX are drawn beforehand; the trainer draws its own, which counts.

    Args:
        plan: What to time.
        progress: Called once for each backend that agrees, then after each round.

    Returns:
        ``machine``, ``load``, ``plan`` and ``results``, one for each shape and backend.

    Raises:
        TrainingError: A loss differs by more than `TOLERANCE`.
    """
    torch.set_num_threads(plan.threads)
    meter = LoadMeter()
    time.sleep(1.0)
    load = meter.cores()
    contenders: list[tuple[str, str, float, Update]] = []
    for shape in plan.shapes:
        expected = None
        for backend in plan.backends:
            losses, update = _prepare(plan, shape, backend)
            expected = losses if expected is None else expected
            difference = float((np.abs(losses - expected) / np.maximum(np.abs(expected), 1e-3)).max())
            if not difference <= TOLERANCE:
                raise TrainingError(
                    f"{backend}: a loss differs from that of {plan.backends[0]} by {difference:.1e} ({shape}), at most "
                    f"{TOLERANCE:g} is allowed; it is not the same update, so nothing is compared"
                )
            contenders.append((shape, backend, difference, update))
            progress(f"{shape}, {backend}: agrees")
    times = _take_turns([update for *_, update in contenders], plan, lambda: progress("timing"))
    peers = {shape: taken for (shape, backend, *_), taken in zip(contenders, times) if backend == "jax"}
    return {
        "schema": SCHEMA,
        "machine": describe_machine(plan.threads),
        "load": {"before": load},
        "tolerance": TOLERANCE,
        "plan": asdict(plan),
        "results": [
            {
                "shape": shape,
                "backend": backend,
                "difference": difference,
                "update_ms": taken.summary(),
                "ratio": ratio(taken, peers[shape]) if shape in peers else None,
                "rounds_ms": [[1e3 * seconds for seconds in turn] for turn in taken.rounds],
            }
            for (shape, backend, difference, _), taken in zip(contenders, times)
        ],
    }


def _prepare(plan: UpdatePlan, shape: str, backend: str) -> tuple[Any, Update]:
    """Return the losses of the first updates [CHECKED, 4], which warm it up, and what takes another one."""
    config, data = replace(plan.config, compile=backend == "torch.compile"), _data(plan)
    critics = tuple(f"task{k}" for k in range(plan.tasks))
    algorithm = new_algorithm(config, IqlFlow, plan.options(shape), critics, data)
    trainer = Trainer(config, algorithm, data, torch.device("cpu"))
    if backend != "jax":
        return np.array([list(trainer.update()().values()) for _ in range(CHECKED)]), trainer.update
    from qgf_ros.benchmark.training_jax import jax_update

    peer = jax_update(algorithm, config.learning_rate, plan.threads)
    batches = [trainer.sample(trainer.data, config.batch_size, trainer.generator) for _ in range(CHECKED)]
    shares = np.array([1.0, plan.tasks, plan.tasks, 1.0])  # what the trainer reports is per task
    losses = np.array([peer(batch) for batch in batches]) / shares
    return losses, lambda: peer(batches[0])


def _data(plan: UpdatePlan) -> ChunkData:
    """Return random chunks, the same for the same seed."""
    random = np.random.default_rng(plan.seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal(shape, dtype=np.float32))

    return ChunkData(
        draw(_ROWS + plan.horizon, plan.observation),
        torch.arange(_ROWS),
        torch.full((_ROWS,), _ROWS + plan.horizon - 1),
        draw(_ROWS, plan.horizon * plan.action).tanh(),
        -draw(plan.tasks, _ROWS).abs(),
        torch.full((plan.tasks, _ROWS), 0.95),
        plan.horizon,
        plan.config.discount,
    )


def _take_turns(updates: list[Update], plan: UpdatePlan, progress: Callable[[], None]) -> list[Times]:
    order = np.random.default_rng(plan.seed)
    times = [Times() for _ in updates]
    with no_garbage_collection():
        for _ in range(plan.rounds):
            for chosen in order.permutation(len(updates)):
                updates[chosen]()
                processor, turn = time.process_time(), []
                for _ in range(plan.updates):
                    start = time.perf_counter()
                    updates[chosen]()
                    turn.append(time.perf_counter() - start)
                times[chosen].processor += time.process_time() - processor
                times[chosen].rounds.append(turn)
            progress()
    return times
