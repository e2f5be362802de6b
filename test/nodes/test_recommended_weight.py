"""The number and the switch that say the guidance weight, as others set and read them over DDS."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from lifecycle_msgs.msg import Transition  # noqa: E402
from peer import STEP, Peer  # noqa: E402
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from qgf_ros.control.run_options import ROWS  # noqa: E402
from qgf_ros.nodes.policy_node import PolicyNode  # noqa: E402

BOTH = ("guidance_weight", "use_recommended_weight")


def weight_range(peer: Peer) -> tuple[float, float]:
    """Return what the node says of the range of its weight."""
    (descriptor,) = peer.call("describe_parameters", DescribeParameters.Request(names=["guidance_weight"])).descriptors
    (bounds,) = descriptor.floating_point_range
    assert descriptor.description == ROWS["guidance_weight"].sentence()
    return bounds.from_value, bounds.to_value


def becomes(peer: Peer, weight: float, recommended: bool) -> None:
    """Wait until the two parameters have these values, and whatever follows from a change has followed."""
    peer.until(lambda: peer.get(*BOTH) == [weight, recommended])


def test_the_recommended_weight_is_used_until_a_number_is_set(active: Peer, policy: Any) -> None:
    assert active.get(*BOTH) == [0.0, True]
    active.answer(STEP)
    assert policy.calls[-1][:2] == ("near", 0.5)
    assert active.set(guidance_weight=0.25).successful
    active.answer(2 * STEP)
    assert policy.calls[-1][:2] == ("near", 0.25)
    becomes(active, 0.25, recommended=False)


def test_recommended_again_is_that_of_the_critic_in_use(active: Peer, policy: Any) -> None:
    assert active.set(guidance_weight=0.25).successful
    becomes(active, 0.25, recommended=False)
    assert active.set(critic="far").successful
    active.answer(STEP)
    assert policy.calls[-1][:2] == ("far", 0.25)
    assert active.set(use_recommended_weight=True).successful
    active.answer(2 * STEP)
    assert policy.calls[-1][:2] == ("far", 2.0)
    assert active.set(critic="near").successful
    active.answer(3 * STEP)
    assert policy.calls[-1][:2] == ("near", 0.5)
    assert active.get(*BOTH) == [0.25, True]
    assert active.set(use_recommended_weight=False).successful
    active.answer(4 * STEP)
    assert policy.calls[-1][:2] == ("near", 0.25)


def test_a_number_that_is_not_changed_is_wanted_all_the_same(active: Peer, policy: Any) -> None:
    assert active.set(guidance_weight=0.0).successful
    becomes(active, 0.0, recommended=False)
    active.answer(STEP)
    assert policy.calls[-1][1] == 0.0


def test_what_follows_from_a_number_does_not_drop_the_chunk_a_second_time(active: Peer, policy: Any) -> None:
    assert active.set(guidance_weight=0.25).successful
    active.answer(STEP)
    calls = len(policy.calls)
    becomes(active, 0.25, recommended=False)
    active.answer(2 * STEP)
    assert len(policy.calls) == calls, "the chunk has two actions"


def test_of_a_number_and_the_switch_in_one_request_the_later_decides(active: Peer, policy: Any) -> None:
    def ask(*values: tuple[str, Any]) -> None:
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values]
        results = active.call("set_parameters", SetParameters.Request(parameters=parameters)).results
        assert all(result.successful for result in results)

    ask(("guidance_weight", 0.25), ("use_recommended_weight", True))
    active.answer(STEP)
    assert policy.calls[-1][1] == 0.5
    ask(("use_recommended_weight", True), ("guidance_weight", 0.75))
    active.answer(3 * STEP)
    assert policy.calls[-1][1] == 0.75
    becomes(active, 0.75, recommended=False)


def test_a_refused_number_leaves_the_recommended_weight(active: Peer, policy: Any) -> None:
    assert not active.set(guidance_weight=-1.0).successful
    assert not active.set(guidance_weight=math.nan).successful
    active.answer(STEP)
    assert policy.calls[-1][1] == 0.5
    assert active.get(*BOTH) == [0.0, True]


@pytest.mark.parametrize("value", [0, 1])
def test_an_integer_is_the_number_that_it_says(active: Peer, value: int) -> None:
    assert active.set(guidance_weight=value).successful
    becomes(active, float(value), recommended=False)
    assert isinstance(active.get("guidance_weight")[0], float)


def test_a_negative_integer_is_refused_as_a_negative_number_is(active: Peer) -> None:
    result = active.set(guidance_weight=-1)
    assert not result.successful
    assert result.reason.startswith("guidance_weight -1.0 was given; it must be 0 to ")
    assert active.get(*BOTH) == [0.0, True]


@pytest.mark.parametrize(
    ("given", "in_force", "parameters"),
    [
        ({}, 0.5, [0.0, True]),
        ({"guidance_weight": 0.25}, 0.25, [0.25, False]),
        ({"guidance_weight": 0.0}, 0.0, [0.0, False]),
        ({"guidance_weight": 2}, 2.0, [2.0, False]),
        ({"use_recommended_weight": True}, 0.5, [0.0, True]),
        ({"use_recommended_weight": False}, 0.0, [0.0, False]),
        ({"guidance_weight": 0.25, "use_recommended_weight": False}, 0.25, [0.25, False]),
        ({"guidance_weight": 0.25, "use_recommended_weight": True}, 0.5, [0.25, True]),
    ],
)
def test_what_is_given_at_start_is_in_force(
    start: Callable[..., PolicyNode],
    peer: Peer,
    policy: Any,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    in_force: float,
    parameters: list[Any],
) -> None:
    said: list[str] = []
    monkeypatch.setattr(PolicyNode, "report", lambda node, level, text: said.append(text))
    start(use_sim_time=True, **given)
    unused = "guidance_weight 0.25 is not used, because use_recommended_weight is true; set that to false to use it"
    assert said == ([unused] if parameters == [0.25, True] else [])
    assert peer.get(*BOTH) == parameters
    peer.activate(policy.manifest.observation)
    peer.answer(STEP)
    assert policy.calls[-1][1] == in_force
    assert peer.get(*BOTH) == parameters


def test_the_range_follows_the_bundle_while_the_node_is_configured(
    start: Callable[..., PolicyNode], peer: Peer, policy: Any, manifest_factory: Callable[..., Any]
) -> None:
    wide = (ROWS["guidance_weight"].lower, ROWS["guidance_weight"].upper)
    start(use_sim_time=True)
    assert weight_range(peer) == wide
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert weight_range(peer) == (0.0, 8.0), "four times the largest recommended one"
    assert peer.set(guidance_weight=8.0).successful
    assert not peer.set(guidance_weight=8.5).successful
    assert peer.change_state(Transition.TRANSITION_CLEANUP)
    assert weight_range(peer) == wide
    assert peer.set(guidance_weight=20.0).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert weight_range(peer) == (0.0, 20.0), "the one in force is within"
    assert peer.change_state(Transition.TRANSITION_CLEANUP)
    card = manifest_factory().critics["near"].model_copy(update={"recommended_weight": 0.02})
    policy.manifest = manifest_factory(critics={"near": card.model_copy(update={"tested_range": (0.0, 0.1)})})
    assert peer.set(guidance_weight=0.05).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert weight_range(peer) == (0.0, 1.28), "what is tried of a bundle by default"


@pytest.mark.parametrize("recommended", [True, False])
def test_a_dump_that_is_set_again_one_by_one_gives_the_same_state(active: Peer, policy: Any, recommended: bool) -> None:
    changed = {"guidance_weight": 0.75, "critic": "far", "num_samples": 3, "seed": 9, "max_gradient_norm": 2.0}
    for name, value in changed.items():
        assert active.set(**{name: value}).successful
    if recommended:
        assert active.set(use_recommended_weight=True).successful
    becomes(active, 0.75, recommended=recommended)
    names = sorted(active.call("list_parameters", ListParameters.Request()).result.names)
    assert {*BOTH, *changed} <= set(names)
    dump = dict(zip(names, active.get(*names)))
    descriptors = active.call("describe_parameters", DescribeParameters.Request(names=names)).descriptors
    writable = [name for name, descriptor in zip(names, descriptors) if not descriptor.read_only]
    active.answer(STEP)
    before = policy.calls[-1]
    assert before == ("far", 2.0 if recommended else 0.75, 3)
    for name in writable:
        assert active.set(**{name: dump[name]}).successful, name
    becomes(active, 0.75, recommended=recommended)
    assert dict(zip(names, active.get(*names))) == dump
    active.answer(2 * STEP)
    assert policy.calls[-1] == before
