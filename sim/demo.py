"""The demo: simulation bridge and policy node as processes of their own, run through seeded episodes over DDS.

Each episode first sets weight, critic and seed on the node, then task and seed on the bridge, then calls ``~/reset``;
its outcome comes on ``~/episode`` and a telemetry message with every tick. The bridge runs in lockstep and the node
restarts its noise whenever its seed is set, so an episode is the same bits as `qgf_sim.rollout` with batch size 1.

If a process dies, or nothing is heard for long, both are started anew, once, and the episode under way starts over.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.controller import Settings
from qgf_ros.errors import SimulationError
from qgf_ros.nodes.messages import command_values, from_time
from qgf_sim.processes import Child, environment, private_graph, stop_all
from qgf_sim.results import Episode, critic_for_task

NODE, BRIDGE = "policy_node", "sim_bridge"
MODULES = {NODE: "qgf_ros.nodes.policy_node", BRIDGE: "qgf_sim.bridge_node"}

#: Longest time from the start of the processes to their first answer [s].
STARTUP_TIMEOUT = 60.0
#: Longest time without an answer or a tick after that [s].
SILENCE_TIMEOUT = 20.0
#: How long to wait for the last messages of a finished episode [s].
TAIL_TIMEOUT = 2.0


class Display(Protocol):
    """Where progress is shown."""

    def note(self, text: str) -> None:
        """Show what is going on right now."""

    def warn(self, text: str) -> None:
        """Show a line that stays."""

    def add(self, episode: Episode) -> None:
        """Show a finished episode."""


@dataclass(frozen=True)
class DemoPlan:
    """What to run.

    Attributes:
        bundle: Folder of the bundle.
        task: Single-task number.
        weights: Guidance weights, one run each.
        episodes: Episodes per run.
        seed: Of the first episode.
        record: Whether to keep the commands.
    """

    bundle: Path
    task: int
    weights: tuple[float, ...]
    episodes: int
    seed: int = 0
    record: bool = False

    def check(self, manifest: Manifest) -> None:
        """Raise SimulationError or GuidanceError, saying what is allowed, unless the plan can be carried out."""
        if manifest.environment is None:
            raise SimulationError(f"bundle {manifest.name} names no simulated environment; run it on its robot")
        if self.episodes < 1 or not self.weights:
            raise SimulationError(
                f"{self.episodes} episodes at {len(self.weights)} weights were given; expected at least 1 of both"
            )
        if len(set(self.weights)) != len(self.weights):
            raise SimulationError(f"weights {self.weights} were given; each must be there once")
        critic = critic_for_task(manifest, self.task)
        for weight in self.weights:
            Settings(weight, critic, 1, manifest.execution_horizon, self.seed).check(manifest)


class _Lost(Exception):
    """A process died or went silent; the message says which and how."""


def run_demo(plan: DemoPlan, display: Display) -> dict[float, list[Episode]]:
    """Carry out a plan; no process is left behind, however it ends. Call it on the main thread.

    Args:
        plan: What to run.
        display: Where progress is shown.

    Returns:
        Episodes of each weight, in the order of their seeds.

    Raises:
        BundleError, GuidanceError: The bundle is missing or damaged, or cannot run the plan.
        SimulationError: A process died or went silent for the second time.
        ModuleNotFoundError: A package that the processes need is missing.
    """
    plan.check(manifest := load_manifest(plan.bundle))
    for package in ("ogbench", "mujoco", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    results: dict[float, list[Episode]] = {weight: [] for weight in plan.weights}
    folder = Path(tempfile.mkdtemp(prefix="qgf-demo-"))
    keep = False
    try:
        with environment(private_graph(folder)):
            try:
                _finish(plan, manifest, folder, results, display)
            except _Lost as lost:
                display.warn(f"{lost}; starting both processes again")
                _finish(plan, manifest, folder, results, display)
    except _Lost as lost:
        keep = True
        raise SimulationError(f"{lost}; the logs are in {folder}") from lost
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return results


def _finish(
    plan: DemoPlan, manifest: Manifest, folder: Path, results: dict[float, list[Episode]], display: Display
) -> None:
    """Start the processes, run the episodes that are still missing from `results`, end the processes."""
    display.note("starting the simulation bridge and the policy node")
    with _running(plan, manifest, folder) as conductor:
        conductor.connect()
        for weight, episodes in results.items():
            while len(episodes) < plan.episodes:
                title = f"weight {weight:g}, episode {len(episodes) + 1} of {plan.episodes}: "
                episode = conductor.run_episode(
                    weight, plan.seed + len(episodes), lambda text, title=title: display.note(title + text)
                )
                episodes.append(episode)
                display.add(episode)


@contextmanager
def _running(plan: DemoPlan, manifest: Manifest, folder: Path) -> Iterator[Conductor]:
    """Start both processes and a node to conduct them; end all three."""
    children: list[Child] = []
    context = Context()
    try:
        for name, parameters in _parameters(plan, manifest).items():
            arguments = ["--ros-args"]
            for key, value in parameters.items():
                arguments += ["-p", f"{key}:={json.dumps(value)}"]
            children.append(Child(name, MODULES[name], arguments, folder))
        # The caller's own signal handling stays: Ctrl-C must reach the clean-up below.
        rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
        conductor = Conductor(plan, manifest, children, context)
        try:
            yield conductor
        finally:
            conductor.close()
    finally:
        stop_all(children)
        context.try_shutdown()


def _parameters(plan: DemoPlan, manifest: Manifest) -> dict[str, dict[str, Any]]:
    return {
        BRIDGE: {
            "environment": manifest.environment,
            "mode": "lockstep",
            "task": plan.task,
            "autostart": False,
            "auto_reset": False,
        },
        NODE: {
            "bundle": str(plan.bundle.resolve()),
            "trigger": "observation",
            "observation_reliability": "reliable",
            "use_sim_time": True,
            "autostart": True,
        },
    }


class Conductor:
    """A node that takes bridge and policy node through episodes.

    Args:
        plan: What to run.
        manifest: Of the bundle.
        children: The processes.
        context: ROS context to live in.
    """

    def __init__(self, plan: DemoPlan, manifest: Manifest, children: Sequence[Child], context: Context) -> None:
        self._plan = plan
        self._manifest = manifest
        self._children = children
        self._critic = critic_for_task(manifest, plan.task)
        self._node = Node("qgf_demo", context=context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._outcome: dict[str, Any] | None = None
        self._ticks: dict[int, dict[str, float]] = {}
        self._commands: dict[int, NDArray[np.float64]] = {}
        self._heard = time.monotonic()
        self._failure: str | None = None
        node = self._node
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(String, f"{BRIDGE}/episode", self._on_episode, latched)
        node.create_subscription(DiagnosticArray, f"{NODE}/telemetry", self._on_telemetry, 1000)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        if plan.record:
            node.create_subscription(JointState, "command", self._on_command, 1000)
        self._setters = {
            name: node.create_client(SetParametersAtomically, f"{name}/set_parameters_atomically")
            for name in (NODE, BRIDGE)
        }
        self._reset = node.create_client(Trigger, f"{BRIDGE}/reset")

    def connect(self) -> None:
        """Wait until both processes answer.

        Raises:
            _Lost: One of them does not.
        """
        clients = (*self._setters.values(), self._reset)
        self._until(lambda: all(client.service_is_ready() for client in clients), STARTUP_TIMEOUT, "start")

    def run_episode(self, weight: float, seed: int, note: Callable[[str], None]) -> Episode:
        """Run one episode.

        Args:
            weight: Guidance weight.
            seed: Of environment and noise.
            note: Told how the episode is going.

        Raises:
            _Lost: A process died or went silent.
            SimulationError: A request was refused.
        """
        self._set(NODE, guidance_weight=float(weight), critic=self._critic, seed=seed)
        self._set(BRIDGE, task=self._plan.task, seed=seed)
        self._outcome = None
        self._ticks.clear()
        self._commands.clear()
        answer = self._call(self._reset, Trigger.Request(), f"{BRIDGE} ~/reset")
        if not answer.success:
            raise SimulationError(f"{BRIDGE} refused to start the episode: {answer.message}")

        def finished() -> bool:
            note(self._progress())
            return self._outcome is not None

        self._until(finished, SILENCE_TIMEOUT, "tick")
        outcome = self._outcome or {}
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
            np.array([self._commands[stamp] for stamp in sorted(self._commands)]),
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
        result = self._call(self._setters[name], request, f"{name} set_parameters").result
        if not result.successful:
            raise SimulationError(f"{name} refused its parameters: {result.reason}")

    def _call(self, client: Any, request: Any, what: str) -> Any:
        future = client.call_async(request)
        self._heard = time.monotonic()
        self._until(future.done, SILENCE_TIMEOUT, f"answer to {what}")
        return future.result()

    def _until(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Take messages in until `done`, as long as both processes live and something is heard."""
        self._heard = time.monotonic()
        while not done():
            self._executor.spin_once(timeout_sec=0.1)
            if self._failure is not None:
                raise SimulationError(f"{NODE} failed: {self._failure}")
            for child in self._children:
                if child.exit_code is not None:
                    raise _Lost(f"{child.name} ended with exit code {child.exit_code} ({child.last_words()})")
            if time.monotonic() - self._heard > timeout:
                words = "; ".join(f"{child.name}: {child.last_words()}" for child in self._children)
                raise _Lost(f"there was no {what} for {timeout:g} s ({words})")

    def _await_tail(self, length: int) -> None:
        """Let the messages of the last tick, which race with the outcome, come in."""
        deadline = time.monotonic() + TAIL_TIMEOUT
        while time.monotonic() < deadline:
            if len(self._ticks) >= length and (not self._plan.record or len(self._commands) >= length):
                return
            self._executor.spin_once(timeout_sec=0.05)

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
        self._ticks[from_time(message.header.stamp)] = figures

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            # An error without a bundle is a failed configure, which does not mend itself; a hold may.
            if status.level == DiagnosticStatus.ERROR and not status.hardware_id:
                self._failure = status.message

    def _on_command(self, message: JointState) -> None:
        self._commands[from_time(message.header.stamp)] = command_values(self._manifest.action, message)
