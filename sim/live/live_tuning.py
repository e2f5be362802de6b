"""Tuning on a running graph: the same search, with a policy node that goes on running and a robot or the bridge behind it.

A trial is one episode. The configurations of a round take turns in random order, because a robot cannot share seeds
between them and drifts with time; two configurations are compared round by round. The noise of a round is shared, and
on the bridge the whole seed. On any end the parameters found at the start are put back.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, Literal

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import DescribeParameters
from rclpy.context import Context
from rclpy.parameter import parameter_value_to_python
from rclpy.signals import SignalHandlerOptions

from qgf_ros.bundle.locate import locate_bundle
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.run_options import BC, DECISIVE, ROWS, USE_RECOMMENDED, RunOptions, weight_parameters
from qgf_ros.errors import BundleError, SimulationError
from qgf_ros.evaluation.halving import Outcome
from qgf_ros.evaluation.trials import Execute, Trial, fingerprint
from qgf_ros.nodes.declarations import declarations
from qgf_ros.nodes.messages import from_time
from qgf_ros.reports.numbers import plain
from qgf_sim.bridge.bridge_parameters import PARAMETERS
from qgf_sim.live.referees import BridgeReferee, KeyReferee, Referee, ServiceReferee, Verdict
from qgf_sim.live.ros_client import RosClient

#: Options of a run that a trial decides, and the parameters that mean them.
TRIED = (*(name for name, row in ROWS.items() if row.plural), "critic", "seed")
TUNED = (*TRIED, USE_RECOMMENDED)
#: Parameters of the bridge that an episode decides.
EPISODIC = ("task", "seed", "auto_reset")
#: Longest time without a tick while an episode runs by itself [s].
SILENCE_TIMEOUT = 60.0
#: Longest wait for the telemetry of an episode that is over [s]; it comes on another way than the news of the end.
TAIL_TIMEOUT = 10.0
#: The robot has held for so long [s] without a further tick: there was none.
TAIL = 0.2
#: So many times in a row there was one: the robot does not hold.
MOST_TAILS = 10


class LiveTuner:
    """Runs trials on a policy node that is running.

    Args:
        graph: The node to talk through.
        policy: Name of the policy node.
        referee: Begins and judges episodes.
    """

    def __init__(self, graph: RosClient, policy: str, referee: Referee) -> None:
        self._graph = graph
        self._policy = policy
        self._referee = referee
        self._first = 0
        self._ticks: dict[int, dict[str, float]] = {}
        graph.node.create_subscription(DiagnosticArray, f"{policy}/telemetry", self._on_telemetry, 1000)

    def execute(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
        """Run trials, round by round, those of a round in random order."""
        for seeds, found in groupby(sorted(trials, key=lambda trial: trial.seeds), key=lambda trial: trial.seeds):
            a_round = list(found)
            random.Random(seeds[0]).shuffle(a_round)
            for trial in a_round:
                yield trial, [self._run(trial, seed) for seed in seeds]

    def _run(self, trial: Trial, seed: int) -> Outcome:
        while (verdict := self._play(trial, seed)).success is None:
            pass
        self._graph.until(
            lambda: bool(self._ticks),
            TAIL_TIMEOUT,
            f"{self._policy} did not tick during the episode; activate it, and look at /diagnostics",
        )
        if any(tick.get("critic_failed") for tick in self._ticks.values()):
            raise SimulationError(
                f"critic {trial.options.critic} failed during the episode; run 'qgf inspect' on the bundle"
            )
        start_q = self._ticks[min(self._ticks)].get("q", math.nan)
        length = len(self._ticks) if verdict.length is None else verdict.length
        distances = (tick.get("guidance_distance", math.nan) for tick in self._ticks.values())
        farthest = max(filter(math.isfinite, distances), default=math.nan)
        return Outcome(seed, bool(verdict.success), length, plain(start_q), plain(farthest))

    def _play(self, trial: Trial, seed: int) -> Verdict:
        self._referee.prepare()
        values = {name: getattr(trial.options, name) for name in TRIED}
        self._graph.set(self._policy, {**values, **weight_parameters(trial.options.guidance_weight), "seed": seed})
        self._ticks.clear()
        self._first = self._referee.start(trial.task, seed)
        # Of the episode before, telemetry may have come while this one was begun.
        self._ticks = {stamp: tick for stamp, tick in self._ticks.items() if stamp >= self._first}
        found: list[Verdict] = []

        def ended() -> bool:
            verdict = self._referee.verdict()
            found.extend([] if verdict is None else [verdict])
            return bool(found)

        def ended_or_ticked(heard: int) -> bool:
            return ended() or len(self._ticks) > heard

        timeout = SILENCE_TIMEOUT if self._referee.automatic else math.inf
        while not found:
            self._graph.until(
                partial(ended_or_ticked, len(self._ticks)),
                timeout,
                f"{self._policy} has not ticked for {timeout:g} s; activate it, and look at /diagnostics",
            )
        self._referee.stop()
        if found[0].length is None:
            self._hear_out()
        return found[0]

    def _hear_out(self) -> None:
        """Take in what ticks there were before the hold.

        Raises:
            SimulationError: There is no end of them.
        """
        for _ in range(MOST_TAILS):
            heard = len(self._ticks)
            self._graph.listen(TAIL)
            if len(self._ticks) == heard:
                return
        raise SimulationError(
            f"{self._policy} still ticked {MOST_TAILS * TAIL:g} s after the hold; leave ~/resume to qgf tune until it ends"
        )

    def _on_telemetry(self, message: DiagnosticArray) -> None:
        stamp = from_time(message.header.stamp)
        if stamp >= self._first:
            self._ticks[stamp] = numbers_of(message)


def numbers_of(message: DiagnosticArray) -> dict[str, float]:
    """Return the numbers of a telemetry message by name."""
    numbers = {}
    for item in message.status[0].values:
        try:
            numbers[item.key] = float(item.value)
        except ValueError:
            continue  # a word, such as the critic's name
    return numbers


@contextmanager
def running_graph(
    manifest: Manifest,
    policy: str,
    outcomes: Literal["bridge", "service", "keys"],
    bridge: str,
    say: Callable[[str], None],
    between: Callable[[], None],
    largest: float = 0.0,
) -> Iterator[tuple[Execute, str, RunOptions]]:
    """Give what runs trials on the running graph; put everything back in the end.

    With it come a checksum of the conditions, and the options of the policy node's run that decide which weight is best and
    are not tried here.

    Args:
        manifest: Of the bundle to tune; the policy node must run it.
        policy, bridge: Names of the nodes.
        outcomes: Who says how an episode ended.
        say: Shows a line to whoever watches.
        between: Called between messages; what it raises ends the tuning.
        largest: Of the guidance weights to be tried.

    Raises:
        SimulationError: A node is not there, runs another bundle, refuses, or falls silent.
    """
    context = Context()
    # The caller's own signal handling stays.
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    graph = RosClient("qgf_tune", context, between)
    try:
        before = graph.get(policy, TUNED)
        _check_bundle(graph, policy, manifest)
        _check_weight(graph, policy, largest)
        conditions = _conditions(graph, policy, bridge if outcomes == "bridge" else None)
        referee = _referee(graph, policy, outcomes, bridge, say)
        try:
            yield LiveTuner(graph, policy, referee).execute, conditions, _base(graph, policy)
        finally:
            # Whatever ended the tuning must not end this.
            graph.between = lambda: None
            _attempt(say, f"{policy} may be moving", referee.stop)
            _attempt(say, f"{policy} still has the parameters of the last episode", lambda: graph.set(policy, before))
            _attempt(say, "not everything is as it was found", referee.close)
    finally:
        graph.close()
        context.try_shutdown()


def _check_bundle(graph: RosClient, policy: str, manifest: Manifest) -> None:
    """Raise SimulationError unless the bundle of the policy node is the one to tune."""
    name = graph.get(policy, ("bundle",))["bundle"].string_value
    try:
        running = load_manifest(locate_bundle(name))
    except BundleError as error:
        raise SimulationError(
            f"{policy} runs bundle {name!r}, which cannot be read on this machine; copy it to the same path here"
        ) from error
    if fingerprint(running) != fingerprint(manifest):
        raise SimulationError(
            f"{policy} runs bundle {name!r}, which is not the {manifest.name} to be tuned; give the one that it runs"
        )


def _check_weight(graph: RosClient, policy: str, largest: float) -> None:
    """Raise SimulationError unless the policy node takes the largest weight that is to be tried."""
    asked = DescribeParameters.Request(names=["guidance_weight"])
    (descriptor,) = graph.call(DescribeParameters, f"{policy}/describe_parameters", asked).descriptors
    most = descriptor.floating_point_range[0].to_value
    if largest > most:
        raise SimulationError(
            f"guidance weight {largest:g} is to be tried, and {policy} takes at most {most:g}; leave it out, or set "
            f"guidance_weight to {largest:g} before {policy} is configured"
        )


def _conditions(graph: RosClient, policy: str, bridge: str | None) -> str:
    """Return a checksum of the parameters that no trial sets: those of the policy node, and of the bridge if it judges."""
    # The bundle counts by its content, wherever it lies.
    found = [graph.get(policy, [name for name in declarations() if name not in (*TUNED, "bundle")])]
    if bridge is not None:
        names = [parameter.name for parameter in PARAMETERS]
        found.append(graph.get(bridge, [name for name in names if name not in EPISODIC]))
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def _base(graph: RosClient, policy: str) -> RunOptions:
    """Return the options that a weight found here was found with, beside those that are tried."""
    names = [name for name in DECISIVE if name not in TRIED]
    values = {name: parameter_value_to_python(value) for name, value in graph.get(policy, names).items()}
    return replace(BC, **values)


def _referee(graph: RosClient, policy: str, outcomes: str, bridge: str, say: Callable[[str], None]) -> Referee:
    if outcomes == "bridge":
        return BridgeReferee(graph, bridge)
    say(f"between episodes {policy} holds; in the end, too, until ~/resume")
    return ServiceReferee(graph, policy) if outcomes == "service" else KeyReferee(graph, policy, say)


def _attempt(say: Callable[[str], None], failure: str, action: Callable[[], Any]) -> None:
    try:
        action()
    except SimulationError as error:
        say(f"{failure}: {error}")
