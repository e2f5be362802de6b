"""Recordings made without a ROS graph: real messages, serialised as DDS carries them. Needs ROS 2 and MCAP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.file_records import FileRecord
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.control.command import Command
from qgf_ros.control.controller import Controller
from qgf_ros.control.inference import Chunk
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.guidance.shaping import QGF, Guidance
from qgf_ros.loop.supervision import Supervision
from qgf_ros.loop.tick_loop import Tick, TickLoop
from qgf_ros.loop.tick_statistics import TickStatistics
from qgf_ros.nodes.diagnostics import diagnostic_array
from qgf_ros.nodes.messages import command_message
from qgf_ros.recording.queue import RecordingQueue
from qgf_ros.recording.recording import Recording
from qgf_ros.recording.writer import Received, RecordingWriter


def joints(stamp: int, *values: float) -> JointState:
    """Return joint positions stamped `stamp` [ns]."""
    message = JointState(name=[f"joint{i}" for i in range(len(values))], position=list(values))
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
    return message


def received(topic: str, message: Any, time: int) -> Received:
    """Return a message as the recorder gets it at `time` [ns]."""
    package = type(message).__module__.partition(".")[0]
    return Received(topic, f"{package}/msg/{type(message).__name__}", time, time, serialize_message(message))


class LinearPolicy:
    """A policy whose action is a smooth function of observation, noise, weight and critic, of float32 and no library."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def act(
        self, observations: Any, noise: Any, critic: str, guidance_weight: float, guidance: Guidance = QGF
    ) -> list[Chunk]:
        best = noise[0, np.argmax(noise[0].sum(axis=1))]
        pull = np.float32(guidance_weight) * np.float32({"near": 0.5, "far": -0.25}[critic])
        pull *= np.float32(min(guidance.max_gradient_norm, 1.0))
        flat = np.tanh(best + observations[0].sum() + pull)
        actions = flat.astype(np.float32).reshape(self.manifest.horizon, -1)
        return [Chunk(actions, actions, {"q": 1.0, "critic_failed": 0.0, "latency_ms": 2.0})]


def make_manifest(max_rate: float | None = None, **changes: Any) -> Manifest:
    """Return a contract of one arm with two actions, horizon 4, at 20 Hz."""
    angle = ObservationField(
        name="angle",
        topic="joint_states",
        message_type="sensor_msgs/msg/JointState",
        extraction="joint_position",
        joints=("joint0", "joint1"),
        size=2,
        unit="rad",
    )
    action = tuple(
        ActionField(name=name, unit="m", scale=0.1, lower=-0.1, upper=0.1, max_rate=max_rate) for name in ("dx", "dy")
    )
    critic = CriticCard(task="t", discount=0.99, ensemble_size=2, recommended_weight=0.5)
    values: dict[str, Any] = {
        "name": "fake",
        "observation": (angle,),
        "action": action,
        "horizon": 4,
        "execution_horizon": 2,
        "control_rate": 20.0,
        "critics": {"near": critic, "far": critic},
        "files": {"velocity.onnx": FileRecord(sha256="0" * 64, size=1)},
    }
    return Manifest(**{**values, **changes})


class Run:
    """The inside of a policy node at work, with everything it hears and says kept as a recorder would receive it."""

    START = 5 * 10**9
    PERIOD = 50_000_000

    def __init__(self, manifest: Manifest, *, motion: bool = True, on_fault: str = "hold", **settings: Any) -> None:
        self.manifest = manifest
        self.messages: list[Received] = []
        self.commands: list[tuple[int, list[float]]] = []
        self.vectors: list[Any] = []
        self.settings = RunOptions(**{"guidance_weight": 0.5, "critic": "near", "execution_horizon": 2, **settings})
        self.controller = Controller(LinearPolicy(manifest), self.settings)
        supervision = Supervision(on_fault=on_fault)
        self.loop = TickLoop(self.controller, self, TickStatistics(0.05), motion=motion, supervision=supervision)
        self.stamp = self.START
        self.clock = 9 * 10**9  # of the recorder

    def hear(self, topic: str, message: Any) -> None:
        """Note a message, a millisecond after the one before."""
        self.clock += 1_000_000
        self.messages.append(received(topic, message, self.clock))

    def tick(self, *angles: float, publish: bool = True) -> None:
        """Let a control period pass, with a measurement at its beginning and the answer to it."""
        message = joints(self.stamp, *angles)
        if publish:
            self.hear("/joint_states", message)
        vector = np.array(angles, dtype=np.float32)
        self.vectors.append(vector)
        self.loop.handle(Tick(Observation(vector, self.stamp)))
        self.stamp += self.PERIOD

    def ticks(self, count: int) -> None:
        for i in range(count):
            self.tick(0.1 * i, -0.05 * i)

    def change(self, *, reseed: bool = False, **settings: Any) -> None:
        """Set parameters, as a user does while the node runs."""
        self.settings = replace(self.settings, **settings)
        self.loop.stage(self.settings, reseed=reseed)

    def finish_episode(self, success: bool) -> None:
        """Report an episode and begin the next one a second later."""
        self.hear("/sim_bridge/episode", String(data=json.dumps({"success": success})))
        self.stamp += 10**9

    # Outputs of the tick loop

    watched = True

    def send_command(self, command: Command, *, motion: bool) -> None:
        self.send_hold(command.values, command.stamp, motion=motion)

    def send_hold(self, values: Any, stamp: int, *, motion: bool = True, moved: bool = False) -> None:
        if motion:
            self.commands.append((stamp, list(values)))
        topic = "/command" if motion else "/policy_node/shadow_command"
        self.hear(topic, command_message([action.name for action in self.manifest.action], values, stamp))

    def send_telemetry(self, figures: Any, stamp: int) -> None:
        self.hear("/policy_node/telemetry", diagnostic_array(stamp, "tick", "fake", 0, "", figures))

    def report(self, level: int, text: str) -> None:
        pass


def write_recording(path: Path, *messages: Received, **metadata: dict[str, str]) -> Path:
    """Write a recording of messages and metadata, without a manifest."""
    writer = RecordingWriter(path, 1 << 30)
    for key, values in metadata.items():
        writer.add_metadata(key, values)
    queue = RecordingQueue(writer)
    for message in messages:
        assert queue.put(message)
    queue.close()
    return path


def record_run(
    path: Path, run: Run, messages: Sequence[Received] | None = None, **metadata: dict[str, str]
) -> Recording:
    """Write what a run said into a file and open it."""
    writer = RecordingWriter(path, 1 << 30)
    writer.add_attachment("manifest.json", "application/json", run.manifest.model_dump_json().encode(), 0)
    for key, values in metadata.items():
        writer.add_metadata(key, values)
    queue = RecordingQueue(writer)
    for message in run.messages if messages is None else messages:
        queue.put(message)
    queue.close()
    return Recording.open(path)
