"""The demo: simulation bridge and policy node as processes of their own, run through seeded episodes over DDS.

Each episode first sets weight, critic and seed on the node, then task and seed on the bridge, then calls ``~/reset``;
its outcome comes on ``~/episode`` and a telemetry message with every tick. The bridge runs in lockstep and the node
restarts its noise whenever its seed is set, so an episode is the same bits as `qgf_sim.rollouts.rollout` with batch size 1.

If a process dies, or nothing is heard for long, both are started anew, once, and the episode under way starts over.

In the served demo nobody conducts: the bridge runs in real time, one episode after the other, and a person steers. Until
one does, the plan's weights follow one another.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.run_options import weight_parameters
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.plan import EpisodePlan
from qgf_ros.evaluation.results import Episode
from qgf_sim.live.conductor import BRIDGE, NODE, Conductor, Lost
from qgf_sim.live.presentation import Presentation
from qgf_sim.processes import Child, environment, private_graph, stop_all

#: Options of a run that the conductor sets for each episode.
SET_BY_EPISODE = ("guidance_weight", "critic", "seed")
#: Packages that the processes need.
_NEEDED = ("ogbench", "mujoco", "onnxruntime")
#: What each process runs.
MODULES = {NODE: "qgf_ros.nodes.policy_node", BRIDGE: "qgf_sim.bridge.node"}


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
    _require(*_NEEDED, *_of_cameras(manifest))
    results: dict[float, list[Episode]] = {weight: [] for weight in plan.guidance_weights}
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


def serve_demo(plan: EpisodePlan, port: int, note: Callable[[str], None], stop: Callable[[], bool]) -> None:
    """Let episodes follow one another in real time, beside a dashboard; no process is left behind.

    Args:
        plan: What to begin with: bundle, task, seed, options, and the first of its weights. After its number of episodes comes
            the next one, up to the last, unless a person has set another meanwhile.
        port: TCP port of the page.
        note: Told what to know.
        stop: Asked ten times a second whether that is enough.

    Raises:
        BundleError, GuidanceError: The bundle is missing or damaged, or cannot run the plan.
        SimulationError: A process died.
        ModuleNotFoundError: A package that the processes need is missing.
    """
    plan.check(manifest := load_manifest(plan.bundle))
    _require(*_NEEDED, *_of_cameras(manifest), "viser", "websockets", "trimesh")
    parameters = _parameters(plan, manifest)
    parameters[BRIDGE] |= {"mode": "realtime", "seed": plan.options.seed, "autostart": True, "auto_reset": True}
    begin = plan.options_at(manifest, plan.guidance_weights[0])
    settings = {weight: plan.settings_at(manifest, weight) for weight in plan.guidance_weights}
    parameters[NODE] |= {**weight_parameters(begin.guidance_weight), "critic": begin.critic, "seed": begin.seed}
    parameters[NODE] |= settings[plan.guidance_weights[0]]
    children: list[Child] = []
    with tempfile.TemporaryDirectory(prefix="qgf-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        graph = private_graph(folder)
        note(f"the dashboard comes up at http://127.0.0.1:{port}; Ctrl-C ends the demo")
        note(f"for ros2 in another terminal: export ROS_DOMAIN_ID={graph['ROS_DOMAIN_ID']}")
        look_after = partial(_look_after, children, stop)
        try:
            with environment(graph), suppress(_Stopped):
                children.extend(_start(parameters, folder))
                children.append(Child("dashboard", "qgf_sim.dashboard.process", ["--port", str(port)], folder))
                with _presented(plan, settings, note, look_after) as presentation:
                    while True:
                        presentation.listen(0.1)
        finally:
            stop_all(children)


class _Stopped(Exception):
    """Somebody has seen enough."""


def _look_after(children: Sequence[Child], stop: Callable[[], bool]) -> None:
    """Raise _Stopped if that was asked for, and SimulationError if a process has ended."""
    if stop():
        raise _Stopped
    for child in children:
        if child.exit_code is not None:
            raise SimulationError(f"{child.name} ended with exit code {child.exit_code} ({child.last_words()})")


@contextmanager
def _presented(
    plan: EpisodePlan,
    settings: Mapping[float, Mapping[str, Any]],
    note: Callable[[str], None],
    between: Callable[[], None],
) -> Iterator[Presentation]:
    context = Context()
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        presentation = Presentation(plan, context, note, between, settings)
        try:
            yield presentation
        finally:
            presentation.close()
    finally:
        context.try_shutdown()


def _of_cameras(manifest: Manifest) -> tuple[str, ...]:
    """Return the packages that both processes need where the bundle sees, and not otherwise."""
    return ("cv2",) if manifest.cameras else ()


def _require(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def _start(parameters: Mapping[str, Mapping[str, Any]], folder: Path) -> Iterator[Child]:
    """Start a process for each node, with its parameters."""
    for name, values in parameters.items():
        arguments = ["--ros-args"]
        for key, value in values.items():
            text = ".inf" if value == math.inf else json.dumps(value)
            arguments += ["-p", f"{key}:={text}"]
        yield Child(name, MODULES[name], arguments, folder)


def _finish(
    plan: EpisodePlan,
    manifest: Manifest,
    folder: Path,
    results: dict[float, list[Episode]],
    display: Display,
    between: Callable[[], None],
) -> None:
    """Start the processes, run the episodes that are still missing from `results`, end the processes."""

    def note(title: str, text: str) -> None:
        display.note(title + text)

    display.note("starting the simulation bridge and the policy node")
    # A new domain each time: a killed process may leave transports behind that hamper its successor.
    with environment(private_graph(folder)), _running(plan, manifest, folder, between) as conductor:
        conductor.connect()
        for weight, episodes in results.items():
            settings = plan.settings_at(manifest, weight)
            while len(episodes) < plan.episodes:
                title = f"weight {weight:g}, episode {len(episodes) + 1} of {plan.episodes}: "
                seed = plan.seeds[len(episodes)]
                episode = conductor.run_episode(weight, seed, partial(note, title), settings)
                episodes.append(episode)
                display.add(episode)


@contextmanager
def _running(plan: EpisodePlan, manifest: Manifest, folder: Path, between: Callable[[], None]) -> Iterator[Conductor]:
    """Start both processes and a node to conduct them; end all three."""
    children: list[Child] = []
    context = Context()
    try:
        children.extend(_start(_parameters(plan, manifest), folder))
        # The caller's own signal handling stays.
        rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
        conductor = Conductor(
            manifest, plan.task, children, context, critic=plan.options.critic, record=plan.record, between=between
        )
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
            **{name: value for name, value in vars(plan.options).items() if name not in SET_BY_EPISODE},
        },
    }
