"""Closed-loop evaluation in process: the control loop of the node around the environment of the bridge, without ROS.

Episode i of every run uses seed + i for the environment and for the noise, whatever the guidance weight, so that runs
can be compared episode by episode. With a batch size of 1 an episode is the node's own tick, bit for bit; in a larger
batch the first action of an episode differs by the rounding of a batched matrix product, and the rest follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.controller import ChunkPolicy, Controller, Settings
from qgf_ros.control.observation import Observation, ObservationAssembler, Reading
from qgf_ros.errors import GuidanceError, SimulationError
from qgf_sim.environment import CONTROL_PERIOD, TaskEnvironment
from qgf_sim.results import Episode

_PERIOD_NS = round(CONTROL_PERIOD * 1e9)


class _Slot:
    """One episode under way: an environment with its own controller and clock."""

    def __init__(self, policy: ChunkPolicy, env: TaskEnvironment, settings: Settings, record: bool) -> None:
        self._env = env
        self._assembler = ObservationAssembler(policy.manifest.observation, 1.0 / policy.manifest.control_rate)
        self.controller = Controller(policy, settings)
        self._record = record
        self._stamp = 0
        self._length = 0
        self._latencies: list[float] = []
        self._values: list[float] = []
        self._commands: list[NDArray[np.float64]] = []
        self.observation = self._observe(env.reset(settings.seed))

    def _observe(self, readings: dict[str, Reading]) -> Observation:
        for topic, reading in readings.items():
            self._assembler.update(topic, self._stamp, reading)
        return self._assembler.assemble(self._stamp)

    def step(self, inferred: bool) -> Episode | None:
        """Send the command that is due; return the episode when it ends it."""
        command = self.controller.command(self.observation, inferred)
        if inferred:
            if command.telemetry.get("critic_failed"):
                name = self.controller.settings.critic
                raise GuidanceError(f"critic {name} failed during the evaluation; run 'qgf inspect' on the bundle")
            self._latencies.append(command.telemetry.get("latency_ms", float("nan")))
            self._values.append(command.telemetry.get("q", float("nan")))
        if self._record:
            self._commands.append(command.values)
        step = self._env.step(command.values)
        self._length += 1
        self._stamp += _PERIOD_NS
        if not step.done:
            self.observation = self._observe(step.readings)
            return None
        return Episode(
            self.controller.settings.guidance_weight,
            self.controller.settings.seed,
            step.success,
            self._length,
            tuple(self._latencies),
            tuple(self._values),
            np.array(self._commands),
        )


def run_batch(
    policy: ChunkPolicy,
    environments: Sequence[TaskEnvironment],
    settings: Settings,
    seeds: Sequence[int],
    *,
    record: bool = False,
) -> Iterator[Episode]:
    """Run one episode per seed, side by side, and yield each as it ends.

    Args:
        policy: The loaded bundle.
        environments: At least one per seed.
        settings: Of every episode, the seed apart.
        seeds: Of the episodes.
        record: Whether to keep the commands.

    Raises:
        GuidanceError: The settings do not fit the bundle, or the critic failed.
        SafetyError: An action is not finite.
        SimulationError: There are fewer environments than seeds.
    """
    if len(environments) < len(seeds):
        raise SimulationError(f"{len(environments)} environments were given for {len(seeds)} episodes; each needs one")
    slots = [
        _Slot(policy, env, replace(settings, seed=seed), record) for env, seed in zip(environments, seeds, strict=False)
    ]
    while slots:
        inferring = _infer(policy, slots, settings)
        running = []
        for slot in slots:
            episode = slot.step(slot in inferring)
            if episode is None:
                running.append(slot)
            else:
                yield episode
        slots = running


def _infer(policy: ChunkPolicy, slots: list[_Slot], settings: Settings) -> list[_Slot]:
    due = [slot for slot in slots if slot.controller.needs_chunk(slot.observation.stamp)]
    if due:
        observations = np.stack([slot.observation.vector for slot in due])
        noise = np.stack([slot.controller.draw_noise() for slot in due])
        chunks = policy.act(observations, noise, settings.critic, settings.guidance_weight, settings.guidance)
        for slot, chunk in zip(due, chunks, strict=True):
            slot.controller.begin(slot.observation.stamp, chunk)
    return due
