"""The ROS side of the page: what it hears from policy node and bridge, and what it asks of them.

High rates are subscribed best effort, so that a slow page never makes the node send anything twice. Parameters are
read when a node appears and followed through ``/parameter_events``; nothing is polled. A request waits for nobody: its
answer becomes a notice of the page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterEvent
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.clock import Clock as SteadyClock
from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from qgf_ros.bundle.locate import locate_bundle
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.extraction import Reading
from qgf_ros.control.run_options import USE_RECOMMENDED
from qgf_ros.errors import QgfError
from qgf_ros.nodes.messages import MESSAGE_CLASSES, from_time, to_reading
from qgf_ros.nodes.parameters import LIVE
from qgf_sim.dashboard.camera_watch import CameraWatch, cameras_of
from qgf_sim.dashboard.state import ERROR, OK, WARN, PageState
from qgf_sim.live.conductor import BRIDGE, NODE
from qgf_sim.worlds.families import FAMILIES, observation_fields

#: How often signs of life are looked at, and parameters of a node that appeared are asked for again [s].
LOOK_PERIOD = 0.5
#: Longest time that a request waits for its answer [s].
REQUEST_TIMEOUT = 5.0

#: Triggers by name: the node that serves them.
TRIGGERS = {"reset": BRIDGE, "step": BRIDGE, "hold": NODE, "resume": NODE}

_READ = {NODE: (*LIVE, "bundle", "contract"), BRIDGE: ("environment", "task", "seed")}


@dataclass(frozen=True)
class _Request:
    """A request under way; `done` gets None if there is no response by the deadline [s], and the response when it comes.

    What the dashboard asks by itself has no name, `what`, and is forgotten at the deadline.
    """

    what: str
    client: Any
    future: Any
    done: Callable[[Any], None]
    deadline: float


class RosSide:
    """Listens for a page and asks for it. All callbacks run in the executor of the node.

    Args:
        node: A node for it alone; the topics and services are those of its namespace.
        state: Told what is heard.

    Attributes:
        manifest: Of the bundle that the node runs; None while it is unknown, or where it is not on this machine.
        scene: Environment, task and seed of the bridge; empty while they are unknown.
        readings: The newest of each observation topic of the bridge.
        cameras: What the policy sees.
    """

    def __init__(self, node: Node, state: PageState) -> None:
        self._node = node
        self._state = state
        self.manifest: Manifest | None = None
        self.scene: dict[str, Any] = {}
        self.readings: dict[str, Reading] = {}
        self.cameras = CameraWatch(node)
        self._contract = ""
        self._observed: list[Any] = []
        self._unread = set(_READ)
        self._wanted: dict[str, Any] = {}
        self._setting: dict[str, Any] = {}  # the newest request, by parameter
        self._pending: list[_Request] = []
        self._clock_heard = False
        namespace = node.get_namespace().rstrip("/")
        self._full = {name: f"{namespace}/{name}" for name in _READ}
        newest = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._listen(DiagnosticArray, f"{NODE}/telemetry", self._on_telemetry, newest)
        self._listen(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._listen(String, f"{BRIDGE}/episode", self._on_episode, latched)
        self._listen(Clock, "/clock", self._on_clock, QoSProfile(depth=1, reliability=newest.reliability))
        self._listen(ParameterEvent, "/parameter_events", self._on_parameters, 100)
        self._getters = {name: node.create_client(GetParameters, f"{name}/get_parameters") for name in _READ}
        self._setter = node.create_client(SetParameters, f"{NODE}/set_parameters")
        self._triggers = {name: node.create_client(Trigger, f"{server}/{name}") for name, server in TRIGGERS.items()}
        self._pause = node.create_client(SetBool, f"{BRIDGE}/pause")
        node.create_timer(LOOK_PERIOD, self._look, clock=SteadyClock(clock_type=ClockType.STEADY_TIME))

    def set(self, name: str, value: Any) -> None:
        """Ask the policy node for a value of a parameter; of values asked for while one is on its way, only the last."""
        self._wanted[name] = value
        if name not in self._setting:
            self._send(name)

    @property
    def setting(self) -> frozenset[str]:
        """Parameters whose new value is still on its way."""
        return frozenset(self._setting)

    def trigger(self, name: str) -> None:
        """Call one of `TRIGGERS`."""
        self._ask(self._triggers[name], Trigger.Request(), name, self._answered(name))

    def pause(self, paused: bool) -> None:
        """Halt the simulation, or let it run."""
        name = "pause" if paused else "run"
        self._ask(self._pause, SetBool.Request(data=paused), name, self._answered(name))

    def _listen(self, kind: Any, topic: str, take: Callable[[Any], None], quality: QoSProfile | int) -> Any:
        """Subscribe to a topic; a message that cannot be read, of whatever sender, is dropped with a notice."""

        def on_message(message: Any) -> None:
            try:
                take(message)
            except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
                self._state.notice(WARN, f"a message on {topic} was dropped: {type(error).__name__}: {error}")

        return self._node.create_subscription(kind, topic, on_message, quality)

    def _send(self, name: str) -> None:
        value = self._wanted.pop(name)
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])

        def done(response: Any) -> None:
            if self._setting.get(name) is request:  # a late answer is of an older one
                del self._setting[name]
            if response is not None:
                result = response.results[0]
                if result.successful:
                    # That the weight is not the recommended one any more is known before the node says so.
                    follows = {USE_RECOMMENDED: False} if name == "guidance_weight" else {}
                    self._state.parameters({name: value, **follows})
                    self._state.notice(OK, f"{name} is {value}")
                else:
                    self._state.notice(ERROR, f"{name} {value} was refused: {result.reason}")
            if name in self._wanted and name not in self._setting:
                self._send(name)

        self._setting[name] = request
        self._ask(self._setter, request, f"set {name}", done)

    def _answered(self, name: str) -> Callable[[Any], None]:
        def done(response: Any) -> None:
            if response is not None:
                well = response.success and name != "hold"  # a robot that is held is red, however well that went
                self._state.notice(OK if well else ERROR, f"{name}: {response.message}")

        return done

    def _ask(self, client: Any, request: Any, what: str, done: Callable[[Any], None]) -> None:
        """Send a request; `done` gets the response, or None, after a notice of `what`, while there is none."""
        if not client.service_is_ready():
            self._state.notice(ERROR, f"{what}: nobody serves {client.srv_name}; is the node running?")
            done(None)
            return
        future = client.call_async(request)
        future.add_done_callback(lambda future: done(future.result()))
        self._pending.append(_Request(what, client, future, done, time.monotonic() + REQUEST_TIMEOUT))

    def _look(self) -> None:
        """Say what is not answered in time, note whether the bridge lives, and read parameters of nodes that appeared."""
        waiting = [request for request in self._pending if not request.future.done()]
        self._pending = [request for request in waiting if time.monotonic() < request.deadline]
        for request in waiting:
            if request not in self._pending:
                self._give_up(request)
        if self._clock_heard and self._triggers["reset"].service_is_ready() and self._state.bridge():
            self._unread.add(BRIDGE)
        self._clock_heard = False
        for name, getter in self._getters.items():
            if not getter.service_is_ready():
                self._unread.add(name)
            elif name in self._unread:
                self._unread.discard(name)
                self._read(name)

    def _give_up(self, request: _Request) -> None:
        """Wait for an answer no longer. What a person asked for may be under way, so a late answer is still told."""
        if request.what:
            server = request.client.srv_name
            self._state.notice(ERROR, f"{request.what}: no answer from {server} for {REQUEST_TIMEOUT:g} s")
        else:
            request.client.remove_pending_request(request.future)
        request.done(None)

    def _read(self, name: str) -> None:
        def done(response: Any) -> None:
            if response is None:
                self._unread.add(name)
                return
            values = [parameter_value_to_python(value) for value in response.values]
            self._learn(name, {key: value for key, value in zip(_READ[name], values) if value is not None})

        self._ask(self._getters[name], GetParameters.Request(names=list(_READ[name])), "", done)

    def _learn(self, name: str, values: Mapping[str, Any]) -> None:
        """Take in parameters of a node."""
        if name == BRIDGE:
            self._watch({**self.scene, **values})
            return
        self._state.parameters(values)
        if "bundle" in values:
            try:
                self.manifest = load_manifest(locate_bundle(Path(values["bundle"]))) if values["bundle"] else None
            except QgfError:  # on another machine
                self.manifest = None
        if "bundle" in values or "contract" in values:
            self._contract = values.get("contract", self._contract)
            try:
                self.cameras.serve(cameras_of(self.manifest, self._contract))
            except QgfError as error:
                self.cameras.serve({})
                self._state.notice(WARN, f"what the policy sees cannot be shown: {error}")

    def _watch(self, scene: dict[str, Any]) -> None:
        """Follow the observations of the bridge's environment."""
        if scene.get("environment") != self.scene.get("environment"):
            for subscription in self._observed:
                self._node.destroy_subscription(subscription)
            kinds = {}
            if scene["environment"] in FAMILIES:
                kinds = {f.topic: MESSAGE_CLASSES[f.message_type] for f in observation_fields(scene["environment"])}
            newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._observed = [
                self._listen(kind, topic, partial(self._on_reading, topic), newest) for topic, kind in kinds.items()
            ]
        self.scene = scene

    def _on_reading(self, topic: str, message: Any) -> None:
        self.readings[topic] = to_reading(message)

    def _on_telemetry(self, message: DiagnosticArray) -> None:
        self._state.tick(from_time(message.header.stamp), _figures(message.status[0]))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            ours = status.name == f"{self._full[NODE]}: policy"
            if ours and self._state.status(status.level[0], status.message, _figures(status)):
                self._unread.add(NODE)

    def _on_episode(self, message: String) -> None:
        self._state.episode(json.loads(message.data))

    def _on_clock(self, message: Clock) -> None:
        self._clock_heard = True

    def _on_parameters(self, event: ParameterEvent) -> None:
        for name, full in self._full.items():
            if event.node == full:
                changed = {
                    parameter.name: parameter_value_to_python(parameter.value)
                    for parameter in (*event.new_parameters, *event.changed_parameters)
                }
                self._learn(name, {key: value for key, value in changed.items() if key in _READ[name]})


def _figures(status: DiagnosticStatus) -> dict[str, str]:
    return {item.key: item.value for item in status.values}
