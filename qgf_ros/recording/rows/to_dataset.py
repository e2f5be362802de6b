"""From recordings to training data in OGBench's format.

A row is a command and the observation it answers. Rows of a trajectory lie a control period apart; a trajectory ends
with its episode, at a gap, or where no observation could be made. One more row closes it, which only serves as the
successor of the last command: the observation a period later, where there is one.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qgf_ros.control.observation import Observation
from qgf_ros.control.vision.pictures import stamps_of
from qgf_ros.errors import ObservationError, RecordingError
from qgf_ros.recording.epochs import restarts, split
from qgf_ros.recording.picture_reel import marking
from qgf_ros.recording.readings import observation_sources
from qgf_ros.recording.recorded_commands import (
    CommandReader,
    differ,
    figures,
    looked_at,
    reached_the_robot,
    says_what_was_sent,
    whole,
)
from qgf_ros.recording.recorded_readings import Kept, by_topic, to_reading
from qgf_ros.recording.recording import Recorded, Recording
from qgf_ros.recording.rows.parts import Parts
from qgf_ros.recording.rows.picture_rows import PictureRows
from qgf_ros.recording.rows.source import Source
from qgf_ros.recording.rows.stamps import as_received, control_ticks, telling
from qgf_ros.recording.rows.trajectories import Conversion, Float, Trajectory, explained_by

#: Called with how many commands more were dealt with, half a command when it is read and half when it is a row. What it raises
#: ends the conversion.
Tell = Callable[[float], None]

#: Numbers in a complaint that differ from message to message: those with a unit, and fractions; no name has one of them.
_NUMBER = r"-?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|inf|nan)"
_MEASURED = re.compile(rf"(?<![\w.]){_NUMBER}(?= (?:s|m|of 255|bytes)\b)|(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?(?![\w.])")


def convert(
    recordings: Sequence[Recording], source: Source, parts: Parts | None = None, tell: Tell = lambda _: None
) -> Conversion:
    """Return the training data of recordings.

    Args:
        recordings: What is converted, one after the other; of one at a time everything but its pictures is in memory.
        source: What to take out of them.
        parts: Where pictures are written, and recordings that are finished are kept and found again; needed where there are
            cameras.
        tell: Told how far it is.

    Raises:
        RecordingError: A topic is missing or of another type, or success is asked for and no outcome was recorded.
    """
    conversion = Conversion()
    try:
        for recording in recordings:
            conversion.add(_converted(recording, source, parts, tell))
        if source.reward.topic is None and not conversion.outcomes:
            raise RecordingError(
                f"no outcome of an episode was recorded on {source.episode}; publish one, or give --reward TOPIC:FIELD, "
                "--outcomes FILE, or, where each recording is a demonstration that succeeded, --every-episode-succeeds"
            )
        conversion.notice_copies(source)
    except RecordingError as error:
        damage = [f"{recording.path}: {sentence}" for recording in recordings for sentence in recording.damage]
        if not damage:
            raise
        raise RecordingError(f"{error}{explained_by(damage)}") from error
    conversion.align_quaternions(source.observation)
    return conversion


def _converted(recording: Recording, source: Source, parts: Parts | None, tell: Tell) -> Conversion:
    """Return what one recording gives: what it gave before, or what it is converted to now."""
    left = source.commands_in(recording)

    def dealt_with(amount: float) -> None:
        nonlocal left
        left -= amount
        tell(amount)

    made = None if parts is None else parts.find(recording)
    if made is None:
        made = Conversion()
        pictures = None if parts is None else parts.begin(recording)
        try:
            _Converter(recording, source, made, pictures, dealt_with).run()
            made.damage = [f"{recording.path}: {sentence}" for sentence in recording.damage]
            if parts is not None and pictures is not None:
                pictures.close()
                parts.finish(recording, made, pictures)
        except BaseException:  # Ctrl-C, too: what was begun is of no use
            if parts is not None and pictures is not None:
                pictures.abandon()
                parts.drop(recording)
            raise
    tell(left)
    return made


class _Converter:
    """Converts one recording."""

    def __init__(
        self, recording: Recording, source: Source, into: Conversion, pictures: PictureRows | None, tell: Tell
    ) -> None:
        self._recording, self._source, self._into = recording, source, into
        self._pictures, self._tell = pictures, tell
        self._period = round(1e9 / source.control_rate)
        topics = source.topics(recording)
        fields = [one for one in source.observation if one.constant is None]
        seen = {recording.resolve(topic) for one in fields for topic in one.topics}
        live = dict.fromkeys(recording.resolve(one.topics[0]) for one in fields if one.live)
        if topics.command in seen:
            into.measured.add(topics.command)
        shown = {recording.resolve(camera.topic) for camera in source.cameras.values()}
        said_on = topics.telemetry if topics.own else None
        read = {*filter(None, (topics.command, topics.episode, topics.reward, said_on))}
        kept: dict[str, Kept] = dict.fromkeys(seen - read, to_reading)
        kept |= {topic: marking() for topic in shown}
        kept |= dict.fromkeys({topics.command, topics.telemetry} - seen - {topics.reward}, looked_at)
        kept[topics.command] = self._telling(kept.get(topics.command, whole))
        found = by_topic(recording, {*read, *seen, *shown}, kept)
        messages = telling(found, topics.command, tuple(live), recording.path, into)
        self._commands = [message for message in messages[topics.command] if reached_the_robot(message)]
        self._ends = messages[topics.episode]
        self._solved = source.outcomes.ends(recording, self._ends)
        self._whole = bool(self._solved) and not self._ends  # without an end, all is one episode
        cuts = restarts(self._commands)
        self._reader = CommandReader(source.action, source.control_rate, source.command_names)
        epochs = split(self._commands, cuts)
        self._epoch_starts = [part[0].log_time for part in epochs if part]
        said = [] if said_on is None else messages[said_on]
        self._said = [{tick.stamp: tick for tick in part if says_what_was_sent(tick)} for part in split(said, cuts)]
        self._converted = topics.command in map(recording.resolve, source.converted) or any(
            differ(self._reader, part, said) for part, said in zip(epochs, self._said)
        )
        rewards = messages[topics.reward] if topics.reward is not None else []
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

    def _telling(self, keep: Kept) -> Kept:
        def kept(recorded: Recorded) -> Any:
            self._tell(0.5)
            return keep(recorded)

        return kept

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
        trajectory = Trajectory(pictures=self._pictures)
        for command in commands:
            self._tell(0.5)
            try:
                row = self._row(command)
            except ObservationError as error:
                self._into.left_out[f"commands without an observation ({_kind(error)})"] += 1
                self._close(trajectory, None)
                trajectory = Trajectory(pictures=self._pictures)
            else:
                trajectory.append(*row)
        trajectory.solved = solved and bool(trajectory.actions)
        self._close(trajectory, commands[-1])

    def _row(self, command: Recorded) -> tuple[Float, Float, float, list[int]]:
        """Return observation, normalised action and reward of a command, and which row of pictures the cameras saw."""
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
        return observation.vector, action, self._reward(command), self._written(observation)

    def _close(self, trajectory: Trajectory, last: Recorded | None) -> None:
        """Keep a trajectory, with the successor of its last command where it can be known or is never looked at."""
        successor = None if last is None else self._successor(last)
        if trajectory.solved and successor is None:
            # Its mask is 0: whatever comes after does not count.
            successor = trajectory.observations[-1], trajectory.seen[-1:]
        if trajectory.solved and self._source.reward.topic is None:
            trajectory.rewards[-1] = 0.0
        if successor is not None and trajectory.actions:
            trajectory.append(successor[0], trajectory.actions[-1], trajectory.rewards[-1], successor[1])
        if len(trajectory.actions) > 1:
            self._into.trajectories.append(trajectory)
        else:
            self._into.left_out["commands alone, without a neighbour a control period away"] += len(trajectory.actions)

    def _successor(self, last: Recorded) -> tuple[Float, list[int]] | None:
        """Return what is observed and seen one control period after a command, or None if there is nothing newer."""
        try:
            observation = self._sources[self._epoch].observe(last.stamp + self._period, last.log_time + self._period)
            return (observation.vector, self._written(observation)) if observation.stamp > last.stamp else None
        except ObservationError:
            return None

    def _written(self, observation: Observation) -> list[int]:
        """Write what the cameras saw, and return its row; raises ObservationError where a picture cannot be decoded."""
        if observation.sight is None or self._pictures is None:
            return []
        return [self._pictures.append(observation.sight.images())]

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


def _kind(error: ObservationError) -> str:
    """Return a complaint without what was measured, so that equal ones count together."""
    return _MEASURED.sub("…", str(error))
