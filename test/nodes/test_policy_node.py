"""The policy node as others see it: over DDS, with real publishers, clients and messages."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from lifecycle_msgs.msg import Transition  # noqa: E402
from peer import STEP, TIMEOUT, Peer, good_readings  # noqa: E402
from rcl_interfaces.srv import DescribeParameters  # noqa: E402

from qgf_ros.bundle.fields import ActionField  # noqa: E402
from qgf_ros.bundle.manifest import Manifest  # noqa: E402
from qgf_ros.control.extraction import JointReading, PoseReading, Reading  # noqa: E402
from qgf_ros.control.robot_contract import read_robot_contract  # noqa: E402
from qgf_ros.errors import BundleError, GuidanceError  # noqa: E402
from qgf_ros.launching.extras import install_command  # noqa: E402
from qgf_ros.nodes.commander import Commander  # noqa: E402
from qgf_ros.nodes.messages import from_time  # noqa: E402
from qgf_ros.nodes.policy_node import PolicyNode, load_policy  # noqa: E402


def test_life_cycle_goes_round_twice_and_commands_only_while_active(
    start: Callable[..., PolicyNode], peer: Peer, policy: Any
) -> None:
    start(use_sim_time=True)
    for turn in (1, 2):
        stamp = turn * 1_000_000_000
        assert peer.state() == "unconfigured"
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert policy.warm_ups == [1] * turn
        assert peer.state() == "inactive"
        peer.connect(policy.manifest.observation)
        peer.publish(stamp - STEP, good_readings())
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        command = peer.answer(stamp)
        assert list(command.name) == ["dx", "dy"]
        assert peer.commands_for(stamp - STEP) == []
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        assert list(peer.held(stamp)[-1].position) == [0.0, 0.0]
        assert peer.change_state(Transition.TRANSITION_CLEANUP)


def test_a_repeated_observation_gets_the_same_command_without_a_new_tick(active: Peer, policy: Any) -> None:
    first = active.answer(STEP)
    calls = len(policy.calls)

    def answered_again() -> bool:
        active.publish(STEP, good_readings())
        return len(active.commands_for(STEP)) > 1

    active.until(answered_again)
    assert all(command.position == first.position for command in active.commands_for(STEP))
    assert len(policy.calls) == calls


def test_telemetry_carries_the_stamp_and_the_figures_of_its_tick(active: Peer) -> None:
    for i in (1, 2, 3):
        active.answer(i * STEP)
    arrays = active.wait(lambda: active.telemetry if len(active.telemetry) >= 3 else None)
    assert [from_time(a.header.stamp) for a in arrays] == [STEP, 2 * STEP, 3 * STEP]
    figures = [{v.key: v.value for v in a.status[0].values} for a in arrays]
    assert [f["inferred"] for f in figures] == ["1", "0", "1"]  # execution horizon 2
    assert figures[2]["tick"] == "3"
    assert figures[0]["critic"] == "near"
    assert float(figures[0]["guidance_weight"]) == 0.5
    assert float(figures[0]["q"]) == 1.5
    assert float(figures[0]["inference_ms"]) == 2.0
    for key in ("latency_ms", "latency_p50_ms", "latency_p99_ms", "latency_max_ms", "missed_ticks"):
        assert float(figures[2][key]) >= 0.0


def test_parameters_change_live_from_the_next_tick_on(active: Peer, policy: Any) -> None:
    active.answer(STEP)
    assert active.set(guidance_weight=0.25).successful
    assert active.set(num_samples=3).successful
    active.answer(2 * STEP)
    assert policy.calls[-1] == ("near", 0.25, 3)
    assert active.set(use_recommended_weight=True).successful
    assert active.set(critic="far").successful
    active.answer(3 * STEP)
    assert policy.calls[-1] == ("far", 2.0, 3)
    assert active.set(execution_horizon=1).successful
    calls = len(policy.calls)
    active.answer(4 * STEP)
    active.answer(5 * STEP)
    assert len(policy.calls) == calls + 2
    assert active.set(guidance_weight=0.0).successful
    active.answer(6 * STEP)
    assert policy.calls[-1][1] == 0.0


def test_the_clock_is_another_one_only_after_cleanup(active: Peer) -> None:
    """What is late, and what is silent, is another thing in simulated time; a robot is not to be watched by that."""
    result = active.set(use_sim_time=False)
    assert (result.successful, result.reason) == (
        False,
        "use_sim_time is fixed while the node is configured; run cleanup, set it, configure",
    )
    assert active.set(use_sim_time=True).successful
    active.answer(STEP)
    for transition in ("DEACTIVATE", "CLEANUP"):
        assert active.change_state(getattr(Transition, f"TRANSITION_{transition}"))
    assert active.set(use_sim_time=False).successful


def test_setting_the_seed_again_repeats_the_actions(active: Peer) -> None:
    runs = []
    for turn in (1, 2):
        assert active.set(seed=7).successful
        start = turn * 100 * STEP
        runs.append([list(active.answer(start + i * STEP).position) for i in range(5)])
    assert runs[0] == runs[1]
    assert len({tuple(p) for p in runs[0]}) == 5


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("guidance_weight", -1.0, "guidance_weight"),
        ("guidance_weight", -1, "guidance_weight -1.0 was given; it must be 0 to 8"),
        ("guidance_weight", float("nan"), "guidance_weight"),
        ("guidance_weight", "strong", "guidance_weight 'strong' was given; it must be a number"),
        ("guidance_weight", 5000.0, "guidance_weight"),
        ("guidance_weight", float("inf"), "guidance_weight"),
        ("critic", "middle", "bundle fake has near, far"),
        ("num_samples", 0, "num_samples"),
        ("execution_horizon", 5, "must be 1 to 4"),
        ("seed", -1, "seed"),
        ("estimator", "best", "estimator 'best' was given; it must be one of qgf"),
        ("max_gradient_norm", -1.0, "max_gradient_norm -1.0 was given; it must be above 0"),
        ("weight_schedule", "1,2", "weight_schedule of 2 factors was given"),
        ("unguided_actions", "elbow", "unguided_actions 'elbow' was given"),
        ("seed", 1.5, "seed 1.5 was given; it must be an integer"),
        ("bundle", "other", "bundle is fixed while the node is configured"),
        ("autostart", True, "read-only"),
    ],
)
def test_a_bad_value_is_refused_with_the_reason(active: Peer, name: str, value: Any, reason: str) -> None:
    result = active.set(**{name: value})
    assert not result.successful
    assert reason in result.reason
    active.answer(STEP)


def test_every_parameter_describes_itself(start: Callable[..., PolicyNode], peer: Peer) -> None:
    node = start()
    names = [n for n in node._parameters if n not in ("use_sim_time", "start_type_description_service")]
    for descriptor in peer.call("describe_parameters", DescribeParameters.Request(names=names)).descriptors:
        assert descriptor.description.endswith(".")


def broken(**changes: Reading) -> dict[str, Reading]:
    return {**good_readings(), **changes}


FAULTS = {
    "not finite": (
        broken(effector_pose=PoseReading(np.array([1.0, np.nan, 3.0]), np.array([0.0, 0.0, 0.0, 1.0]))),
        "topic effector_pose holds a value that is not finite",
    ),
    "wrong joint name": (
        broken(joint_states=JointReading(("shoulder", "wrist"), np.zeros(2), np.empty(0), np.empty(0))),
        "topic joint_states has no joint elbow; it has shoulder, wrist",
    ),
    "wrong shape": (
        broken(joint_states=JointReading(("shoulder", "elbow"), np.zeros(3), np.empty(0), np.empty(0))),
        "topic joint_states carries 3 values for 2 joints",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_observation_is_a_hold_with_its_reason_and_recovery(active: Peer, fault: str) -> None:
    readings, reason = FAULTS[fault]
    active.answer(STEP)
    active.publish(2 * STEP, readings)
    assert list(active.held(STEP)[-1].position) == [0.0, 0.0]
    active.hears(reason)
    assert active.commands_for(2 * STEP) == []
    active.recover(3 * STEP)


def test_a_stale_topic_is_a_hold_with_its_reason_and_recovery(active: Peer) -> None:
    now = 10 * STEP
    active.tell_time(now)
    active.answer(now)
    active.tell_time(now + 20 * STEP)
    active.hears("is stale")
    assert list(active.held(now)[-1].position) == [0.0, 0.0]
    active.recover(now + 20 * STEP)


def test_a_missing_topic_is_named_until_it_arrives(active: Peer) -> None:
    active.publish(STEP, good_readings(), topics=("joint_states", "effector_pose"))
    active.hears("nothing received yet on topic wrench", b"\x01")
    assert active.commands == []
    active.answer(2 * STEP)


def test_a_clock_that_falls_back_starts_anew(active: Peer) -> None:
    active.tell_time(1000 * STEP)
    active.answer(1000 * STEP)
    active.tell_time(STEP)
    active.answer(STEP)


def test_inference_that_fails_is_a_hold_and_recovery(active: Peer, policy: Any) -> None:
    active.answer(STEP)
    policy.failure = GuidanceError("the velocity field returned NaN; check the bundle")
    active.publish(10 * STEP, good_readings())
    active.hears("the velocity field returned NaN")
    assert list(active.held(STEP)[-1].position) == [0.0, 0.0]  # which may come after its reason
    policy.failure = None
    active.answer(11 * STEP)
    policy.action_value = float("nan")
    active.publish(20 * STEP, good_readings())
    active.hears("action dx, dy is not finite")
    policy.action_value = None
    active.answer(21 * STEP)


def test_a_critic_that_fails_is_reported_while_commands_go_on(active: Peer, policy: Any) -> None:
    policy.critic_failed = 1.0
    active.answer(STEP)
    active.hears("critic near failed; plain behaviour cloning acts instead", b"\x01", repeating=STEP)


def test_callbacks_answer_while_inference_is_slow(active: Peer, policy: Any) -> None:
    active.answer(STEP)
    policy.gate.clear()
    policy.entered.clear()
    active.publish(10 * STEP, good_readings())
    assert policy.entered.wait(TIMEOUT)
    assert active.state() == "active"
    active.hears("inference has been running")
    policy.gate.set()
    active.wait(lambda: active.commands_for(10 * STEP))


def test_deactivation_holds_although_inference_hangs(active: Peer, policy: Any) -> None:
    active.answer(STEP)
    policy.gate.clear()
    policy.entered.clear()
    active.publish(10 * STEP, good_readings())
    assert policy.entered.wait(TIMEOUT)
    assert active.change_state(Transition.TRANSITION_DEACTIVATE)
    assert list(active.held(STEP)[-1].position) == [0.0, 0.0]
    policy.gate.set()
    assert active.change_state(Transition.TRANSITION_CLEANUP)
    assert active.commands_for(10 * STEP) == []


def test_the_timer_trigger_ticks_at_the_control_rate_of_the_wall_clock(
    start: Callable[..., PolicyNode], peer: Peer, policy: Any
) -> None:
    start(trigger="timer")
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    peer.connect(policy.manifest.observation)
    stamps = set()

    def commanded() -> bool:
        stamps.add(time.time_ns())
        peer.publish(max(stamps), good_readings())
        return len({from_time(c.header.stamp) for c in peer.commands}) >= 5

    peer.until(commanded)
    assert {from_time(c.header.stamp) for c in peer.commands} <= stamps
    peer.hears("is stale")
    peer.wait(lambda: not any(peer.commands[-1].position))


def test_configure_fails_with_the_loader_s_sentence_and_can_be_tried_again(
    start: Callable[..., PolicyNode], peer: Peer, policy: Any
) -> None:
    answers = [BundleError("x/velocity.onnx: sha256 does not match"), RuntimeError("no memory"), policy]

    def loader(*_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    start(loader=loader)
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    peer.hears("configure failed: x/velocity.onnx: sha256 does not match")
    assert peer.state() == "unconfigured"
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    peer.hears("configure failed, RuntimeError: no memory")
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == "inactive"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"bundle": ""}, "parameter bundle is empty"),
        ({"critic": "middle"}, "bundle fake has near, far"),
        ({"trigger": "sometimes"}, "trigger 'sometimes' was given; it must be timer or observation"),
        ({"execution_horizon": 5}, "execution_horizon 5 was given; it must be 1 to 4"),
    ],
)
def test_configure_fails_on_bad_parameters(
    start: Callable[..., PolicyNode], peer: Peer, values: dict[str, Any], reason: str
) -> None:
    start(**values)
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    peer.hears(reason)


def test_configure_without_a_package_fails_in_one_sentence_with_what_brings_it(
    start: Callable[..., PolicyNode], peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    def halted(*_: Any) -> Any:
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

    start(loader=halted)
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    sentence = "onnxruntime cannot be imported (No module named 'onnxruntime'); install it with: "
    peer.hears(f"configure failed: {sentence}{install_command('cpu')}")
    assert "Traceback" not in capfd.readouterr().err


def test_a_flipped_byte_in_a_bundle_fails_configure(
    start: Callable[..., PolicyNode], peer: Peer, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, bundle)
    network = bundle / "velocity.onnx"
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    start(loader=load_policy, bundle=str(bundle))
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    peer.hears("velocity.onnx: sha256 does not match the manifest")
    shutil.copy(tiny_bundle / "velocity.onnx", network)
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)


def test_a_robot_contract_serves_the_bundle_from_other_topics_names_and_units(
    start: Callable[..., PolicyNode], peer: Peer, manifest: Manifest, policy: Any, tmp_path: Path
) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(
        "fields:\n"
        "  angle: {topic: arm/joints, joints: [j1, j2]}\n"
        "  effector: {factor: 0.001, shift: [0.0, 0.0, 1.0]}\n"
        "  contact: {constant: [5.0]}\n"
    )
    start(use_sim_time=True, contract=str(path))
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    peer.connect(read_robot_contract(path).apply(manifest)[:2])
    readings: dict[str, Reading] = {
        "arm/joints": JointReading(("j2", "j1"), np.array([0.2, 0.1]), np.empty(0), np.empty(0)),
        "effector_pose": PoseReading(np.array([1000.0, 2000.0, 2000.0]), np.array([0.0, 0.0, 0.0, 1.0])),
    }
    peer.answer(5 * STEP, readings)
    np.testing.assert_allclose(policy.observations[-1], [[0.1, 0.2, 1, 2, 3, 5]], rtol=1e-6)


def test_a_contract_that_does_not_fit_keeps_the_node_unconfigured(
    start: Callable[..., PolicyNode], peer: Peer, tmp_path: Path
) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("fields: {arm: {topic: arm/joints}}")
    node = start(use_sim_time=True, contract=str(path))
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == "unconfigured"
    assert "field arm is in the contract, but bundle fake has angle, effector, contact" in str(node.failure)


def test_a_configure_that_fails_late_leaves_nothing_behind_and_can_be_repeated(
    start: Callable[..., PolicyNode], peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start(use_sim_time=True)
    threads = set(threading.enumerate())
    create, created = node.create_subscription, []

    def fail_at_the_second(*args: Any, **options: Any) -> Any:
        if created:
            raise RuntimeError("the topic has another type")
        created.append(create(*args, **options))
        return created[0]

    monkeypatch.setattr(node, "create_subscription", fail_at_the_second)
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    peer.hears("configure failed, RuntimeError: the topic has another type")
    peer.wait(
        lambda: not any(map(node.count_publishers, ("command", "policy_node/telemetry", "policy_node/heartbeat")))
    )
    assert created[0] not in node.subscriptions
    peer.until(lambda: set(threading.enumerate()) <= threads)  # nobody waits for them for ever
    monkeypatch.undo()
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert node.count_publishers("command") == 1


def test_hold_stops_until_resume_whatever_happens_in_between(active: Peer, policy: Any) -> None:
    active.answer(STEP)
    assert active.trigger("hold")
    active.held(STEP)
    heard, calls = len(active.commands), len(policy.calls)
    assert active.set(guidance_weight=0.25).successful
    assert active.set(enable_motion=True).successful
    active.publish(2 * STEP, good_readings())
    active.hears("stopped: by ~/hold; call ~/resume to go on", b"\x01")
    for transition in ("DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE"):
        assert active.change_state(getattr(Transition, f"TRANSITION_{transition}"))
    active.publish(3 * STEP, good_readings())
    active.hears("stopped: by ~/hold; call ~/resume to go on", b"\x01")
    assert len(policy.calls) == calls
    assert {tuple(command.position) for command in active.commands[heard:]} <= {(0.0, 0.0)}
    assert active.trigger("resume")
    active.answer(4 * STEP)


def test_hold_is_sent_at_once_although_inference_hangs(active: Peer, policy: Any) -> None:
    active.answer(STEP)
    policy.gate.clear()
    policy.entered.clear()
    active.publish(10 * STEP, good_readings())
    assert policy.entered.wait(TIMEOUT)
    assert active.trigger("hold")
    assert list(active.held(STEP)[-1].position) == [0.0, 0.0]
    assert active.trigger("resume")
    policy.gate.set()
    active.answer(11 * STEP)
    assert active.commands_for(10 * STEP) == []


def test_motion_is_enabled_and_disabled_live_and_disabling_holds_first(active: Peer) -> None:
    active.answer(STEP)
    assert active.set(enable_motion=False).successful
    active.held(STEP)
    active.publish(2 * STEP, good_readings())
    active.wait(lambda: [shadow for shadow in active.shadows if from_time(shadow.header.stamp) == 2 * STEP])
    active.wait(lambda: any({"motion": "0"}.items() <= active.values(array).items() for array in active.diagnostics))
    assert active.commands_for(2 * STEP) == []
    assert list(active.commands[-1].position) == [0.0, 0.0]
    assert active.set(enable_motion=True).successful
    active.answer(3 * STEP)


def test_motion_is_off_although_its_hold_cannot_be_published(
    start: Callable[..., PolicyNode], peer: Peer, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no middleware")

    node = start(use_sim_time=True)
    peer.activate(manifest.observation)
    peer.answer(STEP)
    monkeypatch.setattr(Commander, "send_hold", refuse)
    result = peer.set(enable_motion=False)
    assert (result.successful, result.reason) == (
        False,
        "motion is off, but the hold could not be published: no middleware",
    )
    sent = len(peer.commands)
    peer.publish(2 * STEP, good_readings())
    peer.wait(lambda: [shadow for shadow in peer.shadows if from_time(shadow.header.stamp) == 2 * STEP])
    assert len(peer.commands) == sent
    monkeypatch.undo()
    assert peer.set(enable_motion=False).successful
    assert not node.get_parameter("enable_motion").value


@pytest.mark.parametrize("values", [{"enable_motion": False}, {"dry_run": True}])
def test_without_motion_the_robot_receives_nothing_at_all(
    start: Callable[..., PolicyNode], peer: Peer, manifest: Manifest, values: dict[str, Any]
) -> None:
    node = start(use_sim_time=True, **values)
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    peer.connect(manifest.observation)
    assert peer.set(enable_motion=values.get("enable_motion", True)).successful
    for i in range(1, 6):
        peer.publish(i * STEP, good_readings())
        peer.wait(lambda i=i: len(peer.telemetry) >= i and len(peer.shadows) >= i)
    assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert list(peer.wait(lambda: peer.shadows[5:])[0].position) == [0.0, 0.0]
    assert peer.commands == []
    assert bool(node.count_publishers("command")) is not values.get("dry_run", False)


def test_the_hold_of_a_deactivation_arrives_before_the_node_says_that_it_is_inactive(active: Peer) -> None:
    active.answer(STEP)
    assert active.change_state(Transition.TRANSITION_DEACTIVATE)
    assert active.state() == "inactive"
    assert list(active.commands[-1].position) == [0.0, 0.0]


def test_limits_from_a_parameter_bind_the_commands_and_are_reported(
    start: Callable[..., PolicyNode], peer: Peer, manifest: Manifest, policy: Any
) -> None:
    policy.action_value = 0.5
    start(use_sim_time=True, limits="dx.max_rate=0.2, dy.measured=effector:1, dy.workspace=0:2.02")
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    peer.connect(manifest.observation)
    np.testing.assert_allclose(peer.answer(STEP).position, [0.01, 0.02])  # the effector is at 2 of at most 2.02
    figures = {v.key: v.value for v in peer.wait(lambda: peer.telemetry)[0].status[0].values}
    assert figures["intervention"] == "max_rate: dx 0.05 wanted, 0.01 m sent; workspace: dy 0.05 wanted, 0.02 m sent"
    assert (figures["limited_velocity"], figures["limited_workspace"]) == ("1", "1")
    peer.wait(lambda: any({"limited_workspace": "1"}.items() <= peer.values(a).items() for a in peer.diagnostics))


def test_configure_warns_of_a_recommended_weight_with_settings_that_were_not_tried(
    start: Callable[..., PolicyNode], peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start(num_samples=3)
    said: list[tuple[int, str]] = []
    monkeypatch.setattr(node, "report", lambda *report: said.append(report))
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    ((level, text),) = said
    assert level == logging.WARNING
    assert text.startswith(
        "the recommended guidance_weight is untested with num_samples 3; it was found with num_samples 1"
    )


def test_limits_that_cannot_be_read_keep_the_node_unconfigured(start: Callable[..., PolicyNode], peer: Peer) -> None:
    start(limits="dz.max_rate=1")
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    peer.hears("configure failed: limits 'dz.max_rate=1' was given")


def test_an_absolute_action_without_limits_moves_no_robot_unless_that_is_accepted(
    start: Callable[..., PolicyNode], peer: Peer, manifest_factory: Any, policy: Any
) -> None:
    policy.manifest = manifest_factory(
        action=(ActionField(name="elbow", unit="rad", scale=1.0, lower=-1.0, upper=1.0, hold=None),)
    )
    node = start(use_sim_time=True)
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    peer.hears(
        "configure failed: absolute actions are not limited enough to move a robot: elbow (no measured, max_rate, "
    )
    assert peer.set(enable_motion=False).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    refused = peer.set(enable_motion=True)
    assert (refused.successful, "elbow (no measured" in refused.reason) == (False, True)
    assert not node.get_parameter("enable_motion").value
    assert peer.change_state(Transition.TRANSITION_CLEANUP)
    assert peer.set(accept_unlimited=["elbow"]).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.set(enable_motion=True).successful
