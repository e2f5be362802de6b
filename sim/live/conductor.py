"""A ROS node that takes bridge and policy node through seeded episodes, and notices when one of them is gone."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.run_options import weight_parameters
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.results import Episode, critic_for_task
from qgf_ros.nodes.messages import command_values, from_time
from qgf_sim.bridge.episodes import begun_episode
from qgf_sim.processes import Child

#: Names of the policy node and of the bridge.
NODE, BRIDGE = "policy_node", "sim_bridge"

#: Longest time from the start of the processes to their first answer [s].
STARTUP_TIMEOUT = 60.0
#: Longest time without an answer or a tick after that [s].
SILENCE_TIMEOUT = 20.0
#: Without an answer for this long [s], parameters are set once more.
ANSWER_TIMEOUT = 5.0
#: How long to wait for the last messages of a finished episode [s].
TAIL_TIMEOUT = 2.0


class Lost(Exception):
    """A process died or went silent; the message says which and how."""


class Conductor:
    """A node that takes bridge and policy node through episodes.

    Args:
        manifest: Of the bundle.
        task: Single-task number.
        children: The processes, already started.
        context: ROS context to live in.
        critic: The guiding one; the task's own by default.
        record: Whether to keep the commands.
        between: Called between messages; what it raises goes to the caller.
    """

    def __init__(
        self,
        manifest: Manifest,
        task: int,
        children: Sequence[Child],
        context: Context,
        *,
        critic: str = "",
        record: bool = False,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._task = task
        self._between = between
        self._record = record
        self._manifest = manifest
        self._children = children
        self._critic = critic or critic_for_task(manifest, task)
        self._node = Node("qgf_demo", context=context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._outcome: dict[str, Any] | None = None
        self._first = 0  # stamp [ns] before which nothing belongs to the episode
        self._ticks: dict[int, dict[str, float]] = {}
        self._commands: dict[int, NDArray[np.float64]] = {}
        self._heard = time.monotonic()
        self._failure: str | None = None
        node = self._node
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(String, f"{BRIDGE}/episode", self._on_episode, latched)
        node.create_subscription(DiagnosticArray, f"{NODE}/telemetry", self._on_telemetry, 1000)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        if record:
            node.create_subscription(JointState, "command", self._on_command, 1000)
        # An answer is lost where the other side has not discovered this one's client yet. Clients are discovered in their
        # order: once the bridge has answered a setter, it can answer the reset, which must not be asked for twice.
        self._reset = node.create_client(Trigger, f"{BRIDGE}/reset")
        self._setters = {
            name: node.create_client(SetParametersAtomically, f"{name}/set_parameters_atomically")
            for name in (NODE, BRIDGE)
        }

    def connect(self) -> None:
        """Wait until both processes answer.

        Raises:
            Lost: One of them does not.
        """
        clients = (*self._setters.values(), self._reset)
        self._until(lambda: all(client.service_is_ready() for client in clients), STARTUP_TIMEOUT, "start")

    def run_episode(
        self, weight: float, seed: int, note: Callable[[str], None], settings: Mapping[str, Any] | None = None
    ) -> Episode:
        """Run one episode.

        Args:
            weight: Guidance weight.
            seed: Of environment and noise.
            note: Told how the episode is going.
            settings: Other options of the run that not every episode has, by name.

        Raises:
            Lost: A process died or went silent.
            SimulationError: A request was refused.
        """
        self._set(NODE, **weight_parameters(weight), **(settings or {}), critic=self._critic, seed=seed)
        self._set(BRIDGE, task=self._task, seed=seed)
        self._outcome = None
        answer = self._call(self._reset, Trigger.Request(), f"{BRIDGE} ~/reset")
        begun = begun_episode(answer.message)
        if not answer.success or begun is None:
            raise SimulationError(f"{BRIDGE} refused to start the episode: {answer.message}")
        # Messages of the episode before may have come while this one was begun, and may still come.
        _, self._first = begun
        self._ticks = {stamp: tick for stamp, tick in self._ticks.items() if stamp >= self._first}
        self._commands = {stamp: command for stamp, command in self._commands.items() if stamp >= self._first}

        def finished() -> bool:
            note(self._progress())
            return self._outcome is not None

        self._until(finished, SILENCE_TIMEOUT, "tick")
        outcome: dict[str, Any] = self._outcome or {}
        self._await_tail(outcome["length"])
        inferences = [tick for tick in self._ticks.values() if tick.get("inferred", 1.0)]
        if any(tick.get("critic_failed") for tick in inferences):
            raise SimulationError(f"critic {self._critic} failed during the episode; run 'qgf inspect' on the bundle")
        return Episode(
            weight,
            seed,
            bool(outcome["success"]),
            outcome["length"],
            tuple(tick.get("latency_ms", math.nan) for tick in inferences),
            tuple(tick.get("q", math.nan) for tick in inferences),
            self._recorded(outcome["length"]) if self._record else np.empty((0, 0)),
        )

    def close(self) -> None:
        """Free the node."""
        self._executor.shutdown()
        self._node.destroy_node()

    def _progress(self) -> str:
        if not self._ticks:
            return "waiting for the first tick"
        tick = self._ticks[max(self._ticks)]
        q = tick.get("q", math.nan)
        value = f"Q {q:.1f}, " if math.isfinite(q) else ""
        return f"step {len(self._ticks)}, {value}latency {tick.get('latency_ms', math.nan):.1f} ms"

    def _set(self, name: str, **values: Any) -> None:
        parameters = [Parameter(key, value=value).to_parameter_msg() for key, value in values.items()]
        request = SetParametersAtomically.Request(parameters=parameters)
        result = self._call(self._setters[name], request, f"{name} set_parameters", ANSWER_TIMEOUT).result
        if not result.successful:
            raise SimulationError(f"{name} refused its parameters: {result.reason}")

    def _call(self, client: Any, request: Any, what: str, patience: float = math.inf) -> Any:
        """Return the response of a service, which is asked again whenever `patience` [s] is over.

        Requests are served in their order: with the answer to the last one, no other is left.
        """
        future, asked = client.call_async(request), time.monotonic()

        def answered() -> bool:
            nonlocal future, asked
            if time.monotonic() - asked > patience and not future.done():
                future, asked = client.call_async(request), time.monotonic()
            return bool(future.done())

        self._until(answered, SILENCE_TIMEOUT, f"answer to {what}")
        return future.result()

    def _until(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Take messages in until `done`, as long as both processes live and something is heard."""
        self._heard = time.monotonic()
        while not done():
            self._executor.spin_once(timeout_sec=0.1)
            self._between()
            if self._failure is not None:
                raise SimulationError(f"{NODE} failed: {self._failure}")
            for child in self._children:
                if child.exit_code is not None:
                    raise Lost(f"{child.name} ended with exit code {child.exit_code} ({child.last_words()})")
            if time.monotonic() - self._heard > timeout:
                words = "; ".join(f"{child.name}: {child.last_words()}" for child in self._children)
                raise Lost(f"there was no {what} for {timeout:g} s ({words})")

    def _await_tail(self, length: int) -> None:
        """Let the messages of the last tick, which race with the outcome, come in."""
        deadline = time.monotonic() + TAIL_TIMEOUT
        while time.monotonic() < deadline:
            if len(self._ticks) >= length and (not self._record or len(self._commands) >= length):
                return
            self._executor.spin_once(timeout_sec=0.05)

    def _recorded(self, length: int) -> NDArray[np.float64]:
        """Return the command of every control step, float64 [length, A], nan where none was heard.

        Nobody waits for who listens: what comes while this process is kept from running is lost to it.
        """
        commands = np.full((length, len(self._manifest.action)), np.nan)
        for stamp, command in self._commands.items():
            commands[round((stamp - self._first) * 1e-9 * self._manifest.control_rate)] = command
        return commands

    def _on_episode(self, message: String) -> None:
        self._heard = time.monotonic()
        self._outcome = json.loads(message.data)

    def _on_telemetry(self, message: DiagnosticArray) -> None:
        self._heard = time.monotonic()
        figures: dict[str, float] = {}
        for item in message.status[0].values:
            try:
                figures[item.key] = float(item.value)
            except ValueError:
                continue  # a word, such as the critic's name
        stamp = from_time(message.header.stamp)
        if stamp >= self._first:
            self._ticks[stamp] = figures

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            # An error without a bundle is a failed configure, which does not mend itself; a hold may.
            if status.level == DiagnosticStatus.ERROR and not status.hardware_id:
                self._failure = status.message

    def _on_command(self, message: JointState) -> None:
        stamp = from_time(message.header.stamp)
        if stamp >= self._first:
            self._commands[stamp] = command_values(self._manifest.action, message)
