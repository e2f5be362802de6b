"""Records a run of the policy node into an MCAP file, as a process of its own.

Recorded are the topics of the contract, commands, telemetry, diagnostics, parameter events and the outcomes of
episodes, each as it came over the wire; beside them what else tells how the robot stood: its description, transforms,
the clock and the transitions of the policy node, where somebody publishes them. A topic is subscribed to when somebody
publishes it, with the quality of service that is offered. The policy node knows nothing of its recorder: a full disk, a
full file or a death of this process changes nothing for it.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.parameter import Parameter

from qgf_ros.bundle.locate import MANIFEST_NAME, locate_bundle
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.robot_contract import RobotContract, read_robot_contract
from qgf_ros.errors import QgfError, RecordingError
from qgf_ros.launching.executables import told_to_end
from qgf_ros.loop.health import Level
from qgf_ros.nodes.admission.ros_arguments import init_ros
from qgf_ros.nodes.admission.strict_parameters import StrictNode
from qgf_ros.nodes.declarations import declarations
from qgf_ros.nodes.diagnostics import DIAGNOSTICS_PERIOD, diagnostic_array
from qgf_ros.nodes.taps import Taps
from qgf_ros.recording.queue import RecordingQueue
from qgf_ros.recording.recording import MANIFEST_ATTACHMENT, PARAMETERS_RECORD, RUN_RECORD
from qgf_ros.recording.writer import RecordingWriter

#: Time between two looks at who publishes what [s].
DISCOVERY_PERIOD = 0.1

#: What is recorded beside the contract's topics, as the policy node names it.
OUTPUTS = (
    "command",
    "~/shadow_command",
    "~/telemetry",
    "/diagnostics",
    "/parameter_events",
    "sim_bridge/episode",
)
#: What is recorded where it exists: of the robot by the names that everybody has for it, and in the node's namespace.
BESIDE = (
    "~/transition_event",
    "/robot_description",
    "robot_description",
    "/tf",
    "tf",
    "/tf_static",
    "tf_static",
    "/clock",
)


class Recorder(StrictNode):
    """Records until it is closed or `ended`; see the module.

    Args:
        options: Of `rclpy.node.Node`, such as `namespace` and `parameter_overrides`.

    Raises:
        QgfError: The bundle, its contract or the file is not usable.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("recorder", **options)
        declare(self)
        self.refuse_unknown(others=declarations())  # robot.launch.py gives both nodes one file
        for name, example in (("bundle", "cube-single"), ("out", "run.mcap")):
            if not self._value(name):
                raise RecordingError(f"parameter {name} is empty; give a path, such as {example}")
        bundle = locate_bundle(self._value("bundle"))
        manifest = load_manifest(bundle)
        self._policy = str(self._value("policy_node"))
        wanted, beside = self._topics(manifest), self._full_names(BESIDE)
        self._queue = self._start(bundle, manifest)
        every = tuple(dict.fromkeys((*wanted, *beside)))
        self._taps = Taps(self, every, self._queue, frozenset(beside) - frozenset(wanted))
        self._parameter_services = {
            kind: self.create_client(kind, f"{self._policy}/{name}")
            for kind, name in ((ListParameters, "list_parameters"), (GetParameters, "get_parameters"))
        }
        self._asked = False
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(DISCOVERY_PERIOD, self._discover, clock=steady)
        self.create_timer(DIAGNOSTICS_PERIOD, self._on_diagnostics, clock=steady)
        self.get_logger().info(f"recording into {self._value('out')}, waiting for {', '.join(wanted)}")

    @property
    def ended(self) -> str | None:
        """Why nothing is recorded any more, or None."""
        return self._queue.end

    @property
    def failed(self) -> bool:
        """Whether the disk made it end."""
        return self._queue.failed

    def close(self) -> None:
        """Take what was delivered, end the file and destroy the node; call it when the executor is not spinning."""
        self._taps.close()
        self._queue.close()
        self.get_logger().info(
            f"{self._value('out')}: {self._queue.messages} messages on {len(self._taps)} topics, "
            f"{self._queue.dropped} dropped, {self._queue.lost} lost"
        )
        self.destroy_node()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _topics(self, manifest: Manifest) -> tuple[str, ...]:
        path = self._value("contract")
        contract = read_robot_contract(Path(os.path.expanduser(path))) if path else RobotContract()
        inputs = [topic for field in contract.apply(manifest) for topic in field.topics]
        inputs += [camera.topic for camera in contract.apply_to_cameras(manifest).values()]
        commands = [topic for source in contract.command for topic in (source.address, source.shadow)]
        names = [*inputs, *commands, *OUTPUTS, *filter(None, self._value("topics"))]
        return tuple(dict.fromkeys(self._full_names(names)))

    def _full_names(self, names: Iterable[str]) -> list[str]:
        """Return topics as they are called for everybody; ``~`` is the policy node."""
        return [self.resolve_topic_name(name.replace("~", self._policy, 1)) for name in names]

    def _start(self, bundle: Path, manifest: Manifest) -> RecordingQueue:
        out, size = Path(os.path.expanduser(self._value("out"))), self._value("max_size_mb") * 1_000_000
        writer = RecordingWriter(out, size, replace=self._value("force"))
        run = {"bundle": manifest.name, "namespace": self.get_namespace(), "policy_node": self._policy}
        content = (bundle / MANIFEST_NAME).read_bytes()
        try:
            writer.add_attachment(MANIFEST_ATTACHMENT, "application/json", content, time.time_ns())
            writer.add_metadata(RUN_RECORD, run)
        except RecordingError:
            writer.close()
            raise
        return RecordingQueue(writer)

    def _discover(self) -> None:
        self._taps.discover()
        if not self._asked and all(client.service_is_ready() for client in self._parameter_services.values()):
            self._asked = True
            self._parameter_services[ListParameters].call_async(ListParameters.Request()).add_done_callback(
                self._on_names
            )

    def _on_names(self, future: Any) -> None:
        names = list(future.result().result.names)
        request = GetParameters.Request(names=names)
        answer = self._parameter_services[GetParameters].call_async(request)
        answer.add_done_callback(functools.partial(self._on_values, names))

    def _on_values(self, names: list[str], future: Any) -> None:
        values = {}
        for name, value in zip(names, future.result().values):
            plain = Parameter.from_parameter_msg(ParameterMsg(name=name, value=value)).value
            values[name] = json.dumps(plain, default=list)
        self._queue.put_metadata(PARAMETERS_RECORD, values)

    def _on_diagnostics(self) -> None:
        queue = self._queue
        level, text = (Level.OK, "recording") if queue.end is None else (Level.ERROR, queue.end)
        if queue.dropped and queue.end is None:
            level, text = Level.WARN, f"{queue.dropped} messages are dropped, the disk is too slow"
        figures: dict[str, str | int | float] = {
            "messages": queue.messages,
            "dropped": queue.dropped,
            "lost": queue.lost,
            "size_mb": queue.size / 1e6,
            "silent_topics": ", ".join(self._taps.silent),
        }
        name = f"{self.get_fully_qualified_name()}: recording"
        now = int(self.get_clock().now().nanoseconds)
        self._diagnostics.publish(diagnostic_array(now, name, str(self._value("out")), level, text, figures))


def declare(node: StrictNode) -> None:
    """Declare every parameter on a node; overrides from files and launch apply here."""
    texts: dict[str, tuple[Any, str]] = {
        "bundle": ("", "Path or name of the bundle that runs; its contract says which topics are recorded."),
        "contract": ("", "Robot contract (YAML) that the policy node uses; empty for the bundle's own."),
        "out": ("", "File to write; it must not exist, unless force is set."),
        "force": (False, "Whether a file that exists is replaced."),
        "policy_node": ("policy_node", "Name of the policy node."),
        "topics": ([""], "Further topics to record."),
    }
    for name, (default, description) in texts.items():
        node.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True))
    sizes = [IntegerRange(from_value=1, to_value=10_000_000, step=1)]
    description = "Largest size of the file [MB]; recording ends when it is reached."
    descriptor = ParameterDescriptor(description=description, read_only=True, integer_range=sizes)
    node.declare_parameter("max_size_mb", 1024, descriptor)


def run(parameters: Mapping[str, Any], args: list[str] | None = None, **options: Any) -> int:
    """Record until it is `told_to_end`, a full file or a full disk.

    Args:
        parameters: Of the node, by name.
        args: ROS arguments; those of the process by default.
        options: Of `rclpy.node.Node`.

    Returns:
        Exit code: 0, or 1 if the disk failed.

    Raises:
        QgfError: Recording cannot begin.
    """
    stop = told_to_end()
    init_ros(args)
    executor = SingleThreadedExecutor()
    try:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        recorder = Recorder(parameter_overrides=overrides, **options)
        executor.add_node(recorder)
        try:
            while rclpy.ok() and not stop.is_set() and recorder.ended is None:
                executor.spin_once(timeout_sec=0.1)
        except ExternalShutdownException:
            pass
        finally:
            recorder.close()
        if recorder.ended is not None:
            get_logger("recorder").error(recorder.ended)
        return int(recorder.failed)
    finally:
        executor.shutdown()
        rclpy.try_shutdown()


def main(args: list[str] | None = None) -> int:
    """Run the node as a process; return the exit code."""
    try:
        return run({}, args)
    except QgfError as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
