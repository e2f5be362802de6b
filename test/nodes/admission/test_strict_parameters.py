"""What a node takes, at its start and from others over DDS: no unknown name, maps for texts, and its own dump."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from lifecycle_msgs.msg import Transition
from peer import STEP, Peer
from rcl_interfaces.msg import ParameterDescriptor
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters
from rclpy.context import Context
from rclpy.parameter import Parameter, parameter_dict_from_yaml_file

from qgf_ros.errors import ParameterError
from qgf_ros.nodes.admission.strict_parameters import StrictNode
from qgf_ros.nodes.policy_node import PolicyNode

Start = Callable[..., PolicyNode]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("guidance_wieght", 0.0, r"^policy_node has no parameter guidance_wieght; did you mean guidance_weight\?$"),
        ("limit", "dx.max_rate=0.5", r"did you mean limits\?$"),
        ("gripper", 1, "policy_node has no parameter gripper; ros2 param list names those it has"),
        ("contract.fields", "x", r"^parameter contract was given as a map \(contract.fields\); it must be a text$"),
        ("use_sim_time", "maybe", "^use_sim_time 'maybe' was given; it must be true or false$"),
        ("num_samples", 5000, "^num_samples 5000 was given; it must be 1 to 1024$"),
        ("num_samples", 2.5, "^num_samples 2.5 was given; it must be an integer$"),
        ("providers", "cuda", "^providers 'cuda' was given; it must be a list of texts"),
        ("enable_motion", 1, "^enable_motion 1 was given; it must be true or false$"),
    ],
)
def test_a_node_does_not_start_with_what_it_does_not_know(start: Start, name: str, value: Any, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        start(**{name: value})


def test_what_rclpy_knows_is_let_pass(start: Start) -> None:
    quality = "qos_overrides./parameter_events.publisher.depth"
    node = start(**{"start_type_description_service": True, "use_sim_time": "true", quality: 100})
    assert node.get_parameter("use_sim_time").value is True


def test_a_value_given_at_the_start_is_in_the_type_of_its_parameter(start: Start) -> None:
    node = start(guidance_weight=2, num_samples=3.0, max_gradient_norm="inf", unguided_actions=5)
    values = [
        node.get_parameter(name).value
        for name in ("guidance_weight", "num_samples", "max_gradient_norm", "unguided_actions")
    ]
    assert values == [2.0, 3, math.inf, "5"]
    assert [type(value) for value in values] == [float, int, float, str]


def test_limits_as_a_map_are_the_same_limits(start: Start, peer: Peer, policy: Any) -> None:
    node = start(**{"limits.dx.upper": 0.002, "limits.dx.workspace": [0.25, 0.5], "limits.dy.max_rate": 1})
    assert node.get_parameter("limits").value == "dx.upper=0.002, dx.workspace=0.25:0.5, dy.max_rate=1"
    assert not node.has_parameter("limits.dx.upper")


def test_a_file_with_limits_as_a_map_limits_as_one_with_a_text_does(
    context: Context, policy: Any, tmp_path: Path
) -> None:
    """Read by rcl, which gives a map to the node as a parameter for each of its values."""
    made = []
    for limits in ("{dy: {upper: 0.002, lower: -0.002}}", '"dy.upper=0.002, dy.lower=-0.002"'):
        file = tmp_path / f"{len(made)}.yaml"
        file.write_text(f"/**:\n  ros__parameters:\n    bundle: fake\n    limits: {limits}\n")
        arguments = ["--ros-args", "--params-file", str(file)]
        node = PolicyNode(
            policy_loader=lambda *_: policy, context=context, cli_args=arguments, use_global_arguments=False
        )
        made.append(node.get_parameter("limits").value)
        node.destroy_node()
    assert made == ["dy.upper=0.002, dy.lower=-0.002"] * 2


def test_what_is_commanded_is_within_limits_that_were_given_as_a_map(start: Start, peer: Peer, policy: Any) -> None:
    start(use_sim_time=True, **{"limits.dy.upper": 0.002, "limits.dy.lower": -0.002})
    peer.activate(policy.manifest.observation)
    for step in range(1, 6):
        assert abs(peer.answer(step * STEP).position[1]) <= 0.002
    assert max(abs(command.position[0]) for command in peer.commands) > 0.002


def test_limits_as_a_map_and_as_a_text_are_refused(start: Start) -> None:
    with pytest.raises(
        ParameterError, match="limits was given as a text, 'dx.upper=1', and as a map; give one of them"
    ):
        start(**{"limits": "dx.upper=1", "limits.dy.upper": 0.002})
    assert start(**{"limits": "", "limits.dy.upper": 0.002}).get_parameter("limits").value == "dy.upper=0.002"


def test_an_unknown_name_is_refused_with_the_nearest_while_the_node_runs(active: Peer) -> None:
    result = active.set(guidance_wieght=0.0)
    assert not result.successful
    assert result.reason == "policy_node has no parameter guidance_wieght; did you mean guidance_weight?"


def test_a_parameter_cannot_be_deleted(active: Peer) -> None:
    gone = Parameter("critic", Parameter.Type.NOT_SET, None).to_parameter_msg()
    (result,) = active.call("set_parameters", SetParameters.Request(parameters=[gone])).results
    assert not result.successful
    assert result.reason == "parameter critic cannot be deleted; set it to another value"


def test_a_read_only_parameter_takes_its_own_value_alone(active: Peer) -> None:
    assert active.set(autostart=False).successful
    assert active.set(executor="single_threaded").successful
    result = active.set(executor="events")
    assert not result.successful
    assert result.reason == "executor is read-only; give it when the process starts"


def test_the_weight_is_a_plain_double_with_a_range_that_a_slider_can_show(active: Peer) -> None:
    """What rqt_reconfigure asks for: a double that is none of NaN and infinity, between two finite ends."""
    (descriptor,) = active.call(
        "describe_parameters", DescribeParameters.Request(names=["guidance_weight"])
    ).descriptors
    (bounds,) = descriptor.floating_point_range
    assert descriptor.type == Parameter.Type.DOUBLE.value
    assert not descriptor.read_only
    assert not descriptor.dynamic_typing
    assert math.isfinite(bounds.from_value) and math.isfinite(bounds.to_value)
    assert bounds.from_value <= active.get("guidance_weight")[0] <= bounds.to_value
    for place in (0.0, 0.5, 1.0):
        value = bounds.from_value + place * (bounds.to_value - bounds.from_value)
        assert active.set(guidance_weight=value).successful


def dump_of(peer: Peer, path: Path) -> None:
    """Write a file as `ros2 param dump /policy_node` does: values by name, dotted names as maps."""
    names = sorted(peer.call("list_parameters", ListParameters.Request()).result.names)
    tree: dict[str, Any] = {}
    for name, value in zip(names, peer.get(*names)):
        *above, last = name.split(".")
        branch = tree
        for part in above:
            branch = branch.setdefault(part, {})
        branch[last] = value if isinstance(value, (bool, int, float, str)) else list(value)
    path.write_text(yaml.dump({"/policy_node": {"ros__parameters": tree}}, default_flow_style=False))


def load(peer: Peer, path: Path) -> dict[str, str]:
    """Load a file as `ros2 param load /policy_node` does; return the reasons of what was refused by name."""
    messages = list(parameter_dict_from_yaml_file(str(path)).values())
    results = peer.call("set_parameters", SetParameters.Request(parameters=messages)).results
    assert len(results) == len(messages) >= 40
    return {message.name: result.reason for message, result in zip(messages, results) if not result.successful}


ODD: dict[str, Any] = {
    "bundle": "0815",
    "critic": "near",
    "guidance_weight": 1e-05,
    "max_gradient_norm": math.inf,
    "plausible_range": math.inf,
    "inference_deadline": math.inf,
    "watchdog_timeout": 1e16,
    "accept_unlimited": [],
    "weight_schedule": "0.5",
    "seed": 2**63 - 1,
    "limits": "",
}


@pytest.mark.parametrize("given", [{}, ODD], ids=["defaults", "odd values"])
def test_a_node_takes_its_own_dump_in_every_state(
    start: Start, peer: Peer, policy: Any, tmp_path: Path, given: dict[str, Any]
) -> None:
    if given:
        policy.manifest = policy.manifest.model_copy(update={"denoising_steps": 1})
    start(use_sim_time=True, **given)
    names = sorted(peer.call("list_parameters", ListParameters.Request()).result.names)

    def survives() -> None:
        before = peer.get(*names)
        dump_of(peer, tmp_path / "dump.yaml")
        assert load(peer, tmp_path / "dump.yaml") == {}
        peer.until(lambda: peer.get("use_recommended_weight") == [before[names.index("use_recommended_weight")]])
        assert [repr(value) for value in peer.get(*names)] == [repr(value) for value in before]

    survives()
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    survives()
    peer.connect(policy.manifest.observation)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    survives()
    assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    survives()
    assert peer.change_state(Transition.TRANSITION_CLEANUP)
    survives()
    assert peer.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    survives()


@pytest.fixture
def strict(context: Context) -> Iterator[Callable[..., StrictNode]]:
    """Make strict nodes of a few parameters."""
    made: list[StrictNode] = []

    def make(**given: Any) -> StrictNode:
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = StrictNode("plain", context=context, parameter_overrides=overrides)
        made.append(node)
        node.declare_parameter("names", ["a"], ParameterDescriptor(read_only=True))
        node.declare_parameter("scale", 1.5)
        return node

    yield make
    for node in made:
        node.destroy_node()


def test_names_of_another_node_s_file_pass_where_they_are_said_to(strict: Callable[..., StrictNode]) -> None:
    node = strict(**{"limits.dy.upper": 0.1, "scale": 2})
    node.refuse_unknown(others=["limits"])
    with pytest.raises(ParameterError, match="plain has no parameter limits.dy.upper"):
        node.refuse_unknown()
    assert node.get_parameter("scale").value == 2.0


@pytest.mark.parametrize("value", [[], [""], ["0", "1"]])
def test_lists_of_a_read_only_parameter_are_taken_as_they_were_given(
    strict: Callable[..., StrictNode], value: list[str]
) -> None:
    node = strict(names=value)
    assert list(node.get_parameter("names").value) == value
    assert node.set_parameters_atomically([Parameter("names", value=value)]).successful
    assert not node.set_parameters_atomically([Parameter("names", value=["b"])]).successful


def test_all_parameters_of_one_call_are_set_or_none(strict: Callable[..., StrictNode]) -> None:
    node = strict()
    changes = [Parameter("scale", value=3), Parameter("scales", value=1.0)]
    result = node.set_parameters_atomically(changes)
    assert (result.successful, result.reason) == (False, "plain has no parameter scales; did you mean scale?")
    assert node.get_parameter("scale").value == 1.5
    assert node.set_parameters_atomically(changes[:1]).successful
    assert node.get_parameter("scale").value == 3.0


def test_a_run_goes_on_alike_after_its_own_dump_was_loaded(active: Peer, policy: Any, tmp_path: Path) -> None:
    active.answer(STEP)
    before = policy.calls[-1]
    dump_of(active, tmp_path / "dump.yaml")
    assert load(active, tmp_path / "dump.yaml") == {}
    active.answer(2 * STEP)
    assert policy.calls[-1] == before
