"""What is taken out of recordings, and on which of their topics it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.control.output_source import COMMAND_TOPIC
from qgf_ros.errors import RecordingError
from qgf_ros.recording.recording import Recording
from qgf_ros.recording.rows.outcomes import Outcomes, Reward


class Topics(NamedTuple):
    """Full names of the topics of a recording.

    Attributes:
        command: Of the commands; the telemetry, where the policy node's own commands were not recorded beside it.
        episode: Of outcomes.
        reward: Of rewards, or None for success.
        telemetry: Of the policy node.
        own: Whether the commands are the policy node's own.
    """

    command: str
    episode: str
    reward: str | None
    telemetry: str
    own: bool


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

    def topics(self, recording: Recording) -> Topics:
        """Return where in a recording it is; raises RecordingError where commands or rewards are missing."""
        command = recording.resolve(self.command)
        telemetry = recording.resolve("~/telemetry", recording.run.get("policy_node", "policy_node"))
        own = command == recording.resolve(COMMAND_TOPIC)
        if own and command not in recording.topics and telemetry in recording.topics:
            command = telemetry
        reward = None if self.reward.topic is None else recording.resolve(self.reward.topic)
        for topic in (command, reward):
            if topic is not None and topic not in recording.topics:
                raise RecordingError(f"{recording.path} has no topic {topic}; it has {recording.topic_names}")
        return Topics(command, recording.resolve(self.episode), reward, telemetry, own)

    def commands_in(self, recording: Recording) -> float:
        """Return how many commands a recording has; raises RecordingError as `topics`."""
        return recording.topics[self.topics(recording).command][1]
