"""What a bundle would have commanded in a recorded run, and why it differs from what was commanded.

Each recorded tick is answered again by the same contract, controller and noise. Telemetry says, tick by tick, which
settings were in force, how far the noise had been drawn and what the observation was (its checksum). So a tick either
is the same to the bit, or differs for a reason that is named, or cannot be replayed, and it is said why.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.controller import Controller
from qgf_ros.control.inference import ChunkPolicy
from qgf_ros.control.limit_overrides import manifest_with_limits
from qgf_ros.control.run_options import RunOptions
from qgf_ros.control.vision.pictures import stamps_of
from qgf_ros.errors import ObservationError, RecordingError
from qgf_ros.recording.comparison import Replay, Replayed
from qgf_ros.recording.epochs import restarts, split
from qgf_ros.recording.parameter_history import ParameterHistory
from qgf_ros.recording.readings import ObservationSource, observation_sources
from qgf_ros.recording.recorded_commands import commanded, figures
from qgf_ros.recording.recorded_readings import by_topic
from qgf_ros.recording.recording import Recorded, Recording

#: The cause of a difference where inputs, bundle, settings and noise are those of the recorded run.
ARITHMETIC = "other arithmetic (processor, ONNX Runtime, provider or threads), or another state of the safety envelope"

# More than this is no number of a real run.
_MOST_NOISE, _MOST_SAMPLES = 10**10, 1024


def replay(
    recording: Recording,
    policy: ChunkPolicy,
    observation: Sequence[ObservationField],
    alignment: str = "latest",
    overrides: Mapping[str, Any] | None = None,
    cameras: Mapping[str, CameraField] | None = None,
) -> Replay:
    """Answer every recorded tick again.

    Args:
        recording: Of a run of the policy node.
        policy: The bundle to answer with.
        observation: The observation contract as the robot served it.
        alignment: As of `ObservationAssembler`.
        overrides: Options, of `control.run_options.REPLAYABLE`, in place of the recorded ones.
        cameras: The cameras as the robot served them; the bundle's own by default.

    Raises:
        RecordingError: A topic is missing, or the run was asynchronous throughout.
        GuidanceError: The bundle cannot run the settings.
        SafetyError: The limits that were set in the run are none of this bundle's.
    """
    overrides = {name: value for name, value in (overrides or {}).items() if value is not None}
    cameras = policy.manifest.cameras if cameras is None else cameras
    return _Replayer(recording, policy, observation, alignment, overrides, cameras).run()


class _NotReplayable(Exception):
    """Why a tick cannot be answered again."""


class _Replayer:
    def __init__(
        self,
        recording: Recording,
        policy: ChunkPolicy,
        observation: Sequence[ObservationField],
        alignment: str,
        overrides: Mapping[str, Any],
        cameras: Mapping[str, CameraField],
    ) -> None:
        self._overrides, self._sees = overrides, bool(cameras)
        node = recording.run.get("policy_node", "policy_node")
        telemetry = recording.resolve("~/telemetry", node)
        messages = by_topic(recording, {telemetry, "/parameter_events"})
        ticks = messages[telemetry]
        if not ticks:
            raise RecordingError(f"{recording.path} has no messages on {telemetry}; record a run of the policy node")
        if all(figures(tick).get("execution") == "asynchronous" for tick in ticks):
            raise RecordingError(
                f"{recording.path} is of asynchronous execution, and which ticks its chunks were inferred beside is not "
                "recorded; replay a synchronous run, or make a data set of this one with 'qgf dataset from-bag'"
            )
        self._parameters = ParameterHistory(recording, recording.resolve(node), messages["/parameter_events"])
        self._policy = copy.copy(policy)
        self._policy.manifest = manifest_with_limits(policy.manifest, self._parameters.limits)
        self._manifest = manifest = self._policy.manifest
        found = restarts(ticks)
        period = 1.0 / manifest.control_rate
        sources = observation_sources(recording, observation, period, alignment, found, cameras=cameras)
        self._epochs = list(zip(sources, split(ticks, found)))
        self._bundle_causes = _other_files(recording.manifest, manifest)
        self._outcome = Replay(manifest, remarks=[*recording.damage])
        if recording.dropped:
            self._outcome.remarks.append(f"{recording.dropped} messages were dropped while recording")
        if recording.lost:
            self._outcome.remarks.append(f"{recording.lost} messages were lost on their way to the recorder")
        if recording.manifest is None:
            self._outcome.remarks.append("the recording does not say which bundle ran")
        self._controller: Controller | None = None
        self._recorded = RunOptions()  # of the tick that is answered
        self._before: Mapping[str, str] = {}  # telemetry of the tick before
        self._noise: tuple[int, int] | None = None  # recorded: the seed, and the numbers drawn since

    def run(self) -> Replay:
        last: int | None = None
        for source, ticks in self._epochs:
            for tick in ticks:
                values = figures(tick)
                try:
                    self._outcome.ticks.append(self._answer(source, tick, values, last))
                except _NotReplayable as reason:
                    self._outcome.not_replayed[str(reason)] += 1
                last, self._before = tick.stamp, values
        if any(source.inferred for source, _ in self._epochs):
            self._outcome.remarks.append("which readings a tick saw is partly inferred from times of arrival")
        return self._outcome

    def _answer(
        self, source: ObservationSource, tick: Recorded, values: Mapping[str, str], last: int | None
    ) -> Replayed:
        if values.get("execution") == "asynchronous":
            raise _NotReplayable(
                "its action chunk was inferred beside other ticks, and which those were is not recorded"
            )
        settings = self._settings(tick, values)
        controller = self._prepare(tick, values, settings, last)
        try:
            shown = stamps_of(values.get("frame_stamps", "")) if self._sees else None
            observation = source.observe(tick.stamp, tick.log_time, shown)
        except ObservationError as error:
            raise _NotReplayable(f"the observation is not in the recording: {error}") from error
        if values.get("observation_crc32") != str(zlib.crc32(observation.vector.tobytes())):
            raise _NotReplayable("the node saw another observation than the one recorded")
        try:
            recorded = commanded(self._manifest.action_size, tick)
        except RecordingError as error:
            raise _NotReplayable(str(error)) from None
        if values.get("inferred") == "1":
            self._place_noise(controller, values, settings)
        elif controller.needs_chunk(tick.stamp):
            raise _NotReplayable("its action chunk began before the recording, or at a tick that is not replayed")
        try:
            command = controller.tick(observation)
        except ObservationError as error:  # of a picture that cannot be decoded, from which nothing was commanded
            raise _NotReplayable(str(error)) from error
        return Replayed(tick.stamp, recorded, command.values, self._causes(values))

    def _settings(self, tick: Recorded, values: Mapping[str, str]) -> RunOptions:
        """Return the settings of a tick, with the overrides; raises GuidanceError if the bundle cannot run them."""
        said = self._parameters.options(tick.log_time)
        self._recorded = replace(
            said,
            guidance_weight=_number(values, "guidance_weight"),
            critic=values.get("critic", ""),
            num_samples=_integer(values, "num_samples", _MOST_SAMPLES),
            execution_horizon=_integer(values, "execution_horizon"),
            seed=_integer(values, "seed"),
            estimator=values.get("estimator", said.estimator),
            guidance_weight_slew=math.inf,  # the weight is the one in use
            execution="synchronous",
            seam=values.get("seam", "switch"),
            blend_steps=_integer({"blend_steps": "1", **values}, "blend_steps"),
        )
        return replace(self._recorded, **self._overrides).resolve(self._manifest)

    def _prepare(self, tick: Recorded, values: Mapping[str, str], settings: RunOptions, last: int | None) -> Controller:
        """Return the controller as it stood before a tick."""
        controller = self._controller
        if controller is None:
            controller = self._controller = Controller(self._policy, settings)
            controller.safety.followed = False  # the recorded robot followed the recorded commands
            if values.get("tick") != "1":
                self._outcome.remarks.append(
                    "the recording begins within a run, so a rate limit may make the first commands differ"
                )
        if settings != controller.settings:
            controller.apply(settings)
        before = self._before
        if last is not None and (before.get("motion") != values.get("motion") or tick.stamp < last):
            controller.reset()
        elif before and before.get("holds") != values.get("holds"):
            controller.hold()
        if values.get("inferred") == "1" and not controller.needs_chunk(tick.stamp):
            controller.apply(settings)  # something dropped the chunk, such as a fault that nothing was sent for
        return controller

    def _place_noise(self, controller: Controller, values: Mapping[str, str], settings: RunOptions) -> None:
        """Put the noise where it stood before a recorded inference."""
        size = self._manifest.chunk_size
        seed, drawn = _integer(values, "seed"), _integer(values, "noise_drawn", _MOST_NOISE)
        samples = _integer(values, "num_samples", _MOST_SAMPLES)
        before = drawn - samples * size
        if before < 0:
            raise _NotReplayable("telemetry does not say how far the noise had been drawn")
        if self._noise is not None and (seed != self._noise[0] or before < self._noise[1]):
            controller.drop_chunk()  # as the node does when its seed is set
        if self._noise != (seed, before):
            inferences = before // (samples * size)  # since the seed; exact as long as num_samples was the same
            skipped = before if settings.num_samples == samples else inferences * settings.num_samples * size
            controller.noise.restart(settings.seed, skipped)
        self._noise = (seed, drawn)

    def _causes(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return what was another at a tick than in the recorded run."""
        changes = [
            f"{name} {getattr(self._recorded, name)} → {value}"
            for name, value in self._overrides.items()
            if value != getattr(self._recorded, name)
        ]
        if values.get("critic_failed", "0.0") != "0.0":
            changes.append("the critic had failed")
        return (*self._bundle_causes, *changes) or (ARITHMETIC,)


def _other_files(recorded: Manifest | None, replayed: Manifest) -> tuple[str, ...]:
    """Return which files of the bundle are not those that ran."""
    if recorded is None:
        return ()
    names = sorted(recorded.files.keys() | replayed.files.keys())
    other = [name for name in names if recorded.files.get(name) != replayed.files.get(name)]
    return tuple(f"another {name}" for name in other)


def _integer(values: Mapping[str, str], name: str, most: int = 2**63) -> int:
    text = values.get(name, "")
    if not (text.isdecimal() and len(text) < 20 and int(text) <= most):
        raise _NotReplayable(f"telemetry has no sound {name}")
    return int(text)


def _number(values: Mapping[str, str], name: str) -> float:
    try:
        return float(values[name])
    except (KeyError, ValueError):
        raise _NotReplayable(f"telemetry has no sound {name}") from None
