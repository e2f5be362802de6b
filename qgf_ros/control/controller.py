"""One control tick without ROS: observation in, command out.

The node, the in-process rollout and the benchmark all tick this object, so that a command is the same bits wherever
it is computed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.background import BackgroundWorker, InferenceWorker
from qgf_ros.control.chunking import ChunkSchedule
from qgf_ros.control.command import Command
from qgf_ros.control.inference import Chunk, ChunkPolicy, ChunkRequest, Inference
from qgf_ros.control.noise import NoiseSource
from qgf_ros.control.observation import MeasuredValues, Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.control.safety import SafetyEnvelope
from qgf_ros.errors import NotReadyError
from qgf_ros.guidance.prefix import make_prefix

#: The longest of so many last inference delays is expected of the next, as in arXiv 2506.07339.
_DELAYS_KEPT = 10
_NOTHING = np.empty((0, 0), dtype=np.float32)


class Controller:
    """Chunk schedule, noise, policy and safety envelope, ticked by one caller at a time.

    Args:
        policy: The loaded bundle.
        settings: Initial settings.
        previews: Whether commands tell what follows them, which takes time.
        worker: Infers in asynchronous execution; by default a thread.
        fields: Observation fields as this robot serves them; the bundle's own by default.

    Attributes:
        counts: ``starved_ticks``, which found no chunk because the next one was not ready, and ``late_chunks``, which
            were ready after their last action was due and were dropped.
        inference: Of a chunk on the thread at hand; it knows how long the newest one took.
        noise: What chunks are inferred from.

    Raises:
        GuidanceError: The bundle cannot run the settings.
    """

    def __init__(
        self,
        policy: ChunkPolicy,
        settings: RunOptions,
        *,
        previews: bool = False,
        worker: InferenceWorker | None = None,
        fields: Sequence[ObservationField] | None = None,
    ) -> None:
        manifest = policy.manifest
        self.policy = policy
        self.settings = settings = settings.resolve(manifest)
        self._guidance = settings.guidance(manifest)
        self._period = 1.0 / manifest.control_rate
        self.safety = SafetyEnvelope(manifest.action, self._period)
        self._measured = MeasuredValues(manifest)
        self._schedule = ChunkSchedule(self._period)
        self.inference = Inference(policy)
        self._worker = BackgroundWorker(self.inference) if worker is None else worker
        self._delays: deque[int] = deque(maxlen=_DELAYS_KEPT)
        self._outdated = False  # whether no chunk was asked for since the settings changed
        self._newest = -math.inf  # stamp [ns]
        self.counts = {"starved_ticks": 0, "late_chunks": 0}
        self._weight = settings.guidance_weight
        self._previews = previews
        #: Critic and guidance weight [1] behind the chunk under way, be it only by the prefix that it agrees with.
        self.critic, self.guidance_weight = settings.critic, self._weight
        self._telemetry: Mapping[str, float] = {}
        fields = manifest.observation if fields is None else fields
        self._lasting = np.flatnonzero(np.array([not one.live for one in fields for _ in range(one.size)], dtype=bool))
        self._goal, self._other_goal = _NOTHING, False  # and whether the chunk under way is for another one
        self._guided = False  # whether the chunk under way is guided, or blended from one that is
        self.noise = NoiseSource(settings.seed)

    def apply(self, settings: RunOptions, *, reseed: bool = False) -> None:
        """Use other settings from the next tick on and drop the chunk under way.

        In asynchronous execution it goes on until the next chunk is there, and the one that is being inferred with the old
        settings is still used: it cannot be stopped, and without it settings that change faster than inference would leave
        nothing to execute. The next one is asked for as soon as it is there. A weight of 0 counts for it, too: see `begin`.

        The limits go on from the last command: what changes is what is wanted, not where the robot is.

        Args:
            settings: The new settings.
            reseed: Restart the noise from `settings.seed`.

        Raises:
            GuidanceError: The bundle cannot run them; the old ones stay.
        """
        settings = settings.resolve(self.policy.manifest)
        self.settings, self._guidance = settings, settings.guidance(self.policy.manifest)
        self._renew()
        if reseed:
            self.noise.restart(settings.seed)

    def _renew(self) -> None:
        """Want another chunk; in asynchronous execution the one under way goes on meanwhile."""
        self._outdated = True
        if not self.settings.asynchronous:
            self.drop_chunk()

    def drop_chunk(self) -> None:
        """Drop the chunk under way, and the one being inferred; the next tick needs a new one."""
        self._worker.abandon()
        self._schedule.clear()

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode, with the robot somewhere else: forget chunk and last command; with a seed, restart the noise."""
        self.drop_chunk()
        self.safety.clear()
        self._delays.clear()
        if seed is not None:
            self.noise.restart(seed)

    def close(self) -> None:
        """End the thread of asynchronous execution."""
        self._worker.close()

    @property
    def busy_for(self) -> float:
        """How long an inference in the background has been running [s]; 0 if there is none."""
        return self._worker.busy_for

    def hold(self) -> NDArray[np.float64] | None:
        """Drop the chunk and return the command that keeps the robot still, float64 [A]; see `SafetyEnvelope.hold`."""
        self.drop_chunk()
        return self.pause()

    def pause(self) -> NDArray[np.float64] | None:
        """Return the command that keeps the robot still until the chunk that is being inferred is there, float64 [A]."""
        return self.safety.hold()

    def needs_chunk(self, stamp: int) -> bool:
        """Whether an inference is due at the observation stamped `stamp` [ns]."""
        return self._outdated or self._schedule.action(stamp, self.settings.execution_horizon) is None

    def request(self, observation: Observation) -> ChunkRequest:
        """Return what the next chunk is to be inferred from; draws its noise."""
        settings, manifest = self.settings, self.policy.manifest
        self._outdated = False
        left = self._schedule.left(observation.stamp)
        agree = settings.seam == "rtc" and len(left) > 0 and not self._unwanted
        return ChunkRequest(
            observation.stamp,
            observation.vector,
            self.noise.draw(settings.num_samples, manifest.chunk_size),
            settings.critic,
            self._weight,
            self._guidance,
            make_prefix(left, max(self._delays, default=0), manifest.horizon) if agree else None,
            observation.sight,
        )

    def begin(self, stamp: int, chunk: Chunk, now: int | None = None) -> bool:
        """Go on with a chunk that answers the observation stamped `stamp` [ns], at once or at the tick stamped `now`.

        Where the weight is 0 by now, with its unguided twin, whatever weight it was asked for with.

        Returns:
            Whether it did: a chunk whose last action was due before is dropped.

        Raises:
            SafetyError: An action must not be sent, be it the last one; nothing of the chunk is.
        """
        now = stamp if now is None else now
        delay = self._schedule.periods(now - stamp)
        if not 0 <= delay < len(chunk.actions):
            self.counts["late_chunks"] += 1
            return False
        settings = self.settings
        actions = chunk.actions if self._weight > 0.0 else chunk.unguided
        if settings.max_guidance_deviation < math.inf:
            actions = self.safety.limit_guidance(actions, chunk.unguided, settings.max_guidance_deviation)
        self.safety.check(actions)
        self._delays.append(delay)
        seam = "switch" if self._unwanted else settings.seam
        self._schedule.join(stamp, now, actions, self._playable, seam, settings.blend_steps)
        self._other_goal = False
        self._telemetry = {**chunk.telemetry, "inference_delay": float(delay)}
        return True

    def prepare(self, observation: Observation) -> bool:
        """Infer a chunk if one is due; return whether a new chunk begins at this tick.

        One is due, too, when what holds until it is replaced, such as a goal, changes; none for the old one begins.

        In asynchronous execution it is inferred in the background and begins at the first tick that finds it ready;
        this method never waits.

        Raises:
            GuidanceError: Inference failed.
            SafetyError: The chunk is not finite or misshapen.
        """
        step = self.settings.guidance_weight_slew * self._period
        self._weight = min(max(self.settings.guidance_weight, self._weight - step), self._weight + step)
        if len(self._lasting):
            self._follow_goal(observation.vector[self._lasting])
        if self.settings.asynchronous:
            return self._prepare_in_background(observation)
        if not self.needs_chunk(observation.stamp):
            return False
        request = self.request(observation)
        self._go_on(request, self.inference(request), request.stamp)
        return True

    def _follow_goal(self, goal: NDArray[np.float32]) -> None:
        if not np.array_equal(goal, self._goal):
            self._goal, self._other_goal = goal, True
            self._worker.abandon()
            self._renew()

    @property
    def _unwanted(self) -> bool:
        """Whether nothing of the chunk under way may get into the next: it is for another goal, or guided at weight 0."""
        return self._other_goal or (self._guided and self._weight == 0.0)

    def _prepare_in_background(self, observation: Observation) -> bool:
        stamp = observation.stamp
        if stamp < self._newest:  # a clock that falls back may reach the stamps of an older request again
            self.drop_chunk()
        self._newest = stamp
        begun = self._take(stamp)
        if self.needs_chunk(stamp) and not self._worker.busy:
            self._worker.submit(self.request(observation))
            begun = self._take(stamp) or begun
        return begun

    def _take(self, stamp: int) -> bool:
        """Go on with the chunk of the background if it is ready; return whether it was."""
        done = self._worker.take(stamp)
        return done is not None and self._go_on(*done, stamp)

    def _go_on(self, request: ChunkRequest, chunk: Chunk, now: int) -> bool:
        if not self.begin(request.stamp, chunk, now):
            return False
        self.critic = request.critic
        guided = self._weight > 0.0 or request.prefix is not None  # by which even the unguided twin may be guided
        self.guidance_weight = request.guidance_weight if guided else 0.0
        self._guided = self.guidance_weight > 0.0 or (self._guided and self._weight > 0.0)
        return True

    @property
    def _playable(self) -> int:
        """How many actions of a chunk may be executed; while the next one is inferred, all of them."""
        return self.policy.manifest.horizon if self.settings.asynchronous else self.settings.execution_horizon

    def command(self, observation: Observation, inferred: bool) -> Command:
        """Return the command that answers an observation.

        Raises:
            NotReadyError: No chunk covers its stamp; `pause` until one does.
            SafetyError: The action must not be sent; the chunk is dropped.
        """
        action = self._schedule.action(observation.stamp, self._playable)
        if action is None:
            self.counts["starved_ticks"] += 1
            raise NotReadyError(
                "the next action chunk is still being inferred, and none is left to execute; if this lasts, lower "
                "execution_horizon or num_samples"
                if self._worker.busy
                else f"no action chunk covers stamp {observation.stamp}; infer one first"
            )
        try:
            begins = not self.safety.started
            measured = self._measured(observation.vector)
            values = self.safety.command(action, measured)
            rest = self._schedule.left(observation.stamp)[1:] if self._previews else _NOTHING
            upcoming = self.safety.preview(rest)
        except Exception:
            self.hold()
            raise
        return Command(
            values, action, observation.stamp, inferred, begins, measured, upcoming, telemetry=self._telemetry
        )

    def tick(self, observation: Observation) -> Command:
        """Answer one observation, with an inference if the chunk under way does not cover it.

        Raises:
            GuidanceError: Inference failed.
            SafetyError: The action must not be sent; the chunk is dropped.
        """
        return self.command(observation, self.prepare(observation))
