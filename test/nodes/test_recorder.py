"""The recorder over real DDS: what is published is in the file."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="the recorder needs the ros extra or a ROS 2 installation")
pytest.importorskip("mcap", reason="the recorder needs the record extra")

import yaml  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from mcap.reader import make_reader  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.lifecycle import LifecycleNode  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CompressedImage, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

from qgf_ros.errors import ParameterError, QgfError, RecordingError  # noqa: E402
from qgf_ros.nodes import taps  # noqa: E402
from qgf_ros.nodes.recorder import Recorder  # noqa: E402
from qgf_ros.recording.recording import Recording  # noqa: E402
from qgf_sim.processes import reserve_domain  # noqa: E402

TIMEOUT = 60.0
DOMAIN = reserve_domain()


@pytest.fixture(scope="module", autouse=True)
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = str(tmp_path_factory.mktemp("ros"))
    with pytest.MonkeyPatch.context() as patch:
        settings = {"ROS_HOME": home, "ROS_LOG_DIR": home, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        for name, value in {**settings, "ROS_DOMAIN_ID": str(DOMAIN)}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def context(graph: None) -> Iterator[Context]:
    own = Context()
    rclpy.init(context=own, domain_id=DOMAIN)
    yield own
    own.try_shutdown()


class Stage:
    """A recorder and a node that stands in for the robot and for the policy node."""

    def __init__(self, context: Context, bundle: Path, out: Path, **parameters: Any) -> None:
        self.out = out
        self.executor = SingleThreadedExecutor(context=context)
        values = {"bundle": str(bundle), "out": str(out), **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.peer = Node("policy_node", namespace="/cell", context=context)
        self.peer.declare_parameter("seed", 7)
        self.peer.declare_parameter("providers", ["CPUExecutionProvider"])
        self.recorder = Recorder(context=context, namespace="/cell", parameter_overrides=overrides)
        self.executor.add_node(self.peer)
        self.executor.add_node(self.recorder)

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < end, "the awaited event did not come"
            self.executor.spin_once(timeout_sec=0.02)

    def publisher(self, kind: type, topic: str, quality: Any = 10) -> Any:
        publisher = self.peer.create_publisher(kind, topic, quality)
        self.until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def written(self) -> int:
        return self.recorder._queue.messages

    def finish(self) -> Recording:
        self.recorder.close()
        return Recording.open(self.out)


@pytest.fixture
def stage(
    context: Context, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Stage]]:
    monkeypatch.setattr(taps, "DRAIN", TIMEOUT)  # for a machine that is busy with something else
    stages: list[Stage] = []

    def make(bundle: Path = tiny_bundle, **parameters: Any) -> Stage:
        stages.append(Stage(context, bundle, tmp_path / f"run{len(stages)}.mcap", **parameters))
        return stages[-1]

    yield make
    for made in stages:
        made.recorder._queue.close()
        made.executor.shutdown()
        made.recorder.destroy_node()  # or the next test's publishers meet this one's subscriptions
        made.peer.destroy_node()


def test_names_of_the_policy_node_s_file_pass_and_others_are_refused(stage: Callable[..., Stage]) -> None:
    """robot.launch.py gives both nodes one file."""
    stage(**{"num_samples": 4, "limits.dy.upper": 0.002, "max_size_mb": 2.0})
    with pytest.raises(
        ParameterError, match=r"recorder has no parameter guidance_wieght; did you mean guidance_weight\?"
    ):
        stage(guidance_wieght=0.0)
    with pytest.raises(ParameterError, match="max_size_mb 0 was given; it must be 1 to 10000000"):
        stage(max_size_mb=0)


def joints(stamp: int) -> JointState:
    message = JointState(name=["a", "b"], position=[0.1, -1.0 / 3.0])
    message.header.stamp.sec = stamp
    return message


def test_every_message_is_in_the_file_with_its_own_stamp(stage: Callable[..., Stage], tiny_bundle: Path) -> None:
    scene = stage(topics=["/extra"])
    sensor = scene.publisher(JointState, "joint_states", qos_profile_sensor_data)
    command = scene.publisher(JointState, "command")
    extra = scene.publisher(String, "/extra")
    before = scene.written()
    sent = [joints(i) for i in range(1, 6)]
    for message in sent:
        sensor.publish(message)
    command.publish(joints(9))
    extra.publish(String(data="hello"))
    scene.until(lambda: scene.written() >= before + 7)
    recording = scene.finish()
    assert recording.namespace == "/cell"
    assert (recording.damage, recording.dropped) == ([], 0)
    assert recording.manifest is not None
    with (tiny_bundle / "manifest.json").open("rb") as file:
        assert recording.manifest.model_dump() == type(recording.manifest).model_validate_json(file.read()).model_dump()
    with scene.out.open("rb") as file:
        found = [(channel.topic, message) for _, channel, message in make_reader(file).iter_messages()]
    on_joints = [message for topic, message in found if topic == "/cell/joint_states"]
    assert [deserialize_message(message.data, JointState) for message in on_joints] == sent
    assert [message.publish_time for message in on_joints] == [i * 10**9 for i in range(1, 6)]
    assert all(abs(message.log_time - time.time_ns()) < 120e9 for message in on_joints)
    assert [m.publish_time for topic, m in found if topic == "/cell/command"] == [9 * 10**9]
    (word,) = recording.messages({"/extra"})
    assert word.message.data == "hello"


def test_the_outputs_of_a_contract_and_their_shadows_are_recorded(stage: Callable[..., Stage], tmp_path: Path) -> None:
    contract = tmp_path / "robot.yaml"
    contract.write_text("command: [{type: joint_trajectory, topic: /arm/joint_trajectory}, {}]")
    scene = stage(contract=str(contract))
    topics = ["/arm/joint_trajectory", "/cell/policy_node/shadow/arm/joint_trajectory"]
    publishers = [scene.publisher(JointTrajectory, topic) for topic in topics]
    before = scene.written()
    for publisher in publishers:
        publisher.publish(JointTrajectory(joint_names=["a"], points=[JointTrajectoryPoint(positions=[0.5])]))
    scene.until(lambda: scene.written() >= before + 2)
    recorded = list(scene.finish().messages(set(topics)))
    assert [list(one.message.points[0].positions) for one in recorded] == [[0.5], [0.5]]


def test_pictures_of_cameras_are_recorded_as_they_came(stage: Callable[..., Stage], tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="building encoders needs onnx")
    from camera_bundles import write_camera_bundle

    contract = tmp_path / "robot.yaml"
    contract.write_text("cameras: {wrist: {topic: /realsense/color, type: sensor_msgs/msg/CompressedImage}}")
    scene = stage(write_camera_bundle(tmp_path / "seeing"), contract=str(contract))
    topics = ["/realsense/color", "/cell/front/image_raw/compressed"]
    publishers = [scene.publisher(CompressedImage, topic) for topic in topics]
    before = scene.written()
    sent = [CompressedImage(format="jpeg", data=bytes(range(k, 256))) for k in range(2)]
    for publisher, message in zip(publishers, sent):
        publisher.publish(message)
    scene.until(lambda: scene.written() >= before + 2)
    recorded = {one.topic: one.message for one in scene.finish().messages(set(topics))}
    assert [bytes(recorded[topic].data) for topic in topics] == [bytes(message.data) for message in sent]


LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def test_what_tells_how_the_robot_stood_is_recorded_where_it_exists(stage: Callable[..., Stage]) -> None:
    scene = stage()
    early = scene.peer.create_publisher(String, "/robot_description", LATCHED)
    early.publish(String(data="<robot/>"))  # before the recorder has heard of it
    scene.until(lambda: scene.written() >= 1)
    own = scene.publisher(String, "robot_description", LATCHED)
    clock = scene.publisher(Clock, "/clock")
    before = scene.written()
    own.publish(String(data="<robot name='own'/>"))
    clock.publish(Clock())
    scene.until(lambda: scene.written() >= before + 2)
    recording = scene.finish()
    said = [
        (one.topic, one.message.data) for one in recording.messages({"/robot_description", "/cell/robot_description"})
    ]
    assert said == [("/robot_description", "<robot/>"), ("/cell/robot_description", "<robot name='own'/>")]
    assert recording.topics["/clock"] == ("rosgraph_msgs/msg/Clock", 1)


def test_transitions_of_the_policy_node_are_recorded(stage: Callable[..., Stage], context: Context) -> None:
    scene = stage()
    node = LifecycleNode("policy_node", namespace="/cell", context=context)
    topic = "/cell/policy_node/transition_event"
    try:
        scene.until(lambda: topic in scene.recorder._taps._taps and node.count_subscribers(topic) > 0)
        before = scene.written()
        node.trigger_configure()
        scene.until(lambda: scene.written() > before)
    finally:
        node.destroy_node()
    events = [recorded.message for recorded in scene.finish().messages({topic})]
    assert "configuring" in {event.goal_state.label for event in events}


def test_topics_that_need_not_exist_are_not_missed(stage: Callable[..., Stage]) -> None:
    scene = stage()
    assert "/cell/command" in scene.recorder._taps.silent
    assert not {"/clock", "/tf", "/robot_description", "/cell/policy_node/transition_event"} & {
        *scene.recorder._taps.silent
    }


def test_the_quality_of_service_is_noted_as_rosbag2_notes_it(stage: Callable[..., Stage]) -> None:
    scene = stage(topics=["/map"])
    publishers = [
        scene.publisher(String, "/map", LATCHED),
        scene.publisher(JointState, "joint_states", qos_profile_sensor_data),
    ]
    before = scene.written()
    publishers[0].publish(String(data="here"))
    publishers[1].publish(joints(1))
    scene.until(lambda: scene.written() >= before + 2)
    scene.recorder.close()
    with scene.out.open("rb") as file:
        channels = make_reader(file).get_summary().channels.values()
    noted = {channel.topic: channel.metadata for channel in channels}
    assert noted["/map"]["topic_type_hash"].startswith("RIHS01_")
    text = noted["/map"]["offered_qos_profiles"]
    assert text.startswith("- history: unknown\n  depth: 0\n  reliability: reliable\n")
    infinite = {"sec": 9223372036, "nsec": 854775807}
    assert yaml.safe_load(text) == [
        {
            "history": "unknown",  # nobody else can know it, and rosbag2 does not ask for it
            "depth": 0,
            "reliability": "reliable",
            "durability": "transient_local",
            "deadline": infinite,
            "lifespan": infinite,
            "liveliness": "automatic",
            "liveliness_lease_duration": infinite,
            "avoid_ros_namespace_conventions": False,
        }
    ]
    (sensor,) = yaml.safe_load(noted["/cell/joint_states"]["offered_qos_profiles"])
    assert (sensor["reliability"], sensor["durability"]) == ("best_effort", "volatile")


def test_a_finished_recording_gives_way_only_if_it_is_asked_to(
    stage: Callable[..., Stage], context: Context, tmp_path: Path
) -> None:
    (tmp_path / "run0.mcap").write_bytes(b"precious")
    with pytest.raises(RecordingError, match="is not overwritten unasked; give another --out, or --force"):
        stage()
    values = {"bundle": "no-such-bundle", "out": str(tmp_path / "run0.mcap"), "force": True}
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    with pytest.raises(QgfError, match="no folder of that path or name"):
        Recorder(context=context, parameter_overrides=overrides)
    assert (tmp_path / "run0.mcap").read_bytes() == b"precious"
    recording = stage(force=True).finish()
    assert recording.manifest is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run0.mcap"]


def test_parameters_and_their_changes_are_recorded(stage: Callable[..., Stage]) -> None:
    scene = stage()
    scene.until(lambda: "/parameter_events" not in scene.recorder._taps.silent)
    scene.until(lambda: scene.recorder._queue.messages or scene.recorder._asked)
    seen = scene.written()
    scene.peer.set_parameters([Parameter("seed", value=8)])
    scene.until(lambda: scene.written() > seen)
    recording = scene.finish()
    # Taken while the recording began, before or after the change.
    values = {name: json.loads(text) for name, text in recording.parameters.items()}
    assert values.get("seed", 8) in (7, 8)
    events = [recorded.message for recorded in recording.messages({"/parameter_events"})]
    changes = [p.value.integer_value for e in events if e.node == "/cell/policy_node" for p in e.changed_parameters]
    assert 8 in changes


def test_a_snapshot_of_the_parameters_is_taken(stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    scene = stage()
    taken = threading.Event()
    put = scene.recorder._queue.put_metadata

    def remember(name: str, values: dict[str, str]) -> None:
        put(name, values)
        taken.set()

    monkeypatch.setattr(scene.recorder._queue, "put_metadata", remember)
    scene.until(taken.is_set)
    values = {name: json.loads(text) for name, text in scene.finish().parameters.items()}
    assert (values["seed"], values["providers"]) == (7, ["CPUExecutionProvider"])


def test_a_second_publisher_that_offers_less_is_heard_too(stage: Callable[..., Stage]) -> None:
    scene = stage()
    first = scene.publisher(PoseStamped, "effector_pose", QoSProfile(depth=10))
    second = scene.peer.create_publisher(PoseStamped, "effector_pose", qos_profile_sensor_data)
    scene.until(lambda: second.get_subscription_count() > 0 and first.get_subscription_count() > 0)
    before = scene.written()
    for frame, publisher in (("first", first), ("second", second)):
        message = PoseStamped()
        message.header.frame_id = frame
        publisher.publish(message)
    scene.until(lambda: scene.written() >= before + 2)
    frames = {m.message.header.frame_id for m in scene.finish().messages({"/cell/effector_pose"})}
    assert frames == {"first", "second"}


def test_what_is_recorded_already_is_not_described_again_ten_times_a_second(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = stage()
    scene.publisher(JointState, "command")
    described: list[Any] = []
    monkeypatch.setattr(taps, "offered_qos_profiles", lambda profiles: described.append(profiles) or "")
    scene.recorder._taps.discover()
    assert described == []


def test_what_was_delivered_before_the_end_is_in_the_file(stage: Callable[..., Stage]) -> None:
    scene = stage()
    command = scene.publisher(JointState, "command", QoSProfile(depth=1000))
    for i in range(300):
        command.publish(joints(i))
    assert command.wait_for_all_acked(Duration(seconds=TIMEOUT))
    commands = scene.finish().messages({"/cell/command"})
    assert [recorded.stamp for recorded in commands] == [i * 10**9 for i in range(300)]


def test_what_the_middleware_calls_lost_is_counted_and_written_down(stage: Callable[..., Stage]) -> None:
    scene = stage()
    scene.publisher(JointState, "command")
    tap = scene.recorder._taps["/cell/command"]
    (lost,) = (handler for handler in tap.subscription.event_handlers if "_on_lost" in str(handler.callback))
    for change in (2, 3):
        lost.callback(SimpleNamespace(total_count_change=change))
    assert scene.finish().lost == 5


def test_a_message_that_is_cut_short_is_recorded_with_the_time_it_came(stage: Callable[..., Stage]) -> None:
    scene = stage()
    scene.publisher(JointState, "command")
    tap = scene.recorder._taps["/cell/command"]
    for content in (b"", b"\0\1\0\0\1\0\0\0\1\0\0"):
        tap.subscription.callback(content, {"received_timestamp": 7, "source_timestamp": 5})
    scene.recorder.close()
    with scene.out.open("rb") as file:
        found = [message for _, _, message in make_reader(file).iter_messages(["/cell/command"])]
    assert [(message.log_time, message.publish_time) for message in found] == [(7, 7), (7, 7)]


def test_without_a_file_or_a_bundle_nothing_begins(context: Context, tiny_bundle: Path, tmp_path: Path) -> None:
    def start(**values: str) -> Recorder:
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        return Recorder(context=context, parameter_overrides=overrides)

    with pytest.raises(RecordingError, match="parameter out is empty"):
        start(bundle=str(tiny_bundle))
    with pytest.raises(QgfError, match="but no folder of that path or name holds a manifest.json"):
        start(bundle="no-such-bundle", out=str(tmp_path / "x.mcap"))
    assert not (tmp_path / "x.mcap").exists()


def test_a_disk_that_takes_no_more_ends_the_process_with_a_sentence(tiny_bundle: Path, tmp_path: Path) -> None:
    """The kernel refuses to let the file grow: the recorder meets the error of a full disk."""
    room = 60_000
    out = tmp_path / "run.mcap"
    manifest = (tiny_bundle / "manifest.json").stat().st_size
    assert manifest < room
    arguments = ["--ros-args", "-p", f"bundle:={tiny_bundle}", "-p", f"out:={out}", "-p", "topics:=['/noise']"]
    environment = {key: value for key, value in os.environ.items() if key != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    process = subprocess.Popen(
        [sys.executable, "-m", "qgf_ros.nodes.recorder", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    own = Context()
    try:
        rclpy.init(context=own, domain_id=DOMAIN)
        publisher = Node("noise", context=own).create_publisher(String, "/noise", 10)
        end = time.monotonic() + 2 * TIMEOUT
        while process.poll() is None:
            assert time.monotonic() < end, "the recorder went on"
            publisher.publish(String(data=os.urandom(1000).hex()))
            time.sleep(0.01)  # the load, not a wait
    finally:
        process.kill()
        output, _ = process.communicate()
        own.try_shutdown()
    assert process.returncode == 1, output
    assert "File too large" in output
    assert "Traceback" not in output
    recording = Recording.open(out)
    assert recording.manifest is not None
    assert recording.damage
