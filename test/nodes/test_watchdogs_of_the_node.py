"""The policy node when inference is slow, hangs and recovers, and when its own threads stall; over DDS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from lifecycle_msgs.msg import Transition  # noqa: E402
from peer import STEP, TIMEOUT, Peer, good_readings  # noqa: E402
from rclpy.clock import Clock, ClockType  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from qgf_ros.bundle.manifest import Manifest  # noqa: E402
from qgf_ros.control.extraction import WrenchReading  # noqa: E402
from qgf_ros.loop.degradation import RECOVERY  # noqa: E402
from qgf_ros.nodes.heartbeat import heartbeat_quality  # noqa: E402
from qgf_ros.nodes.messages import from_time  # noqa: E402
from qgf_ros.nodes.policy_node import PolicyNode  # noqa: E402

BLIND = {**good_readings(), "wrench": WrenchReading([float("nan"), 0.0, 0.0], [0.0, 0.0, 0.0])}
#: Long for an inference that does nothing, and short for a test that waits until one is late.
LIMITS = {"inference_deadline": 1.0, "watchdog_timeout": 1.1, "deadline_misses": 1, "execution_horizon": 1}


@pytest.fixture
def run(start: Callable[..., PolicyNode], peer: Peer, manifest: Manifest) -> Callable[..., PolicyNode]:
    """Start an active node that follows simulated time."""

    def run(**values: Any) -> PolicyNode:
        node = start(use_sim_time=True, **values)
        peer.activate(manifest.observation)
        return node

    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """By which inferences are timed: none takes any time but those that hang, however busy the machine is."""
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("qgf_ros.control.inference.time", clock)
    return clock


def await_hold(peer: Peer, last: int) -> None:
    """Wait until the robot, whose last command has the stamp `last`, is held; on a busy machine, it may have been before."""
    peer.wait(lambda: not any(peer.commands[-1].position) and from_time(peer.commands[-1].header.stamp) == last)


def hang(peer: Peer, policy: Any, clock: SimpleNamespace, last: int, stamp: int) -> None:
    """Let the inference of an observation hang until the robot is held, whose last command has the stamp `last`."""
    policy.gate.clear()
    policy.entered.clear()
    peer.publish(stamp, good_readings())
    assert policy.entered.wait(TIMEOUT)
    clock.now += 2.0 * LIMITS["inference_deadline"]
    await_hold(peer, last)


def test_the_watchdog_holds_while_inference_hangs_and_the_late_command_never_passes(
    run: Callable[..., PolicyNode], peer: Peer, policy: Any, clock: SimpleNamespace
) -> None:
    run(**LIMITS)
    peer.answer(STEP)
    hang(peer, policy, clock, STEP, 10 * STEP)
    peer.hears("inference has been running")

    def silent() -> bool:
        beats, said = len(peer.heartbeats), len(peer.diagnostics)
        peer.wait(lambda: len(peer.diagnostics) >= said + 10)  # a second later
        assert "inference has been running" in peer.sayings()[-1][1]
        return len(peer.heartbeats) == beats

    peer.until(silent)
    beats = len(peer.heartbeats)
    policy.gate.set()
    peer.answer(11 * STEP)
    peer.wait(lambda: len(peer.heartbeats) > beats)
    assert peer.commands_for(10 * STEP) == []


def test_late_inference_leads_down_the_ladder_which_is_told_and_back_up(
    run: Callable[..., PolicyNode], peer: Peer, policy: Any, clock: SimpleNamespace
) -> None:
    run(num_samples=4, **LIMITS)
    peer.answer(STEP)
    assert policy.calls[-1] == ("near", 0.5, 4)
    for number, (call, words) in enumerate(
        [(("near", 0.5, 1), "one sample"), (("near", 0.0, 1), "plain behaviour cloning")], start=1
    ):
        hang(peer, policy, clock, (10 * number - 9) * STEP, 10 * number * STEP)
        policy.gate.set()
        stamp = (10 * number + 1) * STEP
        peer.answer(stamp)
        assert policy.calls[-1] == call
        figures = Peer.values(peer.wait(lambda stamp=stamp: peer.telemetry_for(stamp)))
        assert (figures["degradation"], figures["late_chunks"]) == (words, str(number))
        assert (int(figures["num_samples"]), float(figures["guidance_weight"])) == (call[2], call[1])
        peer.hears(f"inference is too slow for what is asked; degraded to {words}", b"\x01", repeating=stamp)
    hang(peer, policy, clock, 21 * STEP, 30 * STEP)
    policy.gate.set()
    peer.hears("even with one sample and no guidance")
    for step in range(3 * RECOVERY + 1):  # what is tried on the lowest fallback is not sent
        calls = len(policy.calls)
        while len(policy.calls) == calls:
            policy.entered.clear()
            peer.publish((100 + step) * STEP, good_readings())
            policy.entered.wait(1.0)
            with peer.changed:
                peer.changed.wait_for(lambda calls=calls: len(policy.calls) > calls, 1.0)
    assert policy.calls[-1] == ("near", 0.5, 4)
    peer.wait(lambda: peer.commands_for((100 + 3 * RECOVERY) * STEP))
    assert peer.commands_for(100 * STEP) == []


def test_a_stuck_callback_is_a_hold_and_no_heartbeat_until_it_returns(
    run: Callable[..., PolicyNode], peer: Peer
) -> None:
    node = run(watchdog_timeout=1.0)
    peer.answer(STEP)
    stuck, entered = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        stuck.wait(TIMEOUT)

    timer = node.create_timer(0.01, block, clock=Clock(clock_type=ClockType.STEADY_TIME))
    try:
        assert entered.wait(TIMEOUT)
        await_hold(peer, STEP)
        beats = len(peer.heartbeats)
    finally:
        timer.cancel()
        stuck.set()
    peer.wait(lambda: len(peer.heartbeats) > beats + 1)
    peer.answer(2 * STEP)


@pytest.mark.parametrize("end", ["fault", "hold", "deactivate", "disable"])
def test_a_deceleration_ends_commanding_inside_the_limits(
    run: Callable[..., PolicyNode], peer: Peer, policy: Any, end: str
) -> None:
    policy.action_value = 0.5
    run(on_fault="decelerate", limits="dx.max_rate=0.2")
    for step in range(1, 6):
        peer.answer(step * STEP)
    last = 5 * STEP
    if end == "fault":
        peer.publish(6 * STEP, BLIND)
    elif end == "hold":
        assert peer.trigger("hold")
    elif end == "disable":
        assert peer.set(enable_motion=False).successful
    else:
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    peer.wait(lambda: list(peer.commands[-1].position) == [0.0, 0.0] == list(peer.commands[-2].position))
    way = [command.position[0] for command in peer.commands_for(last)]
    assert way[-6:] == pytest.approx([0.04, 0.03, 0.02, 0.01, 0.0, 0.0], abs=1e-9)
    assert peer.commands[-1] in peer.commands_for(last)


def test_a_fault_may_be_silence_and_a_deliberate_end_is_a_hold_all_the_same(
    run: Callable[..., PolicyNode], peer: Peer
) -> None:
    run(on_fault="stop_publishing")
    peer.answer(STEP)
    peer.publish(2 * STEP, BLIND)
    peer.hears("topic wrench holds a value that is not finite")
    assert [c for c in peer.commands if not any(c.position)] == []
    peer.answer(3 * STEP)
    assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert list(peer.held(3 * STEP)[-1].position) == [0.0, 0.0]


def test_the_heartbeat_keeps_the_deadline_that_it_offers_from_configure_to_cleanup(
    start: Callable[..., PolicyNode], peer: Peer
) -> None:
    start(use_sim_time=True, heartbeat_rate=20.0)
    strict: list[Header] = []
    peer.node.create_subscription(Header, "policy_node/heartbeat", peer.recorder(strict), heartbeat_quality(20.0))
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    peer.wait(lambda: len(strict) > 5)
    assert peer.change_state(Transition.TRANSITION_CLEANUP)
    peer.until(lambda: peer.node.count_publishers("policy_node/heartbeat") == 0)


def test_in_simulated_time_inference_may_take_as_long_as_it_likes(active: Peer, policy: Any) -> None:
    active.answer(STEP)
    policy.gate.clear()
    policy.entered.clear()
    # The first that takes another inference. A later one would make the last set stale while its topics are published.
    active.publish(3 * STEP, good_readings())
    assert policy.entered.wait(TIMEOUT)
    active.hears("inference has been running")
    policy.gate.set()
    active.wait(lambda: active.commands_for(3 * STEP))
    assert [c for c in active.commands if not any(c.position)] == []
