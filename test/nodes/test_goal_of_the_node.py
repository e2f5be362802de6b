"""Goals by topic, over DDS: one published before the node listens is heard, and a new one counts at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from peer import STEP, Peer, good_readings
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Float64MultiArray

from qgf_ros.bundle.fields import goal_field

PLAIN = 6  # values of the observation before the goal


@pytest.fixture
def goals(peer: Peer, policy: Any, manifest_factory: Any, start: Callable[..., Any]) -> Any:
    """The publisher of goals that has published one, and an active node that was started later."""
    fields = manifest_factory().observation
    # A chunk so long that nothing but a goal ends it.
    policy.manifest = manifest_factory(
        observation=(*fields, goal_field(2)), goal="goal", horizon=500, execution_horizon=500
    )
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = peer.node.create_publisher(Float64MultiArray, "goal", latched)
    publisher.publish(Float64MultiArray(data=[0.1, 0.2]))
    start(use_sim_time=True)
    peer.activate(fields)
    peer.until(publisher.get_subscription_count)
    return publisher


def test_the_goal_in_force_is_heard_and_a_new_one_drops_the_chunk(goals: Any, peer: Peer, policy: Any) -> None:
    peer.answer(STEP)
    peer.answer(2 * STEP)
    (observation,) = policy.observations
    assert observation[0, PLAIN:].tolist() == pytest.approx([0.1, 0.2])
    goals.publish(Float64MultiArray(data=[-0.3, 0.4]))
    stamps = itertools.count(3 * STEP, STEP)

    def inferred_again() -> bool:
        peer.answer(next(stamps))
        return len(policy.observations) > 1

    peer.until(inferred_again)
    assert policy.observations[-1][0, PLAIN:].tolist() == pytest.approx([-0.3, 0.4])


def test_a_goal_of_another_size_is_a_hold_until_it_is_mended(goals: Any, peer: Peer) -> None:
    peer.answer(STEP)
    goals.publish(Float64MultiArray(data=[1.0]))
    stamps = itertools.count(2 * STEP, STEP)

    def complains() -> bool:
        peer.publish(next(stamps), good_readings())
        return any("topic goal gave shape (1,), expected (2,)" in said for _, said in peer.sayings())

    peer.until(complains)
    goals.publish(Float64MultiArray(data=[0.5, 0.5]))
    peer.recover(next(stamps))
