"""`qgf contract check`: the verdict on each field, and what the live graph really serves."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="listening to topics needs the ros extra or a ROS 2 installation")

from geometry_msgs.msg import TransformStamped  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from std_msgs.msg import Bool, Float64  # noqa: E402

from qgf_ros.bundle.fields import ObservationField, Quality  # noqa: E402
from qgf_ros.bundle.manifest import Manifest  # noqa: E402
from qgf_ros.bundle.messages.message_types import TRANSFORMS  # noqa: E402
from qgf_ros.control.extraction import JointReading, VectorReading  # noqa: E402
from qgf_ros.control.robot_contract import DriverState, RobotContract  # noqa: E402
from qgf_ros.nodes.contract_check import (  # noqa: E402
    Heard,
    Listener,
    heard_states,
    judge,
    judge_output,
    listeners_of,
    servers_of,
)
from qgf_ros.nodes.messages import MESSAGE_CLASSES, to_message  # noqa: E402
from qgf_ros.nodes.neighbours import DriverListener  # noqa: E402
from qgf_sim.processes import reserve_domain  # noqa: E402

DOMAIN = reserve_domain()
JOINT_STATE, POSE, VECTOR = (
    "sensor_msgs/msg/JointState",
    "geometry_msgs/msg/PoseStamped",
    "std_msgs/msg/Float64MultiArray",
)
ARM = JointReading(("a", "b"), np.array([1.0, 2.0]), np.empty(0), np.empty(0))


def make(topic: str, kind: str = JOINT_STATE, **changes: Any) -> ObservationField:
    by_kind = {
        JOINT_STATE: {"extraction": "joint_position", "joints": ("a", "b"), "size": 2},
        POSE: {"extraction": "position", "size": 3},
        VECTOR: {"extraction": "data", "size": 2},
    }
    values = {"name": topic, "topic": topic, "message_type": kind, "unit": "1"}
    return ObservationField(**{**values, **by_kind[kind], **changes})


def heard(**changes: Any) -> Heard:
    values = {"types": (JOINT_STATE,), "arrivals": [0.0, 0.1, 0.2], "ages": [0.01] * 3, "newest": ARM}
    return Heard(**{**values, **changes})


def test_a_served_field_has_no_complaint_and_its_rate() -> None:
    assert judge(make("arm"), heard(), 0.3) is None
    assert heard().rate == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("changes", "now", "complaint"),
    [
        ({"types": (), "arrivals": [], "ages": [], "newest": None}, 5.0, "nobody publishes arm"),
        ({"types": (POSE,)}, 0.3, "arm carries geometry_msgs/msg/PoseStamped, expected sensor_msgs/msg/JointState"),
        ({"arrivals": [], "newest": None, "mismatches": ("deaf",)}, 0.3, "deaf"),
        ({"arrivals": [], "newest": None}, 0.3, "arm has a publisher, but nothing was heard"),
        (
            {"newest": JointReading(("a",), np.zeros(1), np.empty(0), np.empty(0))},
            0.3,
            "topic arm has no joint b; it has a",
        ),
        ({"ages": [0.01, 0.3, 0.01]}, 0.3, "stamps are old by 0.300 s on arrival, at most 0.2 s allowed"),
        ({"ages": [0.01, -9.0, 0.01]}, 0.3, "stamps are from the future by 9.000 s on arrival"),
        ({"ages": []}, 0.3, "simulated time was asked for and stands at 0 because nobody publishes /clock"),
        ({"arrivals": [0.0, 0.5, 0.6]}, 0.7, "nothing for 0.500 s at a time, at most 0.2 s allowed"),
        ({}, 1.2, "nothing for 1.000 s at a time"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], now: float, complaint: str) -> None:
    said = judge(make("arm"), heard(**changes), now)
    assert said is not None
    assert complaint in said


def test_more_publishers_than_allowed_are_named() -> None:
    crowded = heard(publishers=("/driver", "/simulation"))
    said = str(judge(make("arm"), crowded, 0.3, 1))
    assert said.startswith("arm is published by /driver and /simulation, and only 1 may publish it")
    assert judge(make("arm"), crowded, 0.3, 2) is None
    assert judge(make("arm"), crowded, 0.3) is None


def test_a_goal_may_be_as_old_as_it_likes_and_a_constant_needs_nobody() -> None:
    assert judge(make("arm", max_age=None), heard(ages=[500.0] * 3), 999.0) is None
    assert judge(make("arm", constant=(1.0, 2.0)), None, 999.0) is None


def test_a_pose_out_of_transforms_is_judged_by_its_own_age_and_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The package of the messages has no wheel, so a stub of it stands in."""

    class TFMessage:
        __module__ = "tf2_msgs.msg._tf_message"

        def __init__(self, *told: tuple[str, str]) -> None:
            self.transforms = [TransformStamped(child_frame_id=child) for _, child in told]
            for transform, (frame, _) in zip(self.transforms, told):
                transform.header.frame_id = frame
                transform.header.stamp.sec = 5

    stub: Any = ModuleType("tf2_msgs.msg")
    stub.TFMessage = TFMessage
    monkeypatch.setitem(sys.modules, "tf2_msgs", ModuleType("tf2_msgs"))
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", stub)
    said: dict[str, Any] = {}
    publisher = SimpleNamespace(
        topic_type=TRANSFORMS, node_namespace="/", node_name="driver", qos_profile=QoSProfile(depth=1)
    )
    node: Any = SimpleNamespace(
        create_subscription=lambda kind, topic, heard, quality: said.setdefault(topic, heard),
        resolve_topic_name=lambda topic: topic,
        get_publishers_info_by_topic=lambda topic: [publisher] * 3 if topic == "/tf" else [],
        get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=5_100_000_000)),
    )
    fields = [
        make("/tf", POSE, message_type=TRANSFORMS, frame_id="base", child_frame_id=child, name=child)
        for child in ("tag", "tool")
    ]
    listener = Listener(node, fields)
    said["/tf_static"](TFMessage(("tool", "camera")))
    said["/tf"](TFMessage(("base", "tool"), ("map", "odom")))
    listener.note_publishers()
    heard_tag, heard_tool = (listener.heard[field.source] for field in fields)
    assert heard_tool.ages == [pytest.approx(0.1)]
    assert judge(fields[1], heard_tool, heard_tool.arrivals[-1]) is None
    assert judge(fields[0], heard_tag, 1.0) == (
        "topic /tf has no transform of frame tag; look at its spelling, and at who publishes it"
    )
    said["/tf"](TFMessage(("camera", "tag")))
    listener.note_publishers()
    assert judge(fields[0], heard_tag, heard_tag.arrivals[-1]) is None


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Context, Context]]:
    """Two participants: one alone cannot have a topic with two types."""
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    contexts = Context(), Context()
    for context in contexts:
        rclpy.init(context=context, domain_id=DOMAIN)
    yield contexts
    for context in contexts:
        context.try_shutdown()


def test_the_live_graph_is_judged_field_by_field(contexts: tuple[Context, Context]) -> None:
    latched = Quality(durability="transient_local", reliability="reliable")
    fields = [
        make("good"),
        make("parts"),
        make("goal", VECTOR, max_age=None, quality=latched),
        make("latched_goal", VECTOR, max_age=None, quality=latched),
        make("wrong_goal", VECTOR, size=3, max_age=None, quality=latched),
        make("other_type", POSE),
        make("unreliable", quality=Quality(reliability="reliable")),
        make("old"),
        make("nobody"),
    ]
    robot = rclpy.create_node("robot", context=contexts[0])
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    kinds = {
        "good": JOINT_STATE,
        "parts": JOINT_STATE,
        "other_type": JOINT_STATE,
        "unreliable": JOINT_STATE,
        "old": JOINT_STATE,
        "goal": VECTOR,
    }
    publishers = {
        topic: robot.create_publisher(MESSAGE_CLASSES[kind], topic, best_effort if topic == "unreliable" else 5)
        for topic, kind in kinds.items()
    }
    for topic in ("latched_goal", "wrong_goal"):  # once, before anybody listens
        once = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        robot.create_publisher(MESSAGE_CLASSES[VECTOR], topic, once).publish(to_message(VectorReading(np.zeros(2)), 0))
    stop = threading.Event()

    def publish() -> None:
        while not stop.wait(0.02):
            now = robot.get_clock().now().nanoseconds
            for name in ("wheel", "b", "a"):
                part = JointReading((name,), np.array([1.0]), np.empty(0), np.empty(0))
                publishers["parts"].publish(to_message(part, now))
            for topic, publisher in publishers.items():
                if topic == "parts":
                    continue
                reading = VectorReading(np.zeros(2)) if topic == "goal" else ARM
                publisher.publish(to_message(reading, now - (10**10 if topic == "old" else 0)))

    thread = threading.Thread(target=publish)
    thread.start()
    node = rclpy.create_node("check", context=contexts[1])
    listener = Listener(node, fields)
    try:
        deadline = time.monotonic() + 60.0
        served = ("good", "parts", "goal", "other_type", "unreliable", "old")
        goals = ("latched_goal", "wrong_goal")
        while (
            not all(listener.heard[topic].types for topic in (*served, *goals))
            or not all(listener.heard[topic].arrivals for topic in ("old", *goals))
            or (listener.heard["good"].rate or 0.0) <= 1.0
            or (listener.heard["parts"].rate or 0.0) <= 1.0
        ):
            assert time.monotonic() < deadline, listener.heard
            end = listener.listen(0.5)
    finally:
        stop.set()
        thread.join()
        node.destroy_node()
        robot.destroy_node()
    # How long a starved publisher paused is not the subject here.
    verdicts = {
        f.name: judge(f.model_copy(update={"max_age": f.max_age and 5.0}), listener.heard[f.topic], end) for f in fields
    }
    assert verdicts["good"] is None
    assert listener.heard["good"].rate > 1.0
    assert verdicts["parts"] is None
    assert listener.heard["parts"].publishers == ("/robot",)
    assert "carries sensor_msgs/msg/JointState, expected geometry_msgs/msg/PoseStamped" in verdicts["other_type"]
    assert "nobody publishes nobody" in verdicts["nobody"]
    assert "stamps are old by 1" in verdicts["old"]
    assert verdicts["latched_goal"] is None
    assert "gave shape (2,), expected (3,)" in verdicts["wrong_goal"]
    assert "olatile publisher and transient local subscription" in verdicts["goal"]
    assert "est effort publisher and reliable subscription" in verdicts["unreliable"]


def test_who_listens_to_an_output_is_told_and_another_type_is_a_complaint(
    contexts: tuple[Context, Context], manifest: Manifest
) -> None:
    contract = RobotContract.model_validate(
        {"command": [{}, {"type": "float64_multi_array", "topic": "/arm/commands", "fields": ["dx"]}]}
    )
    state, forward = contract.outputs(manifest)
    robot, node = (rclpy.create_node(name, context=context) for name, context in zip(("robot", "check"), contexts))
    robot.create_subscription(MESSAGE_CLASSES[VECTOR], forward.topic, lambda _: None, 5)
    robot.create_subscription(MESSAGE_CLASSES[VECTOR], state.topic, lambda _: None, 5)
    try:
        deadline = time.monotonic() + 60.0
        while not all(listeners_of(node, output.topic) for output in (state, forward)):
            assert time.monotonic() < deadline
            Listener(node, []).listen(0.1)
        assert listeners_of(node, forward.topic) == [VECTOR]
        assert judge_output(forward, listeners_of(node, forward.topic)) is None
        complaint = judge_output(state, listeners_of(node, state.topic))
        assert complaint == f"command is listened to as {VECTOR}, sent is {JOINT_STATE}"
    finally:
        node.destroy_node()
        robot.destroy_node()


def test_an_action_is_heard_by_its_servers_of_which_another_type_is_a_complaint(manifest: Manifest) -> None:
    actions = [field.model_copy(update={"hold": None, "lower": 0.0, "upper": 1.0}) for field in manifest.action]
    source = {"type": "gripper_command", "topic": "hand/gripper_cmd", "fields": [actions[0].name]}
    rest = {"fields": [field.name for field in actions[1:]]}
    contract = RobotContract.model_validate({"command": [{**source, "hysteresis": {"above": 0.6, "below": 0.4}}, rest]})
    output = contract.outputs(manifest.model_copy(update={"action": tuple(actions)}))[0]
    kinds: list[str] = []
    node: Any = SimpleNamespace(
        resolve_topic_name=lambda name: f"/{name}",
        get_publishers_info_by_topic=lambda topic: [
            SimpleNamespace(topic_type=kind) for kind in kinds if topic == "/hand/gripper_cmd/_action/feedback"
        ],
    )
    assert servers_of(node, output.topic) == []
    kinds.append("control_msgs/action/GripperCommand_FeedbackMessage")
    assert judge_output(output, servers_of(node, output.topic)) is None
    kinds[0] = "control_msgs/action/ParallelGripperCommand_FeedbackMessage"
    assert judge_output(output, servers_of(node, output.topic)) == (
        "hand/gripper_cmd is listened to as control_msgs/action/ParallelGripperCommand, sent is "
        "control_msgs/action/GripperCommand"
    )


def test_states_of_the_driver_are_told_with_their_values_and_what_keeps_one_from_being_heard(
    contexts: tuple[Context, Context],
) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    states = [
        DriverState(topic="running", ready=(True,)),
        DriverState(topic="speed", message_type="std_msgs/msg/Float64", at_least=10.0),
        DriverState(topic="stopped", ready=(False,)),
        DriverState(topic="nobody", ready=(True,)),
    ]
    robot, node = (rclpy.create_node(name, context=context) for name, context in zip(("robot", "check"), contexts))
    robot.create_publisher(Bool, "running", latched).publish(Bool(data=True))  # once, before anybody listens
    robot.create_publisher(Float64, "speed", latched).publish(Float64(data=2.5))
    robot.create_publisher(Bool, "stopped", 5)  # keeps nothing for who comes
    try:
        driver = DriverListener(node, states)
        deadline = time.monotonic() + 60.0
        told = heard_states(node, driver)
        while None in (told[0].value, told[1].value) or "transient local" not in str(told[2].complaint):
            assert time.monotonic() < deadline, told
            Listener(node, []).listen(0.1)
            told = heard_states(node, driver)
    finally:
        node.destroy_node()
        robot.destroy_node()
    assert driver.describe() == (
        "the robot counts as ready while running is True and speed is at least 10 and stopped is False and nobody is True"
    )
    assert (told[0].value, told[0].complaint) == (True, None)
    assert told[1].value == 2.5
    assert str(told[1].complaint).startswith("driver state speed is 2.5, expected at least 10")
    assert "olatile publisher and transient local subscription" in str(told[2].complaint)
    assert str(told[3].complaint).startswith("driver state nobody: nothing received yet, expected True")
