"""From recordings to training data in OGBench's format.

A row is a command and the observation it answers. Rows of a trajectory lie a control period apart; a trajectory ends
with its episode, at a gap, or where no observation could be made. One more row closes it, which only serves as the
successor of the last command: the observation a period later, where there is one.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.control.observation import Observation
from qgf_ros.control.output_source import COMMAND_TOPIC
from qgf_ros.control.vision.pictures import stamps_of
from qgf_ros.errors import ObservationError, RecordingError
from qgf_ros.recording.epochs import restarts, split
from qgf_ros.recording.readings import by_topic, observation_sources
from qgf_ros.recording.recorded_commands import CommandReader, differ, figures, reached_the_robot, says_what_was_sent
from qgf_ros.recording.recording import Recorded, Recording
from qgf_ros.recording.rows.outcomes import Outcomes, Reward
from qgf_ros.recording.rows.stamps import as_received, telling
from qgf_ros.recording.rows.trajectories import Conversion, Float, Images, Trajectory, explained_by


@dataclass(frozen=True)
class Source:
    """What to take out of recordings.

    Attributes:
        observation: The observation contract, as the robot served it.
        action: The action contract.
        control_rate: [Hz].
        reward: Where rewards come from.
        alignment: As of `ObservationAssembler`.
        command: Topic of the commands, relative to the namespace of the run. On ``command``, what the policy node says
            in its telemetry that it commanded counts.
        episode: Topic of outcomes: a String of JSON with the key success.
        converted: Topics on which the robot contract sends other values than the command's, such as scaled ones; of
            them only the telemetry tells what was commanded.
        command_names: Of the action's components on the topic of the commands; those of the contract by default.
        outcomes: What is said of episodes from outside the recordings.
        unscaled: Names of actions that are kept in their unit, whatever their scale and offset.
        cameras: The cameras, as the robot served them; rows have what the policy would see of each.
    """

    observation: Sequence[ObservationField]
    action: Sequence[ActionField]
    control_rate: float
    reward: Reward = field(default_factory=Reward)
    alignment: str = "latest"
    command: str = "command"
    episode: str = "sim_bridge/episode"
    converted: Collection[str] = ()
    command_names: Sequence[str] = ()
    outcomes: Outcomes = field(default_factory=Outcomes)
    unscaled: Collection[str] = ()
    cameras: Mapping[str, CameraField] = field(default_factory=dict)


def convert(recordings: Sequence[Recording], source: Source) -> Conversion:
    """Return the training data of recordings.

    Raises:
        RecordingError: A topic is missing or of another type, or success is asked for and no outcome was recorded.
    """
    conversion = Conversion()
    try:
        for recording in recordings:
            _Converter(recording, source, conversion).run()
        if source.reward.topic is None and not conversion.outcomes:
            raise RecordingError(
                f"no outcome of an episode was recorded on {source.episode}; publish one, or give --reward TOPIC:FIELD, "
                "--outcomes FILE, or, where each recording is a demonstration that succeeded, --every-episode-succeeds"
            )
        _notice_copies(conversion, source)
    except RecordingError as error:
        damage = _damage(recordings)
        if not damage:
            raise
        raise RecordingError(f"{error}{explained_by(damage)}") from error
    conversion.damage = _damage(recordings)
    conversion.align_quaternions(source.observation)
    return conversion


def _notice_copies(conversion: Conversion, source: Source) -> None:
    """Note where commands are what was measured; raises RecordingError where they are of the same topic, too."""
    fields = conversion.copied(source.observation, source.action)
    if not fields:
        return
    sentence = (
        f"every command on {source.command} is what is observed beside it as {', '.join(fields)}: it says where the robot is, "
        "not where it is to go, and a policy of such commands stands still; give the topic of what the robot was told, such "
        "as that of a leader's joints, as --command"
    )
    if conversion.measured:
        raise RecordingError(sentence)
    conversion.notes.append(sentence)


def _damage(recordings: Sequence[Recording]) -> list[str]:
    return [f"{recording.path}: {sentence}" for recording in recordings for sentence in recording.damage]


class _Converter:
    """Converts one recording."""

    def __init__(self, recording: Recording, source: Source, into: Conversion) -> None:
        self._recording = recording
        self._source = source
        self._into = into
        self._period = round(1e9 / source.control_rate)
        command = source.command
        telemetry = recording.resolve("~/telemetry", recording.run.get("policy_node", "policy_node"))
        own = recording.resolve(command) == recording.resolve(COMMAND_TOPIC)
        if own and recording.resolve(command) not in recording.topics and telemetry in recording.topics:
            command = telemetry
        topics = [command, source.episode, *filter(None, [source.reward.topic])]
        names = {topic: recording.resolve(topic) for topic in topics}
        for topic in (command, source.reward.topic):
            if topic is not None and names[topic] not in recording.topics:
                raise RecordingError(f"{recording.path} has no topic {names[topic]}; it has {recording.topic_names}")
        fields = [one for one in source.observation if one.constant is None]
        seen = {recording.resolve(topic) for one in fields for topic in one.topics}
        live = dict.fromkeys(recording.resolve(one.topics[0]) for one in fields if one.live)
        if names[command] in seen:
            into.measured.add(names[command])
        seen |= {recording.resolve(camera.topic) for camera in source.cameras.values()}
        found = by_topic(recording, {*names.values(), telemetry, *seen})
        messages = telling(found, names[command], tuple(live), recording.path, into)
        self._commands = [message for message in messages[names[command]] if reached_the_robot(message)]
        self._ends = messages[names[source.episode]]
        self._solved = source.outcomes.ends(recording, self._ends)
        self._whole = bool(self._solved) and not self._ends  # without an end, all is one episode
        cuts = restarts(self._commands)
        self._reader = CommandReader(source.action, source.control_rate, source.command_names)
        epochs = split(self._commands, cuts)
        self._epoch_starts = [part[0].log_time for part in epochs if part]
        said = messages[telemetry] if own else []
        self._said = [{tick.stamp: tick for tick in part if says_what_was_sent(tick)} for part in split(said, cuts)]
        self._converted = names[command] in map(recording.resolve, source.converted) or any(
            differ(self._reader, part, said) for part, said in zip(epochs, self._said)
        )
        rewards = messages[names[source.reward.topic]] if source.reward.topic is not None else []
        self._rewards_stamped = any(recorded.stamped and recorded.stamp for recorded in rewards)
        if not self._rewards_stamped:
            rewards = list(map(as_received, rewards))
        self._rewards = [sorted(part, key=_stamp) for part in split(rewards, cuts)]
        scaled = [(1.0, 0.0) if f.name in source.unscaled else (f.scale, f.offset) for f in source.action]
        self._scale, self._offset = np.array(scaled).T
        self._most = np.array([np.inf if field.name in source.unscaled else 1.0 for field in source.action])
        self._sources = observation_sources(
            recording, source.observation, 1.0 / source.control_rate, source.alignment, cuts, messages, source.cameras
        )
        self._epoch = 0

    def run(self) -> None:
        for commands, solved in self._episodes():
            self._epoch = bisect.bisect_right(self._epoch_starts, commands[0].log_time) - 1
            chains = control_ticks([command.stamp for command in commands], self._period)
            if self._whole and solved and len(chains) > 1:
                self._into.notes.append(
                    f"{self._recording.path} is taken as one episode, and its commands pause {len(chains) - 1} times: "
                    "only what follows the last pause counts as a success"
                )
            self._into.left_out["commands between two control ticks"] += len(commands) - sum(map(len, chains))
            for chain in chains:
                self._add([commands[index] for index in chain], solved and chain is chains[-1])
        self._into.inferred |= any(source.inferred for source in self._sources)

    def _episodes(self) -> list[tuple[list[Recorded], bool]]:
        """Return the commands of each episode, the first of each stamp in the order of stamps, and its success."""
        self._into.outcomes += len(self._solved)
        solved = {id(end): success for end, success in zip(self._ends, self._solved)}
        rest = self._whole and self._solved[0]
        episodes: list[tuple[list[Recorded], bool]] = []
        commands: list[Recorded] = []
        for recorded in sorted([*self._commands, *self._ends], key=lambda recorded: recorded.log_time):
            if id(recorded) in solved:
                episodes.append((commands, solved[id(recorded)]))
                commands = []
            elif not commands or recorded.stamp > commands[-1].stamp:  # the same stamp: a hold, or the answer again
                commands.append(recorded)
            elif recorded.stamp < commands[-1].stamp:  # the clock was restarted
                episodes.append((commands, False))
                commands = [recorded]
        if commands and not self._whole and self._source.reward.topic is None:
            self._into.notes.append(
                f"{self._recording.path} ends without an outcome, so its last {len(commands)} commands do not count as a success"
            )
        return [(commands, success) for commands, success in [*episodes, (commands, rest)] if commands]

    def _add(self, commands: Sequence[Recorded], solved: bool) -> None:
        """Add the trajectories of commands that lie a control period apart; the last may solve the task."""
        trajectory = Trajectory()
        for command in commands:
            try:
                row = self._row(command)
            except ObservationError as error:
                self._into.left_out[f"commands without an observation ({_kind(error)})"] += 1
                self._close(trajectory, None)
                trajectory = Trajectory()
            else:
                trajectory.append(*row)
        trajectory.solved = solved and bool(trajectory.actions)
        self._close(trajectory, commands[-1])

    def _row(self, command: Recorded) -> tuple[Float, Float, float, Images]:
        """Return observation, normalised action and reward of a command, and what the cameras saw."""
        said = self._said[self._epoch].get(command.stamp)
        shown = stamps_of(figures(said).get("frame_stamps", "")) if said is not None else {}
        observation = self._sources[self._epoch].observe(command.stamp, command.log_time, shown or None)
        if said is None and self._converted:
            raise ObservationError("no telemetry that says what was commanded")
        values = self._reader.values(said or command)
        if not np.isfinite(values).all():
            raise ObservationError("the command is not finite")
        action = (values - self._offset) / self._scale
        self._into.clipped += bool((np.abs(action) > self._most + 1e-6).any())  # which is rounding
        action = np.clip(action, -self._most, self._most).astype(np.float32)
        return observation.vector, action, self._reward(command), _images(observation)

    def _close(self, trajectory: Trajectory, last: Recorded | None) -> None:
        """Keep a trajectory, with the successor of its last command where it can be known or is never looked at."""
        successor = None if last is None else self._successor(last)
        if trajectory.solved and successor is None:
            # Its mask is 0: whatever comes after does not count.
            successor = trajectory.observations[-1], trajectory.images[-1]
        if trajectory.solved and self._source.reward.topic is None:
            trajectory.rewards[-1] = 0.0
        if successor is not None and trajectory.actions:
            trajectory.append(successor[0], trajectory.actions[-1], trajectory.rewards[-1], successor[1])
        if len(trajectory.actions) > 1:
            self._into.trajectories.append(trajectory)
        else:
            self._into.left_out["commands alone, without a neighbour a control period away"] += len(trajectory.actions)

    def _successor(self, last: Recorded) -> tuple[Float, Images] | None:
        """Return what is observed and seen one control period after a command, or None if there is nothing newer."""
        try:
            observation = self._sources[self._epoch].observe(last.stamp + self._period, last.log_time + self._period)
            images = _images(observation)
        except ObservationError:
            return None
        return (observation.vector, images) if observation.stamp > last.stamp else None

    def _reward(self, command: Recorded) -> float:
        if self._source.reward.topic is None:
            return -1.0
        time = command.stamp if self._rewards_stamped else command.log_time
        rewards = self._rewards[self._epoch]
        index = bisect.bisect_right(rewards, time, key=_stamp) - 1
        if index < 0:
            raise ObservationError(f"no reward yet on topic {self._source.reward.topic}")
        return self._source.reward.value(rewards[index])


def _stamp(recorded: Recorded) -> int:
    return recorded.stamp


def _images(observation: Observation) -> Images:
    """Return what the cameras saw; raises ObservationError where a picture cannot be decoded."""
    return {} if observation.sight is None else observation.sight.images()


def control_ticks(stamps: Sequence[int], period: int) -> list[list[int]]:
    """Return which of some rising stamps [ns] lie one `period` [ns] apart, to half a period: a list per gapless run."""
    runs = [[0]]
    while True:
        row = runs[-1][-1]
        wanted = stamps[row] + period
        later = bisect.bisect_left(stamps, stamps[row] + period / 2)
        if later == len(stamps):
            return runs
        near = bisect.bisect_left(stamps, wanted)
        nearest = min((i for i in (near - 1, near) if later <= i < len(stamps)), key=lambda i: abs(stamps[i] - wanted))
        if abs(stamps[nearest] - wanted) < period / 2:
            runs[-1].append(nearest)
        else:
            runs.append([later])


def _kind(error: ObservationError) -> str:
    """Return a complaint without its numbers, so that equal ones count together."""
    return re.sub(r"-?\d+\.\d+ s", "… s", str(error))
