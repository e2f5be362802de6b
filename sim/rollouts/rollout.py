"""Closed-loop evaluation in process: the control loop of the node around the environment of the bridge, without ROS.

Episode i of every run uses seed + i for the environment and for the noise, whatever the guidance weight, so that runs
can be compared episode by episode. With a batch size of 1 an episode is the node's own tick, bit for bit. In a larger
batch it is the same where the matrix products of ONNX Runtime round a row alike whatever is beside it; where they do not,
the first action differs by rounding, and the rest follows from it.

Inference can be given a delay. In synchronous execution the robot stands still meanwhile, and the chunk begins with its
first action; in asynchronous execution the chunk under way goes on, and the robot stands still once that has run out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import GOAL
from qgf_ros.bundle.goal_fields import OBJECT_GOAL, goal_columns
from qgf_ros.control.controller import Controller
from qgf_ros.control.extraction import Reading, VectorReading
from qgf_ros.control.inference import Chunk, ChunkPolicy, ChunkRequest, infer
from qgf_ros.control.observation import Observation, ObservationAssembler
from qgf_ros.control.run_options import RunOptions
from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.errors import GuidanceError, NotReadyError, SimulationError
from qgf_ros.evaluation.results import Episode, commanded_jerk
from qgf_ros.guidance.prefix import Prefix
from qgf_ros.guidance.shaping import Guidance
from qgf_ros.runtime.encoders import Images
from qgf_sim.worlds.environment import CONTROL_PERIOD, TaskEnvironment

Vectors: TypeAlias = NDArray[np.float32]

_PERIOD_NS = round(CONTROL_PERIOD * 1e9)


class _Slot:
    """One episode under way: an environment with its own controller and clock."""

    def __init__(
        self, policy: ChunkPolicy, env: TaskEnvironment, settings: RunOptions, delay: int, record: bool
    ) -> None:
        self.env = env
        self._delay = delay * _PERIOD_NS
        self._request: ChunkRequest | None = None
        self._chunk: Chunk | None = None
        self._waited = 0
        self._assembler = ObservationAssembler(
            policy.manifest.observation, 1.0 / policy.manifest.control_rate, cameras=policy.manifest.cameras
        )
        self.controller = Controller(policy, settings)
        self._record = record
        self._stamp = 0
        self._length = 0
        self._latencies: list[float] = []
        self._values: list[float] = []
        self._distances: list[float] = []
        self._commands: list[NDArray[np.float64]] = []
        self._still = np.zeros(len(policy.manifest.action))
        readings = env.reset(settings.seed)
        if (goal := policy.manifest.goal) is not None:
            names = policy.manifest.goal_fields
            values = env.goal[goal_columns(policy.manifest.observation, names, goal)]
            self._assembler.update(OBJECT_GOAL if names else GOAL, self._stamp, VectorReading(values))
        self.observation = self._observe(readings)

    def _observe(self, readings: dict[str, Reading | ImageReading]) -> Observation | None:
        """Return the observation of this step; None where a message dropped out, as the node then has no tick."""
        for topic, reading in readings.items():
            self._assembler.update(topic, self._stamp, reading)
        complete = self._assembler.synchronised_stamp == self._stamp
        return self._assembler.assemble(self._stamp) if complete else None

    def request(self) -> ChunkRequest | None:
        """Return what to infer a chunk from if one is due and none is being inferred."""
        if self.observation is None or self._request is not None:
            return None
        if not self.controller.needs_chunk(self.observation.stamp):
            return None
        self._request = self.controller.request(self.observation)
        return self._request

    def receive(self, chunk: Chunk) -> None:
        """Take the chunk of the request; it is ready after the delay."""
        if chunk.telemetry.get("critic_failed"):
            name = self.controller.settings.critic
            raise GuidanceError(f"critic {name} failed during the evaluation; run 'qgf inspect' on the bundle")
        self._latencies.append(chunk.telemetry.get("latency_ms", float("nan")))
        self._values.append(chunk.telemetry.get("q", float("nan")))
        self._distances.append(chunk.telemetry.get("guidance_distance", float("nan")))
        self._chunk = chunk

    def begin(self) -> None:
        """Go on with the chunk that was inferred, if it is ready."""
        if self.observation is None or self._request is None or self._chunk is None:
            return
        now = self.observation.stamp
        if now < self._request.stamp + self._delay:
            return
        # In synchronous execution time stands still for the plan, as for the robot.
        stamp = self._request.stamp if self.controller.settings.asynchronous else now
        self.controller.begin(stamp, self._chunk, now)
        self._request = self._chunk = None

    def step(self) -> Episode | None:
        """Send the command that is due; return the episode when it ends it."""
        values = self._command()
        self._commands.append(values)
        step = self.env.step(values)
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
            np.array(self._commands) if self._record else np.empty((0, 0)),
            commanded_jerk(np.array(self._commands), self.controller.policy.manifest.action),
            self._waited,
            tuple(self._distances),
        )

    def _command(self) -> NDArray[np.float64]:
        if self.observation is None:
            self._waited += 1
            return self._still
        try:
            return self.controller.command(self.observation, inferred=False).values
        except NotReadyError:
            values = self.controller.pause()
            if values is None:
                raise
            self._waited += 1
            return values


class WatchedPolicy:
    """A policy of whose inferences somebody is told.

    Args:
        policy: Infers.
        told: Called with the observations [B, S], the images by camera and the chunks of each inference.
    """

    def __init__(self, policy: ChunkPolicy, told: Callable[[Vectors, Images, list[Chunk]], None]) -> None:
        self.manifest = policy.manifest
        self._policy, self._told = policy, told

    def act(
        self,
        observations: Vectors,
        noise: Vectors,
        critic: str,
        guidance_weight: float,
        guidance: Guidance,
        prefix: Prefix | None = None,
        images: Images | None = None,
    ) -> list[Chunk]:
        """See `ChunkPolicy.act`."""
        chunks = self._policy.act(observations, noise, critic, guidance_weight, guidance, prefix, images)
        self._told(observations, images or {}, chunks)
        return chunks


def run_batch(
    policy: ChunkPolicy,
    environments: Sequence[TaskEnvironment],
    settings: RunOptions,
    seeds: Sequence[int],
    *,
    delay: int = 0,
    record: bool = False,
) -> Iterator[Episode]:
    """Run one episode per seed, side by side, and yield each as it ends.

    An environment whose episode ended begins the next seed's at once, so that inferences stay full while seeds are left.

    Args:
        policy: The loaded bundle.
        environments: As many episodes run at a time.
        settings: Of every episode, the seed apart.
        seeds: Of the episodes.
        delay: Control steps from an observation to its chunk.
        record: Whether to keep the commands.

    Raises:
        GuidanceError: The settings do not fit the bundle, or the critic failed.
        SafetyError: An action is not finite.
        SimulationError: There is no environment.
    """
    if not environments:
        raise SimulationError("no environment was given; an episode needs one")

    def begin(env: TaskEnvironment, seed: int) -> _Slot:
        return _Slot(policy, env, replace(settings, seed=seed), delay, record)

    waiting = iter(seeds)
    slots = [begin(env, seed) for env, seed in zip(environments, waiting)]
    while slots:
        _infer(policy, slots)
        running = []
        for slot in slots:
            episode = slot.step()
            if episode is None:
                running.append(slot)
                continue
            yield episode
            running.extend(begin(slot.env, seed) for seed in itertools.islice(waiting, 1))
        slots = running


def _infer(policy: ChunkPolicy, slots: list[_Slot]) -> None:
    """Begin the chunks that are ready, and infer those that are due, together."""
    for slot in slots:
        slot.begin()
    due = [(slot, request) for slot in slots if (request := slot.request()) is not None]
    if due:
        chunks = infer(policy, [request for _, request in due])
        for (slot, _), chunk in zip(due, chunks, strict=True):
            slot.receive(chunk)
            slot.begin()  # at once, where there is no delay
