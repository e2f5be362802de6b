"""The policy node as a process of its own, asked over DDS at several rates, beside the floor; see `qgf benchmark ros`."""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition

from qgf_ros.benchmark.ros_latency import SCHEMA, SUBJECTS, Setting, Trace
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import read_bundle, write_bundle
from qgf_ros.errors import SimulationError
from qgf_ros.nodes.executors import EXECUTORS
from qgf_ros.reports.machine import LoadMeter, describe_machine
from qgf_sim.benchmark.processor import processor_time
from qgf_sim.benchmark.stand_in import StandIn
from qgf_sim.processes import Child, environment, private_graph, stop_all


@dataclass(frozen=True)
class RosPlan:
    """What to measure.

    Attributes:
        bundle: Folder of the bundle.
        rates: Observations a second [Hz]; the bundle is run at each of them as its control rate.
        neighbour: Whether to measure beside a busy process as well.
        executor: What takes messages in, in both subjects; one of `nodes.executors.EXECUTORS`.
        threads: Of each ONNX Runtime operator.
        rounds: Turns of each setting.
        ticks: Measured observations in a turn.
        seed: Of the order within each round.
    """

    bundle: Path
    rates: tuple[int, ...] = (20, 50, 100, 200)
    neighbour: bool = False
    executor: str = EXECUTORS[0]
    threads: int = 1
    rounds: int = 10
    ticks: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rates", "threads", "rounds", "ticks"):
            value = getattr(self, name)
            if min(value if isinstance(value, tuple) else (value,), default=0) < 1:
                raise SimulationError(f"{name} {value} was given; it must be at least 1")
        if self.executor not in EXECUTORS:
            raise SimulationError(f"executor {self.executor!r} was given; it must be {' or '.join(EXECUTORS)}")

    def settings(self) -> list[Setting]:
        """Return every subject at every rate, without and with a neighbour."""
        neighbours = (False, True) if self.neighbour else (False,)
        return [Setting(who, rate, busy) for busy in neighbours for rate in self.rates for who in SUBJECTS]


def measure(plan: RosPlan, progress: Callable[[str], None] = lambda note: None) -> dict[str, Any]:
    """Measure the loop; no process is left behind, however it ends. Call it on the main thread.

    A round is one turn of every setting, in an order drawn anew, so that a machine that drifts favours none. While one
    node is asked, the others are inactive.

    Args:
        plan: What to measure.
        progress: Called once for each process that answers, then after each round.

    Returns:
        ``machine``, ``load`` (cores that others kept busy before), ``plan`` and ``results``, one for each setting.

    Raises:
        BundleError: The bundle is missing or damaged.
        SimulationError: A process does not start or does not answer.
    """
    meter = LoadMeter()
    time.sleep(1.0)
    load = meter.cores()
    traces = {setting: Trace() for setting in plan.settings()}
    order = random.Random(plan.seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        counterparts = stack.enter_context(_counterparts(plan, folder, progress))
        neighbour = stack.enter_context(_neighbour(folder)) if plan.neighbour else None
        for _ in range(plan.rounds):
            for setting in order.sample(list(traces), len(traces)):
                if neighbour is not None and setting.neighbour:
                    neighbour.signal_group(signal.SIGCONT)
                counterparts[setting.subject, setting.rate].take_turn(setting.rate, plan.ticks, traces[setting])
                if neighbour is not None:
                    neighbour.signal_group(signal.SIGSTOP)
            progress("timing")
    return {
        "schema": SCHEMA,
        "machine": describe_machine(plan.threads),
        "load": {"before": load},
        "plan": {**vars(plan), "bundle": plan.bundle.name},
        "results": [trace.record(setting) for setting, trace in traces.items()],
    }


@dataclass(frozen=True)
class _Counterpart:
    """A process that answers, and the stand-in that asks it."""

    process: Child
    stand_in: StandIn
    lifecycle: bool

    def take_turn(self, rate: int, ticks: int, trace: Trace) -> None:
        if self.lifecycle:
            self.stand_in.change_state(Transition.TRANSITION_ACTIVATE)
        start, processor = time.perf_counter(), processor_time(self.process.pid)
        trace.exchanges += self.stand_in.exchange(rate, ticks)
        trace.processor += processor_time(self.process.pid) - processor
        trace.seconds += time.perf_counter() - start
        if self.lifecycle:
            self.stand_in.change_state(Transition.TRANSITION_DEACTIVATE)
        if self.process.exit_code is not None:
            raise SimulationError(f"{self.process.name} has ended: {self.process.last_words()}")


@contextmanager
def _counterparts(
    plan: RosPlan, folder: Path, progress: Callable[[str], None]
) -> Iterator[dict[tuple[str, int], _Counterpart]]:
    manifest, files = read_bundle(plan.bundle)
    children: list[Child] = []
    stand_ins: list[StandIn] = []
    found: dict[tuple[str, int], _Counterpart] = {}
    try:
        for rate in plan.rates:
            bundle = folder / f"{manifest.name}-{rate}"
            write_bundle(bundle, manifest.model_copy(update={"control_rate": float(rate)}), files)
            for subject in SUBJECTS:
                place = folder / f"{subject}-{rate}"
                place.mkdir()
                graph = private_graph(place)
                with environment(graph):
                    children.append(start_subject(subject, manifest, bundle, plan, place))
                stand_ins.append(StandIn(graph, manifest.observation, manifest.cameras))
                found[subject, rate] = _Counterpart(children[-1], stand_ins[-1], subject == "node")
        for (subject, rate), counterpart in found.items():
            if counterpart.lifecycle:
                counterpart.stand_in.change_state(Transition.TRANSITION_CONFIGURE)
                counterpart.stand_in.change_state(Transition.TRANSITION_ACTIVATE)
            counterpart.stand_in.wait_for_answer()
            if counterpart.lifecycle:
                counterpart.stand_in.change_state(Transition.TRANSITION_DEACTIVATE)
            progress(f"{subject} at {rate} Hz answers")
        yield found
    finally:
        for stand_in in stand_ins:
            stand_in.close()
        stop_all(children)


def start_subject(
    subject: str, manifest: Manifest, bundle: Path, plan: RosPlan, folder: Path, **more: float | str
) -> Child:
    """Start the node of a bundle, which infers at every observation, or the floor, which echoes the same topics.

    Args:
        subject: One of `SUBJECTS`.
        manifest: Of the bundle.
        bundle: Its folder.
        plan: How it is run.
        folder: For what the process writes.
        more: More parameters of the node.
    """
    if subject == "echo":
        topics = {field.topic: field.message_type for field in manifest.observation if field.constant is None}
        topics |= {camera.topic: camera.type for camera in manifest.cameras.values()}
        asked = [f"{kind}={topic}" for topic, kind in topics.items()]
        return Child(subject, "qgf_sim.benchmark.echo_node", [plan.executor, *asked], folder)
    parameters: dict[str, Any] = {
        "bundle": bundle,
        "trigger": "observation",
        "enable_motion": "true",
        "execution_horizon": 1,  # an inference at every tick
        "threads": plan.threads,
        "executor": plan.executor,
        **more,
    }
    arguments: Sequence[str] = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    return Child(subject, "qgf_ros.nodes.policy_node", ["--ros-args", *arguments], folder)


@contextmanager
def _neighbour(folder: Path) -> Iterator[Child]:
    """Give a process that keeps a core busy whenever it is continued."""
    process = Child("neighbour", "qgf_sim.benchmark.busy_neighbour", [], folder)
    process.signal_group(signal.SIGSTOP)
    try:
        yield process
    finally:
        process.signal_group(signal.SIGCONT)
        stop_all([process])
