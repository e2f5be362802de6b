"""What docs/hardware.md shows is read by the program's own checks, and drives stand-ins of an arm's controllers."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

rclpy = pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from peer import StandInController  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from spinning import SpinningThread  # noqa: E402

from qgf_ros.bundle.manifest import CriticCard, Manifest  # noqa: E402
from qgf_ros.control.extraction import JointReading, PoseReading, Reading, WrenchReading  # noqa: E402
from qgf_ros.control.limit_overrides import manifest_with_limits  # noqa: E402
from qgf_ros.control.outputs import Output  # noqa: E402
from qgf_ros.control.robot_contract import read_robot_contract  # noqa: E402
from qgf_ros.control.safety import SafetyEnvelope  # noqa: E402
from qgf_ros.learning.data.contract import read_contract  # noqa: E402
from qgf_ros.nodes import parameters  # noqa: E402
from qgf_ros.nodes.cameras.camera_check import judge_camera  # noqa: E402
from qgf_ros.nodes.contract_check import Heard, Listener, judge  # noqa: E402
from qgf_ros.nodes.declarations import declarations  # noqa: E402
from qgf_ros.nodes.messages import MESSAGE_CLASSES, OUTPUT_CLASSES, to_message  # noqa: E402
from qgf_ros.nodes.policy_node import PolicyNode  # noqa: E402
from qgf_sim.processes import reserve_domain  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
DOMAIN = reserve_domain()
TIMEOUT = 60.0

#: Contracts for training, by name, and robot contracts, with the name of the one they go with.
TRAINING = dict(re.findall(r"^`(\w+\.json)`[^`]*^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
ROBOTS = re.findall(r"^```yaml\n(# with (\w+\.json)\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
#: The cell's contract for training, which stands in place of parts of another, and contracts that have other sources.
(CELL,) = re.findall(r"^`cell\.json` is `joints\.json` .*?^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SOURCES = re.findall(r"^```yaml\n(# [\w ]+: with (\w+\.json)\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TOPICS = ["scaled_joint_trajectory_controller", "forward_position_controller", "servo_node"]


def manifest_of(name: str, folder: Path) -> Manifest:
    """The manifest of a bundle that was trained with a contract of the page."""
    path = folder / name
    text = TRAINING.get(name) or json.dumps({**json.loads(TRAINING["joints.json"]), **json.loads(CELL)})
    path.write_text(text, encoding="utf-8")
    contract = read_contract(path)
    size = sum(field.size for field in contract.observation)
    seeing = {"cameras": dict(contract.cameras), "encoding": {"features": 64 + size}} if contract.cameras else {}
    return Manifest(
        **seeing,
        name="ur5e",
        observation=tuple(contract.observation),
        action=tuple(contract.action),
        control_rate=contract.control_rate,
        horizon=5,
        execution_horizon=5,
        critics={"task": CriticCard(task="task", discount=0.99, ensemble_size=2)},
    )


@pytest.fixture(params=range(len(ROBOTS)), ids=TOPICS)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Manifest, Path]:
    """A manifest, and the file of a robot contract for it."""
    text, name = ROBOTS[request.param]
    path = tmp_path / "ur5e.yaml"
    path.write_text(text, encoding="utf-8")
    return manifest_of(name, tmp_path), path


def test_the_page_has_an_example_for_each_controller() -> None:
    assert set(TRAINING) == {"joints.json", "tool.json"}
    assert [any(topic in text for text, _ in ROBOTS) for topic in TOPICS] == [True] * 3


def test_a_robot_contract_of_the_page_fits_its_bundle(example: tuple[Manifest, Path]) -> None:
    manifest, path = example
    contract = read_robot_contract(path)
    assert [field.name for field in contract.apply(manifest)] == [field.name for field in manifest.observation]
    outputs = contract.outputs(manifest)
    assert any(output.topic == "command" and len(output.fields) == manifest.action_size for output in outputs)
    SafetyEnvelope(manifest.action, 1.0 / manifest.control_rate)  # refuses limits that stop too slowly


@pytest.mark.parametrize(("text", "name"), SOURCES, ids=["cell", "tag", "detector"])
def test_cameras_and_poses_of_the_page_are_accepted_by_the_contract_check(
    text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for a graph: nobody publishes here, and each field and camera says so."""
    for package, kind in (("tf2_msgs", "TFMessage"), ("vision_msgs", "Detection3DArray")):  # which no wheel brings
        stub = ModuleType(f"{package}.msg")
        setattr(stub, kind, type(kind, (), {"__module__": f"{package}.msg._kind"}))
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, f"{package}.msg", stub)
    path = tmp_path / "cell.yaml"
    path.write_text(text, encoding="utf-8")
    manifest, contract = manifest_of(name, tmp_path), read_robot_contract(path)
    fields, cameras = contract.apply(manifest), contract.apply_to_cameras(manifest)
    assert len(contract.outputs(manifest)) == len(contract.command)
    nobody: Any = SimpleNamespace(
        create_subscription=lambda kind, topic, heard, quality: topic, resolve_topic_name=lambda topic: topic
    )
    listener = Listener(nobody, fields, cameras)
    assert set(listener.heard) >= {topic for field in fields for topic in field.topics}
    assert {judge(field, listener.heard[field.source], 1.0) for field in fields} == {
        f"nobody publishes {field.topic}" for field in fields
    }
    for camera, served in cameras.items():
        assert served.frame_id
        assert judge_camera(camera, served, listener.heard[served.topic], 1.0)[0] == f"nobody publishes {served.topic}"
    assert set(cameras) == ({"wrist", "scene"} if name == "cell.json" else set())


def test_the_parameter_file_of_the_page_is_accepted(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(/\*\*:.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    given = yaml.safe_load(text)["/**"]["ros__parameters"]
    values = {name: default for name, (default, _) in declarations().items()}
    assert set(given) <= set(values)
    values.update(given)
    startup = parameters.startup_from(values)
    assert startup.dry_run
    manifest = manifest_with_limits(manifest_of("joints.json", tmp_path), startup.limits)
    assert parameters.options_from(values).resolve(manifest).guidance_weight == 0.0


class Arm:
    """Stands in for an arm: publishes what its driver would, and records what its controllers receive."""

    def __init__(self, context: Context, manifest: Manifest, contract: Path) -> None:
        robot = read_robot_contract(contract)
        self.fields = robot.apply(manifest)
        self.outputs = robot.outputs(manifest)
        self.node = Node("arm", context=context)
        self._manifest = manifest
        self._changed = threading.Condition()
        self.received: dict[str, list[Any]] = {}
        self.sayings: list[str] = []
        for output in self.outputs:
            for topic in (output.topic, output.source.shadow.replace("~", "policy_node")):
                box = self.received.setdefault(topic, [])
                self.node.create_subscription(OUTPUT_CLASSES[output.source.type], topic, self._note(box.append), 50)
        say = self._note(lambda array: self.sayings.append(array.status[0].message))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", say, 10)
        self._publishers = {
            topic: self.node.create_publisher(MESSAGE_CLASSES[kind], topic, 10)
            for topic, kind in {field.topic: field.message_type for field in self.fields}.items()
        }
        middle = np.array([action.offset for action in manifest.action])  # of what was demonstrated
        self.place = self.home = np.clip(middle, *np.array([[a.lower, a.upper] for a in manifest.action]).T)
        if all(action.hold is None for action in manifest.action):  # of positions, which it takes at once
            self.node.create_subscription(JointState, "command", self._follow, 50)
        self.silent: set[str] = set()
        self.node.create_timer(1.0 / manifest.control_rate, self._publish)

    def _note(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        def note(message: Any) -> None:
            with self._changed:
                take(message)
                self._changed.notify_all()

        return note

    def _follow(self, message: JointState) -> None:
        self.place = np.array(message.position)

    def _publish(self) -> None:
        now = self.node.get_clock().now().nanoseconds
        for topic, publisher in self._publishers.items():
            if topic not in self.silent:
                publisher.publish(to_message(self._reading(topic), now))

    def _reading(self, topic: str) -> Reading:
        if topic == "/joint_states":  # in the order of the alphabet, as a broadcaster may give them
            names, position = zip(*sorted(zip((a.name for a in self._manifest.action), self.place)))
            return JointReading(names, np.array(position), np.zeros(6), np.zeros(6))
        if topic.endswith("wrench"):
            return WrenchReading(np.zeros(3), np.zeros(3))
        return PoseReading(np.array([-0.45, 0.0, 0.2]), np.array([0.0, 0.0, 0.0, 1.0]))

    def wait(self, condition: Callable[[], Any]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, TIMEOUT), (
                self.sayings[-3:],
                {k: len(v) for k, v in self.received.items()},
            )

    def says(self, text: str) -> None:
        heard = len(self.sayings)
        self.wait(lambda: any(text in said for said in self.sayings[heard:]))


@pytest.fixture
def running(
    example: tuple[Manifest, Path],
    policy: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    diagnostics_period: float,
) -> Iterator[tuple[Arm, PolicyNode]]:
    """The stand-in beside an active policy node that has its contract and may not move it yet."""
    for name in ("ROS_LOG_DIR", "ROS_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    manifest, contract = example
    patient = [field.model_copy(update={"max_age": 2.0}) for field in manifest.observation]  # of a busy machine
    manifest = manifest.model_copy(update={"observation": tuple(patient)})
    contract.write_text(contract.read_text(encoding="utf-8").replace("max_age: 0.2", "max_age: 2.0"), encoding="utf-8")
    policy.manifest, policy.action_value = manifest, 0.0
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    values = {"bundle": "ur5e", "contract": str(contract), "guidance_weight": 0.0}
    values["accept_unlimited"] = "gripper" if any(action.name == "gripper" for action in manifest.action) else ""
    values |= {"inference_deadline": TIMEOUT, "watchdog_timeout": TIMEOUT}  # as patient
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    arm = Arm(context, manifest, contract)
    node = PolicyNode(policy_loader=lambda *_: policy, context=context, parameter_overrides=overrides)
    controllers = [
        StandInController(context, output.source.controller.lstrip("/"), output.names)
        for output in arm.outputs
        if output.source.controller is not None
    ]
    assert node.bring_up()
    for controller in controllers:
        controller.close()
    thread = SpinningThread(context, arm.node, node)
    yield arm, node
    thread.close()
    node.destroy_node()
    arm.node.destroy_node()
    context.try_shutdown()


def values_of(output: Output, message: Any) -> np.ndarray:
    """What a controller is told first, in the units of the action."""
    if output.source.type == "float64_multi_array":
        sent = message.data
    elif output.source.type == "joint_trajectory":
        sent = message.points[0].positions
    elif output.source.type == "joint_state":
        sent = message.position
    else:
        twist = {"linear": message.twist.linear, "angular": message.twist.angular}
        sent = [
            getattr(twist[part], axis) * output.period for part, _, axis in (n.partition(".") for n in output.names)
        ]
    return (np.array(sent) - output.source.offset) / output.source.scale


def test_stand_in_controllers_follow_the_page_from_shadows_to_a_hold(
    running: tuple[Arm, PolicyNode], policy: Any
) -> None:
    arm, node = running
    arm.says("motion is not enabled; commands are published as shadows only")
    for output in arm.outputs:
        shadows = arm.received[output.source.shadow.replace("~", "policy_node")]
        arm.wait(lambda shadows=shadows: shadows)
        assert arm.received[output.topic] == []
    node.set_parameters([Parameter("enable_motion", value=True)])
    arm.says("commanding")
    policy.action_value = 1.0  # as far as it goes: the limits decide
    for output in arm.outputs:
        box = arm.received[output.topic]
        arm.wait(lambda box=box: len(box) > 10)
        sent = np.array([values_of(output, message) for message in list(box)])
        lower, upper, rate = (
            np.array([getattr(f, k) or np.inf for f in output.fields]) for k in ("lower", "upper", "max_rate")
        )
        assert (sent >= lower - 1e-9).all()
        assert (sent <= upper + 1e-9).all()
        assert (np.abs(np.diff(sent, axis=0)) <= rate * output.period + 1e-9).all()
    slow = next(field for field in arm.fields if field.name == "object_position")
    arm.silent.add(slow.topic)
    arm.says(f"holding: field object_position: topic {slow.topic} is stale")
    arm.place = arm.home  # somebody brings it back
    arm.silent.clear()
    policy.action_value = 0.0
    arm.says("commanding")


@pytest.mark.parametrize("example", [2], indirect=True, ids=["servo_node"])
def test_the_contract_check_finds_every_field_of_the_stand_in(running: tuple[Arm, PolicyNode]) -> None:
    arm, _ = running
    arm.says("shadows")
    context = Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN)
    try:
        listener = Listener(Node("check", context=context), arm.fields)
        end = listener.listen(0.1)
        deadline = time.monotonic() + TIMEOUT
        while any(_complaint(arm, listener.heard, end).values()) and time.monotonic() < deadline:
            for heard in listener.heard.values():  # discovery is over when each has been heard for a while
                heard.arrivals.clear()
                heard.ages.clear()
            end = listener.listen(1.0)
    finally:
        context.try_shutdown()
    assert _complaint(arm, listener.heard, end) == {field.name: None for field in arm.fields}


def _complaint(arm: Arm, heard: dict[str, Heard], end: float) -> dict[str, str | None]:
    return {field.name: judge(field, heard[field.topic], end) for field in arm.fields}
