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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.errors import SimulationError
from qgf_sim.conductor import BRIDGE, NODE, Conductor, Lost
from qgf_sim.plan import EpisodePlan
from qgf_sim.processes import Child, environment, private_graph, stop_all
from qgf_sim.results import Episode

#: What each process runs.
MODULES = {NODE: "qgf_ros.nodes.policy_node", BRIDGE: "qgf_sim.bridge_node"}


class Display(Protocol):
    """Where progress is shown."""

    def note(self, text: str) -> None:
        """Show what is going on right now."""

    def warn(self, text: str) -> None:
        """Show a line that stays."""

    def add(self, episode: Episode) -> None:
        """Show a finished episode."""


def run_demo(
    plan: EpisodePlan, display: Display, between: Callable[[], None] = lambda: None
) -> dict[float, list[Episode]]:
    """Carry out a plan; no process is left behind, however it ends. Call it on the main thread.

    Args:
        plan: What to run.
        display: Where progress is shown.
        between: Called between messages; what it raises ends the demo.

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
        try:
            _finish(plan, manifest, folder, results, display, between)
        except Lost as lost:
            display.warn(f"{lost}; starting both processes again")
            _finish(plan, manifest, folder, results, display, between)
    except Lost as lost:
        keep = True
        raise SimulationError(f"{lost}; the logs are in {folder}") from lost
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return results


def _finish(
    plan: EpisodePlan,
    manifest: Manifest,
    folder: Path,
    results: dict[float, list[Episode]],
    display: Display,
    between: Callable[[], None],
) -> None:
    """Start the processes, run the episodes that are still missing from `results`, end the processes."""
    display.note("starting the simulation bridge and the policy node")
    # A new domain each time: a killed process may leave transports behind that hamper its successor.
    with environment(private_graph(folder)), _running(plan, manifest, folder, between) as conductor:
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
def _running(plan: EpisodePlan, manifest: Manifest, folder: Path, between: Callable[[], None]) -> Iterator[Conductor]:
    """Start both processes and a node to conduct them; end all three."""
    children: list[Child] = []
    context = Context()
    try:
        for name, parameters in _parameters(plan, manifest).items():
            arguments = ["--ros-args"]
            for key, value in parameters.items():
                text = ".inf" if value == math.inf else json.dumps(value)
                arguments += ["-p", f"{key}:={text}"]
            children.append(Child(name, MODULES[name], arguments, folder))
        # The caller's own signal handling stays.
        rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
        conductor = Conductor(manifest, plan.task, children, context, record=plan.record, between=between)
        try:
            yield conductor
        finally:
            conductor.close()
    finally:
        stop_all(children)
        context.try_shutdown()


def _parameters(plan: EpisodePlan, manifest: Manifest) -> dict[str, dict[str, Any]]:
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
            "enable_motion": True,
            "autostart": True,
            "num_samples": plan.num_samples,
            **asdict(plan.options),
        },
    }
