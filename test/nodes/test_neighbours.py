"""What a policy node makes of the nodes around it, over DDS: other publishers, and controllers with other joints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

rclpy = pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from lifecycle_msgs.msg import Transition  # noqa: E402
from peer import STEP, Peer, StandInController, good_readings  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from std_msgs.msg import Bool, Float64  # noqa: E402

from qgf_ros.bundle.manifest import Manifest  # noqa: E402
from qgf_ros.control.extraction import JointReading  # noqa: E402
from qgf_ros.control.outputs import Output  # noqa: E402
from qgf_ros.control.robot_contract import DriverState, RobotContract  # noqa: E402
from qgf_ros.errors import ContractError  # noqa: E402
from qgf_ros.nodes import neighbours  # noqa: E402
from qgf_ros.nodes.messages import MESSAGE_CLASSES, from_time, to_message  # noqa: E402
from qgf_ros.nodes.neighbours import (  # noqa: E402
    class_of_state,
    joints_of_controllers,
    judge_joints,
    quality_of_state,
    too_many,
    unverified,
)
from qgf_ros.nodes.policy_node import PolicyNode  # noqa: E402

JOINT_STATE = MESSAGE_CLASSES["sensor_msgs/msg/JointState"]
FORWARD = {"type": "float64_multi_array", "topic": "/forward/commands", "controller": "/forward"}


def output(manifest: Manifest, **source: Any) -> Output:
    (made,) = RobotContract.model_validate({"command": [{**FORWARD, **source}]}).outputs(manifest)
    return made


def written(folder: Path, **contract: Any) -> str:
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(contract))
    return str(path)


@pytest.fixture
def controller(context: Any) -> Iterator[Callable[..., StandInController]]:
    """Start controllers, by name, with joints."""
    running: list[StandInController] = []

    def run(name: str, *joints: str) -> StandInController:
        running.append(StandInController(context, name, joints))
        return running[-1]

    yield run
    for one in running:
        one.close()


@pytest.fixture
def other(context: Any) -> Iterator[Callable[..., Any]]:
    """Return a publisher of a topic of another node, and what ends it."""
    nodes: list[Any] = []

    def run(topic: str, name: str = "simulation") -> Any:
        nodes.append(Node(name, context=context, start_parameter_services=False))
        publisher = nodes[-1].create_publisher(JOINT_STATE, topic, 10)
        return publisher, lambda: nodes[-1].destroy_publisher(publisher)

    yield run
    for node in nodes:
        node.destroy_node()


def test_a_second_publisher_of_an_observation_is_named_and_holds_until_it_is_gone(
    active: Peer, other: Callable[..., Any]
) -> None:
    active.answer(STEP)
    _, end = other("joint_states")
    reason = (
        "holding: /joint_states is published by /peer and /simulation, and only 1 may publish it; stop the others or, if "
        "they share the joints between them, set allow_publishers: 2 for field angle in the robot contract"
    )
    active.hears(reason)
    assert list(active.held(STEP)[-1].position) == [0.0, 0.0]
    active.publish(2 * STEP, good_readings())
    active.hears(reason)
    assert active.commands_for(2 * STEP) == []
    end()
    active.recover(3 * STEP)


@pytest.mark.parametrize("allowed", [1, 2])
def test_joints_of_two_publishers_are_merged_where_the_contract_allows_them(
    start: Callable[..., PolicyNode],
    peer: Peer,
    policy: Any,
    manifest: Manifest,
    other: Callable[..., Any],
    tmp_path: Path,
    allowed: int,
) -> None:
    start(use_sim_time=True, contract=written(tmp_path, fields={"angle": {"allow_publishers": allowed}}))
    gripper, _ = other("joint_states", "gripper_driver")
    peer.activate(manifest.observation)
    peer.until(gripper.get_subscription_count)
    shoulder, elbow = (
        JointReading((name,), np.array([value]), np.empty(0), np.empty(0))
        for name, value in (("shoulder", 0.1), ("elbow", 0.2))
    )

    def publish(stamp: int) -> None:
        gripper.publish(to_message(elbow, stamp))
        peer.publish(stamp, {**good_readings(), "joint_states": shoulder})

    if allowed == 1:
        peer.hears("/joint_states is published by /gripper_driver and /peer, and only 1 may publish it", b"\x01")
        publish(STEP)
        peer.hears("set allow_publishers: 2 for field angle in the robot contract", b"\x01")
        assert peer.commands == []
    else:

        def commanded() -> bool:
            publish(STEP)
            return bool(peer.commands_for(STEP))

        peer.until(commanded)
        assert policy.observations[0][0, :2].tolist() == pytest.approx([0.1, 0.2])


def test_as_many_publishers_as_allowed_are_no_complaint() -> None:
    assert too_many("/joints", ["/a", "/b"], "arm", 2) is None
    assert str(too_many("/joints", ["/a", "/a", "/b"], "arm", 2)).startswith(
        "/joints is published by /a and /a and /b, and only 2"
    )


@pytest.mark.parametrize(
    ("source", "joints", "complaint"),
    [
        ({}, ("dx", "dy"), None),
        (
            {},
            ("dy", "dx"),
            "sends its values in the order dx, dy, but its controller /forward takes them in the order dy, dx",
        ),
        ({"fields": {"dy": "lift", "dx": "pan"}}, ("lift", "pan"), None),
        ({}, ("pan", "lift"), "sends dx, dy, but its controller /forward has the joints pan, lift; write its fields"),
        ({}, ("dx", "dy", "dz"), "sends dx, dy, but its controller /forward has the joints dx, dy, dz"),
        ({}, (), "node /forward has no parameter joints; name the node of its controller"),
        ({"type": "joint_state"}, ("dy", "dx"), None),  # whose message has names
        ({"type": "joint_state"}, ("dy", "dz"), "has the joints dy, dz"),
    ],
)
def test_joints_of_a_controller_are_compared_by_name_and_where_there_are_none_by_order(
    manifest: Manifest, source: dict[str, Any], joints: tuple[str, ...], complaint: str | None
) -> None:
    said = judge_joints(output(manifest, **source), joints)
    assert (said is None) == (complaint is None)
    assert (complaint or "") in (said or "")


def test_what_nobody_has_compared_is_said(manifest: Manifest) -> None:
    assert unverified(output(manifest), ("dx", "dy")) is None
    assert "its controller /forward has not answered within 5 s" in str(unverified(output(manifest), None))
    assert "the contract names no controller to ask" in str(unverified(output(manifest, controller=None), None))
    assert unverified(output(manifest, type="joint_state", controller=None), None) is None


def test_controllers_are_asked_for_their_joints_and_not_waited_for_long(
    context: Any, controller: Callable[..., StandInController], manifest: Manifest
) -> None:
    controller("forward", "dy", "dx")
    controller("no_controller")
    sources = [
        {**FORWARD, "fields": ["dx", "dy"]},
        {**FORWARD, "topic": "other", "controller": "no_controller"},
    ]
    outputs = RobotContract.model_validate({"command": sources}).outputs(manifest)
    assert joints_of_controllers(outputs, context, "/", 60.0) == {"/forward/commands": ("dy", "dx"), "other": ()}
    absent = [output(manifest, controller="/nobody")]
    began = time.monotonic()
    assert joints_of_controllers(absent, context, "/", 0.2) == {}
    assert time.monotonic() - began < 10.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait long for a controller that is there, on a busy machine."""
    monkeypatch.setattr(neighbours, "CONTROLLER_TIMEOUT", 30.0)


@pytest.mark.usefixtures("patient")
def test_a_controller_with_another_order_of_joints_keeps_the_node_unconfigured(
    start: Callable[..., PolicyNode], peer: Peer, controller: Callable[..., StandInController], tmp_path: Path
) -> None:
    controller("forward", "dy", "dx")
    node = start(use_sim_time=True, contract=written(tmp_path, command=[FORWARD]))
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == "unconfigured"
    assert str(node.failure) == (
        "configure failed: output float64_multi_array on /forward/commands sends its values in the order dx, dy, but its "
        "controller /forward takes them in the order dy, dx; write its fields in that order"
    )


@pytest.mark.usefixtures("patient")
def test_a_controller_with_the_same_order_of_joints_is_taken_without_a_word(
    start: Callable[..., PolicyNode],
    peer: Peer,
    controller: Callable[..., StandInController],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controller("forward", "dx", "dy")
    said: list[str] = []
    monkeypatch.setattr(PolicyNode, "report", lambda self, level, text: said.append(text))
    start(use_sim_time=True, contract=written(tmp_path, command=[FORWARD]))
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert not [text for text in said if "joint order" in text]


@pytest.mark.parametrize("named", [True, False])
def test_without_a_controller_to_ask_the_node_says_once_that_the_order_was_not_verified(
    start: Callable[..., PolicyNode], peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setattr(neighbours, "CONTROLLER_TIMEOUT", 0.2)
    said: list[str] = []
    monkeypatch.setattr(PolicyNode, "report", lambda self, level, text: said.append(text))
    source = FORWARD if named else {key: value for key, value in FORWARD.items() if key != "controller"}
    start(use_sim_time=True, contract=written(tmp_path, command=[source]))
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    (warning,) = [text for text in said if "joint order" in text]
    assert warning.startswith("the joint order of output float64_multi_array on /forward/commands was not verified: ")


LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RUNNING = {"topic": "/driver/running", "ready": [True]}
SPEED = {"topic": "/driver/speed", "message_type": "std_msgs/msg/Float64", "at_least": 10.0}


def test_until_the_driver_says_that_the_robot_is_ready_it_is_held_and_whenever_it_does_not(
    start: Callable[..., PolicyNode], peer: Peer, manifest: Manifest, tmp_path: Path
) -> None:
    start(use_sim_time=True, contract=written(tmp_path, driver_state=[RUNNING, SPEED]))
    peer.activate(manifest.observation)
    peer.hears("holding: driver state /driver/running: nothing received yet, expected True", b"\x02")
    peer.publish(STEP, good_readings())
    running = peer.node.create_publisher(Bool, "/driver/running", LATCHED)
    speed = peer.node.create_publisher(Float64, "/driver/speed", LATCHED)
    running.publish(Bool(data=True))
    speed.publish(Float64(data=9.0))
    peer.hears("holding: driver state /driver/speed is 9, expected at least 10; make the robot ready again")
    assert peer.commands == []
    speed.publish(Float64(data=80.0))
    peer.recover(2 * STEP)
    stamp = max(from_time(command.header.stamp) for command in peer.commands)
    running.publish(Bool(data=False))
    peer.hears("holding: driver state /driver/running is False, expected True")
    assert not any(peer.held(stamp)[-1].position)
    heard = len(peer.commands)
    peer.publish(stamp + STEP, good_readings())
    peer.hears("holding: driver state /driver/running is False, expected True")
    assert len(peer.commands) == heard
    running.publish(Bool(data=True))
    peer.recover(stamp + 2 * STEP)
    peer.node.destroy_publisher(running)
    peer.hears("holding: driver state /driver/running: nothing received yet")


def test_shadows_go_on_while_the_robot_is_not_ready(
    start: Callable[..., PolicyNode], peer: Peer, manifest: Manifest, tmp_path: Path
) -> None:
    start(use_sim_time=True, enable_motion=False, contract=written(tmp_path, driver_state=[RUNNING]))
    peer.activate(manifest.observation)

    def shadowed() -> bool:
        peer.publish(STEP, good_readings())
        return bool(peer.shadows)

    peer.until(shadowed)
    assert peer.commands == []


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        (
            {"message_type": "ur_dashboard_msgs/msg/NoSuchMode"},
            "driver state /driver/running is a ur_dashboard_msgs/msg/NoSuchMode, which is not installed here; install the "
            "package ur_dashboard_msgs of your ROS distribution, or leave the topic out of driver_state",
        ),
        (
            {"message_type": "std_msgs/msg/Boolean"},
            "driver state /driver/running is a std_msgs/msg/Boolean, which is not installed here",
        ),
        (
            {"field": "mode"},
            "driver state /driver/running: field mode was given; a std_msgs/msg/Bool has data",
        ),
        (
            {"field": "data.mode"},
            "driver state /driver/running: field data.mode was given; a std_msgs/msg/Bool has data",
        ),
    ],
)
def test_a_state_whose_message_is_not_there_or_has_no_such_field_keeps_the_node_unconfigured(
    start: Callable[..., PolicyNode], tmp_path: Path, state: dict[str, Any], complaint: str
) -> None:
    node = start(contract=written(tmp_path, driver_state=[{**RUNNING, **state}]))
    assert not node.bring_up()
    assert node.failure is not None
    assert node.failure.startswith(f"configure failed: {complaint}")
    with pytest.raises(ContractError, match="driver state /driver/running"):
        class_of_state(DriverState.model_validate({**RUNNING, **state}))


def test_a_part_of_a_part_of_a_message_may_tell() -> None:
    state = {"topic": "/s", "message_type": "sensor_msgs/msg/JointState", "field": "header.frame_id", "ready": ["base"]}
    assert class_of_state(DriverState.model_validate(state)) is JOINT_STATE


def test_what_is_told_once_is_asked_for_reliably_also_of_before_and_what_is_told_again_is_not() -> None:
    kept, fresh = (quality_of_state(DriverState(topic="/s", at_least=1.0, max_age=max_age)) for max_age in (None, 0.5))
    assert (kept.reliability, kept.durability) == (ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
    assert (fresh.reliability, fresh.durability) == (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
    asked = DriverState.model_validate({"topic": "/s", "at_least": 1.0, "quality": {"durability": "volatile"}})
    assert quality_of_state(asked).durability == DurabilityPolicy.VOLATILE
